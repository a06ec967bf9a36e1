"""torchvision's MobileNetV2 (Sandler et al., CVPR 2018, arXiv 1801.04381) with slots.

Parameter names are torchvision's own. A residual block has two slots for temporal modules, each an
``nn.Identity`` while it is empty::

    x ── before_conv1 ── conv (expand, depthwise, project) ── before_sum ── (+)
     └────────────────────────────── identity ───────────────────────────────┘

These are the ten blocks that TSM shifts: features 3, 5, 6, 8, 9, 10, 12, 13, 15 and 16.
"""

from itertools import groupby

import torchvision.models.mobilenetv2 as tv
from torch import nn

from ops.backbones.pixels import IMAGENET
from ops.backbones.recompute import recomputable

STEM_FEATURES = 2  # the first conv and the block of 16 channels


class InvertedResidual(tv.InvertedResidual):
    """torchvision's block, with the slots if it is a residual one.

    ``[N, inp, H, W]`` to ``[N, oup, H/stride, W/stride]``.
    """

    recompute = False

    def __init__(self, inp, *args, **kwargs):
        super().__init__(inp, *args, **kwargs)
        self.slots = {}
        if self.use_res_connect:
            self.slots = {"before_conv1": inp, "before_sum": self.out_channels}
            self.before_conv1 = nn.Identity()
            self.before_sum = nn.Identity()

    @recomputable
    def forward(self, x):
        if not self.use_res_connect:
            return self.conv(x)
        return x + self.before_sum(self.conv(self.before_conv1(x)))


class MobileNetV2(tv.MobileNetV2):
    """torchvision's MobileNetV2 without its classifier.

    ``[N, C, H, W]`` to features ``[N, 1280]``.
    """

    pixels = IMAGENET
    first_conv = "features.0.0"
    network_slots = ()

    def __init__(self):
        super().__init__(block=InvertedResidual)
        self.feature_dim = self.last_channel
        del self.classifier
        self.avgpool = nn.AdaptiveAvgPool2d(1)

    def stages(self):
        """The residual blocks by their width (24, 32, 64, 96, 160), as five lists."""
        blocks = [
            block
            for block in self.features
            if isinstance(block, InvertedResidual) and block.use_res_connect
        ]
        return [list(stage) for _, stage in groupby(blocks, key=lambda block: block.out_channels)]

    def stage_layers(self):
        """The blocks of each width, with the one that widens the maps; the last convs are last."""
        widths = [stage[0].out_channels for stage in self.stages()]
        stages = [[] for _ in widths]
        for feature in self.features[STEM_FEATURES:]:
            # Features 17 and 18 (320 and 1280 channels) have no residual block.
            stage = -1
            if feature.out_channels in widths:
                stage = widths.index(feature.out_channels)
            stages[stage].append([feature])
        return stages

    def forward(self, x):
        return self.avgpool(self.features(x)).flatten(1)
