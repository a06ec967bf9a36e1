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

    signature: a pattern that some key matches in this layout and in none above it; modules: the temporal modules that such
    a file may hold, none: any; rules: (theirs, ours) prefixes; wrappers: parts of their keys that name a wrapper
    around a layer, where we have none; unused: patterns of their entries that no forward pass reads, with the key of ours that
    an export fills them from (None: zeros); conv_bias: their convs before a BatchNorm carry a bias; prefix: what an export
    puts before every key.
    """

    signature: str
    modules: tuple[str, ...]
    rules: tuple[tuple[str, str], ...]
    wrappers: tuple[str, ...] = ()
    unused: tuple[tuple[str, str | None], ...] = ()
    conv_bias: bool = False
    prefix: str = ""


# tonylins/pytorch-mobilenet-v2, whose blocks are flat lists, to torchvision, whose blocks are lists of conv, BN, ReLU.
_TONYLINS = tuple((f"features.{block}.conv.{theirs}.", f"features.{block}.conv.{ours}.") for block, layers in (
    ("1", {0: "0.0", 1: "0.1", 3: "1", 4: "2"}),
    ("{i}", {0: "0.0", 1: "0.1", 3: "1.0", 4: "1.1", 6: "2", 7: "3"}),
) for theirs, ours in layers.items())
# mit-han-lab/temporal-shift-module: ops/non_local.py
_NON_LOCAL = tuple(
    (f"base_model.layer{{s}}.{{b}}.nl.{theirs}.", f"backbone.layer{{s}}.{{b}}.after_block.{ours}.")
    for theirs, ours in (("theta", "theta"), ("phi.0", "phi"), ("g.0", "g"), ("W.0", "expand"), ("W.1", "expand_bn")))
_HEADS = (("new_fc.", "head."), ("base_model.fc.", "head."), ("base_model.classifier.", "head."))


def _under(prefix, rules):
    """Rules for keys that have ``base_model.`` (theirs, or nothing) and ``backbone.`` (ours) in front."""
    return tuple((prefix + theirs, "backbone." + ours) for theirs, ours in rules)


LAYOUTS = {
    # Files of this project.
    "ours": Layout(r"backbone\.", (), (("", ""),)),
    # MCG-NJU/TDN: ops/tdn_net.py and ops/base_module.py there.
    "tdn": Layout(
        r"base_model\.conv1_5\.", ("tdn",),
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
    # mit-han-lab/temporal-shift-module and yjxiong/tsn-pytorch: ops/models.py, models.py there. The first is the MobileNetV2
    # of the former; in the second, a shifted layer is called net and a block with a non-local one beside it block.
    "tsm-mobilenetv2": Layout(
        r"base_model\.features\.2\.conv\.7\.", ("tsn", "tsm"),
        (*_HEADS, *_under("base_model.", _TONYLINS), ("base_model.", "backbone.")),
        wrappers=("net",), prefix="module.",
    ),
    "tsm": Layout(
        r"base_model\.", ("tsn", "tsm"), (*_HEADS, *_NON_LOCAL, ("base_model.", "backbone.")),
        wrappers=("net", "block"), prefix="module.",
    ),
    # The MobileNetV2 of TSM's online demo, and tonylins' own.
    "mobilenetv2": Layout(
        r"features\.2\.conv\.7\.", ("tsn", "tsm"),
        (("classifier.weight", "head.weight"), ("classifier.bias", "head.bias"), ("classifier.1.", "head."),
         *_under("", _TONYLINS), ("features.", "backbone.features.")),
    ),
    # torchvision's image classifiers.
    "torchvision": Layout(
        r"((conv1|layer1\.0\.conv1)|features\.0\.0)\.weight", ("tsn",),
        (("fc.", "head."), ("conv1.", "backbone.conv1."), ("bn1.", "backbone.bn1."), ("layer{s}.", "backbone.layer{s}."),
         ("classifier.1.", "head."), ("features.", "backbone.features.")),
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
    """Rename a stripped state dict from a layout to our names; biases before a BatchNorm are folded into its mean, and the
    weights of 1x1x1 convolutions become those of 1x1 ones.

    Returns a new dict; keys that no rule knows keep their name, so that a strict load reports them.
    """
    layout = LAYOUTS[name]
    unused = {key for key, _ in layout.unused}
    out = {_rename(_unwrap(key, layout), layout.rules): _flat(value) for key, value in state.items() if key not in unused}
    if layout.conv_bias:
        for key in list(out):
            mean = _folded_into(key)
            if mean in out:
                out[mean] = out[mean] - out.pop(key)
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
        if ".after_block." in key:  # 1x1 convolutions and BatchNorms of frames here, 1x1x1 ones there
            value = value[..., None] if value.dim() == 4 else value
        out[_wrap(theirs, wrapped)] = value
    if layout.conv_bias:
        for key, value in state.items():
            if _FOLDED_CONVS.fullmatch(key):
                out[_rename(key.replace(".weight", ".bias"), backwards)] = value.new_zeros(value.shape[0])
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
            return target.format(**match.groupdict()) + key[match.end():]
    return key
