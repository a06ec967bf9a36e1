"""Datasets like those of main.py that also report how each clip was made."""

from copy import deepcopy
from typing import NamedTuple

import numpy as np
import torch

from ops.data.clips import TestDataset, TrainDataset
from ops.data.sampling import frame_indices
from ops.data.transforms import TrainTransform, crop_offsets_test, draw_crop


class TracedClip(NamedTuple):
    """A clip and how it was made.

    Attributes:
        clip: uint8 ``[T, L*C, S, S]``.
        label: after a flip; several labels as a tuple, or as bool ``[classes]``.
        index: of the video in the list.
        indices: frames of the clip, int64 ``[T, L]``.
        total: number of frames of the video.
        is_mirrored: whether the clip was flipped.
        crop: x, y, width and height in pixels of ``whole``.
        whole: the middle frame, which the crop was cut from, uint8 ``[H, W, C]``.
    """

    clip: torch.Tensor
    label: int | tuple[int, ...] | np.ndarray
    index: int
    indices: np.ndarray
    total: int
    is_mirrored: bool
    crop: tuple[int, int, int, int]
    whole: np.ndarray


class _TracedReading:
    """Mixin of a dataset that keeps which frames it chose last."""

    def read(self, record, choose):
        def traced(total):
            offsets = choose(total)
            self.total = total
            self.indices = frame_indices(offsets, self.frames_per_segment, total)
            return offsets

        return super().read(record, traced)


class _TracedTransform(TrainTransform):
    """A training transform that keeps what it drew last."""

    def __call__(self, frames, picks, rng, flip):
        _, height, width, _ = frames.shape
        # A copy of the generator: the transform itself draws the same crop again.
        self.crop = draw_crop(width, height, self.crop_size, self.scales, deepcopy(rng))
        self.is_mirrored = flip
        self.whole = frames[_middle(picks)].copy()
        return super().__call__(frames, picks, rng, flip)


class TracedTrainDataset(_TracedReading, TrainDataset):
    """The training clips, each a ``TracedClip``."""

    def __init__(self, *args, **options):
        super().__init__(*args, **options)
        plain = self.transform
        self.transform = _TracedTransform(plain.crop_size, plain.scales, plain.flow)

    def sample(self, epoch, index, record):
        clip, label, _ = super().sample(epoch, index, record)
        return TracedClip(
            clip,
            label,
            index,
            self.indices,
            self.total,
            self.transform.is_mirrored,
            self.transform.crop,
            self.transform.whole,
        )


class TracedTestDataset(_TracedReading, TestDataset):
    """The first crop of the first clip of each video, a ``TracedClip``."""

    def sample(self, epoch, index, record):
        frames, picks, _ = super().sample(epoch, index, record)
        clip = self.transform.crops(frames, picks[0])[0]
        size = self.transform.crop_size
        _, height, width, _ = frames.shape
        offsets = crop_offsets_test(width, height, size, self.transform.num_crops)
        x, y, is_mirrored = offsets[0]
        return TracedClip(
            clip,
            record.label,
            index,
            self.indices[0],
            self.total,
            is_mirrored,
            (x, y, size, size),
            frames[_middle(picks[0])].numpy(),
        )


def _middle(picks):
    """The middle frame of the middle segment of a clip, int64 ``[T, L]``."""
    segments, length = picks.shape
    return int(picks[segments // 2, length // 2])
