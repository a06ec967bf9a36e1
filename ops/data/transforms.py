"""Crops, scaling and flips of decoded frames: uint8 in, uint8 out, on the CPU, before the model's device is reached.

Frames come as readers give them, numpy ``[n, H, W, C]``, and stay in that memory layout (a channels-last view) until
the one copy that makes the clip: resizing is about twice as slow once they have been made contiguous. Resizing is
torchvision's antialiased bilinear one, within 1/255 of the PIL resize of TSN, TSM and TDN, 2/255
in few pixels. C is 3 for pictures and 2 for flow (x, y).

The geometry is that of TSM ops/transforms.py, which TDN shares. Sizes are in pixels, ``(x, y)`` is the upper left
corner.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional as F

from ops.utils.errors import UserError

RGB_SCALES = (1.0, 0.875, 0.75, 0.66)
TRAIN_SCALES = {
    "RGB": RGB_SCALES,
    "Flow": RGB_SCALES[:3],
    "RGBDiff": RGB_SCALES[:3],
}  # TSM ops/models.py get_augmentation


def multi_scale_crop_sizes(
    width: int,
    height: int,
    crop_size: int,
    scales: Sequence[float] = RGB_SCALES,
    max_distort: int = 1,
) -> list[tuple[int, int]]:
    """The ``(w, h)`` among which MultiScaleCrop chooses evenly (TSM ops/transforms.py GroupMultiScaleCrop).

    A size is the picture's short side times a scale, or ``crop_size`` if within 2 pixels of that; w and h may use
    scales up to ``max_distort`` places apart. No size exceeds the picture, where the original pads with black.
    """
    short = min(width, height)
    sizes = [max(1, int(short * scale)) for scale in scales]
    sizes = [crop_size if abs(size - crop_size) < 3 else size for size in sizes]
    return [
        (min(w, width), min(h, height))
        for i, h in enumerate(sizes)
        for j, w in enumerate(sizes)
        if abs(i - j) <= max_distort
    ]


def crop_offsets(width: int, height: int, crop_w: int, crop_h: int) -> list[tuple[int, int]]:
    """The 13 ``(x, y)`` among which MultiScaleCrop chooses evenly: corners, center, middles of the sides, middles of
    the quarters, in steps of a quarter of the slack rounded down, as the original (its corners can miss the edge by 3
    pixels).
    """
    dx, dy = (width - crop_w) // 4, (height - crop_h) // 4
    steps = (
        (0, 0),
        (4, 0),
        (0, 4),
        (4, 4),
        (2, 2),
        (0, 2),
        (4, 2),
        (2, 4),
        (2, 0),
        (1, 1),
        (3, 1),
        (1, 3),
        (3, 3),
    )
    return [(i * dx, j * dy) for i, j in steps]


def draw_crop(
    width: int, height: int, crop_size: int, scales: Sequence[float], rng: np.random.Generator
) -> tuple[int, int, int, int]:
    """One random crop ``(x, y, w, h)`` inside the picture, for a whole clip."""
    sizes = multi_scale_crop_sizes(width, height, crop_size, scales)
    w, h = sizes[rng.integers(len(sizes))]
    offsets = crop_offsets(width, height, w, h)
    x, y = offsets[rng.integers(len(offsets))]
    return x, y, w, h


def crop_offsets_test(
    width: int, height: int, crop_size: int, crops: int
) -> list[tuple[int, int, bool]]:
    """Where the test crops lie: ``(x, y, mirrored)`` each.

    1: the center (torchvision CenterCrop); 3: left, right, center (TSM GroupFullResSample); 5: upper left, upper right,
    lower left, lower right, center; 10: these five, each followed by its mirror image (TSM GroupOverSample).
    Raises UserError if the crop is larger than the picture, ValueError for another number of crops.
    """
    if crop_size > min(width, height):
        raise UserError(
            f"a {crop_size}x{crop_size} crop does not fit into a {width}x{height} picture; give a larger --scale_size"
        )
    if crops == 1:
        return [(round((width - crop_size) / 2.0), round((height - crop_size) / 2.0), False)]
    dx, dy = (width - crop_size) // 4, (height - crop_size) // 4
    if crops == 3:
        return [(0, 2 * dy, False), (4 * dx, 2 * dy, False), (2 * dx, 2 * dy, False)]
    if crops not in (5, 10):
        raise ValueError(f"crops is {crops}, not 1, 3, 5 or 10")
    corners = [(0, 0), (4 * dx, 0), (0, 4 * dy), (4 * dx, 4 * dy), (2 * dx, 2 * dy)]
    return [(x, y, mirrored) for x, y in corners for mirrored in (False, True)[: crops // 5]]


def scaled_size(width: int, height: int, short_side: int) -> tuple[int, int]:
    """``(width, height)`` after scaling the short side to ``short_side`` (TSM GroupScale: the long side is rounded
    down); 0 leaves the picture as it is."""
    if short_side == 0:
        return width, height
    if width <= height:
        return short_side, int(short_side * height / width)
    return int(short_side * width / height), short_side


def to_frames(frames: np.ndarray) -> torch.Tensor:
    """uint8 ``[n, H, W, C]`` -> a view uint8 ``[n, C, H, W]`` in channels-last memory. Never make it contiguous."""
    return torch.from_numpy(frames).permute(0, 3, 1, 2)


def resize(frames: torch.Tensor, width: int, height: int) -> torch.Tensor:
    """uint8 ``[n, C, H, W]`` -> uint8 ``[n, C, height, width]``, antialiased bilinear; the argument itself if it has
    that size."""
    if frames.shape[-2:] == (height, width):
        return frames
    return F.resize(
        frames, [height, width], interpolation=InterpolationMode.BILINEAR, antialias=True
    )


def _stack(frames: torch.Tensor, picks: np.ndarray, out: torch.Tensor) -> None:
    """Copy frames ``picks`` ``[T, L]`` of ``[n, C, h, w]`` to ``out`` ``[T, L*C, h, w]``, its channels frame by
    frame."""
    out = out.unflatten(1, (picks.shape[1], frames.shape[1]))
    for segment, row in enumerate(picks.tolist()):
        for step, pick in enumerate(row):
            out[segment, step].copy_(frames[pick])


def mirror(frames: torch.Tensor, flow: bool) -> torch.Tensor:
    """Frames uint8 ``[n, C, H, W]`` flipped horizontally, as a copy. Of a flow, x changes its sign: 255 - v, which makes
    127 of no motion (128), as the originals do (TSM ops/transforms.py GroupRandomHorizontalFlip)."""
    flipped = frames.flip(-1)
    if flow:
        flipped[:, 0].bitwise_not_()  # of a byte, this is 255 - v
    return flipped


class TrainTransform:
    """MultiScaleCrop to ``crop_size`` and, if asked, a horizontal flip; one draw for the whole clip. ``flow`` says that
    frames are flow."""

    def __init__(
        self, crop_size: int, scales: Sequence[float] = RGB_SCALES, flow: bool = False
    ) -> None:
        self.crop_size = crop_size
        self.scales = tuple(scales)
        self.flow = flow

    def __call__(
        self, frames: np.ndarray, picks: np.ndarray, rng: np.random.Generator, flip: bool
    ) -> torch.Tensor:
        """Frames uint8 ``[n, H, W, C]`` and the frame of each place of the clip, int64 ``[T, L]`` in ``[0, n)`` -> the
        clip, contiguous uint8 ``[T, L*C, crop_size, crop_size]``."""
        _, height, width, channels = frames.shape
        x, y, w, h = draw_crop(width, height, self.crop_size, self.scales, rng)
        cropped = resize(
            to_frames(frames)[:, :, y : y + h, x : x + w], self.crop_size, self.crop_size
        )
        if flip:
            cropped = mirror(cropped, self.flow)
        T, L = picks.shape
        clip = torch.empty((T, L * channels, self.crop_size, self.crop_size), dtype=torch.uint8)
        _stack(cropped, picks, clip)
        return clip


class TestTransform:
    """Scale the short side to ``scale_size`` (0: keep the stored size) and cut the test crops of every clip, as
    crop_offsets_test lays them. ``flow`` says that frames are flow.

    Raises UserError if the crop can fit no picture of that scale, or for a number of crops other than 1, 3, 5 and 10.
    """

    __test__ = False  # not a test case, whatever its name begins with

    def __init__(self, scale_size: int, crop_size: int, num_crops: int, flow: bool = False) -> None:
        if num_crops not in (1, 3, 5, 10):
            raise UserError(f"--test_crops {num_crops} is not known; choose 1, 3, 5 or 10")
        if 0 < scale_size < crop_size:
            raise UserError(
                f"a crop of {crop_size} does not fit into pictures scaled to {scale_size}; give a larger "
                "--scale_size"
            )
        self.scale_size = scale_size
        self.crop_size = crop_size
        self.num_crops = num_crops
        self.flow = flow

    def scale(self, frames: np.ndarray) -> torch.Tensor:
        """Frames uint8 ``[n, H, W, C]`` -> scaled, contiguous uint8 ``[n, h, w, C]``. Raises UserError if the crop is larger
        than the picture."""
        width, height = scaled_size(frames.shape[2], frames.shape[1], self.scale_size)
        crop_offsets_test(
            width, height, self.crop_size, self.num_crops
        )  # or the worker's video would fail elsewhere
        return resize(to_frames(frames), width, height).permute(0, 2, 3, 1).contiguous()

    def crops(self, frames: torch.Tensor, picks: torch.Tensor) -> torch.Tensor:
        """The views of one clip, on the device of ``frames``: scaled frames uint8 ``[n, h, w, C]`` and the frame of each place
        of the clip, int64 ``[T, L]`` in ``[0, n)`` -> uint8 ``[crops, T, L*C, crop_size, crop_size]``."""
        _, height, width, channels = frames.shape
        T, L = picks.shape
        size = self.crop_size
        frames = frames.permute(0, 3, 1, 2).index_select(
            0, picks.flatten()
        )  # contiguous: what follows copies whole rows
        views = []
        for x, y, mirrored in crop_offsets_test(width, height, size, self.num_crops):
            view = frames[:, :, y : y + size, x : x + size]
            views.append(mirror(view, self.flow) if mirrored else view)
        return torch.stack(views).reshape(len(views), T, L * channels, size, size)
