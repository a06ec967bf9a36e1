"""One process or many: the little of ``torch.distributed`` that the loops need. Every function also works alone."""

import contextlib
import itertools
import os
from datetime import timedelta
from typing import NamedTuple

import torch
import torch.distributed as dist

from ops.errors import UserError
from ops.jobs.meeting import meet, variable
from ops.jobs.stopping import Stopped, ignore_signals
from ops.jobs.watch import Watch, end

# The longest wait in a collective. It ends jobs in which every process lives and one does nothing (``ops/jobs/watch.py`` sees
# all other failures), so it is far above what is waited for: a checkpoint on a slow disk, the slowest share of a validation.
TIMEOUT = timedelta(minutes=30)


class World(NamedTuple):
    """Where this process stands: rank of size, the device it computes on, and the store that the processes share and their
    group for numbers on CPUs (both None for one process)."""

    rank: int
    size: int
    device: torch.device
    store: dist.Store | None = None
    group: dist.ProcessGroup | None = None

    @property
    def is_main(self):
        return self.rank == 0

    def largest(self, *numbers):
        """The largest of each of these whole numbers over all processes, which meet here."""
        if self.group is None:
            return list(numbers)
        values = torch.tensor(numbers, dtype=torch.int64)
        dist.all_reduce(values, dist.ReduceOp.MAX, group=self.group)
        return values.tolist()

    def counter(self, name):
        """A function without arguments that counts 0, 1, ... for all processes together: no number comes twice. name: of
        this counter; each can be used once in a run."""
        return (
            itertools.count().__next__
            if self.store is None
            else lambda: self.store.add(name, 1) - 1
        )

    def flag(self, name):
        """A function that is called with whether this process raises a flag, and tells whether any process has raised it. It
        does not wait for the others."""

        def raised(own):
            if own and self.store is not None:
                self.store.set(name, b"1")
            return own or (self.store is not None and self.store.check([name]))

        return raised


@contextlib.contextmanager
def start(device=None, local_rank=None, deterministic=False):
    """Context of a run: joins the process group if a launcher set ``RANK`` and ``WORLD_SIZE``, and leaves it on every way out.

    device: name such as "cpu" or "cuda:1"; None chooses the GPU of this process' local rank, or the CPU without one.
    local_rank: what ``python -m torch.distributed.launch`` passed; torchrun's ``LOCAL_RANK`` is used where it is None.
    deterministic: choose algorithms of PyTorch that give the same numbers in every run.
    Yields a :class:`World`. NCCL serves GPUs, gloo CPUs. Raises UserError for a device that is not there.
    """
    rank, size = variable("RANK", 0), variable("WORLD_SIZE", 1)
    local_rank = variable("LOCAL_RANK", 0) if local_rank is None else local_rank
    if deterministic:
        os.environ.setdefault(
            "CUBLAS_WORKSPACE_CONFIG", ":4096:8"
        )  # cuBLAS asks for it, before its first use
    before = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(deterministic or before)
    try:
        if size == 1:
            yield World(0, 1, _device(device, local_rank))
        else:
            with _joined(rank, size, device, local_rank) as world:
                yield world
    finally:
        torch.use_deterministic_algorithms(before)


def _device(device, local_rank):
    if device is None:
        device = f"cuda:{local_rank}" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(device)
    except RuntimeError as error:
        raise UserError(f"--device {device}: {str(error).splitlines()[0]}") from None
    if device.type == "cuda":
        if not torch.cuda.is_available() or (device.index or 0) >= torch.cuda.device_count():
            raise UserError(
                f"device {device} is not there: this machine shows {torch.cuda.device_count()} GPUs"
            )
        torch.cuda.set_device(device)
    return device


@contextlib.contextmanager
def _joined(rank, size, device, local_rank):
    """Context of one of several processes. A failure in it is printed and told to the others, and ends the process: the first
    to end is the one that launchers blame, so nothing is waited for."""
    meeting = meet(rank, size)
    watch = Watch(meeting, rank)
    store, ended = dist.PrefixStore(meeting.name, meeting.store), None
    try:
        device = _device(
            device, local_rank
        )  # no earlier: the others must hear of one that is missing
        on_gpus = device.type == "cuda"
        dist.init_process_group(
            "nccl" if on_gpus else "gloo", store=store, rank=rank, world_size=size, timeout=TIMEOUT
        )
        group = dist.new_group(backend="gloo", timeout=TIMEOUT) if on_gpus else dist.group.WORLD
        try:
            yield World(rank, size, device, dist.PrefixStore("counters", store), group)
        except (Stopped, SystemExit) as error:
            if isinstance(error, SystemExit) and error.code:
                raise
            ended = error
        if isinstance(ended, Stopped):
            ignore_signals()
        dist.destroy_process_group()  # still watched: it may wait for the others
        watch.leave(together=isinstance(ended, Stopped))
    except BaseException as error:
        status = watch.fail(error)
        try:
            if dist.is_initialized():
                if dist.get_backend() == "nccl" and hasattr(dist.group.WORLD, "abort"):
                    dist.group.WORLD.abort()  # destroying finishes what is under way, and its other end may be gone
                dist.destroy_process_group()
        finally:
            end(status)
    if ended:
        raise ended


def sum_over_ranks(values, device):
    """Element-wise sums of a list of numbers over all processes, as Python floats (float64 all-reduce)."""
    if not dist.is_initialized():
        return [float(value) for value in values]
    total = torch.tensor(values, dtype=torch.float64, device=device)
    dist.all_reduce(total)
    return total.tolist()


def gather(value):
    """The picklable values of all processes, in rank order, on every process."""
    if not dist.is_initialized():
        return [value]
    values = [None] * dist.get_world_size()
    dist.all_gather_object(values, value)
    return values


def from_main(value):
    """The picklable value of rank 0, on every process."""
    if not dist.is_initialized():
        return value
    values = [value]
    dist.broadcast_object_list(values)
    return values[0]


def barrier():
    """Wait for all processes."""
    if dist.is_initialized():
        dist.barrier()


def broadcast_buffers(model):
    """Give every process the buffers (running statistics) of rank 0, as DDP does before a training step."""
    if dist.is_initialized():
        for buffer in model.buffers():
            dist.broadcast(buffer, 0)
