"""Stochastic depth (Huang et al., ECCV 2016, arXiv 1603.09382).

In training, residual branches are left out at random.
"""

from torch import nn
from torchvision.ops import stochastic_depth


class StochasticDepth(nn.Module):
    """The branch of a residual block, zero for some of the clips and scaled up for the others.

    ``[N, C, H, W]`` to the same shape; in eval mode the input itself. All frames of a clip share a
    draw: torchvision's own module would draw for each frame, and a temporal module would mix frames
    of different networks.

    Args:
        probability: that a clip goes without the branch.
        num_segments: T.
    """

    def __init__(self, probability, num_segments):
        super().__init__()
        self.probability = probability
        self.num_segments = num_segments

    def forward(self, x):
        if not self.training:
            return x
        return stochastic_depth(
            x.unflatten(0, (-1, self.num_segments)), self.probability, "row"
        ).flatten(0, 1)
