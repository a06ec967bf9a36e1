"""Small models and files of them, for the tests of checkpoints and weight files."""

import pytest
import torch

from ops.checkpoints import load_model
from ops.models import TSN
from ops.utils.errors import UserError


def small(module="tdn", num_class=5, seed=0, **options):
    torch.manual_seed(seed)
    return TSN(num_class, 4, arch="resnet18", module=module, **options).eval()


def saved(tmp_path, content, name="file.pth", **options):
    path = tmp_path / name
    torch.save(content, path, **options)
    return path


def refused(source, *parts, **options):
    """load_model must refuse this source in one line that holds all the parts."""
    with pytest.raises(UserError) as error:
        load_model(source, quiet=True, **options)
    message = str(error.value)
    assert "\n" not in message
    for part in parts:
        assert str(part) in message, message
    return message


def assert_same_weights(model, expected):
    expected = expected if isinstance(expected, dict) else expected.state_dict()
    assert list(model.state_dict()) == list(expected)
    for key, value in model.state_dict().items():
        assert value.dtype == expected[key].dtype and torch.equal(value, expected[key]), key
