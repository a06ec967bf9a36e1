"""BN-Inception (Ioffe & Szegedy, ICML 2015, arXiv 1502.03167) with slots for temporal modules.

It is the network of TSN's Caffe release and follows ``bn_inception`` of tsn-pytorch's model zoo,
key by key: all layers are children of the network under the names of the Caffe prototxt
(``inception_3a_double_3x3_1``, ``inception_3a_double_3x3_1_bn``). A block is therefore not a module
around its layers; its slot is a module beside them, ``slot_3a``, which is an ``nn.Identity``
while it is empty::

    x ── before_block ─┬─ 1x1 ──────────────────────────────────────────────┬─ cat
                       ├─ 3x3_reduce ── 3x3 ────────────────────────────────┤
                       ├─ double_3x3_reduce ── double_3x3_1 ── double_3x3_2 ┤
                       └─ pool ── pool_proj ────────────────────────────────┘

``3c`` and ``4e`` halve the map: no 1x1, stride 2 in the last convs, and a max-pool without a
projection.
"""

import torch
from torch import nn
from torch.nn import functional as F

from ops.backbones.pixels import CAFFE_BGR
from ops.backbones.recompute import recomputable

# conv name -> (channels in, channels out, kernel, stride)
STEM = {
    "conv1_7x7_s2": (3, 64, 7, 2),
    "conv2_3x3_reduce": (64, 64, 1, 1),
    "conv2_3x3": (64, 192, 3, 1),
}
# block -> (channels in; channels out of: 1x1, (3x3_reduce, 3x3), (double_3x3_reduce, double_3x3_1
# and _2), pool_proj; pool). A block without 1x1 and projection halves the map.
INCEPTIONS = {
    "3a": (192, 64, (64, 64), (64, 96), 32, "avg"),
    "3b": (256, 64, (64, 96), (64, 96), 64, "avg"),
    "3c": (320, None, (128, 160), (64, 96), None, "max"),
    "4a": (576, 224, (64, 96), (96, 128), 128, "avg"),
    "4b": (576, 192, (96, 128), (96, 128), 128, "avg"),
    "4c": (576, 160, (128, 160), (128, 160), 128, "avg"),
    "4d": (608, 96, (128, 192), (160, 192), 128, "avg"),
    "4e": (608, None, (128, 192), (192, 256), None, "max"),
    "5a": (1056, 352, (192, 320), (160, 224), 128, "avg"),
    "5b": (1024, 352, (192, 320), (192, 224), 128, "max"),
}
POOLS = {"avg": F.avg_pool2d, "max": F.max_pool2d}
STAGES = (("conv2",), ("3a", "3b", "3c"), ("4a", "4b", "4c", "4d", "4e"), ("5a", "5b"))


def inception_convs(block):
    """The convs of a block of ``INCEPTIONS`` in the order of the prototxt.

    Args:
        block: key of ``INCEPTIONS``.

    Returns:
        name -> (in, out, kernel, stride).
    """
    channels, single, (reduce, out), (double_reduce, double_out), proj, _ = INCEPTIONS[block]
    stride = 2
    if single:
        stride = 1
    convs = {
        "1x1": (channels, single, 1, 1),
        "3x3_reduce": (channels, reduce, 1, 1),
        "3x3": (reduce, out, 3, stride),
        "double_3x3_reduce": (channels, double_reduce, 1, 1),
        "double_3x3_1": (double_reduce, double_out, 3, 1),
        "double_3x3_2": (double_out, double_out, 3, stride),
        "pool_proj": (channels, proj, 1, 1),
    }
    return {f"inception_{block}_{name}": conv for name, conv in convs.items() if conv[1]}


def all_convs():
    """Every conv of the network: name -> (in, out, kernel, stride)."""
    convs = dict(STEM)
    for block in INCEPTIONS:
        convs.update(inception_convs(block))
    return convs


class Slot(nn.Module):
    """The slot before a block: all branches receive the output of the module inserted here.

    ``[N, channels, H, W]`` to the same shape.
    """

    def __init__(self, channels):
        super().__init__()
        self.slots = {"before_block": channels}
        self.before_block = nn.Identity()

    def forward(self, x):
        return self.before_block(x)


class BNInception(nn.Module):
    """BN-Inception without its classifier, for BGR pixels of 0 to 255 minus the mean.

    ``[N, C, H, W]`` to features ``[N, 1024]``. Unlike the original, the ReLUs are explicit, the
    BatchNorm momentum is 0.1 (Caffe keeps 0.9 of the old statistics), and the last pool and the
    halving ones take maps of any size.
    """

    pixels = CAFFE_BGR
    first_conv = "conv1_7x7_s2"
    feature_dim = 1024
    network_slots = ()
    recompute = False

    def __init__(self):
        super().__init__()
        for name, (channels, out, kernel, stride) in all_convs().items():
            conv = nn.Conv2d(channels, out, kernel, stride, padding=kernel // 2)
            nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")
            nn.init.zeros_(conv.bias)
            self.add_module(name, conv)
            self.add_module(f"{name}_bn", nn.BatchNorm2d(out))
        self.slot_conv2 = Slot(STEM["conv2_3x3_reduce"][0])
        for block, (channels, *_) in INCEPTIONS.items():
            self.add_module(f"slot_{block}", Slot(channels))
        self.avgpool = nn.AdaptiveAvgPool2d(1)

    def stages(self):
        """The slots of conv2, 3a..3c, 4a..4e, 5a..5b, as four lists."""
        return [[getattr(self, f"slot_{block}") for block in stage] for stage in STAGES]

    def stage_layers(self):
        """The slot, the convs and the BatchNorms of each block of :meth:`stages`."""
        convs = {"conv2": ("conv2_3x3_reduce", "conv2_3x3")}
        convs.update((block, tuple(inception_convs(block))) for block in INCEPTIONS)
        stages = []
        for stage in STAGES:
            layers = []
            for block in stage:
                names = [f"slot_{block}", *convs[block], *(f"{name}_bn" for name in convs[block])]
                layers.append([getattr(self, name) for name in names])
            stages.append(layers)
        return stages

    def forward(self, x):
        x = _max_pool(self._convs(x, "conv1_7x7_s2"))
        x = _max_pool(self._convs(self.slot_conv2(x), "conv2_3x3_reduce", "conv2_3x3"))
        for block in INCEPTIONS:
            x = self._inception(x, block)
        return self.avgpool(x).flatten(1)

    def _convs(self, x, *names):
        """One conv after the other, each with its BatchNorm and a ReLU."""
        for name in names:
            x = F.relu(getattr(self, f"{name}_bn")(getattr(self, name)(x)), inplace=True)
        return x

    @recomputable
    def _inception(self, x, block):
        """``[N, C, H, W]`` to ``[N, C', H, W]``, halved to (H+1)//2 by (W+1)//2 in 3c and 4e."""
        x = getattr(self, f"slot_{block}")(x)
        _, single, _, _, proj, pool = INCEPTIONS[block]
        name = f"inception_{block}_"
        branches = []
        if single:
            branches.append(self._convs(x, name + "1x1"))
        branches.append(self._convs(x, name + "3x3_reduce", name + "3x3"))
        branches.append(
            self._convs(x, name + "double_3x3_reduce", name + "double_3x3_1", name + "double_3x3_2")
        )
        if proj:
            pool_layer = POOLS[pool]
            branches.append(self._convs(pool_layer(x, 3, 1, padding=1), name + "pool_proj"))
        else:
            # An odd side: the convs give (side + 1) / 2, the original's pool one less, so that
            # its cat fails.
            branches.append(_max_pool(x, padding=(x.shape[2] % 2, x.shape[3] % 2)))
        return torch.cat(branches, 1)


def _max_pool(x, padding=0):
    """Caffe's pool 3x3 of stride 2: the last window may reach over the edge."""
    return F.max_pool2d(x, 3, 2, padding=padding, ceil_mode=True)
