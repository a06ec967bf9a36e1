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
