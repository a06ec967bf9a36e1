"""A pytest plugin that adds a temporal module, as a user would: no other test may fail with it."""

from torch import nn

from ops.temporal import MODULES, Option, TemporalModule


class Sixth(nn.Module):
    """A convolution over time, with a BatchNorm."""

    def __init__(self, channels, num_segments, width=3):
        super().__init__()
        self.num_segments = num_segments
        self.conv = nn.Conv3d(channels, channels, (width, 1, 1), padding="same", groups=channels)
        self.bn = nn.BatchNorm2d(channels)

    def forward(self, x):
        clips = x.unflatten(0, (-1, self.num_segments)).transpose(1, 2)
        return x + self.bn(self.conv(clips).transpose(1, 2).flatten(0, 1))


MODULES["sixth"] = TemporalModule(
    slot="before_conv2",
    stages=(3, 4),
    module_class=Sixth,
    options={"width": Option(int, 3, "number of frames that are mixed", minimum=1)},
    key_signature=".before_conv2.conv.weight",
)
