"""How the original TDN makes clips: what ``benchmark.py data`` and ``benchmark.py views`` measure.

Written from the description of MCG-NJU/TDN ops/dataset.py and ops/transforms.py (the latter shared
with TSN and TSM). It keeps what costs time there: decord with its default threads and one call per
frame, a folder listed for every sample, PIL images, one crop and resize per image, float32 on the
CPU. What is random there is an argument here.
"""

import os

import numpy as np
import torch
from PIL import Image

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def images_of_video(path, indices):
    """PIL images of frames (0-based, any order) of a video file."""
    from decord import VideoReader  # has no wheels on some platforms; only these baselines need it

    reader = VideoReader(path)
    last = len(reader) - 1
    return [Image.fromarray(reader[min(int(i), last)].asnumpy()).convert("RGB") for i in indices]


def images_of_folder(path, indices, image_tmpl):
    """PIL images of frames (0-based, any order) of a folder of numbered files."""
    last = len(os.listdir(path)) - 1
    return [
        Image.open(os.path.join(path, image_tmpl.format(min(int(i), last) + 1))).convert("RGB")
        for i in indices
    ]


def training_clip(images, crop, flip, size=224):
    """Crop ``(x, y, w, h)``, resize, flip, normalize: float32 ``[frames*3, size, size]``."""
    x, y, w, h = crop
    images = [image.crop((x, y, x + w, y + h)) for image in images]
    images = [image.resize((size, size), Image.BILINEAR) for image in images]
    if flip:
        images = [image.transpose(Image.FLIP_LEFT_RIGHT) for image in images]
    return normalized(images)


def normalized(images):
    """Stack images and normalize them: float32 ``[images*3, H, W]``."""
    stacked = np.concatenate([np.array(image) for image in images], axis=2)
    clip = torch.from_numpy(stacked).permute(2, 0, 1).contiguous().float().div(255)
    for channel, mean, std in zip(clip, MEAN * len(images), STD * len(images), strict=True):
        channel.sub_(mean).div_(std)
    return clip


def crops(images, places, scale_size, crop_size):
    """Scale the short side and cut a crop at each ``(x, y)``.

    Returns:
        float32 ``[crops, images*3, crop_size, crop_size]``.
    """
    width, height = images[0].size
    short = min(width, height)
    size = (int(scale_size * width / short), int(scale_size * height / short))
    images = [image.resize(size, Image.BILINEAR) for image in images]
    boxes = [(x, y, x + crop_size, y + crop_size) for x, y in places]
    return torch.stack([normalized([image.crop(box) for image in images]) for box in boxes])


def pixels(clip):
    """The uint8 pixels of a normalized clip ``[frames*3, H, W]``."""
    frames = clip.unflatten(0, (-1, 3))
    mean, std = (torch.tensor(values).reshape(3, 1, 1) for values in (MEAN, STD))
    return (frames * std + mean).mul(255).round().clamp(0, 255).to(torch.uint8).flatten(0, 1)
