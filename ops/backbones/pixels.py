"""What a backbone expects of its pixels."""

from typing import NamedTuple


def usual_scale_size(crop_size):
    """Short side of a frame before a test crop of this side, pixels: 256 for 224, as in TSN."""
    return crop_size * 256 // 224


class Pixels(NamedTuple):
    """uint8 values ``v`` of a frame become ``(v / scale - mean) / std``.

    Attributes:
        mean: of each channel.
        std: of each channel.
        scale: 255 for pixels from 0 to 1, 1 for pixels from 0 to 255.
        order: of the channels, "RGB", "BGR" or "flow".
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]
    scale: float
    order: str = "RGB"

    def of_flow(self):
        """The same for optical flow, where the middle of the range is no motion.

        Source: TSM ops/models.py.
        """
        middle = 0.5
        if self.scale == 1.0:
            middle = 128.0
        return Pixels((middle,), (sum(self.std) / len(self.std),), self.scale, "flow")


IMAGENET = Pixels(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225), scale=255.0)
# As tsn-pytorch and TSM train BNInception; Caffe's own weights were trained with a red mean of 123.
CAFFE_BGR = Pixels(mean=(104.0, 117.0, 128.0), std=(1.0, 1.0, 1.0), scale=1.0, order="BGR")
