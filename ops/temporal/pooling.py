"""Temporal max-pooling, TSM's ``--temporal_pool``: half the frames from the second stage on.

mit-han-lab/temporal-shift-module ops/temporal_shift.py, ``TemporalPool``.
"""

import torch.nn.functional as F
from torch import nn


class TemporalPool(nn.Module):
    """Max over three frames, at every second one.

    ``[B*T, C, H, W]`` to ``[B*T/2, C, H, W]`` in the same memory format.

    Args:
        num_segments: T, even.
    """

    def __init__(self, num_segments):
        super().__init__()
        self.num_segments = num_segments

    def forward(self, x):
        # Frames as the rows of a picture [B, C, T, H*W]: on GPUs the backward of 3D pooling is not
        # deterministic, and --deterministic refuses it.
        pictures = x.flatten(2).unflatten(0, (-1, self.num_segments)).transpose(1, 2)
        pooled = F.max_pool2d(pictures, kernel_size=(3, 1), stride=(2, 1), padding=(1, 0))
        return pooled.transpose(1, 2).flatten(0, 1).unflatten(2, x.shape[2:])
