"""Each loss against PyTorch's, torchvision's or its formula."""

from argparse import Namespace

import pytest
import torch
from torch.nn import functional as F
from torchvision.ops import sigmoid_focal_loss

from ops.training.loss import LOSSES, build_loss
from ops.utils.errors import UserError


def options(**changes):
    return Namespace(**{"loss": None, "label_smoothing": 0.0, "focal_gamma": 2.0, **changes})


@pytest.fixture
def scores():
    torch.manual_seed(0)
    return torch.randn(4, 5)


LABELS = torch.tensor([0, 3, 1, 4])
SHARES = torch.softmax(torch.arange(20.0).reshape(4, 5), 1)
SEVERAL = torch.tensor([[0, 3], [1, 2], [0, 4], [2, 3]])
MULTI = F.one_hot(SEVERAL, 5).sum(1).bool()


def test_cross_entropy_is_the_default(scores):
    assert torch.equal(build_loss(options())(scores, LABELS), F.cross_entropy(scores, LABELS))
    smooth = options(label_smoothing=0.1)
    expected = F.cross_entropy(scores, LABELS, label_smoothing=0.1)
    assert torch.equal(build_loss(smooth)(scores, LABELS), expected)
    assert torch.equal(
        build_loss(smooth, training=False)(scores, LABELS), F.cross_entropy(scores, LABELS)
    )
    assert torch.equal(build_loss(options())(scores, SHARES), F.cross_entropy(scores, SHARES))


def test_binary_cross_entropy_is_the_default_of_multi_label_lists(scores):
    expected = F.binary_cross_entropy_with_logits(scores, MULTI.float())
    assert torch.equal(build_loss(options(), multi_label=True)(scores, MULTI), expected)
    one_label = build_loss(options(loss="bce"))(scores, LABELS)
    expected = F.binary_cross_entropy_with_logits(scores, F.one_hot(LABELS, 5).float())
    assert torch.equal(one_label, expected)


def test_focal_loss_is_its_formula(scores):
    loss = build_loss(options(loss="focal", focal_gamma=1.5))(scores, LABELS)
    p = scores.softmax(1)[range(4), LABELS]
    assert torch.allclose(loss, -((1 - p) ** 1.5 * p.log()).mean())
    loss = build_loss(options(loss="focal"), multi_label=True)(scores, MULTI)
    expected = sigmoid_focal_loss(scores, MULTI.float(), -1, 2.0, "mean")
    assert torch.equal(loss, expected)


WEIGHTS = torch.tensor([1.0, 0.5, 3.0, 0.0, 2.0])


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("labels", [LABELS, SHARES])
def test_class_weights_of_the_cross_entropy_are_its_formula(scores, labels, smoothing):
    args = options(label_smoothing=smoothing)
    loss = build_loss(args, class_weights=WEIGHTS)(scores, labels)
    shares = F.one_hot(labels, 5).float() if labels.dim() == 1 else labels
    shares = shares * (1 - smoothing) + smoothing / 5
    expected = -(WEIGHTS * shares * scores.log_softmax(1)).sum(1).mean()
    torch.testing.assert_close(loss, expected)


def test_a_weighted_loss_is_the_mean_of_its_parts(scores):
    """So the same total batch may be split in another way."""
    loss = build_loss(options(), class_weights=WEIGHTS)
    parts = [loss(scores[part], LABELS[part]) for part in (slice(0, 2), slice(2, 4))]
    torch.testing.assert_close(loss(scores, LABELS), (parts[0] + parts[1]) / 2)


def test_class_weights_of_the_focal_loss_are_its_alpha(scores):
    loss = build_loss(options(loss="focal"), class_weights=WEIGHTS)(scores, LABELS)
    p = scores.softmax(1)[range(4), LABELS]
    torch.testing.assert_close(loss, -(WEIGHTS[LABELS] * (1 - p) ** 2 * p.log()).mean())


@pytest.mark.parametrize("name", ["cross_entropy", "focal"])
def test_class_weights_of_1_change_nothing(scores, name):
    plain = build_loss(options(loss=name))(scores, LABELS)
    weighted = build_loss(options(loss=name), class_weights=torch.ones(5))(scores, LABELS)
    torch.testing.assert_close(weighted, plain)


def test_binary_cross_entropy_refuses_class_weights():
    with pytest.raises(UserError, match="--class_weights"):
        build_loss(options(loss="bce"), class_weights=WEIGHTS)


@pytest.mark.parametrize("labels", [LABELS, SHARES])
def test_focal_loss_with_gamma_0_is_the_cross_entropy(scores, labels):
    loss = build_loss(options(loss="focal", focal_gamma=0.0))(scores, labels)
    assert torch.allclose(loss, F.cross_entropy(scores, labels))


@pytest.mark.parametrize("name", LOSSES)
def test_the_loss_of_segments_is_their_mean(name):
    torch.manual_seed(1)
    scores = torch.randn(4, 3, 5, requires_grad=True)
    criterion = build_loss(options(loss=name))
    loss = criterion(scores, LABELS)
    means = torch.stack([criterion(scores[:, segment], LABELS) for segment in range(3)])
    assert torch.allclose(loss, means.mean())
    loss.backward()
    assert scores.grad.isfinite().all()


@pytest.mark.parametrize("name", LOSSES)
def test_half_precision_scores_are_computed_in_float32(name, scores):
    assert build_loss(options(loss=name))(scores.bfloat16(), LABELS).dtype == torch.float32


def test_invalid_options_raise():
    with pytest.raises(UserError, match="--loss cross_entropy"):
        build_loss(options(loss="cross_entropy"), multi_label=True)
    for name in ("bce", "focal"):
        with pytest.raises(UserError, match="--label_smoothing"):
            build_loss(options(loss=name, label_smoothing=0.1))
