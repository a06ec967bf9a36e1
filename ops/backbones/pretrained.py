"""The weights that a backbone starts from: torchvision's ImageNet weights, or a state dict."""

import pickle
from pathlib import Path

import torch
from torchvision.models import get_model_weights

from ops.backbones import BACKBONES
from ops.backbones.input_channels import first_conv, spread_channels
from ops.utils.errors import UserError

FOLDER = Path(__file__).resolve().parents[2] / "pretrained"
CLASSIFIERS = ("fc.", "classifier.", "last_linear.")


def load_pretrained(backbone, arch, source):
    """Fill a backbone, in place, before any temporal module is inserted.

    Every weight of the backbone must be in the source; its classifier is left out, and a first
    conv of other channels is spread over the backbone's
    (:func:`ops.backbones.input_channels.spread_channels`).

    Args:
        backbone: the backbone.
        arch: its name.
        source: "imagenet" for torchvision's IMAGENET1K_V1 weights, which the published models
            started from, or a state dict (name -> tensor) with the backbone's own names.

    Raises:
        UserError: torchvision's weights cannot be read or downloaded, or the weights do not fit.
    """
    name = "--pretrain"
    state = source
    if source == "imagenet":
        name = "--pretrain imagenet"
        state = _imagenet(arch)
    own = backbone.state_dict()
    state = {
        key: _fitted(value, own.get(key), key == f"{backbone.first_conv}.weight")
        for key, value in state.items()
        if not key.startswith(CLASSIFIERS)
    }
    wrong = [key for key in own if key not in state and not key.endswith("num_batches_tracked")]
    wrong += [
        key for key, value in state.items() if key not in own or own[key].shape != value.shape
    ]
    if wrong:
        raise UserError(
            f"{name}: these are not the weights of a {arch} ({wrong[0]} is missing, unknown or of "
            f"another shape; {len(wrong)} in all)"
        )
    backbone.load_state_dict({**own, **state})


def fetch(arch):
    """Download torchvision's ImageNet weights of a backbone, unless this machine has them.

    For one process per machine to call before the others load them, or each would download the
    file.

    Args:
        arch: name of the backbone.

    Raises:
        UserError: torchvision has none, or they cannot be downloaded.
    """
    _imagenet(arch)


def _imagenet(arch):
    """torchvision's state dict: its file in ``pretrained/``, the cache of torch, or a download."""
    name = BACKBONES[arch].torchvision_name
    if name is None:
        own_name = f"{first_conv(arch)}.weight"
        raise UserError(
            f"--pretrain imagenet: torchvision has no {arch}; give a file of its ImageNet weights "
            f"with the backbone's own names ({own_name}, ...) as --pretrain FILE, or train with "
            f"--pretrain none"
        )
    weights = get_model_weights(name).IMAGENET1K_V1
    file = FOLDER / weights.url.rsplit("/", 1)[-1]
    if file.is_file():
        return _read(file)
    return _download(weights)


def _read(path):
    """The content of torchvision's file."""
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, ValueError, EOFError, pickle.UnpicklingError):
        raise UserError(
            f"{path}: not a PyTorch checkpoint, or a damaged one; is the download complete?"
        ) from None


def _download(weights):
    """The state dict, from the cache of torch if the file is there."""
    name = weights.url.rsplit("/", 1)[-1]
    cache = Path(torch.hub.get_dir()) / "checkpoints"
    try:
        return weights.get_state_dict(progress=True, check_hash=True, weights_only=True)
    except (OSError, RuntimeError) as error:
        raise UserError(
            f"--pretrain imagenet: {name} could not be downloaded ({error}); fetch {weights.url} "
            f"on a machine with network and put it into {FOLDER}/ or {cache}/, or train with "
            f"--pretrain none"
        ) from None


def _fitted(value, own, is_first):
    """A weight in the shape that the backbone has, where the function stays the same."""
    if own is None or value.shape == own.shape:
        return value
    if is_first and value.dim() == 4 and value.shape[0] == own.shape[0]:
        return spread_channels(value, own.shape[1])
    # BatchNorms in BNInception files of torch 0.2
    if own.dim() == 1 and value.shape == (1, *own.shape):
        return value[0]
    return value
