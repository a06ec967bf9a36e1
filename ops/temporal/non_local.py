"""Non-local block (Wang et al., CVPR 2018, arXiv 1711.07971), embedded Gaussian.

Every place of every frame of a clip attends to all places of all frames, at half their resolution,
as in TSM's ops/non_local.py. The original's 1x1x1 convolutions and 3D BatchNorm are 1x1
convolutions and a BatchNorm of frames here: the same function, without moving a frame.

Shapes: ``N = B * T`` frames, time fastest; ``[N, C, H, W]`` in either memory format, which the
block keeps.
"""

import torch.nn.functional as F
from torch import nn


class NonLocal(nn.Module):
    """``x + BN(expand(softmax(theta(x)^T phi(x)) g(x)))`` over the places of a clip.

    The dot product is not scaled. The BatchNorm starts at zero, so a new block changes nothing. It
    is trained under partial BN, too (TSM's stays zero then, as no parameter group contains it).

    Args:
        channels: C; the attention works on C // 2.
        num_segments: T.
    """

    def __init__(self, channels, num_segments):
        super().__init__()
        inner = channels // 2
        self.num_segments = num_segments
        self.theta = nn.Conv2d(channels, inner, 1)
        self.phi = nn.Conv2d(channels, inner, 1)
        self.g = nn.Conv2d(channels, inner, 1)
        self.expand = nn.Conv2d(inner, channels, 1)
        self.expand_bn = nn.BatchNorm2d(channels)
        nn.init.zeros_(self.expand_bn.weight)

    def forward(self, x):
        attended = F.scaled_dot_product_attention(
            self._places(self.theta(x)),
            self._places(_half(self.phi(x))),
            self._places(_half(self.g(x))),
            scale=1.0,
        )
        n, _, h, w = x.shape
        attended = attended.reshape(n, h, w, -1).permute(0, 3, 1, 2)
        if x.is_contiguous():
            attended = attended.contiguous()
        return x + self.expand_bn(self.expand(attended))

    def _places(self, x):
        """``[B*T, c, h, w]`` to ``[B, 1, T*h*w, c]``: one head, as ONNX attention has four axes."""
        return x.permute(0, 2, 3, 1).reshape(x.shape[0] // self.num_segments, 1, -1, x.shape[1])


def _half(x):
    """Half the resolution of ``[N, c, h, w]``, by the largest of 2 x 2; a side of 1 has no half."""
    return F.max_pool2d(x, [min(2, side) for side in x.shape[-2:]])
