"""The input modalities: pictures, optical flow, differences of pictures."""

from typing import NamedTuple


class Modality(NamedTuple):
    """An input modality.

    Attributes:
        channels: of a frame as it is read.
        frames: of a segment as they are read; None: as many as the temporal module uses.
        inputs: channels of the backbone's first conv.
    """

    channels: int
    frames: int | None
    inputs: int


MODALITIES = {
    "RGB": Modality(3, None, 3),
    "Flow": Modality(2, 5, 10),
    "RGBDiff": Modality(3, 6, 15),
}


def clip_images(clip, modality):
    """The pictures of a clip, for people to look at.

    Args:
        clip: uint8 ``[T, L*C, H, W]``.
        modality: "RGB", "Flow" or "RGBDiff".

    Returns:
        uint8 ``[T, K, 3, H, W]``, the K pictures of each segment. K is L, for RGBDiff L - 1. Flow
        is x above y, so its height is 2 * H; RGBDiff is half the difference of two frames, around
        128.
    """
    frames = clip.unflatten(1, (-1, MODALITIES[modality].channels))
    if modality == "Flow":
        return frames.flatten(2, 3)[:, :, None].expand(-1, -1, 3, -1, -1)
    if modality == "RGBDiff":
        return ((frames[:, 1:].int() - frames[:, :-1].int() + 256) // 2).byte()
    return frames
