"""Mixtures of the videos of a batch, on the device: mixup (arXiv 1710.09412) and CutMix (arXiv 1905.04899), by torchvision."""

import torch
from torchvision.transforms import v2


def mixer(num_class, mixup=0.0, cutmix=0.0):
    """A function that mixes a batch, None if there is nothing to do.

    mixup, cutmix: alpha of the Beta distribution that shares are drawn from, 0: without; with both, each batch takes one of
    them by chance. The function takes clips uint8 ``[B, T, L*C, H, W]`` and labels int64 ``[B]`` (bool ``[B, num_class]``), and
    gives clips uint8 of that shape and labels float32 ``[B, num_class]``. Each video is mixed with its neighbour in the batch;
    all frames of a clip have the same share and box. Draws come from torch's generator of the CPU.
    """
    ways = [(way, alpha) for way, alpha in ((v2.MixUp, mixup), (v2.CutMix, cutmix)) if alpha]
    if not ways:
        return None
    ways = [way(alpha=alpha, num_classes=num_class) for way, alpha in ways]

    def mix(clips, labels):
        way = ways[int(torch.randint(len(ways), ()))]
        frames = clips.flatten(
            1, 2
        )  # torchvision knows pictures: all frames of a clip are the channels of one
        if isinstance(way, v2.MixUp):
            frames = frames.float()
        frames, labels = way(frames, labels)
        # Whole pixels again: half a step of 255 at most, and what follows sees what it is used to.
        return frames.round().to(torch.uint8).reshape(clips.shape), labels

    return mix
