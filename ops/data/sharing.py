"""How data-loading workers hand their batches over: in shared memory, where the machine has enough of it.

torch keeps the tensors that processes exchange in ``/dev/shm``, whatever its sharing strategy. Containers
often give it 64 MB, which a single batch can fill; the worker that fills it is killed (SIGBUS).
"""

from typing import NamedTuple

import numpy as np
import torch

from ops.data.clips import TestDataset, TrainDataset
from ops.utils.machine import SHARED_MEMORY, free_shared_memory, processes_per_machine

PREFETCH = 2  # batches that each worker has ready or under way
_LEAST = 2**20  # bytes without which not even the locks of the queues are safe
_USABLE = 0.9  # share of the free bytes that is counted on
_FRAME_CHANNELS = 3
_ASPECT = (
    16 / 9
)  # of the stored frames that a test scales, which are not known before they are read


class Plan(NamedTuple):
    """How many workers there are, and how their batches travel.

    Attributes:
        workers: data-loading workers, 0: the process reads by itself.
        prefetch: batches per worker that are read ahead.
        in_pipes: batches are copied through pipes instead of shared memory.
        warning: a line that says what was changed and why, or None.
    """

    workers: int
    prefetch: int = PREFETCH
    in_pipes: bool = False
    warning: str | None = None


def plan_sharing(dataset: TrainDataset | TestDataset, batch_size: int | None, workers: int) -> Plan:
    """Choose how batches travel, by the free size of ``/dev/shm``.

    Args:
        dataset: what is read.
        batch_size: items per batch; None: items travel one by one.
        workers: the number of workers that was asked for.
    """
    if not workers:
        return Plan(0)
    try:
        free = free_shared_memory()
    except OSError as error:
        return Plan(
            0,
            warning=f"{SHARED_MEMORY}: cannot be used ({error.strerror}), so there are no data-loading "
            f"workers; make it writable, or give -j 0",
        )
    if free is None:
        return Plan(workers)
    if free < _LEAST:
        return Plan(
            0,
            warning=f"{SHARED_MEMORY}: {free // 1024} KB are free, so there are no data-loading workers; "
            f"enlarge it (docker run --shm-size=1g), or give -j 0",
        )
    batch = dataset.item_bytes * (batch_size or 1)

    def needed(prefetch: int) -> int:
        return (workers * prefetch + 1) * batch * processes_per_machine()

    for prefetch in range(PREFETCH, 0, -1):
        if needed(prefetch) <= _USABLE * free:
            break
    else:
        return Plan(
            workers,
            in_pipes=True,
            warning=f"{_shortage(free, workers, needed(PREFETCH))}, so batches go through pipes, which is "
            f"slower; enlarge it (docker run --shm-size=1g), or give a smaller -j",
        )
    if prefetch == PREFETCH:
        return Plan(workers)
    return Plan(
        workers,
        prefetch,
        warning=f"{_shortage(free, workers, needed(PREFETCH))}, so only {prefetch} batch per worker is read "
        f"ahead; enlarge it (docker run --shm-size=1g), or give a smaller -j",
    )


def _shortage(free: int, workers: int, needed: int) -> str:
    return (
        f"{SHARED_MEMORY}: {free / 2**20:.0f} MB are free, but the batches of {workers} data-loading workers "
        f"need up to {needed / 2**20:.0f} MB"
    )


def to_arrays(item: NamedTuple) -> NamedTuple:
    """A batch or an item with NumPy arrays for its tensors: these are pickled into the pipe whole."""
    return item._replace(
        **{
            name: value.numpy()
            for name, value in item._asdict().items()
            if isinstance(value, torch.Tensor)
        }
    )


def to_tensors(item: NamedTuple) -> NamedTuple:
    """The inverse of :func:`to_arrays`."""
    return item._replace(
        **{
            name: torch.from_numpy(value)
            for name, value in item._asdict().items()
            if isinstance(value, np.ndarray)
        }
    )
