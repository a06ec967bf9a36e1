"""How published state dicts name what we name otherwise: tables, read in both directions.

A rule is a pair (theirs, ours) of key prefixes; ``{s}`` is a stage, ``{b}`` a block, ``{i}`` any number. The first rule that
matches a key renames it. ``module.`` (DataParallel) and ``_orig_mod.`` (torch.compile) are stripped before.
"""
import re
from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Layout:
    """One way of naming weights.

    signature: a pattern that some key matches in this layout and in none above it; module: the temporal module that such
    a file holds, None if its keys do not tell; rules: (theirs, ours) prefixes; unused: patterns of their entries that no
    forward pass reads, with the key of ours that an export fills them from (None: zeros); conv_bias: their convs before a
    BatchNorm carry a bias; prefix: what an export puts before every key.
    """

    signature: str
    module: str | None
    rules: tuple[tuple[str, str], ...]
    unused: tuple[tuple[str, str | None], ...] = ()
    conv_bias: bool = False
    prefix: str = ""


_HEADS = (("new_fc.", "head."), ("base_model.fc.", "head."))

LAYOUTS = {
    # Files of this project.
    "ours": Layout(r"backbone\.", None, (("", ""),)),
    # MCG-NJU/TDN: ops/tdn_net.py and ops/base_module.py there.
    "tdn": Layout(
        r"base_model\.conv1_5\.", "tdn",
        (
            *_HEADS,
            ("base_model.conv1_5.0.", "backbone.stem.conv."),
            ("base_model.conv1_5.1.", "backbone.stem.bn."),
            ("base_model.resnext_layer1.", "backbone.stem.stage."),
            *(
                (f"base_model.layer{{s}}_bak.{{b}}.{theirs}.", f"backbone.layer{{s}}.{{b}}.before_conv2.{ours}.")
                for theirs, ours in (
                    ("mse.conv1", "squeeze"), ("mse.bn1", "squeeze_bn"), ("mse.conv2", "spatial"),
                    ("mse.conv3_smallscale2", "coarse"), ("mse.bn3_smallscale2", "coarse_bn"),
                    ("mse.conv3_smallscale4", "fine"), ("mse.bn3_smallscale4", "fine_bn"),
                    ("mse.conv3", "expand"), ("mse.bn3", "expand_bn"), ("shift.conv", "temporal"),
                )
            ),
            ("base_model.layer{s}_bak.", "backbone.layer{s}."),
            ("base_model.", "backbone."),
        ),
        unused=(("base_model.conv1_temp.weight", "backbone.conv1.weight"), ("base_model.conv1_temp.bias", None)),
        conv_bias=True,
        prefix="module.",
    ),
    # mit-han-lab/temporal-shift-module and yjxiong/tsn-pytorch: ops/models.py, models.py there.
    "tsn": Layout(r"base_model\.", "tsn", (*_HEADS, ("base_model.", "backbone.")), prefix="module."),
    # torchvision's image classifiers.
    "torchvision": Layout(
        r"(conv1|layer1\.0\.conv1)\.weight", "tsn",
        (("fc.", "head."), ("conv1.", "backbone.conv1."), ("bn1.", "backbone.bn1."), ("layer{s}.", "backbone.layer{s}.")),
    ),
}

# A conv's bias before a BatchNorm is the same function as no bias and a smaller running mean: (conv bias, running mean).
_FOLDS = (
    (re.compile(r"(.*\.)conv(\d)\.bias"), r"\g<1>bn\g<2>.running_mean"),
    (re.compile(r"(.*\.)downsample\.0\.bias"), r"\g<1>downsample.1.running_mean"),
)
_FOLDED_CONVS = re.compile(r"backbone(\.layer\d\.\d+|\.stem\.stage\.\d+)?\.(conv\d|downsample\.0)\.weight")


def strip_wrappers(state):
    """State dict without the prefixes that DataParallel and torch.compile put before every key."""
    while state and (match := re.match(r"module\.|_orig_mod\.", next(iter(state)))):
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


def to_ours(state, name):
    """Rename a stripped state dict from a layout to our names; biases before a BatchNorm are folded into its mean.

    Returns a new dict; keys that no rule knows keep their name, so that a strict load reports them.
    """
    layout = LAYOUTS[name]
    unused = {key for key, _ in layout.unused}
    out = {_rename(key, layout.rules): value for key, value in state.items() if key not in unused}
    if layout.conv_bias:
        for key in list(out):
            mean = _folded_into(key)
            if mean in out:
                out[mean] = out[mean] - out.pop(key)
    return out


def from_ours(state, name):
    """The inverse of :func:`to_ours`: every entry the original's own loader expects, biases being zero."""
    layout = LAYOUTS[name]
    backwards = [(ours, theirs) for theirs, ours in layout.rules]
    out = {_rename(key, backwards): value for key, value in state.items()}
    if layout.conv_bias:
        for key, value in state.items():
            if _FOLDED_CONVS.fullmatch(key):
                out[_rename(key.replace(".weight", ".bias"), backwards)] = value.new_zeros(value.shape[0])
    for theirs, ours in layout.unused:
        out[theirs] = state[ours].clone() if ours else torch.zeros_like(state["backbone.bn1.bias"])
    return {layout.prefix + key: value for key, value in out.items()}


def _folded_into(key):
    for pattern, mean in _FOLDS:
        if match := pattern.fullmatch(key):
            return match.expand(mean)
    return None


def _rename(key, rules):
    for source, target in rules:
        pattern = re.sub(r"\\{(\w)\\}", r"(?P<\1>\\d+)", re.escape(source))
        if match := re.match(pattern, key):
            return target.format(**match.groupdict()) + key[match.end():]
    return key
