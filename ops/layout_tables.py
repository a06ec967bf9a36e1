"""The tables of ``ops.layouts``: how published state dicts name what we name otherwise.

A rule is a pair (theirs, ours) of key prefixes; ``{s}`` is a stage, ``{b}`` a block, ``{i}`` any number. The first rule that
matches a key renames it.
"""
from dataclasses import dataclass


@dataclass(frozen=True)
class Layout:
    """One way of naming weights.

    signature: a pattern that some key matches in this layout and in none above it; modules: the temporal modules that such
    a file may hold, none: any; rules: (theirs, ours) prefixes; wrappers: parts of their keys that name a wrapper
    around a layer, where we have none; unused: patterns of their entries that no forward pass reads, with the key of ours that
    an export fills them from (None: zeros); conv_bias: their convs before a BatchNorm carry a bias; bias_free: ends of our
    biases that they do not have, a BatchNorm following; written: whether an export to it is offered; prefix: what an export
    puts before every key.
    """

    signature: str
    modules: tuple[str, ...]
    rules: tuple[tuple[str, str], ...]
    wrappers: tuple[str, ...] = ()
    unused: tuple[tuple[str, str | None], ...] = ()
    conv_bias: bool = False
    bias_free: tuple[str, ...] = ()
    written: bool = True
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


# open-mmlab/mmaction2, 0.x and 1.x: a conv, its BatchNorm and its activation are one module there.
_MM_HEAD = (("cls_head.fc_cls.", "head."),)
_MM_RESNET = (
    ("backbone.conv1.conv.", "backbone.conv1."), ("backbone.conv1.bn.", "backbone.bn1."),
    *((f"backbone.layer{{s}}.{{b}}.{theirs}.", f"backbone.layer{{s}}.{{b}}.{ours}.") for theirs, ours in (
        ("downsample.conv", "downsample.0"), ("downsample.bn", "downsample.1"),
        ("conv{i}.conv", "conv{i}"), ("conv{i}.bn", "bn{i}"),
        ("non_local_block.theta.conv", "after_block.theta"), ("non_local_block.phi.0.conv", "after_block.phi"),
        ("non_local_block.g.0.conv", "after_block.g"), ("non_local_block.conv_out.conv", "after_block.expand"),
        ("non_local_block.conv_out.bn", "after_block.expand_bn"))),
)
_MM_MOBILENET = (
    ("backbone.conv1.conv.", "backbone.features.0.0."), ("backbone.conv1.bn.", "backbone.features.0.1."),
    ("backbone.conv2.conv.", "backbone.features.18.0."), ("backbone.conv2.bn.", "backbone.features.18.1."),
    *((f"backbone.layer{stage}.{block}.conv.{number}.{theirs}.",
       f"backbone.features.{feature}.conv.{f'{number}.{part}' if number < last else last + part}.")
      for feature, (stage, block) in enumerate(
          ((stage, block) for stage, blocks in enumerate((1, 2, 3, 4, 3, 3, 1), 1) for block in range(blocks)), 1)
      for last in (1 if stage == 1 else 2,) for number in range(last + 1) for part, theirs in enumerate(("conv", "bn"))),
)

_MM_PIXELS = (("data_preprocessor.mean", None), ("data_preprocessor.std", None))  # in some files

LAYOUTS = {
    "mmaction2-mobilenetv2": Layout(
        r"backbone\.layer7\.0\.conv\.", ("tsn", "tsm"), _MM_HEAD + _MM_MOBILENET, wrappers=("net",),
        unused=_MM_PIXELS, written=False),
    "mmaction2": Layout(
        r"backbone\.(layer1\.0\.)?conv1\.(conv|bn)\.|cls_head\.fc_cls\.", ("tsn", "tsm"), _MM_HEAD + _MM_RESNET,
        wrappers=("net", "block"), unused=_MM_PIXELS, bias_free=("after_block.expand.bias",), written=False),
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
