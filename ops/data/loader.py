"""From data sets to batches of clips: samplers and the loader.

A key is ``(epoch, index)``: the samplers yield such pairs, so that workers that live for many epochs need no shared
state, and what a sample looks like is a pure function of ``(seed, epoch, record)`` whatever worker makes it.
"""

import contextlib
import sys
import threading
import weakref
from collections.abc import Callable, Iterator
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from torch.utils.data import DataLoader, Sampler, default_collate

from ops.data.clips import Failure, Frames, Key, Sample, TestDataset, TrainDataset
from ops.data.sampling import clip_rng
from ops.data.sharing import Plan, plan_sharing, to_arrays, to_tensors
from ops.utils.errors import UserError
from ops.utils.machine import SHARED_MEMORY, check_open_files
from ops.utils.signals import deferred_interrupt, start_worker, unwatched_children
from ops.utils.text import counted

# Forked workers share the lists and the libraries of the run, and inherit how it handles signals.
# (From Python 3.14 on Linux would start them afresh: 700 MB each.)
START_METHOD = "fork" if sys.platform == "linux" else None
_CLOSE_SECONDS = 3  # until a worker that does not end by itself is killed
_OPEN_FILES = 100  # of a run without workers: libraries, logs, score files
_OPEN_FILES_PER_WORKER = 16  # pipes to and from it, and the batches that are under way


class Batch(NamedTuple):
    """Training clips uint8 ``[B, ...]`` (None if no video could be read), labels int64 ``[B]`` (bool ``[B, num_class]`` of a
    multi-label list), indices int64 ``[B]``, and the videos that could not be read, which are not among the B."""

    clips: torch.Tensor | None
    labels: torch.Tensor
    indices: torch.Tensor
    failures: list[Failure]


def collate(
    items: list[Sample | Failure],
    stack: Callable[[list[torch.Tensor]], torch.Tensor] = default_collate,
) -> Batch:
    """Stack the samples that could be read and keep the failures apart.

    Args:
        items: what a dataset gave; all of its samples have one shape.
        stack: makes one tensor of several. torch's function places it in shared memory, in a worker.
    """
    samples = [item for item in items if isinstance(item, Sample)]
    return Batch(
        clips=stack([sample.clip for sample in samples]) if samples else None,
        labels=torch.from_numpy(
            np.array([sample.label for sample in samples], None if samples else np.int64)
        ),
        indices=torch.tensor([sample.index for sample in samples], dtype=torch.int64),
        failures=[item for item in items if isinstance(item, Failure)],
    )


def _alone(item: Frames | Failure) -> Frames | Failure:
    return item


class TrainSampler(Sampler[Key]):
    """Keys of one process in one epoch: each epoch a new order, a pure function of (seed, epoch), of which the
    incomplete last step is dropped. A step is ``accumulate`` batches of ``batch_size`` videos in each process. Raises
    UserError if there is no whole step."""

    def __init__(
        self,
        n: int,
        batch_size: int,
        *,
        accumulate: int = 1,
        rank: int = 0,
        world_size: int = 1,
        seed: int = 0,
    ) -> None:
        needed = world_size * batch_size * accumulate
        if n < needed:
            processes = counted(world_size, "process", "processes")
            raise UserError(
                f"{n} training videos are fewer than one step needs ({processes} x "
                f"{counted(batch_size, 'video')} x {accumulate} accumulated = {needed}); lower --batch-size or --accumulate"
            )
        self.n = n
        self.world_size = world_size
        self.used = n - n % needed
        self.rank = rank
        self.seed = seed
        self.epoch = self.start = 0

    def set_epoch(self, epoch: int, start: int = 0) -> None:
        """Choose an epoch, and how many of its keys are left out because they have been used (of this process)."""
        self.epoch, self.start = epoch, start

    def __len__(self) -> int:
        return self.used // self.world_size

    def __iter__(self) -> Iterator[Key]:
        order = clip_rng(self.seed, self.epoch, "order", 0).permutation(self.n)
        for index in order[: self.used][self.rank :: self.world_size][self.start :]:
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


class QueueSampler(Sampler[Key]):
    """Keys of a pass over ``indices`` that any number of processes share: each takes the next one when it has room for it,
    so that nobody waits for a slow video of another.

    take: a function without arguments that counts from 0 for all processes together (``World.counter``).
    A sampler serves one pass.
    """

    def __init__(self, indices: np.ndarray, take: Callable[[], int]) -> None:
        self.indices = indices
        self.take = take

    def __iter__(self) -> Iterator[Key]:
        while (place := self.take()) < len(self.indices):
            yield 0, int(self.indices[place])


class LoaderError(UserError):
    """A data-loading worker died or hangs. The message names what was being read, which need not be bad."""


@contextlib.contextmanager
def loader_errors(loader: DataLoader) -> Iterator[None]:
    """Context in which torch's errors for dead and silent workers of a loader become LoaderErrors.

    torch raises them in the main thread, wherever it is just then: so the whole loop over a loader
    belongs into this context.
    """
    try:
        yield
    except (ConnectionResetError, EOFError):
        # The worker was killed while it handed over a batch, and torch saw it alive a moment later.
        raise LoaderError(
            f"a data-loading worker ended: DataLoader worker lost its connection; if memory ran out, give a "
            f"smaller -j; {_being_read(loader.dataset)}"
        ) from None
    except RuntimeError as error:
        text = str(error).strip().partition("\n")[0].rstrip(". ")
        if "Bus error" in text or "shared memory" in str(error):
            message = (
                f"a data-loading worker ended: {text}; {SHARED_MEMORY} is full: enlarge it (docker run "
                f"--shm-size=1g), or give a smaller -j"
            )
        elif text.startswith("DataLoader worker (pid"):
            message = f"a data-loading worker ended: {text}; if memory ran out, give a smaller -j"
        elif text.startswith("DataLoader timed out"):
            message = f"the data-loading workers are silent: {text}; check the disk, or wait longer with --timeout"
        else:
            raise
        raise LoaderError(f"{message}; {_being_read(loader.dataset)}") from None


def _being_read(dataset: TrainDataset | TestDataset) -> str:
    videos, rows = dataset.video_list, [] if dataset.reading is None else dataset.reading.tolist()
    names = [f"{videos.path}:{videos[row].line}: {videos[row].id}" for row in rows if row >= 0]
    return f"being read: {', '.join(names)}" if names else "nothing was being read"


class VideoLoader(DataLoader):
    """A DataLoader in whose workers a UserError stays one line, and that can be closed.

    This class uses four names of torch's loader that are not documented:
    ``check_worker_number_rationality``, ``_iterator``, and of the iterator ``_workers`` and
    ``_shutdown_workers``.

    Attributes:
        plan: how batches travel from the workers.
    """

    plan: Plan = Plan(0)

    def check_worker_number_rationality(self) -> None:
        """Does not warn about more workers than cores, as torch does when workers start.

        The default follows the cores; a user who gives ``-j``, as the recipes do, has chosen.
        """

    def __iter__(self) -> Iterator[Batch | Frames | Failure]:
        starts = self.num_workers > 0 and self._iterator is None
        with deferred_interrupt() if starts else contextlib.nullcontext():
            batches = super().__iter__()
        if starts:
            # Where an exception's frames hold the loader, the garbage collector closes the queues to the workers before
            # torch can tell these to stop, and it waits for 5 s. So something that is not garbage holds them as well.
            weakref.finalize(self, [batches].clear)
        try:
            with loader_errors(self):
                for item in batches:
                    yield self._received(item)
        except LoaderError:
            raise
        except UserError as error:  # torch wraps the text in the worker's traceback
            raise UserError(
                str(error).strip().rpartition("\n")[2].partition("UserError: ")[2] or str(error)
            ) from None

    def _received(self, item: Batch | Frames | Failure) -> Batch | Frames | Failure:
        if not self.plan.in_pipes:
            return item
        return to_tensors(item)

    def close(self) -> None:
        """End the workers. One that does not react within seconds is killed.

        Without this they end with the process, where torch reports those that are killed as errors.
        """
        iterator, self._iterator = self._iterator, None
        if iterator is None:
            return

        def kill() -> None:
            for worker in iterator._workers:
                worker.kill()

        timer = threading.Timer(_CLOSE_SECONDS, kill)
        with unwatched_children():
            timer.start()
            try:
                iterator._shutdown_workers()
            finally:
                timer.cancel()

    def __enter__(self) -> "VideoLoader":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def make_loader(
    dataset: TrainDataset | TestDataset,
    sampler: Sampler[Key],
    batch_size: int | None,
    *,
    workers: int,
    pin_memory: bool = False,
    timeout: float = 0,
    in_order: bool = True,
) -> VideoLoader:
    """A loader of a dataset. The global random state of torch is not touched.

    The workers live until the loader is closed, each on one thread (torch sets that).

    Args:
        dataset: what is read.
        sampler: the keys, in order.
        batch_size: items per :class:`Batch`; None: what the dataset gives, one by one.
        workers: data-loading workers; fewer are used where ``/dev/shm`` is too small (``plan``).
        pin_memory: give batches in page-locked memory (not those that travel in pipes).
        timeout: longest wait for a worker in seconds, 0 for no limit.
        in_order: False gives what is ready first.

    Raises:
        UserError: more files would be open than the system allows. Iterating raises it, too, and
            :class:`LoaderError` if a worker dies or times out.
    """
    plan = plan_sharing(dataset, batch_size, workers)
    workers = plan.workers
    check_open_files(_OPEN_FILES + _OPEN_FILES_PER_WORKER * workers, f"-j {workers}")
    dataset.reading = torch.full((workers,), -1).share_memory_() if workers else None
    collate_fn = collate
    if batch_size is None:
        collate_fn = _alone
    elif plan.in_pipes:
        collate_fn = partial(collate, stack=torch.stack)
    if plan.in_pipes:
        collate_fn = partial(_sent_as_arrays, collate_fn)
    loader = VideoLoader(
        dataset,
        batch_size=batch_size,
        sampler=sampler,
        num_workers=workers,
        collate_fn=collate_fn,
        pin_memory=pin_memory and not plan.in_pipes,
        timeout=timeout if workers else 0,
        persistent_workers=workers > 0,
        prefetch_factor=plan.prefetch if workers else None,
        generator=torch.Generator(),
        worker_init_fn=start_worker,
        in_order=in_order,
        multiprocessing_context=START_METHOD if workers else None,
    )
    loader.plan = plan
    return loader


def _sent_as_arrays(collate_fn: Callable, items: object) -> Batch | Frames | Failure:
    return to_arrays(collate_fn(items))
