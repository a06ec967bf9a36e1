"""From data sets to batches of clips: samplers and the loader.

A key is ``(epoch, index)``: the samplers yield such pairs, so that workers that live for many epochs need no shared
state, and what a sample looks like is a pure function of ``(seed, epoch, record)`` whatever worker makes it.
"""

import weakref
from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch.utils.data import DataLoader, Sampler, default_collate

from ops.data.clips import Failure, Key, Sample, TestDataset, TrainDataset
from ops.data.sampling import clip_rng
from ops.errors import UserError


class Batch(NamedTuple):
    """Clips uint8 ``[B, ...]`` (None if no video could be read), labels and indices int64 ``[B]``, and the videos that
    could not be read, which are not among the B."""

    clips: torch.Tensor | None
    labels: torch.Tensor
    indices: torch.Tensor
    failures: list[Failure]


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
