"""What a backbone expects of its pixels."""

from typing import NamedTuple


class Pixels(NamedTuple):
    """uint8 values ``v`` of a frame become ``(v / scale - mean) / std``, channel by channel, in the given order of colours."""

    mean: tuple[float, ...]
    std: tuple[float, ...]
    scale: float
    order: str = "RGB"

    def of_flow(self):
        """The same for the x and y of optical flow, where no motion is the middle of the range (TSM ops/models.py)."""
        middle = 128.0 if self.scale == 1.0 else 0.5
        return Pixels((middle,), (sum(self.std) / len(self.std),), self.scale, "flow")


IMAGENET = Pixels(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225), scale=255.0)
# As tsn-pytorch and TSM train BNInception; Caffe's own weights were trained with a red mean of 123.
CAFFE_BGR = Pixels(mean=(104.0, 117.0, 128.0), std=(1.0, 1.0, 1.0), scale=1.0, order="BGR")
