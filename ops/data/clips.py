"""From list records to clips: the data sets, which read, sample, crop and flip, all in the call.

A key is ``(epoch, index)``: what a sample looks like is a pure function of ``(seed, epoch, record)`` whatever worker
makes it.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import NamedTuple

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

Key = tuple[int, int]
_CHANNELS = 3
_USUAL_ASPECT = 16 / 9


class Sample(NamedTuple):
    """A clip uint8 ``[T, L*C, H, W]``, its label (bool ``[num_class]`` of a multi-label list) and its place in the list."""

    clip: torch.Tensor
    label: int | np.ndarray
    index: int


class Frames(NamedTuple):
    """The distinct frames of a video's clips, scaled, uint8 ``[n, H, W, C]``, the frame of each place of each clip, int64
    ``[clips, T, L]`` in ``[0, n)``, and the place in the list. TestTransform.crops makes views of them, on any device."""

    frames: torch.Tensor
    picks: torch.Tensor
    index: int


class Failure(NamedTuple):
    """A record whose video cannot be read: place in the list, id and line there, and the reader's reason."""

    index: int
    id: str
    line: int
    reason: str


class _VideoDataset(Dataset, ABC):
    """What training and testing share: one record read by one reader, opened and closed in the call, in the worker.

    ``reading``: which place of the list each loader process is at, int64 ``[workers]`` in shared memory, -1: at none; None
    without such processes. ``item_bytes``: the size of a sample; of a test, whose frames keep their aspect ratio, an estimate.
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
        decoder: str,
        seed: int,
        modality: str,
        sampling: str,
        compat: bool,
        dense_stride: int | None,
    ) -> None:
        self.video_list = video_list
        self.num_segments = num_segments
        self.frames_per_segment = frames_per_segment
        self.image_tmpl = image_tmpl
        self.decoder = decoder
        self.seed = seed
        self.modality = modality
        self.sampling = sampling
        self.compat = compat
        self.dense_stride = dense_stride

    def __len__(self) -> int:
        return len(self.video_list)

    def __getitem__(self, key: Key) -> Sample | Frames | Failure:
        """The sample of ``(epoch, index)``, or a Failure if the video is unreadable. Any other error names the line of
        the list: UserError stays one, the rest becomes RuntimeError."""
        epoch, index = key
        record = self.video_list[index]
        self._is_at(index)
        try:
            return self.sample(epoch, index, record)
        except UnreadableVideo as error:
            return Failure(index, record.id, record.line, error.reason)
        except UserError as error:
            raise UserError(f"{self.video_list.path}:{record.line}: {record.id}: {error}") from None
        except Exception as error:
            raise RuntimeError(
                f"{self.video_list.path}:{record.line}: {record.id}: {type(error).__name__}: {error}"
            ) from error
        finally:  # which a process that is killed does not come to
            self._is_at(-1)

    def _is_at(self, index: int) -> None:
        worker = get_worker_info()
        if worker and self.reading is not None:
            self.reading[worker.id] = index

    @abstractmethod
    def sample(self, epoch: int, index: int, record: Record) -> Sample | Frames: ...

    def read(
        self, record: Record, choose: Callable[[int], np.ndarray]
    ) -> tuple[np.ndarray, np.ndarray]:
        """``choose`` maps the number of frames of the video to offsets int64 ``[..., T]``. Returns the distinct frames
        needed, uint8 ``[n, H, W, C]``, and the frame of each place of the clips, int64 ``[..., T, L]`` in ``[0, n)``."""
        path = resolve(record.path)
        with open_reader(
            path,
            image_tmpl=self.image_tmpl,
            num_frames=record.num_frames,
            decoder=self.decoder,
            modality=self.modality,
        ) as reader:
            indices = frame_indices(choose(len(reader)), self.frames_per_segment, len(reader))
            wanted, picks = np.unique(indices, return_inverse=True)
            return reader.get(wanted), picks.reshape(indices.shape)


class TrainDataset(_VideoDataset):
    """Training clips: random offsets, MultiScaleCrop, and a flip of half of the clips with their labels.

    ``modality`` is "RGB", "Flow" or "RGBDiff" (whose differences the model takes); ``sampling`` is a key of
    ``sampling.samplings_for_training()`` (``dense_stride``: for those of a window). ``flip_map`` (int64
    ``[num_class]``) is the label after a flip, or -1 for a class that must not be flipped, whatever the modality; None
    flips nothing. Of several labels each follows it. Sample: clip uint8 ``[T, L*C, crop_size, crop_size]`` and the label
    after the flip. Raises UserError if the sampling cannot give T frames.
    """

    def __init__(
        self,
        video_list: VideoList,
        *,
        num_segments: int,
        frames_per_segment: int,
        image_tmpl: str,
        crop_size: int,
        flip_map: np.ndarray | None,
        decoder: str = "pyav",
        seed: int = 0,
        modality: str = "RGB",
        sampling: str = "uniform",
        compat: bool = False,
        dense_stride: int | None = None,
    ) -> None:
        super().__init__(
            video_list,
            num_segments=num_segments,
            frames_per_segment=frames_per_segment,
            image_tmpl=image_tmpl,
            decoder=decoder,
            seed=seed,
            modality=modality,
            sampling=sampling,
            compat=compat,
            dense_stride=dense_stride,
        )
        check_train_sampling(sampling, num_segments, dense_stride)
        self.transform = TrainTransform(crop_size, TRAIN_SCALES[modality], flow=modality == "Flow")
        self.flip_map = flip_map
        self.item_bytes = num_segments * frames_per_segment * crop_size**2 * _CHANNELS

    def sample(self, epoch: int, index: int, record: Record) -> Sample:
        rng = clip_rng(self.seed, epoch, f"{record.id}:{record.line}", 0)
        flip = bool(rng.random() < 0.5)
        labels = np.array(record.label)
        if self.flip_map is None or self.flip_map[labels].min() < 0:
            flip = False
        elif flip:
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
        several = labels.ndim == 1
        label = (
            np.isin(np.arange(self.video_list.labels.shape[1]), labels) if several else int(labels)
        )
        return Sample(self.transform(frames, picks, rng, flip), label, index)


class TestDataset(_VideoDataset):
    """Clips number ``clips`` of every video, out of the ``num_clips`` that the test has in all (None: what is usual for the
    sampling), as the rule ``sampling`` takes them. The epoch of a key plays no part.

    A frame that several clips need is decoded, scaled and sent once. The crops are cut where the network is:
    ``transform.crops(frames, picks[k])`` are the views of clip k. Raises UserError if the sampling has no such clips.
    """

    __test__ = False  # not a test case, whatever its name begins with

    def __init__(
        self,
        video_list: VideoList,
        *,
        num_segments: int,
        frames_per_segment: int,
        image_tmpl: str,
        scale_size: int,
        crop_size: int,
        crops: int = 1,
        sampling: str = "center",
        clips: Sequence[int] = (0,),
        num_clips: int | None = None,
        decoder: str = "pyav",
        seed: int = 0,
        modality: str = "RGB",
        compat: bool = False,
        dense_stride: int | None = None,
    ) -> None:
        super().__init__(
            video_list,
            num_segments=num_segments,
            frames_per_segment=frames_per_segment,
            image_tmpl=image_tmpl,
            decoder=decoder,
            seed=seed,
            modality=modality,
            sampling=sampling,
            compat=compat,
            dense_stride=dense_stride,
        )
        self.num_clips = check_test_sampling(
            sampling, num_segments, clips=clips, num_clips=num_clips, stride=dense_stride
        )
        self.clips = tuple(clips)
        self.transform = TestTransform(scale_size, crop_size, crops, flow=modality == "Flow")
        side = scale_size or crop_size
        frames = len(self.clips) * num_segments * frames_per_segment
        self.item_bytes = int(frames * side**2 * _USUAL_ASPECT * _CHANNELS)

    def sample(self, epoch: int, index: int, record: Record) -> Frames:
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
