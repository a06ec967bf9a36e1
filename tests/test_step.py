import pytest
import torch
from torch import nn
from torch.nn import functional as F

from ops.data.loader import Batch
from ops.models import TSN
from ops.temporal import MODULES
from ops.training.ema import WeightAverage
from ops.training.meters import Meters
from ops.training.mixup import mixer
from ops.training.optim import build_optimizer, parameter_groups
from ops.training.step import TrainStep
from ops.training.sync_batchnorm import frozen_norms


def clips(count, size=32):
    generator = torch.Generator().manual_seed(count)
    return torch.randint(0, 256, (count, 2, 3, size, size), dtype=torch.uint8, generator=generator)


@pytest.fixture
def model():
    torch.manual_seed(0)
    return TSN(4, 2, arch="resnet18", module="tsn", dropout=0.0, input_size=32)


def backward(model, batch, criterion=F.cross_entropy, **options):
    """Forward and backward of a batch. Returns the sums of its meters."""
    device = torch.device("cpu")
    meters = Meters(device)
    step = TrainStep(model, None, criterion, device, clip_shape=(2, 3, 32, 32), **options)
    step.forward_backward(batch, meters)
    return meters.sums


@pytest.mark.parametrize("module", ["tsn", "tam"])  # TAM has BatchNorms of one dimension
def test_a_batch_without_a_readable_video_gives_zero_gradients_and_leaves_the_statistics(module):
    model = TSN(4, 2, arch="resnet18", module=module, input_size=32)
    before = {name: buffer.clone() for name, buffer in model.named_buffers()}
    nothing = torch.zeros(0, dtype=torch.int64)
    total = backward(model, Batch(None, nothing, nothing, []))
    assert total.tolist() == [0, 0, 0, 0]
    assert all(p.grad is not None and not p.grad.any() for p in model.parameters())
    assert all(torch.equal(buffer, before[name]) for name, buffer in model.named_buffers())


def test_accumulated_gradients_are_the_mean_over_the_batches(model):
    labels = torch.tensor([0, 1, 2, 3])
    batch = Batch(clips(4), labels, torch.arange(4), [])
    for bn in model.modules():
        if isinstance(bn, nn.BatchNorm2d):
            bn.eval()  # whose batches would differ
    backward(model, batch)
    whole = [p.grad.clone() for p in model.parameters()]
    model.zero_grad()
    totals = [
        backward(
            model, Batch(batch.clips[part], labels[part], batch.indices[part], []), accumulate=2
        )
        for part in (slice(0, 2), slice(2, 4))
    ]
    for parameter, gradient in zip(model.parameters(), whole, strict=True):
        torch.testing.assert_close(parameter.grad, gradient, rtol=1e-4, atol=1e-6)
    assert totals[0][2] + totals[1][2] == 4


def test_frozen_norms_restores_only_what_was_training(model):
    model.partial_bn = True
    model.train()
    training = [m.training for m in model.modules()]
    with frozen_norms(model):
        assert not any(m.training for m in model.modules() if isinstance(m, nn.BatchNorm2d))
    assert training == [m.training for m in model.modules()]


@pytest.mark.slow
@pytest.mark.parametrize("amp", ["bf16", "fp16"])
def test_mixed_precision_is_close(model, amp):
    batch = Batch(clips(4), torch.tensor([0, 1, 2, 3]), torch.arange(4), [])
    exact = backward(model, batch)
    model.zero_grad()
    scaler = torch.amp.GradScaler("cpu") if amp == "fp16" else None
    mixed = backward(model, batch, amp=amp, scaler=scaler)
    assert mixed[0].item() == pytest.approx(exact[0].item(), rel=0.05)
    assert all(p.grad.isfinite().all() for p in model.parameters())


@pytest.mark.parametrize("several", [False, True])
def test_mixed_batch_has_finite_gradients(model, several):
    labels = torch.tensor([0, 1, 2, 3])
    if several:
        labels = torch.eye(4, dtype=torch.bool)[labels] | torch.eye(4, dtype=torch.bool)[0]
    torch.manual_seed(0)
    sums = backward(
        model,
        Batch(clips(4), labels, torch.arange(4), []),
        mix=mixer(4, mixup=0.4, cutmix=1.0),
        criterion=F.binary_cross_entropy_with_logits if several else F.cross_entropy,
    )
    assert sums[0] > 0 and sums[2] == 4 and all(p.grad.isfinite().all() for p in model.parameters())


@pytest.mark.parametrize(
    ("module", "multi_label"), [*((module, False) for module in MODULES), ("tsn", True)]
)
def test_a_step_reads_nothing_back_from_the_device(module, multi_label):
    """Reading a value would wait for a GPU. Tensors of the device "meta" have none to read."""
    device = torch.device("meta")
    with device:
        net = TSN(4, 4, arch="resnet18", module=module, input_size=32)
    labels = torch.tensor([0, 3])
    criterion = F.cross_entropy
    if multi_label:
        labels = torch.eye(4, dtype=torch.bool)[labels]
        criterion = F.binary_cross_entropy_with_logits
    step = TrainStep(
        net,
        build_optimizer(parameter_groups(net, "groups", weight_decay=5e-4), lr=0.01),
        criterion,
        device,
        (4, net.frame_channels, 32, 32),
        clip_gradient=20.0,
        mix=mixer(4, mixup=0.4, cutmix=1.0),
    )
    ema = WeightAverage(net, 0.9)
    meters = Meters(device)
    batch = Batch(
        torch.zeros((2, 4, net.frame_channels, 32, 32), dtype=torch.uint8),
        labels,
        torch.arange(2),
        [],
    )
    loss = step.forward_backward(batch, meters)
    norm = step.update()
    ema.update(net)
    meters.add_step(0, loss, norm, [0, 1])
    with pytest.raises(RuntimeError, match="meta"):
        meters.accuracy_text()  # which does read
