"""Mixtures of the videos of a batch, on the device, by torchvision.

mixup: arXiv 1710.09412; CutMix: arXiv 1905.04899.
"""

import torch
from torchvision.transforms import v2


def mixer(num_class, mixup=0.0, cutmix=0.0):
    """A function that mixes the videos of a batch.

    Each video is mixed with its neighbour in the batch; all frames of a clip have the same share
    and box. Draws come from torch's generator of the CPU.

    Args:
        num_class: number of classes.
        mixup: alpha of the Beta distribution that shares are drawn from; 0 disables it.
        cutmix: the same for CutMix. With both, each batch takes one of the two at random.

    Returns:
        None if both are 0, else ``(clips, labels) -> (clips, labels)``: clips uint8
        ``[B, T, L*C, H, W]``; labels int64 ``[B]`` or bool ``[B, num_class]``, which become float32
        ``[B, num_class]``.
    """
    transforms = []
    if mixup:
        transforms.append(v2.MixUp(alpha=mixup, num_classes=num_class))
    if cutmix:
        transforms.append(v2.CutMix(alpha=cutmix, num_classes=num_class))
    if not transforms:
        return None

    def mix(clips, labels):
        transform = transforms[int(torch.randint(len(transforms), ()))]
        # To torchvision a clip is one image, whose channels are those of all frames.
        frames = clips.flatten(1, 2)
        if isinstance(transform, v2.MixUp):
            frames = frames.float()
        frames, labels = transform(frames, labels)
        # Rounded to whole pixels again (by at most half a step of 255), as the network takes them.
        return frames.round().to(torch.uint8).reshape(clips.shape), labels

    return mix
