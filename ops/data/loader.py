"""From datasets to batches of clips: samplers and the loader.

Samplers yield keys (``ops.data.clips.Key``). So workers that live for many epochs need no shared
state, and what a sample looks like is a pure function of the seed, the key and the record,
whichever worker makes it.
"""

import contextlib
import itertools
import sys
import threading
import weakref
from collections.abc import Callable, Iterator
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from torch.utils.data import DataLoader, Sampler, default_collate

from ops.data.balance import balanced_order
from ops.data.clips import Failure, Frames, Key, Sample, TestDataset, TrainDataset
from ops.data.sampling import clip_rng
from ops.data.sharing import Plan, plan_sharing, to_arrays, to_tensors
from ops.utils.errors import UserError
from ops.utils.machine import SHARED_MEMORY, check_open_files
from ops.utils.signals import defer_interrupt, start_worker, unwatched_children
from ops.utils.text import counted

# Forked workers share the lists and the libraries of the run, and inherit how it handles signals.
# Python 3.14's default on Linux starts new processes, which take 700 MB each.
START_METHOD = "fork" if sys.platform == "linux" else None
_CLOSE_SECONDS = 3  # after which a worker that does not end by itself is killed
_OPEN_FILES = 100  # of a run without workers: libraries, logs, score files
_OPEN_FILES_PER_WORKER = 16  # pipes to and from it, and the batches that are being sent

# The messages of torch's loader, which has no exception types of its own.
_TORCH_DIED = "DataLoader worker (pid"
_TORCH_TIMED_OUT = "DataLoader timed out"
_TORCH_SHARED_MEMORY = "shared memory"
_BUS_ERROR = "Bus error"


class Batch(NamedTuple):
    """A batch of B training clips.

    Attributes:
        clips: uint8 ``[B, ...]``; None if no video could be read.
        labels: int64 ``[B]``; of a multi-label list bool ``[B, num_class]``.
        indices: positions in the list, int64 ``[B]``.
        failures: the videos that could not be read; they are not among the B.
    """

    clips: torch.Tensor | None
    labels: torch.Tensor
    indices: torch.Tensor
    failures: list[Failure]


def collate(
    items: list[Sample | Failure],
    stack: Callable[[list[torch.Tensor]], torch.Tensor] = default_collate,
) -> Batch:
    """Stack the samples that could be read and separate the failures.

    Args:
        items: from a dataset; all of its samples have one shape.
        stack: makes one tensor of several. In a worker, torch's function places it in shared
            memory.
    """
    samples = [item for item in items if isinstance(item, Sample)]
    failures = [item for item in items if isinstance(item, Failure)]
    indices = torch.tensor([sample.index for sample in samples], dtype=torch.int64)
    if not samples:
        return Batch(None, torch.empty(0, dtype=torch.int64), indices, failures)
    clips = stack([sample.clip for sample in samples])
    labels = torch.from_numpy(np.array([sample.label for sample in samples]))
    return Batch(clips, labels, indices, failures)


def _keep_item(item: Frames | Failure) -> Frames | Failure:
    """The collate function of a loader without batches."""
    return item


class TrainSampler(Sampler[Key]):
    """Keys of one process in one epoch.

    Each epoch has a new order, a pure function of (seed, epoch) and of the labels if it is
    balanced, of which the incomplete last step is dropped. A step is ``accumulate`` batches of
    ``batch_size`` videos in each process.
    """

    def __init__(
        self,
        n: int,
        batch_size: int,
        *,
        accumulate: int = 1,
        rank: int = 0,
        world_size: int = 1,
        seed: int = 0,
        balanced_labels: np.ndarray | None = None,
    ) -> None:
        """Create a sampler.

        Args:
            n: number of videos.
            batch_size: videos per batch and process.
            accumulate: batches per step.
            rank, world_size: of this process, and the number of processes.
            seed: of the order.
            balanced_labels: label of each video, int64 ``[n]``: every class occurs equally often
                in an epoch (``ops.data.balance``). None: every video occurs once.

        Raises:
            UserError: there is no whole step.
        """
        needed = world_size * batch_size * accumulate
        if n < needed:
            processes = counted(world_size, "process", "processes")
            raise UserError(
                f"{n} training videos are fewer than one step needs ({processes} x "
                f"{counted(batch_size, 'video')} x {accumulate} accumulated = {needed}); lower "
                f"--batch-size or --accumulate"
            )
        self.n = n
        self.world_size = world_size
        self.used = n - n % needed
        self.rank = rank
        self.seed = seed
        self.balanced_labels = balanced_labels
        self.epoch = 0
        self.start = 0
        self.stop: int | None = None

    def set_epoch(self, epoch: int, start: int = 0, stop: int | None = None) -> None:
        """Choose an epoch, or a part of it.

        Args:
            epoch: from 0.
            start: how many keys of this process to skip, because they have been used.
            stop: the number of the first key that is left out again; None: go on to the end.
        """
        self.epoch = epoch
        self.start = start
        self.stop = stop

    def __len__(self) -> int:
        return self.used // self.world_size

    def __iter__(self) -> Iterator[Key]:
        rng = clip_rng(self.seed, self.epoch, "order", 0)
        own_part = slice(self.rank, self.used, self.world_size)
        if self.balanced_labels is None:
            order = rng.permutation(self.n)
            for index in order[own_part][self.start : self.stop]:
                yield self.epoch, int(index)
        else:
            order, repeats = balanced_order(self.balanced_labels, rng)
            pairs = zip(order[own_part], repeats[own_part], strict=True)
            for index, repeat in itertools.islice(pairs, self.start, self.stop):
                yield self.epoch, int(index), int(repeat)


class ShardSampler(Sampler[Key]):
    """Keys of one process for a pass over all videos, in list order.

    It takes every ``world_size``-th video, without padding: all processes together see each video
    exactly once.
    """

    def __init__(self, n: int, *, rank: int = 0, world_size: int = 1) -> None:
        self.indices = range(rank, n, world_size)

    def __len__(self) -> int:
        return len(self.indices)

    def __iter__(self) -> Iterator[Key]:
        return ((0, index) for index in self.indices)


class QueueSampler(Sampler[Key]):
    """Keys of a pass that any number of processes share; a sampler serves one pass.

    Each process takes the next video when it can use one, so that none waits for a slow video of
    another.
    """

    def __init__(self, indices: np.ndarray, take: Callable[[], int]) -> None:
        """Create a sampler.

        Args:
            indices: positions in the list.
            take: counts from 0 for all processes together (``World.counter``).
        """
        self.indices = indices
        self.take = take

    def __iter__(self) -> Iterator[Key]:
        while (place := self.take()) < len(self.indices):
            yield 0, int(self.indices[place])


class LoaderError(UserError):
    """A data-loading worker died or hangs. The message names the videos that were being read."""


@contextlib.contextmanager
def loader_errors(loader: DataLoader) -> Iterator[None]:
    """Context in which torch's errors for dead and silent workers become LoaderErrors.

    torch raises them in the main thread, wherever it is at that moment. So the whole loop over a
    loader belongs in this context.
    """
    try:
        yield
    except (ConnectionResetError, EOFError):
        # The worker was killed while it sent a batch, and torch had seen it alive before.
        message = (
            "a data-loading worker ended: DataLoader worker lost its connection; if memory ran "
            "out, give a smaller -j"
        )
        raise LoaderError(f"{message}; {_being_read(loader.dataset)}") from None
    except RuntimeError as error:
        message = _explain(str(error))
        if message is None:
            raise
        raise LoaderError(f"{message}; {_being_read(loader.dataset)}") from None


def _explain(torch_message: str) -> str | None:
    """What a message of torch's loader means; None for any other error."""
    text = torch_message.strip().partition("\n")[0].rstrip(". ")
    if _BUS_ERROR in text or _TORCH_SHARED_MEMORY in torch_message:
        return (
            f"a data-loading worker ended: {text}; {SHARED_MEMORY} is full: enlarge it (docker run "
            f"--shm-size=1g), or give a smaller -j"
        )
    if text.startswith(_TORCH_DIED):
        return f"a data-loading worker ended: {text}; if memory ran out, give a smaller -j"
    if text.startswith(_TORCH_TIMED_OUT):
        return (
            f"the data-loading workers do not respond: {text}; check the disk, or wait longer with "
            f"--timeout"
        )
    return None


def _being_read(dataset: TrainDataset | TestDataset) -> str:
    """The videos that workers were reading, for a message."""
    indices = [] if dataset.reading is None else dataset.reading.tolist()
    names = []
    for index in indices:
        if index >= 0:
            record = dataset.video_list[index]
            names.append(f"{dataset.video_list.path}:{record.line}: {record.id}")
    if not names:
        return "nothing was being read"
    return f"being read: {', '.join(names)}"


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
        """Do not warn of more workers than cores, as torch does when workers start.

        The default number follows the cores, and ``-j`` is a choice of the user.
        """

    def __iter__(self) -> Iterator[Batch | Frames | Failure]:
        starts = self.num_workers > 0 and self._iterator is None
        with defer_interrupt() if starts else contextlib.nullcontext():
            batches = super().__iter__()
        if starts:
            # If the frames of an exception hold the loader, the garbage collector closes the queues
            # before torch can stop the workers, which then takes 5 s. So something that is not
            # garbage holds the iterator as well.
            weakref.finalize(self, [batches].clear)
        try:
            with loader_errors(self):
                for item in batches:
                    yield self._received(item)
        except LoaderError:
            raise
        except UserError as error:
            raise UserError(_without_traceback(str(error))) from None

    def _received(self, item: Batch | Frames | Failure) -> Batch | Frames | Failure:
        if not self.plan.in_pipes:
            return item
        return to_tensors(item)

    def close(self) -> None:
        """End the workers; one that does not end within seconds is killed.

        Otherwise they end with the process, where torch reports killed ones as errors.
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


def _without_traceback(message: str) -> str:
    """The text of a UserError that torch has wrapped in the traceback of a worker."""
    last_line = message.strip().rpartition("\n")[2]
    return last_line.partition("UserError: ")[2] or message


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
    """Create the loader of a dataset. It does not use torch's global random state.

    The workers live until the loader is closed, each on one thread (torch sets that).

    Args:
        dataset: the dataset.
        sampler: the keys, in order.
        batch_size: items per `Batch`; None: items of the dataset, one by one.
        workers: data-loading workers; fewer are used where ``/dev/shm`` is too small (``plan``).
        pin_memory: return batches in page-locked memory (not those that travel through pipes).
        timeout: longest wait for a worker in seconds; 0: no limit.
        in_order: False: return first what is ready first.

    Raises:
        UserError: more files would be open than the system allows. Iterating raises it as well,
            and LoaderError if a worker dies or times out.
    """
    plan = plan_sharing(dataset, batch_size, workers)
    workers = plan.workers
    check_open_files(_OPEN_FILES + _OPEN_FILES_PER_WORKER * workers, f"-j {workers}")
    dataset.reading = None
    if workers:
        dataset.reading = torch.full((workers,), -1).share_memory_()
    if batch_size is None:
        collate_fn = _keep_item
    elif plan.in_pipes:
        collate_fn = partial(collate, stack=torch.stack)
    else:
        collate_fn = collate
    if plan.in_pipes:
        collate_fn = partial(_collate_to_arrays, collate_fn)
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


def _collate_to_arrays(collate_fn: Callable, items: object) -> Batch | Frames | Failure:
    return to_arrays(collate_fn(items))
