"""How the originals train and test: what ``benchmark.py epoch`` and ``benchmark.py test`` measure.

Written from the description of MCG-NJU/TDN and mit-han-lab/temporal-shift-module: main.py,
test_models_three_crops.py and ops/dataset.py. It keeps what costs time there: a torch ``Dataset``
of Python records that makes float32 clips with PIL (baselines_data.py), batches of float32 from the
workers, NCHW networks, a loss and two accuracies read back in every step, and one pass over the
videos for each test clip.
"""

import random
import time

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset

from lib.benchmarks import baselines_data

CROP, SCALE = 224, 256
SCALES = (1, 0.875, 0.75, 0.66)
LEARNING_RATE, MOMENTUM, WEIGHT_DECAY, GRADIENT_NORM = 1e-4, 0.9, 5e-4, 20


class OriginalTrainSet(Dataset):
    """Clips of the lines ``video label`` or ``folder frames label``: float32 ``[T*L*3, H, W]``.

    Args:
        lines: of the list; paths contain no spaces.
        num_segments: T.
        frames_per_segment: L.
        image_tmpl: names of the files in a folder.
        crop_size: side of a clip.
        training: random offsets and crops; otherwise the middle ones.
    """

    def __init__(
        self, lines, num_segments, frames_per_segment, image_tmpl, crop_size=CROP, training=True
    ):
        self.records = [line.split(" ") for line in lines]
        self.num_segments = num_segments
        self.frames_per_segment = frames_per_segment
        self.image_tmpl = image_tmpl
        self.crop_size = crop_size
        self.training = training

    def __len__(self):
        return len(self.records)

    def __getitem__(self, index):
        path, *_, label = self.records[index]
        if len(self.records[index]) == 3:
            frames = int(self.records[index][1])
            indices = self._indices(frames)
            images = baselines_data.images_of_folder(path, indices, self.image_tmpl)
        else:
            from decord import VideoReader  # as the original: opened for its length, then read

            frames = len(VideoReader(path))
            images = baselines_data.images_of_video(path, self._indices(frames))
        if self.training:
            clip = baselines_data.training_clip(
                images,
                _random_crop(*images[0].size),
                flip=random.random() < 0.5,
                size=self.crop_size,
            )
        else:
            clip = center_crop(images, self.crop_size)
        return clip, int(label)

    def _indices(self, frames):
        """0-based frames of a clip, all L of a segment in a row."""
        T, L = self.num_segments, self.frames_per_segment
        length = (frames - L + 1) // T
        offsets = np.arange(T) * length
        offsets += np.random.randint(length, size=T) if self.training else length // 2
        return (offsets[:, None] + np.arange(L)).flatten()


def _random_crop(width, height):
    """A crop of MultiScaleCrop, ``(x, y, w, h)``: two neighbouring scales, one of 13 places."""
    short = min(width, height)
    sides = [int(short * scale) for scale in SCALES]
    pairs = [(w, h) for i, h in enumerate(sides) for k, w in enumerate(sides) if abs(i - k) <= 1]
    w, h = random.choice(pairs)
    return random.randint(0, 4) * (width - w) // 4, random.randint(0, 4) * (height - h) // 4, w, h


def center_crop(images, crop_size):
    """The middle of scaled images, float32 ``[images*3, crop_size, crop_size]``."""
    scale_size = crop_size * SCALE // CROP
    width, height = images[0].size
    short = min(width, height)
    x = (int(scale_size * width / short) - crop_size) // 2
    y = (int(scale_size * height / short) - crop_size) // 2
    return baselines_data.crops(images, [(x, y)], scale_size, crop_size)[0]


def make_loader(dataset, batch_size, workers, training):
    """The original's ``DataLoader``."""
    return DataLoader(
        dataset,
        batch_size=batch_size,
        shuffle=training,
        num_workers=workers,
        drop_last=training,
    )


class AverageMeter:
    """The last value, and the mean of all."""

    def __init__(self):
        self.value = self.average = self.sum = self.count = 0

    def update(self, value, n=1):
        self.value = value
        self.sum += value * n
        self.count += n
        self.average = self.sum / self.count


def accuracy(output, target, topk=(1, 5)):
    """Percent of the targets among the k best classes, a tensor for each k."""
    _, best = output.topk(max(topk), 1, True, True)
    correct = best.t().eq(target.view(1, -1).expand_as(best.t()))
    return [correct[:k].reshape(-1).float().sum(0) * (100.0 / len(target)) for k in topk]


def train_epoch(model, loader, device="cpu"):
    """One epoch; returns its seconds and the mean loss."""
    started = time.perf_counter()
    losses, top1, top5 = AverageMeter(), AverageMeter(), AverageMeter()
    criterion = nn.CrossEntropyLoss().to(device)
    optimizer = torch.optim.SGD(
        model.parameters(), lr=LEARNING_RATE, momentum=MOMENTUM, weight_decay=WEIGHT_DECAY
    )
    model.train()
    for clips, labels in loader:
        clips, labels = clips.to(device), labels.to(device)
        output = model(clips)
        loss = criterion(output, labels)
        prec1, prec5 = accuracy(output.detach(), labels)
        losses.update(loss.item(), len(labels))
        top1.update(prec1.item(), len(labels))
        top5.update(prec5.item(), len(labels))
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), GRADIENT_NORM)
        optimizer.step()
        optimizer.zero_grad()
    return time.perf_counter() - started, losses.average


@torch.no_grad()
def validate(model, loader, device="cpu"):
    """One pass over the validation videos; returns its seconds and the accuracy in percent."""
    started = time.perf_counter()
    losses, top1, top5 = AverageMeter(), AverageMeter(), AverageMeter()
    criterion = nn.CrossEntropyLoss().to(device)
    model.eval()
    for clips, labels in loader:
        clips, labels = clips.to(device), labels.to(device)
        output = model(clips)
        losses.update(criterion(output, labels).item(), len(labels))
        prec1, prec5 = accuracy(output, labels)
        top1.update(prec1.item(), len(labels))
        top5.update(prec5.item(), len(labels))
    return time.perf_counter() - started, top1.average


class OriginalTestSet(Dataset):
    """The crops of one clip of each video, float32 ``[crops, T*L*3, H, W]``.

    Args:
        videos: paths.
        indices: 0-based frames of the clip of each video.
        places: ``(x, y)`` of each crop in a scaled frame.
        scale_size: short side of a scaled frame.
        crop_size: side of a crop.
    """

    def __init__(self, videos, indices, places, scale_size, crop_size):
        self.videos = videos
        self.indices = indices
        self.places = places
        self.scale_size = scale_size
        self.crop_size = crop_size

    def __len__(self):
        return len(self.videos)

    def __getitem__(self, index):
        images = baselines_data.images_of_video(self.videos[index], self.indices[index])
        return baselines_data.crops(images, self.places, self.scale_size, self.crop_size)


@torch.no_grad()
def test_videos(model, datasets, workers, device="cpu"):
    """Score videos in one pass for each clip.

    Args:
        model: in eval mode.
        datasets: an :class:`OriginalTestSet` for each clip.
        workers: data-loading workers.
        device: of the model.

    Returns:
        logits ``[videos, clips*crops, classes]``.
    """
    passes = []
    for dataset in datasets:
        scores = []
        for views in make_loader(dataset, 1, workers, training=False):
            scores.append(model(views[0].to(device)).cpu().numpy())
        passes.append(np.stack(scores))
    return np.concatenate(passes, axis=1)
