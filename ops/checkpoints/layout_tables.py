"""The tables of ``ops.checkpoints.layouts``: the names of published state dicts, and ours.

A rule is a pair (theirs, ours) of key prefixes; ``{s}`` is a stage, ``{b}`` a block, ``{i}`` any
number. The first rule that matches a key renames it.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Layout:
    """One way of naming weights.

    Attributes:
        signature: pattern that a key matches in this layout, and in none above it in the table.
        modules: the temporal modules that such a file may have; empty: any.
        rules: (theirs, ours) prefixes.
        wrappers: parts of their keys that name a wrapper around a layer, where we have none.
        unused: their entries that no forward pass reads, with the key of ours that an export fills
            them from (None: zeros).
        conv_bias: whether their convs before a BatchNorm have a bias.
        bias_free: ends of the names of our biases that they do not have, as a BatchNorm follows.
        written: whether an export to this layout is offered.
        prefix: what an export puts before every key.
        average: what that project averages over the views of a video ("softmax"); None: what the
            authors of the temporal module do.
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
    average: str | None = None


# tonylins/pytorch-mobilenet-v2, whose blocks are flat lists, to torchvision, whose blocks are
# lists of conv, BN, ReLU.
_TONYLINS = tuple(
    (f"features.{block}.conv.{theirs}.", f"features.{block}.conv.{ours}.")
    for block, layers in (
        ("1", {0: "0.0", 1: "0.1", 3: "1", 4: "2"}),
        ("{i}", {0: "0.0", 1: "0.1", 3: "1.0", 4: "1.1", 6: "2", 7: "3"}),
    )
    for theirs, ours in layers.items()
)


def _inserted(slot, pairs, stem="base_model.layer{s}.{b}."):
    """Rules for a module in a slot of each block.

    Args:
        slot: its name.
        pairs: (their name in a block, ours in the slot).
        stem: start of their keys.
    """
    return tuple(
        (f"{stem}{theirs}.", f"backbone.layer{{s}}.{{b}}.{slot}.{ours}.") for theirs, ours in pairs
    )


_MM_BLOCK = "backbone.layer{s}.{b}."
# mit-han-lab/temporal-shift-module: ops/non_local.py
_NON_LOCAL = _inserted(
    "after_block",
    (
        ("nl.theta", "theta"),
        ("nl.phi.0", "phi"),
        ("nl.g.0", "g"),
        ("nl.W.0", "expand"),
        ("nl.W.1", "expand_bn"),
    ),
)
# liu-zhy/temporal-adaptive-module: ops/temporal_module.py
_TAM = (
    ("tam.G.0", "kernel_fc1"),
    ("tam.G.1", "kernel_bn"),
    ("tam.G.3", "kernel_fc2"),
    ("tam.L.0", "gate_conv1"),
    ("tam.L.1", "gate_bn"),
    ("tam.L.3", "gate_conv2"),
)
_OLD_TAM = tuple(
    (theirs.replace("tam.G", "self_conv.conv_f").replace("tam.L", "self_conv.conv_g"), ours)
    for theirs, ours in _TAM
)
_HEADS = (("new_fc.", "head."), ("base_model.fc.", "head."), ("base_model.classifier.", "head."))


def _under(prefix, rules):
    """Rules for keys that start with a prefix (theirs) and ``backbone.`` (ours)."""
    return tuple((prefix + theirs, "backbone." + ours) for theirs, ours in rules)


# open-mmlab/mmaction2, 0.x and 1.x: a conv, its BatchNorm and its activation are one module there.
_MM_HEAD = (("cls_head.fc_cls.", "head."),)
_MM_RESNET = (
    ("backbone.conv1.conv.", "backbone.conv1."),
    ("backbone.conv1.bn.", "backbone.bn1."),
    *_inserted("before_conv2", _TAM, stem=_MM_BLOCK),
    *_inserted(
        "before_conv1",
        (
            ("conv1.conv.net1.offset_net.conv", "offset_conv"),
            ("conv1.conv.net1.offset_net.fc1", "offset_fc1"),
            ("conv1.conv.net1.offset_net.fc2", "offset_fc2"),
            ("conv1.conv.net1.weight_net.conv", "weight_conv"),
        ),
        stem=_MM_BLOCK,
    ),
    *_inserted(
        "after_block",
        (
            ("non_local_block.theta.conv", "theta"),
            ("non_local_block.phi.0.conv", "phi"),
            ("non_local_block.g.0.conv", "g"),
            ("non_local_block.conv_out.conv", "expand"),
            ("non_local_block.conv_out.bn", "expand_bn"),
        ),
        stem=_MM_BLOCK,
    ),
    *(
        (f"{_MM_BLOCK}{theirs}.", f"{_MM_BLOCK}{ours}.")
        for theirs, ours in (
            ("conv1.conv.net2", "conv1"),
            ("downsample.conv", "downsample.0"),
            ("downsample.bn", "downsample.1"),
            ("conv{i}.conv", "conv{i}"),
            ("conv{i}.bn", "bn{i}"),
        )
    ),
)


def _mm_mobilenet():
    """Rules for MobileNetV2: there in seven layers, here in one list of 17 blocks."""
    rules = [
        ("backbone.conv1.conv.", "backbone.features.0.0."),
        ("backbone.conv1.bn.", "backbone.features.0.1."),
        ("backbone.conv2.conv.", "backbone.features.18.0."),
        ("backbone.conv2.bn.", "backbone.features.18.1."),
    ]
    feature = 0
    for layer, blocks in enumerate((1, 2, 3, 4, 3, 3, 1), 1):
        last = 2  # number of the projection, which has no activation
        if layer == 1:
            last = 1
        for block in range(blocks):
            feature += 1
            theirs = f"backbone.layer{layer}.{block}.conv"
            ours = f"backbone.features.{feature}.conv"
            for number in range(last):
                rules.append((f"{theirs}.{number}.conv.", f"{ours}.{number}.0."))
                rules.append((f"{theirs}.{number}.bn.", f"{ours}.{number}.1."))
            rules.append((f"{theirs}.{last}.conv.", f"{ours}.{last}."))
            rules.append((f"{theirs}.{last}.bn.", f"{ours}.{last + 1}."))
    return tuple(rules)


_MM_PIXELS = (("data_preprocessor.mean", None), ("data_preprocessor.std", None))  # in some files

LAYOUTS = {
    "mmaction2-mobilenetv2": Layout(
        r"backbone\.layer7\.0\.conv\.",
        ("tsn", "tsm"),
        _MM_HEAD + _mm_mobilenet(),
        wrappers=("net",),
        unused=_MM_PIXELS,
        written=False,
        average="softmax",
    ),
    "mmaction2": Layout(
        r"backbone\.(layer1\.0\.)?conv1\.(conv|bn)\.|cls_head\.fc_cls\.",
        ("tsn", "tsm", "tam", "tin"),
        _MM_HEAD + _MM_RESNET,
        wrappers=("net", "block"),
        unused=_MM_PIXELS,
        bias_free=("after_block.expand.bias",),
        written=False,
        average="softmax",
    ),
    # Files of this project.
    "ours": Layout(r"backbone\.", (), (("", ""),)),
    # MCG-NJU/TDN: ops/tdn_net.py and ops/base_module.py there.
    "tdn": Layout(
        r"base_model\.conv1_5\.",
        ("tdn",),
        (
            *_HEADS,
            ("base_model.conv1_5.0.", "backbone.stem.conv."),
            ("base_model.conv1_5.1.", "backbone.stem.bn."),
            ("base_model.resnext_layer1.", "backbone.stem.stage."),
            *_inserted(
                "before_conv2",
                (
                    ("mse.conv1", "squeeze"),
                    ("mse.bn1", "squeeze_bn"),
                    ("mse.conv2", "spatial"),
                    ("mse.conv3_smallscale2", "coarse"),
                    ("mse.bn3_smallscale2", "coarse_bn"),
                    ("mse.conv3_smallscale4", "fine"),
                    ("mse.bn3_smallscale4", "fine_bn"),
                    ("mse.conv3", "expand"),
                    ("mse.bn3", "expand_bn"),
                    ("shift.conv", "temporal"),
                ),
                stem="base_model.layer{s}_bak.{b}.",
            ),
            ("base_model.layer{s}_bak.", "backbone.layer{s}."),
            ("base_model.", "backbone."),
        ),
        unused=(
            ("base_model.conv1_temp.weight", "backbone.conv1.weight"),
            ("base_model.conv1_temp.bias", None),
        ),
        conv_bias=True,
        prefix="module.",
    ),
    # A block with its TAM beside it is called net.
    "tam": Layout(
        r"base_model\.layer1\.0\.(tam|self_conv)\.",
        ("tam",),
        (
            *_HEADS,
            *_inserted("before_conv2", _TAM),
            *_inserted("before_conv2", _OLD_TAM),
            ("base_model.layer{s}.{b}.net.", "backbone.layer{s}.{b}."),
            ("base_model.", "backbone."),
        ),
        prefix="module.",
    ),
    # deepcs233/TIN: ops/temporal_interlace.py
    "tin": Layout(
        r"base_model\.layer1\.0\.conv1\.net1\.",
        ("tin",),
        (
            *_HEADS,
            *_inserted(
                "before_conv1",
                (
                    ("conv1.net1.biasnet.net.conv", "offset_conv"),
                    ("conv1.net1.biasnet.net.fc", "offset_fc1"),
                    ("conv1.net1.biasnet.net.lastlayer", "offset_fc2"),
                    ("conv1.net1.weightnet.net.lastlayer", "weight_conv"),
                ),
            ),
            ("base_model.layer{s}.{b}.conv1.net2.", "backbone.layer{s}.{b}.conv1."),
            ("base_model.", "backbone."),
        ),
        prefix="module.",
    ),
    # mit-han-lab/temporal-shift-module and yjxiong/tsn-pytorch: ops/models.py, models.py there.
    # The first is the MobileNetV2 of the former; in the second, a shifted layer is called net, and
    # a block with a non-local block beside it is called block.
    "tsm-mobilenetv2": Layout(
        r"base_model\.features\.2\.conv\.7\.",
        ("tsn", "tsm"),
        (*_HEADS, *_under("base_model.", _TONYLINS), ("base_model.", "backbone.")),
        wrappers=("net",),
        prefix="module.",
    ),
    "tsm": Layout(
        r"base_model\.",
        ("tsn", "tsm"),
        (*_HEADS, *_NON_LOCAL, ("base_model.", "backbone.")),
        wrappers=("net", "block"),
        prefix="module.",
    ),
    # The MobileNetV2 of TSM's online demo, and tonylins' own.
    "mobilenetv2": Layout(
        r"features\.2\.conv\.7\.",
        ("tsn", "tsm"),
        (
            ("classifier.weight", "head.weight"),
            ("classifier.bias", "head.bias"),
            ("classifier.1.", "head."),
            *_under("", _TONYLINS),
            ("features.", "backbone.features."),
        ),
    ),
    # torchvision's image classifiers.
    "torchvision": Layout(
        r"((conv1|layer1\.0\.conv1)|features\.0\.0)\.weight",
        ("tsn",),
        (
            ("fc.", "head."),
            ("conv1.", "backbone.conv1."),
            ("bn1.", "backbone.bn1."),
            ("layer{s}.", "backbone.layer{s}."),
            ("classifier.1.", "head."),
            ("features.", "backbone.features."),
        ),
    ),
}
