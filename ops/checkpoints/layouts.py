"""Translation of state dicts between the names of published files and those of this project.

It follows the tables of ``ops.checkpoints.layout_tables``. The prefixes ``module.`` (DataParallel),
``_orig_mod.`` (torch.compile) and ``model.`` (Lightning) are stripped before.
"""

import re

import torch

from ops.checkpoints.layout_tables import LAYOUTS

_WRAPPERS = re.compile(r"(module|_orig_mod|model|net|network)\.")
# A conv's bias before a BatchNorm is the same function as no bias and a smaller running mean:
# (conv bias, running mean).
_FOLDS = (
    (re.compile(r"(.*\.)conv(\d)\.bias"), r"\g<1>bn\g<2>.running_mean"),
    (re.compile(r"(.*\.)downsample\.0\.bias"), r"\g<1>downsample.1.running_mean"),
)
_FOLDED_CONVS = re.compile(
    r"backbone(\.layer\d\.\d+|\.stem\.stage\.\d+)?\.(conv\d|downsample\.0)\.weight"
)


def strip_wrappers(state):
    """A state dict without prefixes of DataParallel, torch.compile and Lightning on every key."""
    while state and (match := _WRAPPERS.match(next(iter(state)))):
        prefix = match[0]
        if not all(key.startswith(prefix) for key in state):
            break
        state = {key.removeprefix(prefix): value for key, value in state.items()}
    return state


def infer_layout(state):
    """The layout of a stripped state dict.

    Args:
        state: name -> tensor.

    Returns:
        a key of ``LAYOUTS``, or None.
    """
    for name, layout in LAYOUTS.items():
        if any(re.match(layout.signature, key) for key in state):
            return name
    return None


def layout_name(name):
    """The name of a layout in messages."""
    if name == "ours":
        return "this project"
    return name


def to_ours(state, name):
    """Rename a stripped state dict from a layout to the names of this project.

    Biases before a BatchNorm are folded into its mean, and the weights of 1x1x1 convolutions become
    those of 1x1 ones.

    Args:
        state: name -> tensor.
        name: key of ``LAYOUTS``.

    Returns:
        a new dict. Keys that no rule matches keep their name, so that a strict load reports them.
    """
    layout = LAYOUTS[name]
    unused = {key for key, _ in layout.unused}
    out = {}
    for key, value in state.items():
        if key in unused:
            continue
        if name != "ours":
            value = _flatten_1x1x1(value)
        out[_rename(_unwrap(key, layout), layout.rules)] = value
    if layout.conv_bias:
        _fold_biases(out)
    for end in layout.bias_free:
        _add_zero_biases(out, end)
    return out


def _flatten_1x1x1(value):
    """The weight of a 1x1x1 convolution as that of a 1x1 one."""
    if value.dim() == 5 and value.shape[2:] == (1, 1, 1):
        return value.flatten(3)
    return value


def _fold_biases(state):
    """Subtract the biases of convs from the running means of their BatchNorms, in place."""
    for key in list(state):
        mean = _folded_into(key)
        # Others are not a bias and its mean.
        if mean in state and state[mean].shape == state[key].shape:
            state[mean] = state[mean] - state.pop(key)


def _folded_into(key):
    for pattern, mean in _FOLDS:
        if match := pattern.fullmatch(key):
            return match.expand(mean)
    return None


def _add_zero_biases(state, end):
    """Add the biases with this end of a name, which the layout does not have, in place."""
    weight_end = end.replace(".bias", ".weight")
    for key in [key for key in state if key.endswith(weight_end)]:
        bias = key.replace(".weight", ".bias")
        state[bias] = state[key].new_zeros(state[key].shape[0])


def from_ours(state, name, wrapped=()):
    """The inverse of :func:`to_ours`.

    Args:
        state: a state dict with the names of this project.
        name: key of ``LAYOUTS``.
        wrapped: pairs (prefix of our keys, name of the wrapper): layers of this model that are in a
            wrapper there, outer ones first.

    Returns:
        every entry that the original's own loader expects; folded biases are zero.
    """
    layout = LAYOUTS[name]
    backwards = [(ours, theirs) for theirs, ours in layout.rules]
    wrapped = [(_rename(prefix, backwards), word) for prefix, word in wrapped]
    out = {}
    for key, value in state.items():
        # The non-local block has 1x1x1 convolutions and 3D BatchNorms there.
        if ".after_block." in key and value.dim() == 4:
            value = value[..., None]
        out[_wrap(_rename(key, backwards), wrapped)] = value
    if layout.conv_bias:
        for key, value in state.items():
            if _FOLDED_CONVS.fullmatch(key):
                bias = _rename(key.replace(".weight", ".bias"), backwards)
                out[bias] = value.new_zeros(value.shape[0])
    for theirs, ours in layout.unused:
        if ours:
            out[theirs] = state[ours].clone()
        else:
            out[theirs] = torch.zeros_like(state["backbone.bn1.bias"])
    return {layout.prefix + key: value for key, value in out.items()}


def _unwrap(key, layout):
    if not layout.wrappers:
        return key
    return re.sub(rf"\.({'|'.join(layout.wrappers)})(?=\.)", "", key)


def _wrap(key, wrapped):
    """Put the wrappers' names into a key of theirs.

    The innermost comes first, so that the prefixes of the outer ones still match.
    """
    for prefix, word in reversed(wrapped):
        if key.startswith(prefix) and not key.startswith(f"{prefix}nl."):
            key = f"{prefix}{word}.{key.removeprefix(prefix)}"
    return key


def _rename(key, rules):
    """A key after the first rule that matches it."""
    for source, target in rules:
        pattern = re.sub(r"\\{(\w)\\}", r"(?P<\1>\\d+)", re.escape(source))
        if match := re.match(pattern, key):
            return target.format(**match.groupdict()) + key[match.end() :]
    return key
