"""Networks compute the numbers of the originals, channels-last and with folded norms too."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from helpers.golden_fill import clip as filled_clip
from helpers.golden_fill import difference, load
from helpers.models import pixels, randomize_norms, small_model
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from ops.checkpoints import load_model
from ops.models import TSN, fuse_batch_norm
from ops.training.optim import parameter_groups, set_learning_rate

# The original implementations' numbers: tests/golden, made by running them in float64.


@pytest.mark.parametrize(
    "file",
    [
        "tdn_resnet50_8f_fc.npz",
        "tsn_resnet50_8f.npz",
        "tsm_resnet50_8f.npz",
        "tsm_resnet50_nl_8f.npz",
        "tsm_mobilenetv2_8f.npz",
        "tsm_resnet50_flow_8f.npz",
        "tsn_bninception_3f.npz",
        "tam_resnet50_8f.npz",
        "tin_resnet50_8f.npz",
    ],
)
def test_golden_logits(file):
    golden, config, state = load(file)
    model = load_model(state, num_segments=int(config["T"]), dropout=0.0, quiet=True)
    with torch.no_grad():
        logits = model(filled_clip("input", tuple(golden["input_shape"])))
    assert difference(logits, golden["logits"]) < 1e-9


# Weight decay shrinks the redundant conv biases of the original TDN. In training that changes
# nothing, but its running means lag behind the biases by about 1e-5. A network without these
# biases has nothing that lags.
@pytest.mark.slow
@pytest.mark.parametrize(
    ("file", "policy", "tolerance"),
    [
        ("tdn_resnet50_8f.npz", "flat", 1e-4),
        ("tsm_resnet50_8f.npz", "groups", 1e-6),
        ("tam_resnet50_8f.npz", "groups", 1e-6),
        ("tin_resnet50_8f.npz", "groups", 1e-6),
    ],
)
def test_golden_training(file, policy, tolerance):
    """Logits of the original before and after three of its SGD steps, and the losses between."""
    golden, config, state = load(file)
    model = load_model(state, num_segments=8, dropout=0.0, quiet=True)
    shape = tuple(int(n) for n in golden["input_shape"])
    with torch.no_grad():
        assert difference(model(filled_clip("input", shape)), golden["logits"]) < 1e-9
    model.train()
    groups = parameter_groups(model, policy, weight_decay=5e-4, fc_lr5=False)
    optimizer = torch.optim.SGD(groups, lr=0.01, momentum=0.9)
    set_learning_rate(optimizer, 0.01)
    losses = []
    for step in range(int(config["steps"])):
        labels = torch.arange(shape[0]) % int(config["classes"])
        loss = F.cross_entropy(model(filled_clip(f"step{step}", shape)), labels)
        losses.append(loss.item())
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 20)
        optimizer.step()
    assert len(losses) == 3
    np.testing.assert_allclose(losses, golden["train_losses"], rtol=1e-9)
    model.eval()
    with torch.no_grad():
        trained = model(filled_clip("input", shape))
    assert difference(trained, golden["trained_logits"]) < tolerance


# Sizes: parameters and multiply-adds that the papers and the originals' own code give.


@pytest.mark.slow
def test_parameter_counts():
    with torch.device("meta"):
        tdn, tsn = TSN(400, 8, module="tdn"), TSN(400, 8)
    assert sum(p.numel() for p in tsn.parameters()) == 24_327_632
    _, _, state = load("tdn_resnet50_8f.npz")
    for arch, options, count in (
        ("resnet50", {"non_local": True}, 31_686_096),
        ("resnet101", {}, 43_319_760),
        ("mobilenetv2", {}, 2_736_272),
    ):
        with torch.device("meta"):
            tsm = TSN(400, 8, module="tsm", arch=arch, **options)
        assert sum(p.numel() for p in tsm.parameters()) == count
    statistics = ("running_mean", "running_var", "num_batches_tracked")
    original = sum(value.numel() for key, value in state.items() if not key.endswith(statistics))
    original += (400 - 174) * (2048 + 1)
    assert round(original / 1e6, 2) == 24.88
    # Its redundant parameters: conv biases before a BatchNorm, and an unused conv.
    biases = [
        key
        for key in state
        if key.endswith(".bias") and (".conv" in key or ".downsample.0." in key)
    ]
    redundant = sum(state[key].numel() for key in biases if ".conv1_5." not in key)
    redundant += state["module.base_model.conv1_temp.weight"].numel()
    assert sum(p.numel() for p in tdn.parameters()) == original - redundant == 24_845_680


@pytest.mark.parametrize(
    ("module", "segments", "giga"), [("tsn", 8, 32.70), ("tdn", 8, 35.61), ("tdn", 16, 71.22)]
)
def test_multiply_adds(module, segments, giga):
    """The papers' 33, 36 and 72 GFLOPs; the counter leaves out what is no matrix product."""
    with torch.device("meta"):
        model = TSN(400, segments, module=module).eval()
        clip = torch.empty(1, segments, model.frame_channels, 224, 224)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        assert model(clip).shape == (1, 400)
    assert counter.get_total_flops() / 2e9 == pytest.approx(giga, abs=0.01)


# Layout, folding, memory.


def configurations():
    return pytest.mark.parametrize(
        ("module", "arch"),
        [
            ("tsn", "resnet18"),
            ("tdn", "resnet18"),
            ("tsn", "resnet50"),
            ("tdn", "resnet50"),
            ("tsm", "resnet50"),
            ("tsm", "mobilenetv2"),
            ("tsn", "BNInception"),
        ],
    )


@configurations()
def test_channels_last_is_the_same_function(module, arch):
    model = randomize_norms(small_model(module=module, arch=arch)).eval().double()
    clip = pixels(model, batch=1)
    with torch.no_grad():
        scores = model(clip)
        assert model.to_channels_last() is model
        lost = []
        for name, layer in model.backbone.named_modules():
            layer.register_forward_hook(
                lambda _, __, y, name=name: (
                    lost.append(name)
                    if y.dim() == 4 and not y.is_contiguous(memory_format=torch.channels_last)
                    else None
                )
            )
        torch.testing.assert_close(model(clip), scores, rtol=1e-10, atol=1e-12)
    for frames in (clip[0], clip[0].float()):
        assert model.preprocess(frames).is_contiguous(memory_format=torch.channels_last)
    assert (
        not lost
    )  # no layer falls back to the other order, which would cost a copy in each layer after it


def test_channels_last_gives_the_same_gradients():
    gradients = []
    for channels_last in (False, True):
        model = small_model(module="tdn", dropout=0.0).double().train()
        if channels_last:
            model.to_channels_last()
        F.cross_entropy(model(pixels(model)), torch.tensor([0, 1])).backward()
        gradients.append([p.grad for p in model.parameters()])
    for a, b in zip(*gradients, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-7, atol=1e-10)


@pytest.mark.parametrize("channels_last", [False, True])
@configurations()
def test_fused_batch_norms_are_the_same_function(module, arch, channels_last):
    model = randomize_norms(small_model(module=module, arch=arch)).double().eval()
    if channels_last:
        model.to_channels_last()
    clip = pixels(model, batch=1)
    with torch.no_grad():
        scores = model(clip)
        assert fuse_batch_norm(model) is model
        assert not any(isinstance(m, nn.BatchNorm2d) for m in model.modules())
        assert not any(m.training for m in model.modules())
        torch.testing.assert_close(model(clip), scores, rtol=1e-9, atol=1e-12)


def test_training_models_are_not_fused():
    with pytest.raises(ValueError, match="eval mode"):
        fuse_batch_norm(small_model(module="tsn").train())


def test_a_norm_of_an_unknown_name_is_not_folded_silently():
    model = small_model(module="tsn").eval()
    model.backbone.layer2[0].before_conv2 = nn.Sequential(
        nn.Identity(), nn.Identity(), nn.BatchNorm2d(128)
    )
    with pytest.raises(ValueError, match="no conv before 2 in a Sequential"):
        fuse_batch_norm(model.eval())


def saved_bytes(model, clip):
    """Bytes of the storages, without those of weights, kept for the backward pass."""
    sizes = {}
    weights = {p.untyped_storage().data_ptr() for p in model.parameters()}

    def pack(tensor):
        storage = tensor.untyped_storage()
        sizes[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        loss = model(clip).sum()
    loss.backward()
    return sum(size for storage, size in sizes.items() if storage not in weights)


@pytest.mark.slow
def test_memory_saved_for_the_backward_pass():
    """The original TDN keeps 1.66 times as much as TSN."""
    saved = {}
    for module in ("tsn", "tdn"):
        model = small_model(module=module, num_segments=8, arch="resnet50").train()
        saved[module] = saved_bytes(model, pixels(model, batch=1, size=64))
    assert saved["tsn"] < saved["tdn"] < 1.66 * saved["tsn"]
