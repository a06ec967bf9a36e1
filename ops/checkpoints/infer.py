"""The options of a network, inferred from the keys and shapes of its weights."""

import re

from ops.backbones.infer import infer_arch
from ops.backbones.input_channels import first_conv
from ops.backbones.modalities import MODALITIES
from ops.checkpoints.layouts import LAYOUTS
from ops.temporal import DEEP, MODULES
from ops.utils.errors import UserError

# How the shifts of TSM, which have no weights, show in the keys of a file: their wrappers.
_SHIFT_PLACES = {
    "block": re.compile(r"layer\d\.(net\.)?\d+\.(block\.)?net\."),
    "blockres": re.compile(r"\.(conv1|conv\.0)(\.conv)?\.net\."),
}
_SHIFTED_CONV = re.compile(r"layer(\d)\.(?:net\.)?(\d+)\.(?:block\.)?(conv\d)\.(?:conv\.)?net\.")
_BLOCK = re.compile(r"layer(\d)\.(\d+)\.")


def infer_spec(raw, state, layout, name):
    """Arguments of ``ops.models.TSN`` that the weights of a published file, or bare ones, show.

    Args:
        raw: state dict with the file's own keys.
        state: the same with the names of this project.
        layout: key of ``LAYOUTS``.
        name: of the file, for messages.

    Returns:
        a dict; without "module" where several fit.

    Raises:
        UserError: no known network has such weights.
        LookupError: a weight that a module always has is missing or has other dimensions.
    """
    prefix = "backbone."
    shapes = {
        key.removeprefix(prefix): tuple(value.shape)
        for key, value in state.items()
        if key.startswith(prefix)
    }
    arch = infer_arch(shapes)
    if arch is None or "head.weight" not in state:
        raise UserError(
            f"{name}: looks like the {layout} layout, but its shapes fit no known backbone with a "
            f"classifier"
        )
    spec = {
        "arch": arch,
        "num_class": state["head.weight"].shape[0],
        "modality": _infer_modality(shapes, arch, name),
        "non_local": any(".after_block.theta." in key for key in state),
    }
    module = _module_with_weights(state, layout)
    if module:
        spec["module"] = module
        infer_options = MODULES[module].infer_options
        if infer_options:
            spec.update(infer_options(shapes))
    elif LAYOUTS[layout].wrappers and arch != "BNInception":
        # The shift of a BNInception has no trace in the keys.
        spec.update(_infer_shift(raw, shapes, layout, name))
    return spec


def _infer_modality(shapes, arch, name):
    """The modality with as many channels as the first conv has."""
    channels = shapes[f"{first_conv(arch)}.weight"][1]
    for modality, entry in MODALITIES.items():
        if entry.inputs == channels:
            return modality
    known = ", ".join(f"{entry.inputs} ({modality})" for modality, entry in MODALITIES.items())
    raise UserError(f"{name}: its first conv has {channels} input channels; known are {known}")


def _module_with_weights(state, layout):
    """The temporal module whose weights are there, or the only one of the layout, or None."""
    for module, entry in MODULES.items():
        if entry.key_signature and any(entry.key_signature in key for key in state):
            return module
    if len(LAYOUTS[layout].modules) == 1:
        return LAYOUTS[layout].modules[0]
    return None


def _infer_shift(raw, shapes, layout, name):
    """Options of a TSM, or of a TSN if nothing is shifted."""
    spec = {"module": "tsn", "temporal_pool": any(".layer2.net." in key for key in raw)}
    for place, pattern in _SHIFT_PLACES.items():
        if any(pattern.search(key) for key in raw):
            spec["module"] = "tsm"
            spec["shift_place"] = place
            break
    if spec["module"] == "tsn":
        return spec
    if spec["shift_place"] == "blockres":
        _check_shifts(name, raw, shapes)
    if not LAYOUTS[layout].written:  # a file of MMAction2, which has no other direction
        spec["shift_direction"] = "both"
    return spec


def _check_shifts(name, raw, shapes):
    """Raise UserError unless exactly those convs of a ResNet are shifted that TSM shifts.

    A shift has no weights: other shifted blocks would load without an error and give other scores.
    """
    shifted = {match.groups() for key in raw if (match := _SHIFTED_CONV.search(key))}
    if any(conv != "conv1" for _, _, conv in shifted):
        raise UserError(
            f"{name}: a network that shifts before conv2 as well, as --shift of the TIN repository "
            f"builds it; it differs from TSM and is not supported"
        )
    blocks = {_BLOCK.match(key).groups() for key in shapes if "layer" in key}
    step = 1
    if len([stage for stage, _ in blocks if stage == "3"]) >= DEEP:
        step = 2
    expected = {(stage, block, "conv1") for stage, block in blocks if int(block) % step == 0}
    if shifted != expected:
        raise UserError(
            f"{name}: shifts {len(shifted)} blocks, where TSM shifts {len(expected)} of this "
            f"backbone; it differs from TSM and is not supported"
        )
