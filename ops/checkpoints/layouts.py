"""Translate state dicts between the names of published files and ours, by the tables of ``ops.checkpoints.layout_tables``.

``module.`` (DataParallel), ``_orig_mod.`` (torch.compile) and ``model.`` (Lightning) are stripped before.
"""

import re

import torch

from ops.checkpoints.layout_tables import LAYOUTS

# A conv's bias before a BatchNorm is the same function as no bias and a smaller running mean: (conv bias, running mean).
_FOLDS = (
    (re.compile(r"(.*\.)conv(\d)\.bias"), r"\g<1>bn\g<2>.running_mean"),
    (re.compile(r"(.*\.)downsample\.0\.bias"), r"\g<1>downsample.1.running_mean"),
)
_FOLDED_CONVS = re.compile(
    r"backbone(\.layer\d\.\d+|\.stem\.stage\.\d+)?\.(conv\d|downsample\.0)\.weight"
)


def strip_wrappers(state):
    """State dict without the prefixes that DataParallel, torch.compile and Lightning put before every key."""
    while state and (
        match := re.match(r"(module|_orig_mod|model|net|network)\.", next(iter(state)))
    ):
        prefix = match[0]
        if not all(key.startswith(prefix) for key in state):
            break
        state = {key.removeprefix(prefix): value for key, value in state.items()}
    return state


def recognise(state):
    """Name in ``LAYOUTS`` of a stripped state dict, or None."""
    for name, layout in LAYOUTS.items():
        if any(re.match(layout.signature, key) for key in state):
            return name
    return None


def layout_name(name):
    """What a layout is called in messages."""
    return "this project" if name == "ours" else name


def to_ours(state, name):
    """Rename a stripped state dict from a layout to our names; biases before a BatchNorm are folded into its mean, and the
    weights of 1x1x1 convolutions become those of 1x1 ones.

    Returns a new dict; keys that no rule knows keep their name, so that a strict load reports them.
    """
    layout = LAYOUTS[name]
    unused = {key for key, _ in layout.unused}
    out = {
        _rename(_unwrap(key, layout), layout.rules): value if name == "ours" else _flat(value)
        for key, value in state.items()
        if key not in unused
    }
    if layout.conv_bias:
        for key in list(out):
            mean = _folded_into(key)
            if mean in out and out[mean].shape == out[key].shape:  # others are no bias and its mean
                out[mean] = out[mean] - out.pop(key)
    for end in layout.bias_free:
        for key in [key for key in out if key.endswith(end.replace(".bias", ".weight"))]:
            out[key.replace(".weight", ".bias")] = out[key].new_zeros(out[key].shape[0])
    return out


def from_ours(state, name, wrapped=()):
    """The inverse of :func:`to_ours`: every entry the original's own loader expects, biases being zero.

    wrapped: pairs (prefix of our keys, name of the wrapper): a layer that sits in a wrapper in this model, outer ones first.
    """
    layout = LAYOUTS[name]
    backwards = [(ours, theirs) for theirs, ours in layout.rules]
    wrapped = [(_rename(prefix, backwards), word) for prefix, word in wrapped]
    out = {}
    for key, value in state.items():
        theirs = _rename(key, backwards)
        if (
            ".after_block." in key
        ):  # 1x1 convolutions and BatchNorms of frames here, 1x1x1 ones there
            value = value[..., None] if value.dim() == 4 else value
        out[_wrap(theirs, wrapped)] = value
    if layout.conv_bias:
        for key, value in state.items():
            if _FOLDED_CONVS.fullmatch(key):
                out[_rename(key.replace(".weight", ".bias"), backwards)] = value.new_zeros(
                    value.shape[0]
                )
    for theirs, ours in layout.unused:
        out[theirs] = state[ours].clone() if ours else torch.zeros_like(state["backbone.bn1.bias"])
    return {layout.prefix + key: value for key, value in out.items()}


def _unwrap(key, layout):
    return re.sub(rf"\.({'|'.join(layout.wrappers)})(?=\.)", "", key) if layout.wrappers else key


def _wrap(key, wrapped):
    """Put the wrappers' names into a key of theirs, the innermost first, so that the places of the outer ones stay."""
    for prefix, word in reversed(wrapped):
        if key.startswith(prefix) and not key.startswith(f"{prefix}nl."):
            key = f"{prefix}{word}.{key.removeprefix(prefix)}"
    return key


def _flat(value):
    return value.flatten(3) if value.dim() == 5 and value.shape[2:] == (1, 1, 1) else value


def _folded_into(key):
    for pattern, mean in _FOLDS:
        if match := pattern.fullmatch(key):
            return match.expand(mean)
    return None


def _rename(key, rules):
    for source, target in rules:
        pattern = re.sub(r"\\{(\w)\\}", r"(?P<\1>\\d+)", re.escape(source))
        if match := re.match(pattern, key):
            return target.format(**match.groupdict()) + key[match.end() :]
    return key
