"""Where a backbone's first weights come from: torchvision's ImageNet weights, or a file."""

from pathlib import Path

import torch
from torchvision.models import get_model_weights

from ops.backbones import BACKBONES
from ops.backbones.input_channels import first_conv, spread_channels
from ops.utils.errors import UserError

FOLDER = Path(__file__).resolve().parents[2] / "pretrained"
HEADS = ("fc.", "classifier.", "last_linear.")


def read_state_dict(path):
    """The weights in a file; see ``ops.checkpoints.torch_file``."""
    # Imported here, as checkpoints build models, and models load pretrained weights.
    from ops.checkpoints import torch_file

    return torch_file.read_state_dict(path)


def load_pretrained(backbone, arch, source):
    """Fill a backbone, in place, before any temporal module is inserted.

    Every weight of the backbone must be in the source; its classifier is left out, and a first
    conv of other channels is spread over the backbone's (``ops.backbones.spread_channels``).

    Args:
        backbone: the backbone.
        arch: its name.
        source: "imagenet" for torchvision's IMAGENET1K_V1 weights (which the published models
            started from), or the path of a file with the backbone's own key names.

    Raises:
        UserError: the file is missing, cannot be downloaded, or does not fit.
    """
    if source == "imagenet":
        source, state = _imagenet(arch)
    else:
        state = read_state_dict(source)
    own = backbone.state_dict()
    state = {
        key: _fitted(value, own.get(key), key == f"{backbone.first_conv}.weight")
        for key, value in state.items()
        if not key.startswith(HEADS)
    }
    wrong = [key for key in own if key not in state and not key.endswith("num_batches_tracked")]
    wrong += [
        key for key, value in state.items() if key not in own or own[key].shape != value.shape
    ]
    if wrong:
        raise UserError(
            f"--pretrain {source}: these are not the weights of a {arch} ({wrong[0]} is missing, "
            f"unknown or of another shape; {len(wrong)} in all)"
        )
    backbone.load_state_dict({**own, **state})


def fetch(arch):
    """Download torchvision's ImageNet weights of a backbone, unless they are on this machine already.

    For one process per machine to call before the others load them: else each would download the file.

    Args:
        arch: name of the backbone.

    Raises:
        UserError: torchvision has none, or they cannot be downloaded.
    """
    _imagenet(arch)


def _imagenet(arch):
    """(the file in ``pretrained/`` or "imagenet", state dict) of torchvision's weights."""
    name = BACKBONES[arch].torchvision_name
    if name is None:
        own_name = f"{first_conv(arch)}.weight"
        raise UserError(
            f"--pretrain imagenet: torchvision has no {arch}; give a file of its ImageNet weights "
            f"with the backbone's own names ({own_name}, ...) as --pretrain FILE, or train with "
            f"--pretrain none"
        )
    weights = get_model_weights(name).IMAGENET1K_V1
    local = FOLDER / weights.url.rsplit("/", 1)[-1]
    if local.is_file():
        return local, read_state_dict(local)
    return "imagenet", _download(weights)


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


def _download(weights):
    name = weights.url.rsplit("/", 1)[-1]
    try:
        return weights.get_state_dict(progress=True, check_hash=True)
    except (OSError, RuntimeError) as error:
        cache = Path(torch.hub.get_dir()) / "checkpoints"
        raise UserError(
            f"--pretrain imagenet: {name} could not be downloaded ({error}); fetch {weights.url} "
            f"on a machine with network and put it into {FOLDER}/ or {cache}/, or train with "
            f"--pretrain none"
        ) from None
