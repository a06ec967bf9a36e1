"""From list records to clips: the datasets, which read, sample, crop and flip.

A key is ``(epoch, index)``, or ``(epoch, index, repeat)`` where an epoch takes a video several
times. What a sample looks like is a pure function of ``(seed, epoch, record, repeat)``, whichever
worker makes it.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch.utils.data import Dataset, get_worker_info

from ops.data.lists import Record, VideoList, resolve
from ops.data.readers.base import UnreadableVideo
from ops.data.readers.open import open_reader
from ops.data.sampling import (
    SAMPLINGS,
    ClipSpec,
    check_test_sampling,
    check_train_sampling,
    clip_rng,
    frame_indices,
)
from ops.data.transforms import TRAIN_SCALES, TestTransform, TrainTransform
from ops.utils.errors import UserError

Key = tuple[int, int] | tuple[int, int, int]

_FLIP_PROBABILITY = 0.5
_CHANNELS = 3
_USUAL_ASPECT = 16 / 9  # of stored frames, for an estimate of their size
_IDLE = -1  # in VideoDataset.reading: the worker reads nothing


class Sample(NamedTuple):
    """A training clip.

    Attributes:
        clip: uint8 ``[T, L*C, H, W]``.
        label: an integer; of a multi-label list bool ``[num_class]``.
        index: position of the video in the list.
    """

    clip: torch.Tensor
    label: int | np.ndarray
    index: int


class Frames(NamedTuple):
    """The scaled frames of a video's test clips; TestTransform.crops makes views of them.

    Attributes:
        frames: the distinct frames, uint8 ``[n, H, W, C]``.
        picks: the frame of each place of each clip, int64 ``[clips, T, L]`` in ``[0, n)``.
        index: position of the video in the list.
    """

    frames: torch.Tensor
    picks: torch.Tensor
    index: int


class Failure(NamedTuple):
    """A video that cannot be read.

    Attributes:
        index: its position in the list.
        id: its path as listed.
        line: its line in the list.
        reason: the reader's reason, one line.
    """

    index: int
    id: str
    line: int
    reason: str


class VideoDataset(Dataset, ABC):
    """What training and testing share: one reader per item, opened and closed in the worker.

    Attributes:
        reading: position in the list that each data-loading worker is reading, int64 ``[workers]``
            in shared memory, -1 if none; None without workers.
        item_bytes: size of an item; for tests, whose frames keep their aspect ratio, an estimate.
    """

    reading: torch.Tensor | None = None
    item_bytes: int = 0

    def __init__(
        self,
        video_list: VideoList,
        *,
        num_segments: int,
        frames_per_segment: int,
        image_tmpl: str,
        sampling: str,
        decoder: str = "pyav",
        seed: int = 0,
        modality: str = "RGB",
        compat: bool = False,
        dense_stride: int | None = None,
    ) -> None:
        """Create a dataset.

        Args:
            video_list: the videos.
            num_segments: T.
            frames_per_segment: L.
            image_tmpl: template of the names in a folder of frames.
            sampling: key of ``sampling.SAMPLINGS``.
            decoder: key of ``readers.open.DECODERS``.
            seed: of everything random.
            modality: "RGB", "Flow" or "RGBDiff" (whose differences the model computes).
            compat: treat short videos as the originals do (``--sampling_compat``).
            dense_stride: distance of the frames of dense sampling; None: 64 // T.
        """
        self.video_list = video_list
        self.num_segments = num_segments
        self.frames_per_segment = frames_per_segment
        self.image_tmpl = image_tmpl
        self.sampling = sampling
        self.decoder = decoder
        self.seed = seed
        self.modality = modality
        self.compat = compat
        self.dense_stride = dense_stride

    def __len__(self) -> int:
        return len(self.video_list)

    def __getitem__(self, key: Key) -> Sample | Frames | Failure:
        """The item of ``(epoch, index[, repeat])``, or a Failure if the video cannot be read.

        Raises:
            UserError: a flag does not fit the video. The message names the line of the list.
            RuntimeError: any other error, with the line of the list.
        """
        epoch, index, *repeats = key
        record = self.video_list[index]
        place = f"{self.video_list.path}:{record.line}: {record.id}"
        self._set_reading(index)
        try:
            return self.sample(epoch, index, record, *repeats)
        except UnreadableVideo as error:
            return Failure(index, record.id, record.line, error.reason)
        except UserError as error:
            raise UserError(f"{place}: {error}") from None
        except Exception as error:
            raise RuntimeError(f"{place}: {type(error).__name__}: {error}") from error
        finally:  # not reached by a worker that is killed: the video stays noted
            self._set_reading(_IDLE)

    def _set_reading(self, index: int) -> None:
        worker = get_worker_info()
        if worker and self.reading is not None:
            self.reading[worker.id] = index

    @abstractmethod
    def sample(self, epoch: int, index: int, record: Record, repeat: int = 0) -> Sample | Frames:
        """Make the item of a record.

        Args:
            epoch: from 0.
            index: position of the record in the list.
            record: the video.
            repeat: how often the epoch has taken the video before.
        """

    def read(
        self, record: Record, choose: Callable[[int], np.ndarray]
    ) -> tuple[np.ndarray, np.ndarray]:
        """Read the frames of some clips of a video.

        Args:
            record: the video.
            choose: maps its number of frames to the offsets of the segments, int64 ``[..., T]``.

        Returns:
            The distinct frames, uint8 ``[n, H, W, C]``, and the frame of each place of the clips,
            int64 ``[..., T, L]`` in ``[0, n)``.
        """
        with open_reader(
            resolve(record.path),
            image_tmpl=self.image_tmpl,
            num_frames=record.num_frames,
            decoder=self.decoder,
            modality=self.modality,
        ) as reader:
            offsets = choose(len(reader))
            indices = frame_indices(offsets, self.frames_per_segment, len(reader))
            distinct, picks = np.unique(indices, return_inverse=True)
            return reader.get(distinct), picks.reshape(indices.shape)


class TrainDataset(VideoDataset):
    """Training clips: random offsets, MultiScaleCrop, and a flip of half of the clips."""

    def __init__(
        self,
        video_list: VideoList,
        *,
        crop_size: int,
        flip_map: np.ndarray | None,
        sampling: str = "uniform",
        **common: Any,
    ) -> None:
        """Create a training dataset.

        Args:
            video_list: the videos.
            crop_size: side of the clips.
            flip_map: the label of each class after a flip, int64 ``[num_class]``; -1: a class that
                must not be flipped. Each of several labels is mapped. None: flip nothing.
            sampling: key of ``sampling.samplings_for_training()``.
            **common: arguments of VideoDataset.

        Raises:
            UserError: the sampling cannot give T frames.
        """
        super().__init__(video_list, sampling=sampling, **common)
        check_train_sampling(sampling, self.num_segments, self.dense_stride)
        is_flow = self.modality == "Flow"
        self.transform = TrainTransform(crop_size, TRAIN_SCALES[self.modality], flow=is_flow)
        self.flip_map = flip_map
        frames = self.num_segments * self.frames_per_segment
        self.item_bytes = frames * crop_size**2 * _CHANNELS

    def sample(self, epoch: int, index: int, record: Record, repeat: int = 0) -> Sample:
        # The order of the draws fixes what a seed means: flip, offsets, crop.
        rng = clip_rng(self.seed, epoch, f"{record.id}:{record.line}", repeat)
        flip = bool(rng.random() < _FLIP_PROBABILITY)
        labels = np.array(record.label)
        if self.flip_map is None or self.flip_map[labels].min() < 0:
            flip = False
        if flip:
            labels = self.flip_map[labels]

        def choose(n: int) -> np.ndarray:
            return SAMPLINGS[self.sampling].train(
                n,
                self.num_segments,
                self.frames_per_segment,
                rng,
                compat=self.compat,
                stride=self.dense_stride,
            )

        frames, picks = self.read(record, choose)
        clip = self.transform(frames, picks, rng, flip)
        return Sample(clip, self._encode(labels), index)

    def _encode(self, labels: np.ndarray) -> int | np.ndarray:
        if labels.ndim == 0:
            return int(labels)
        num_class = self.video_list.labels.shape[1]
        return np.isin(np.arange(num_class), labels)


class TestDataset(VideoDataset):
    """Test clips of every video. The epoch and the repeat of a key have no effect.

    A frame that several clips need is decoded, scaled and sent once. The crops are cut on the
    model's device: ``transform.crops(frames, picks[k])`` are the views of clip k.
    """

    __test__ = False  # not a test case for pytest

    def __init__(
        self,
        video_list: VideoList,
        *,
        scale_size: int,
        crop_size: int,
        crops: int = 1,
        sampling: str = "center",
        clips: Sequence[int] = (0,),
        num_clips: int | None = None,
        **common: Any,
    ) -> None:
        """Create a test dataset.

        Args:
            video_list: the videos.
            scale_size: short side of the scaled frames; 0: keep the stored size.
            crop_size: side of a crop.
            crops: 1, 3, 5 or 10.
            sampling: key of ``sampling.samplings_for_tests()``.
            clips: the numbers of the clips to read.
            num_clips: how many clips the whole test has; None: the usual number of the sampling.
            **common: arguments of VideoDataset.

        Raises:
            UserError: the sampling has no such clips.
        """
        super().__init__(video_list, sampling=sampling, **common)
        self.num_clips = check_test_sampling(
            sampling, self.num_segments, clips=clips, num_clips=num_clips, stride=self.dense_stride
        )
        self.clips = tuple(clips)
        is_flow = self.modality == "Flow"
        self.transform = TestTransform(scale_size, crop_size, crops, flow=is_flow)
        side = scale_size or crop_size
        frames = len(self.clips) * self.num_segments * self.frames_per_segment
        self.item_bytes = int(frames * side**2 * _USUAL_ASPECT * _CHANNELS)

    def sample(self, epoch: int, index: int, record: Record, repeat: int = 0) -> Frames:
        def choose(n: int) -> np.ndarray:
            return np.stack([self._offsets(n, record, clip) for clip in self.clips])

        frames, picks = self.read(record, choose)
        return Frames(self.transform.scale(frames), torch.from_numpy(picks), index)

    def _offsets(self, n: int, record: Record, clip: int) -> np.ndarray:
        """Offsets int64 ``[T]`` of a clip of a video of n frames."""
        spec = ClipSpec(
            n,
            self.num_segments,
            self.frames_per_segment,
            index=clip,
            count=self.num_clips,
            seed=self.seed,
            video=record.id,
            compat=self.compat,
            stride=self.dense_stride,
        )
        return SAMPLINGS[self.sampling].test(spec)
