"""From list records to batches of clips: data sets, samplers and the loader.

A key is ``(epoch, index)``: the samplers yield such pairs, so that workers that live for many epochs need no shared
state, and what a sample looks like is a pure function of ``(seed, epoch, record)`` whatever worker makes it.
"""

import weakref
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, Sampler, default_collate

from ops.data.lists import Record, VideoList, resolve
from ops.data.readers import UnreadableVideo, open_reader
from ops.data.sampling import center_offsets, clip_rng, frame_indices, random_clip_offsets, train_offsets
from ops.data.transforms import TestTransform, TrainTransform
from ops.errors import UserError

Key = tuple[int, int]


class Sample(NamedTuple):
    """A clip uint8 ``[T, L*C, H, W]`` or the views of one ``[crops, T, L*C, H, W]``, its label, its place in the
    list."""

    clip: torch.Tensor
    label: int
    index: int


class Failure(NamedTuple):
    """A record whose video cannot be read: place in the list, id and line there, and the reader's reason."""

    index: int
    id: str
    line: int
    reason: str


class Batch(NamedTuple):
    """Clips uint8 ``[B, ...]`` (None if no video could be read), labels and indices int64 ``[B]``, and the videos that
    could not be read, which are not among the B."""

    clips: torch.Tensor | None
    labels: torch.Tensor
    indices: torch.Tensor
    failures: list[Failure]


class _VideoDataset(Dataset, ABC):
    """What training and testing share: one record read by one reader, opened and closed in the call, in the worker."""

    def __init__(
        self, video_list: VideoList, *, num_segments: int, frames_per_segment: int, image_tmpl: str, decoder: str,
        seed: int,
    ) -> None:
        self.video_list = video_list
        self.num_segments = num_segments
        self.frames_per_segment = frames_per_segment
        self.image_tmpl = image_tmpl
        self.decoder = decoder
        self.seed = seed

    def __len__(self) -> int:
        return len(self.video_list)

    def __getitem__(self, key: Key) -> Sample | Failure:
        """The sample of ``(epoch, index)``, or a Failure if the video is unreadable. Any other error names the line of
        the list: UserError stays one, the rest becomes RuntimeError."""
        epoch, index = key
        record = self.video_list[index]
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

    @abstractmethod
    def sample(self, epoch: int, index: int, record: Record) -> Sample: ...

    def read(self, record: Record, choose: Callable[[int], np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        """``choose`` maps the number of frames of the video to offsets int64 ``[T]``. Returns the distinct frames
        needed, uint8 ``[n, H, W, C]``, and the frame of each place of the clip, int64 ``[T, L]`` in ``[0, n)``."""
        path = resolve(record.path)
        with open_reader(path, image_tmpl=self.image_tmpl, num_frames=record.num_frames,
                         decoder=self.decoder) as reader:
            indices = frame_indices(choose(len(reader)), self.frames_per_segment, len(reader))
            wanted, picks = np.unique(indices, return_inverse=True)
            return reader.get(wanted), picks.reshape(indices.shape)


class TrainDataset(_VideoDataset):
    """Training clips: random offsets, MultiScaleCrop, and a flip of half of the clips with their labels.

    ``flip_map`` (int64 ``[num_class]``) is the label after a flip, or -1 for a class that must not be flipped; None
    flips nothing. Sample: clip uint8 ``[T, L*C, crop_size, crop_size]`` and the label after the flip.
    """

    def __init__(
        self, video_list: VideoList, *, num_segments: int, frames_per_segment: int, image_tmpl: str, crop_size: int,
        flip_map: np.ndarray | None, decoder: str = "pyav", seed: int = 0,
    ) -> None:
        super().__init__(video_list, num_segments=num_segments, frames_per_segment=frames_per_segment,
                         image_tmpl=image_tmpl, decoder=decoder, seed=seed)
        self.transform = TrainTransform(crop_size)
        self.flip_map = flip_map

    def sample(self, epoch: int, index: int, record: Record) -> Sample:
        rng = clip_rng(self.seed, epoch, f"{record.id}:{record.line}", 0)
        flip = bool(rng.random() < 0.5)
        label = record.label
        if self.flip_map is None or self.flip_map[label] < 0:
            flip = False
        elif flip:
            label = int(self.flip_map[label])
        frames, picks = self.read(record, lambda n: train_offsets(n, self.num_segments, self.frames_per_segment, rng))
        return Sample(self.transform(frames, picks, rng, flip), label, index)


class TestDataset(_VideoDataset):
    """The views of clip number ``clip`` of every video: ``sampling`` "center" takes the middle of each segment whatever
    ``clip`` is, "random" draws from (seed, video id, clip). The epoch of a key plays no part.

    Sample: views uint8 ``[crops, T, L*C, crop_size, crop_size]`` (transforms.TestTransform) and the label of the list.
    """

    __test__ = False  # not a test case, whatever its name begins with

    def __init__(
        self, video_list: VideoList, *, num_segments: int, frames_per_segment: int, image_tmpl: str, scale_size: int,
        crop_size: int, crops: int = 1, sampling: str = "center", clip: int = 0, decoder: str = "pyav", seed: int = 0,
    ) -> None:
        super().__init__(video_list, num_segments=num_segments, frames_per_segment=frames_per_segment,
                         image_tmpl=image_tmpl, decoder=decoder, seed=seed)
        if sampling not in ("center", "random"):
            raise ValueError(f"sampling is {sampling!r}, not center or random")
        self.transform = TestTransform(scale_size, crop_size, crops)
        self.sampling = sampling
        self.clip = clip

    def sample(self, epoch: int, index: int, record: Record) -> Sample:
        def choose(n: int) -> np.ndarray:
            if self.sampling == "center":
                return center_offsets(n, self.num_segments, self.frames_per_segment)
            return random_clip_offsets(n, self.num_segments, self.frames_per_segment, seed=self.seed, video=record.id,
                                       clip=self.clip)

        return Sample(self.transform(*self.read(record, choose)), record.label, index)


def collate(items: list[Sample | Failure]) -> Batch:
    """Stack the samples that could be read and keep the failures apart. All samples of a data set have one shape."""
    samples = [item for item in items if isinstance(item, Sample)]
    return Batch(
        clips=default_collate([sample.clip for sample in samples]) if samples else None,
        labels=torch.tensor([sample.label for sample in samples], dtype=torch.int64),
        indices=torch.tensor([sample.index for sample in samples], dtype=torch.int64),
        failures=[item for item in items if isinstance(item, Failure)],
    )


class TrainSampler(Sampler[Key]):
    """Keys of one process in one epoch: each epoch a new order, a pure function of (seed, epoch), of which the
    incomplete last global batch is dropped. ``batch_size`` is that of one process. Raises UserError if there is no
    whole batch."""

    def __init__(self, n: int, batch_size: int, *, rank: int = 0, world_size: int = 1, seed: int = 0) -> None:
        if n < batch_size * world_size:
            raise UserError(
                f"{n} training videos do not fill one batch of {batch_size} x {world_size} processes; give a smaller "
                "--batch-size"
            )
        self.n = n
        self.world_size = world_size
        self.used = n - n % (batch_size * world_size)
        self.rank = rank
        self.seed = seed
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __len__(self) -> int:
        return self.used // self.world_size

    def __iter__(self) -> Iterator[Key]:
        order = clip_rng(self.seed, self.epoch, "order", 0).permutation(self.n)
        for index in order[: self.used][self.rank :: self.world_size]:
            yield self.epoch, int(index)


class ShardSampler(Sampler[Key]):
    """Keys of one process for a pass over all videos: every ``world_size``-th in list order, without padding, so that
    each video is seen exactly once by all processes together."""

    def __init__(self, n: int, *, rank: int = 0, world_size: int = 1) -> None:
        self.indices = range(rank, n, world_size)

    def __len__(self) -> int:
        return len(self.indices)

    def __iter__(self) -> Iterator[Key]:
        return ((0, index) for index in self.indices)


class _Loader(DataLoader):
    """A DataLoader in whose workers a UserError stays one line, and whose workers stop at once."""

    def __iter__(self) -> Iterator[Batch]:
        starts = self.num_workers > 0 and self._iterator is None
        batches = super().__iter__()
        if starts:
            # Where an exception's frames hold the loader, the garbage collector closes the queues to the workers before
            # torch can tell these to stop, and it waits for 5 s. So something that is not garbage holds them as well.
            weakref.finalize(self, [batches].clear)
        try:
            yield from batches
        except UserError as error:  # torch wraps the text in the worker's traceback
            raise UserError(str(error).strip().rpartition("\n")[2].partition("UserError: ")[2] or str(error)) from None


def make_loader(
    dataset: TrainDataset | TestDataset, sampler: Sampler[Key], batch_size: int, *, workers: int,
    pin_memory: bool = False, timeout: float = 0,
) -> DataLoader:
    """A loader of Batches. Workers live as long as the loader, each on one thread (torch sets that); ``timeout`` is the
    longest wait for one batch from a worker, in seconds, 0 for no limit. The global random state of torch is not
    touched.
    """
    return _Loader(
        dataset,
        batch_size=batch_size,
        sampler=sampler,
        num_workers=workers,
        collate_fn=collate,
        pin_memory=pin_memory,
        timeout=timeout if workers else 0,
        persistent_workers=workers > 0,
        prefetch_factor=2 if workers else None,
        generator=torch.Generator(),
    )
