"""Where a backbone's first weights come from: torchvision's ImageNet weights, or a file."""
from pathlib import Path

import torch
from torchvision.models import get_model_weights

from ops.errors import UserError
from ops.weight_files import read_state_dict

FOLDER = Path(__file__).resolve().parents[1] / "pretrained"


def load_pretrained(backbone, arch, source):
    """Fill a backbone, in place, before any temporal module moves in.

    source: "imagenet" for torchvision's IMAGENET1K_V1 weights (the ones the published models started from), or the path
    of a file with torchvision's key names. Every weight of the backbone must be in it; the classifier is left out.

    Raises UserError if the file is missing, cannot be downloaded, or does not fit.
    """
    if source == "imagenet":
        weights = get_model_weights(arch).IMAGENET1K_V1
        local = FOLDER / weights.url.rsplit("/", 1)[-1]
        source = local if local.is_file() else source
    state = _download(weights) if source == "imagenet" else read_state_dict(source)
    state = {key: value for key, value in state.items() if not key.startswith("fc.")}
    result = backbone.load_state_dict(state, strict=False) if _fits(backbone, state) else None
    if result is None or result.missing_keys or result.unexpected_keys:
        raise UserError(f"--pretrain {source}: these are not the weights of a {arch} with torchvision's names")


def _fits(backbone, state):
    own = backbone.state_dict()
    return all(own[key].shape == value.shape for key, value in state.items() if key in own)


def _download(weights):
    name = weights.url.rsplit("/", 1)[-1]
    try:
        return weights.get_state_dict(progress=True, check_hash=True)
    except (OSError, RuntimeError) as error:
        cache = Path(torch.hub.get_dir()) / "checkpoints"
        raise UserError(
            f"--pretrain imagenet: {name} could not be downloaded ({error}); fetch {weights.url} on a machine with "
            f"network and put it into {FOLDER}/ or {cache}/, or train with --pretrain none"
        ) from None
