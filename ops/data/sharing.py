"""How data-loading workers send batches to the process that uses them.

torch keeps the tensors that processes exchange in ``/dev/shm``, whatever its sharing strategy.
Containers often give it 64 MB, which a single batch can fill, and the worker that fills it is
killed (SIGBUS). If there is too little of it, fewer batches are read ahead, or batches go through
pipes.
"""

from typing import NamedTuple

import numpy as np
import torch

from ops.data.clips import TestDataset, TrainDataset
from ops.utils.machine import SHARED_MEMORY, free_shared_memory, processes_per_machine

PREFETCH = 2  # batches per worker that are ready or being read
_MIN_FREE_BYTES = 2**20  # below, not even the locks of the queues are safe
_USABLE = 0.9  # of the free bytes
_ENLARGE = "enlarge it (docker run --shm-size=1g)"


class Plan(NamedTuple):
    """How many workers there are, and how their batches travel.

    Attributes:
        workers: data-loading workers; 0: the process reads by itself.
        prefetch: batches per worker that are read ahead.
        in_pipes: batches are copied through pipes instead of shared memory.
        warning: one line that says what was changed and why, or None.
    """

    workers: int
    prefetch: int = PREFETCH
    in_pipes: bool = False
    warning: str | None = None


def plan_sharing(dataset: TrainDataset | TestDataset, batch_size: int | None, workers: int) -> Plan:
    """Choose how batches travel, by the free size of ``/dev/shm``.

    Args:
        dataset: the dataset.
        batch_size: items per batch; None: items travel one by one.
        workers: the requested number of workers.
    """
    if workers == 0:
        return Plan(0)
    try:
        free = free_shared_memory()
    except OSError as error:
        return Plan(
            0,
            warning=f"{SHARED_MEMORY}: cannot be used ({error.strerror}), so there are no "
            f"data-loading workers; make it writable, or give -j 0",
        )
    if free is None:
        return Plan(workers)
    if free < _MIN_FREE_BYTES:
        return Plan(
            0,
            warning=f"{SHARED_MEMORY}: {free // 1024} KB are free, so there are no data-loading "
            f"workers; {_ENLARGE}, or give -j 0",
        )
    batch_bytes = dataset.item_bytes * (batch_size or 1)

    def needed(prefetch: int) -> int:
        batches = workers * prefetch + 1  # and the one in use
        return batches * batch_bytes * processes_per_machine()

    shortage = (
        f"{SHARED_MEMORY}: {free / 2**20:.0f} MB are free, but the batches of {workers} "
        f"data-loading workers need up to {needed(PREFETCH) / 2**20:.0f} MB"
    )
    if needed(PREFETCH) <= _USABLE * free:
        return Plan(workers)
    for prefetch in range(PREFETCH - 1, 0, -1):
        if needed(prefetch) <= _USABLE * free:
            warning = (
                f"{shortage}, so only {prefetch} batch per worker is read ahead; {_ENLARGE}, or "
                f"give a smaller -j"
            )
            return Plan(workers, prefetch, warning=warning)
    warning = (
        f"{shortage}, so batches go through pipes, which is slower; {_ENLARGE}, or give a smaller "
        f"-j"
    )
    return Plan(workers, in_pipes=True, warning=warning)


def to_arrays(item: NamedTuple) -> NamedTuple:
    """A batch or an item with NumPy arrays for its tensors: pipes carry arrays by value."""
    arrays = {
        name: value.numpy()
        for name, value in item._asdict().items()
        if isinstance(value, torch.Tensor)
    }
    return item._replace(**arrays)


def to_tensors(item: NamedTuple) -> NamedTuple:
    """The inverse of `to_arrays`."""
    tensors = {
        name: torch.from_numpy(value)
        for name, value in item._asdict().items()
        if isinstance(value, np.ndarray)
    }
    return item._replace(**tensors)
