"""Small models, their inputs, and files of them."""

import pytest
import torch
from torch import nn

from ops.checkpoints import load_model
from ops.models import TSN
from ops.utils.errors import UserError


def small_model(module="tdn", num_class=5, num_segments=4, *, arch="resnet18", seed=0, **options):
    """A TSN in evaluation mode; its weights depend on the seed only."""
    torch.manual_seed(seed)
    return TSN(num_class, num_segments, arch=arch, module=module, **options).eval()


def randomize_norms(model):
    """Give the BatchNorms statistics and weights as after training, so that each matters."""
    generator = torch.Generator().manual_seed(3)
    for norm in model.modules():
        if not isinstance(norm, nn.BatchNorm2d):
            continue
        norm.running_mean.data.uniform_(-0.3, 0.3, generator=generator)
        norm.running_var.data.uniform_(0.5, 1.5, generator=generator)
        norm.weight.data.uniform_(0.5, 1.5, generator=generator)
        norm.bias.data.uniform_(-0.3, 0.3, generator=generator)
    return model


def pixels(model, batch=2, size=32):
    """Clips of random pixels, uint8 ``[batch, T, L*C, size, size]``."""
    shape = (batch, model.num_segments, model.frame_channels, size, size)
    return torch.randint(256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(1))


def saved(tmp_path, content, name="file.pth", **options):
    """The path of a file that ``torch.save`` writes."""
    path = tmp_path / name
    torch.save(content, path, **options)
    return path


def load_refused(source, *parts, **options):
    """``load_model`` must refuse this source in one line that contains all parts; returns it."""
    with pytest.raises(UserError) as error:
        load_model(source, quiet=True, **options)
    message = str(error.value)
    assert "\n" not in message
    for part in parts:
        assert str(part) in message, message
    return message


def assert_same_weights(model, expected):
    """The state dict of a model equals that of another model, or a state dict, bit for bit."""
    expected = expected if isinstance(expected, dict) else expected.state_dict()
    assert list(model.state_dict()) == list(expected)
    for key, value in model.state_dict().items():
        assert value.dtype == expected[key].dtype and torch.equal(value, expected[key]), key
