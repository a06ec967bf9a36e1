"""Videos of random pixels that are made where they would be decoded: no file, no decoder."""

import numpy as np

from ops.data.clips import TestDataset, TrainDataset
from ops.data.lists import VideoList
from ops.data.readers.base import UnreadableVideo
from ops.data.sampling import frame_indices

FRAMES = 24  # of a video
CLASSES = 4


class _Synthetic:
    """Replaces reading from files. The pixels of a video follow from its line."""

    height = 40
    width = 52
    unreadable = ()  # lines of the list

    def read(self, record, choose):
        if record.line in self.unreadable:
            raise UnreadableVideo(record.path, "a test")
        indices = frame_indices(choose(FRAMES), self.frames_per_segment, FRAMES)
        distinct, picks = np.unique(indices, return_inverse=True)
        rng = np.random.default_rng(record.line)
        video = rng.integers(0, 256, (FRAMES, self.height, self.width, 3), dtype=np.uint8)
        return video[distinct], picks.reshape(indices.shape)


class SyntheticTrainDataset(_Synthetic, TrainDataset):
    """Training clips of random videos."""


class SyntheticTestDataset(_Synthetic, TestDataset):
    """Test clips of random videos."""

    __test__ = False


def synthetic_videos(count):
    """A list of so many videos, whose labels take turns."""
    names = [str(number) for number in range(count)]
    labels = [number % CLASSES for number in range(count)]
    return VideoList("synthetic", "", names, [-1] * count, labels, range(1, count + 1))


def train_dataset(count, model):
    """Training clips for a model, with its T, L and size."""
    return SyntheticTrainDataset(synthetic_videos(count), flip_map=None, **_options(model))


def view_dataset(count, model, *, clips=1, crops=1, scale_size=None):
    """Test clips for a model.

    Args:
        count: number of videos.
        model: the network, whose T, L and size the clips have.
        clips, crops: views of a video.
        scale_size: short side of a frame; None: that of the model.
    """
    return SyntheticTestDataset(
        synthetic_videos(count),
        sampling="dense",
        clips=range(clips),
        num_clips=clips,
        crops=crops,
        scale_size=scale_size or model.scale_size,
        **_options(model),
    )


def _options(model):
    return {
        "num_segments": model.num_segments,
        "frames_per_segment": model.frames_per_segment,
        "image_tmpl": "",
        "crop_size": model.input_size,
        "modality": model.modality,
        "dense_stride": 2,
    }
