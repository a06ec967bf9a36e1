"""What a backbone expects of its pixels."""
from typing import NamedTuple


class Pixels(NamedTuple):
    """uint8 RGB values ``v`` become ``(v / scale - mean) / std``, channel by channel."""

    mean: tuple[float, ...]
    std: tuple[float, ...]
    scale: float


IMAGENET = Pixels(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225), scale=255.0)
