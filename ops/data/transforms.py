"""Crops, scaling and flips of decoded frames: uint8 in, uint8 out.

Frames come as readers return them, NumPy ``[n, H, W, C]``, and keep that memory layout (as a
channels-last view) until the one copy that makes the clip: resizing is about twice as slow after
they have been made contiguous. Resizing is torchvision's antialiased bilinear one, within 1/255 of
the PIL resize of TSN, TSM and TDN (2/255 in few pixels). C is 3 for images and 2 for flow (x, y).

The geometry is that of TSM ops/transforms.py, which TDN shares. Sizes are in pixels, ``(x, y)`` is
the upper left corner.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional as F

from ops.utils.errors import UserError

RGB_SCALES = (1.0, 0.875, 0.75, 0.66)
# TSM ops/models.py get_augmentation.
TRAIN_SCALES = {"RGB": RGB_SCALES, "Flow": RGB_SCALES[:3], "RGBDiff": RGB_SCALES[:3]}
TEST_CROPS = (1, 3, 5, 10)

# The offsets of MultiScaleCrop, in steps of a quarter of the slack.
_CORNERS_AND_CENTER = ((0, 0), (4, 0), (0, 4), (4, 4), (2, 2))
_MIDDLES_OF_SIDES = ((0, 2), (4, 2), (2, 4), (2, 0))
_MIDDLES_OF_QUARTERS = ((1, 1), (3, 1), (1, 3), (3, 3))
_OFFSET_STEPS = _CORNERS_AND_CENTER + _MIDDLES_OF_SIDES + _MIDDLES_OF_QUARTERS
_CLOSE = 3  # a crop size that differs by less from the network's input size is replaced by it


def multi_scale_crop_sizes(
    width: int,
    height: int,
    crop_size: int,
    scales: Sequence[float] = RGB_SCALES,
    max_distort: int = 1,
) -> list[tuple[int, int]]:
    """The crop sizes ``(w, h)`` that MultiScaleCrop draws from (TSM GroupMultiScaleCrop).

    A side is the short side of the frame times a scale, or ``crop_size`` if that is within 2
    pixels. No crop exceeds the frame, where the original pads with black.

    Args:
        width, height: of the frame.
        crop_size: side of the network's input.
        scales: of the short side.
        max_distort: how many places apart in ``scales`` width and height may be.
    """
    short_side = min(width, height)
    sides = []
    for scale in scales:
        side = max(1, int(short_side * scale))
        if abs(side - crop_size) < _CLOSE:
            side = crop_size
        sides.append(side)
    return [
        (min(w, width), min(h, height))
        for i, h in enumerate(sides)
        for j, w in enumerate(sides)
        if abs(i - j) <= max_distort
    ]


def crop_offsets(width: int, height: int, crop_w: int, crop_h: int) -> list[tuple[int, int]]:
    """The 13 offsets ``(x, y)`` that MultiScaleCrop draws from.

    Steps are rounded down as in the original, whose corners can miss the edge by 3 pixels.
    """
    dx = (width - crop_w) // 4
    dy = (height - crop_h) // 4
    return [(i * dx, j * dy) for i, j in _OFFSET_STEPS]


def draw_crop(
    width: int, height: int, crop_size: int, scales: Sequence[float], rng: np.random.Generator
) -> tuple[int, int, int, int]:
    """Draw the crop ``(x, y, w, h)`` of a whole clip."""
    sizes = multi_scale_crop_sizes(width, height, crop_size, scales)
    w, h = sizes[rng.integers(len(sizes))]
    offsets = crop_offsets(width, height, w, h)
    x, y = offsets[rng.integers(len(offsets))]
    return x, y, w, h


def crop_offsets_test(
    width: int, height: int, crop_size: int, crops: int
) -> list[tuple[int, int, bool]]:
    """The test crops of a frame.

    Args:
        width, height: of the frame.
        crop_size: side of a crop.
        crops: 1: the center (torchvision CenterCrop); 3: left, right, center (TSM
            GroupFullResSample); 5: upper left, upper right, lower left, lower right, center; 10:
            these five, each followed by its mirror image (TSM GroupOverSample).

    Returns:
        ``(x, y, mirrored)`` of each crop.

    Raises:
        UserError: the crop is larger than the frame.
        ValueError: another number of crops.
    """
    if crop_size > min(width, height):
        raise UserError(
            f"a {crop_size}x{crop_size} crop does not fit into a {width}x{height} frame; give a "
            f"larger --scale_size"
        )
    if crops not in TEST_CROPS:
        raise ValueError(f"crops is {crops}, not 1, 3, 5 or 10")
    if crops == 1:
        return [(round((width - crop_size) / 2.0), round((height - crop_size) / 2.0), False)]
    dx = (width - crop_size) // 4
    dy = (height - crop_size) // 4
    if crops == 3:
        return [(0, 2 * dy, False), (4 * dx, 2 * dy, False), (2 * dx, 2 * dy, False)]
    views = []
    for x, y in [(0, 0), (4 * dx, 0), (0, 4 * dy), (4 * dx, 4 * dy), (2 * dx, 2 * dy)]:
        views.append((x, y, False))
        if crops == 10:
            views.append((x, y, True))
    return views


def scaled_size(width: int, height: int, short_side: int) -> tuple[int, int]:
    """``(width, height)`` after scaling the short side; 0 keeps the size.

    The long side is rounded down (TSM GroupScale).
    """
    if short_side == 0:
        return width, height
    if width <= height:
        return short_side, int(short_side * height / width)
    return int(short_side * width / height), short_side


def to_frames(frames: np.ndarray) -> torch.Tensor:
    """uint8 ``[n, H, W, C]`` as a view ``[n, C, H, W]`` in channels-last memory.

    It must not be made contiguous: see the top of the file.
    """
    return torch.from_numpy(frames).permute(0, 3, 1, 2)


def resize(frames: torch.Tensor, width: int, height: int) -> torch.Tensor:
    """Resize uint8 ``[n, C, H, W]``, antialiased bilinear; frames of that size are not copied."""
    if frames.shape[-2:] == (height, width):
        return frames
    return F.resize(
        frames, [height, width], interpolation=InterpolationMode.BILINEAR, antialias=True
    )


def mirror(frames: torch.Tensor, flow: bool) -> torch.Tensor:
    """Flip frames horizontally.

    Args:
        frames: uint8 ``[n, C, H, W]``.
        flow: the frames are flow, whose x changes its sign: 255 - v. That makes 127 of no motion
            (128), as in the originals (TSM ops/transforms.py GroupRandomHorizontalFlip).

    Returns:
        A copy.
    """
    flipped = frames.flip(-1)
    if flow:
        flipped[:, 0].bitwise_not_()  # of a byte, this is 255 - v
    return flipped


class TrainTransform:
    """MultiScaleCrop and an optional horizontal flip, the same for all frames of a clip."""

    def __init__(
        self, crop_size: int, scales: Sequence[float] = RGB_SCALES, flow: bool = False
    ) -> None:
        """Create the transform.

        Args:
            crop_size: side of the clip.
            scales: of the crops, relative to the short side.
            flow: frames are optical flow.
        """
        self.crop_size = crop_size
        self.scales = tuple(scales)
        self.flow = flow

    def __call__(
        self, frames: np.ndarray, picks: np.ndarray, rng: np.random.Generator, flip: bool
    ) -> torch.Tensor:
        """Make a clip.

        Args:
            frames: distinct frames, uint8 ``[n, H, W, C]``.
            picks: the frame of each place of the clip, int64 ``[T, L]`` in ``[0, n)``.
            rng: source of the crop.
            flip: flip the clip.

        Returns:
            Contiguous uint8 ``[T, L*C, crop_size, crop_size]``.
        """
        _, height, width, channels = frames.shape
        x, y, w, h = draw_crop(width, height, self.crop_size, self.scales, rng)
        cropped = to_frames(frames)[:, :, y : y + h, x : x + w]
        # NumPy copies channels-last bytes twice as fast as torch, and mirrors them on the way.
        cropped = resize(cropped, self.crop_size, self.crop_size).numpy()
        if flip:
            cropped = cropped[..., ::-1]
        T, L = picks.shape
        # The one copy: frame after frame, the channels of a segment are those of its frames.
        clip = np.empty((T, L, channels, self.crop_size, self.crop_size), np.uint8)
        for segment, segment_picks in enumerate(picks.tolist()):
            for step, pick in enumerate(segment_picks):
                clip[segment, step] = cropped[pick]
        if flip and self.flow:
            clip[:, :, 0] = 255 - clip[:, :, 0]  # x, as in `mirror`
        return torch.from_numpy(clip).flatten(1, 2)


class TestTransform:
    """Scale frames, and cut the test crops of every clip as `crop_offsets_test` places them."""

    __test__ = False  # not a test case for pytest

    def __init__(self, scale_size: int, crop_size: int, num_crops: int, flow: bool = False) -> None:
        """Create the transform.

        Args:
            scale_size: short side of the scaled frames; 0: keep the stored size.
            crop_size: side of a crop.
            num_crops: 1, 3, 5 or 10.
            flow: frames are optical flow.

        Raises:
            UserError: the crop fits into no frame of that scale, or another number of crops.
        """
        if num_crops not in TEST_CROPS:
            raise UserError(f"unknown --test_crops {num_crops}; choose 1, 3, 5 or 10")
        if 0 < scale_size < crop_size:
            raise UserError(
                f"a crop of {crop_size} does not fit into frames scaled to {scale_size}; give a "
                f"larger --scale_size"
            )
        self.scale_size = scale_size
        self.crop_size = crop_size
        self.num_crops = num_crops
        self.flow = flow

    def scale(self, frames: np.ndarray) -> torch.Tensor:
        """Scale frames.

        Args:
            frames: uint8 ``[n, H, W, C]``.

        Returns:
            Contiguous uint8 ``[n, h, w, C]``.

        Raises:
            UserError: the crop is larger than the frame.
        """
        _, stored_height, stored_width, _ = frames.shape
        width, height = scaled_size(stored_width, stored_height, self.scale_size)
        # Checked here, where the video is known, and not where the crops are cut.
        crop_offsets_test(width, height, self.crop_size, self.num_crops)
        return resize(to_frames(frames), width, height).permute(0, 2, 3, 1).contiguous()

    def crops(self, frames: torch.Tensor, picks: torch.Tensor) -> torch.Tensor:
        """Cut the views of one clip, on the device of ``frames``.

        Args:
            frames: scaled frames, uint8 ``[n, h, w, C]``.
            picks: the frame of each place of the clip, int64 ``[T, L]`` in ``[0, n)``.

        Returns:
            uint8 ``[crops, T, L*C, crop_size, crop_size]``.
        """
        _, height, width, channels = frames.shape
        T, L = picks.shape
        size = self.crop_size
        # Contiguous, so that what follows copies whole rows.
        frames = frames.permute(0, 3, 1, 2).index_select(0, picks.flatten())
        views = []
        for x, y, mirrored in crop_offsets_test(width, height, size, self.num_crops):
            view = frames[:, :, y : y + size, x : x + size]
            if mirrored:
                view = mirror(view, self.flow)
            views.append(view)
        return torch.stack(views).reshape(len(views), T, L * channels, size, size)

    def views_of_frame(self, image: np.ndarray) -> torch.Tensor:
        """Scale one frame and cut its test crops.

        Args:
            image: uint8 ``[H, W, C]``.

        Returns:
            uint8 ``[crops, C, crop_size, crop_size]``.

        Raises:
            UserError: the crop is larger than the frame.
        """
        only_frame = torch.zeros((1, 1), dtype=torch.int64)
        return self.crops(self.scale(image[None]), only_frame)[:, 0]
