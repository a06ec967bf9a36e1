"""One process or many: the little of ``torch.distributed`` that the loops need. Every function also works alone."""

import contextlib
import itertools
import os
import secrets
import socket
import time
from collections.abc import Iterator
from datetime import timedelta
from functools import partial
from typing import NamedTuple

import torch
import torch.distributed as dist

from ops.utils.errors import UserError
from ops.utils.signals import Stopped, ignore_signals

# The longest wait in a collective. Launchers end a job of which a process has died (torchrun, srun --kill-on-bad-exit); this
# ends one in which all live and one hangs. So it is far above what is waited for: a checkpoint on a slow disk, the slowest
# share of a validation.
TIMEOUT = timedelta(minutes=30)
# The longest wait for all processes to start, in which they read the libraries from a slow disk.
JOIN_TIMEOUT = timedelta(minutes=10)
# A process that lost another one waits so long before it ends: launchers blame the process that ends first.
_LINGER_SECONDS = 3


class World(NamedTuple):
    """Where this process stands: rank of size, the device it computes on, and the store that the processes share and their
    group for numbers on CPUs (both None for one process)."""

    rank: int
    size: int
    device: torch.device
    store: "JobStore | None" = None
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
                self.store.mark(name)
            return own or (self.store is not None and self.store.is_marked(name))

        return raised


class JobStore:
    """Numbers and marks that the processes of a job share, in the store of its launcher or of process 0.

    Operations raise ``DistError`` where the store has ended.
    """

    def __init__(self, store: dist.Store, prefix: str) -> None:
        self._store = dist.PrefixStore(prefix, store)

    def add(self, name: str, number: int) -> int:
        """Add to a number, which starts at 0. Returns the sum."""
        with _silent_native_code():
            return self._store.add(name, number)

    def mark(self, name: str) -> None:
        """Set a mark."""
        with _silent_native_code():
            self._store.set(name, b"1")

    def is_marked(self, name: str) -> bool:
        """Whether any process has set this mark."""
        with _silent_native_code():
            return self._store.check([name])


@contextlib.contextmanager
def _silent_native_code() -> Iterator[None]:
    """Context in which nothing reaches standard error.

    For a store that cannot be reached, or ends while an operation waits for it: torch prints the stack of
    its C++ code (15 lines), at a log level that can only be set before torch is imported. It raises an
    exception, too, so nothing is lost.
    """
    try:
        saved = os.dup(2)
    except OSError:  # it is closed
        yield
        return
    try:
        with open(os.devnull, "wb") as nothing:
            os.dup2(nothing.fileno(), 2)
        yield
    finally:
        os.dup2(saved, 2)
        os.close(saved)


@contextlib.contextmanager
def start(
    device: str | None = None, local_rank: int | None = None, deterministic: bool = False
) -> Iterator[World]:
    """Context of a run: joins the process group if a launcher set ``RANK`` and ``WORLD_SIZE``, and leaves it on every way out.

    Args:
        device: name such as "cpu" or "cuda:1"; None chooses the GPU of this process' local rank, or the CPU without one.
        local_rank: what ``python -m torch.distributed.launch`` passed; torchrun's ``LOCAL_RANK`` is used where it is None.
        deterministic: choose algorithms of PyTorch that give the same numbers in every run.

    Returns:
        A :class:`World`. NCCL serves GPUs, gloo CPUs.

    Raises:
        UserError: the device does not exist, the processes do not find each other, or another one ended.
    """
    rank, size = launcher_variable("RANK", 0), launcher_variable("WORLD_SIZE", 1)
    local_rank = launcher_variable("LOCAL_RANK", 0) if local_rank is None else local_rank
    if deterministic:
        # cuBLAS asks for it, before its first use
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    before = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(deterministic or before)
    try:
        if size == 1:
            yield World(0, 1, _device(device, local_rank))
        else:
            with _joined(rank, size, _device(device, local_rank)) as world:
                yield world
    finally:
        torch.use_deterministic_algorithms(before)


def launcher_variable(name: str, default: int) -> int:
    """A whole number that a launcher set in the environment."""
    text = os.environ.get(name, default)
    try:
        return int(text)
    except ValueError:
        raise UserError(
            f"the environment variable {name} is {text!r}; launchers set a whole number"
        ) from None


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
def _joined(rank: int, size: int, device: torch.device) -> Iterator[World]:
    """Context of one of several processes."""
    on_gpus = device.type == "cuda"
    store = _open_store(rank, size)
    try:
        dist.init_process_group(
            "nccl" if on_gpus else "gloo",
            store=store,
            rank=rank,
            world_size=size,
            timeout=TIMEOUT,
        )
        group = dist.new_group(backend="gloo", timeout=TIMEOUT) if on_gpus else dist.group.WORLD
        # The store of a launcher may outlive processes: nothing of an earlier try must be taken for today's.
        prefix = from_main(secrets.token_hex(8))
        try:
            yield World(rank, size, device, JobStore(store, prefix), group)
        except Stopped:
            ignore_signals()
            dist.destroy_process_group()
            raise
        dist.destroy_process_group()
    except Exception as error:
        if dist.is_initialized() and on_gpus and hasattr(dist.group.WORLD, "abort"):
            dist.group.WORLD.abort()  # or the end of this process waits for kernels that wait for others
        if not _is_lost_connection(error):
            raise
        time.sleep(_LINGER_SECONDS)
        # gloo: "[/path/of/its/source.cc:561] Connection closed by peer [127.0.0.1]:1420. This is ..."
        reason = str(error).partition("\n")[0].partition(". ")[0].rpartition(".cc:")[2]
        reason = reason.partition("] ")[2] or reason
        raise UserError(
            f"process {rank} of {size} lost the connection to another one, which has ended or was killed: "
            f"see its error ({reason})"
        ) from None


def _open_store(rank: int, size: int) -> dist.Store:
    """The store of the job, once all processes have come: torchrun keeps one, else process 0 does.

    Raises:
        UserError: the environment is not one that a launcher sets, the store cannot be opened or
            reached, or processes are missing.
    """
    host, port = os.environ.get("MASTER_ADDR"), launcher_variable("MASTER_PORT", 0)
    if not 0 <= rank < size:
        raise UserError(f"RANK is {rank}, but WORLD_SIZE {size}: ranks are 0 to {size - 1}")
    if not host or not 0 < port < 2**16:
        raise UserError(
            f"RANK and WORLD_SIZE are set, so MASTER_ADDR (the machine of rank 0) and MASTER_PORT (a free "
            f"port there) must be, too; MASTER_ADDR is {host!r}, MASTER_PORT {port}"
        )
    try:
        with _silent_native_code():
            store, _, _ = next(dist.rendezvous("env://", rank, size, timeout=JOIN_TIMEOUT))
    except (dist.DistError, RuntimeError) as error:
        reason = " ".join(str(error).partition("\n")[0].split())
        if "EADDRINUSE" in str(error):
            raise UserError(
                f"process 0 cannot open MASTER_PORT {port} on {socket.gethostname()}: it is taken, perhaps "
                f"by another job; give all processes another one"
            ) from None
        raise UserError(
            f"process {rank} of {size} has not met all others at {host}:{port} within "
            f"{JOIN_TIMEOUT.total_seconds():.0f} s: were they started with the same MASTER_ADDR, "
            f"MASTER_PORT and WORLD_SIZE, have they printed errors? ({reason})"
        ) from None
    return store


def _is_lost_connection(error: BaseException) -> bool:
    """Whether an exception of a collective means that another process is gone."""
    return isinstance(error, dist.DistError) or (
        isinstance(error, RuntimeError) and "/gloo/" in str(error)
    )


def data_parallel(model: torch.nn.Module, world: World) -> torch.nn.Module:
    """The model in ``DistributedDataParallel``, or itself where there is one process."""
    if world.size == 1:
        return model
    for parameter in model.parameters():
        if parameter.requires_grad and 1 in parameter.shape:
            parameter.register_hook(partial(_with_strides_of, parameter))
    devices = [world.device.index] if world.device.type == "cuda" else None
    return torch.nn.parallel.DistributedDataParallel(model, device_ids=devices)


def _with_strides_of(parameter: torch.Tensor, gradient: torch.Tensor) -> torch.Tensor:
    """The same gradient with the strides of its parameter, where only dimensions of size 1 differ.

    Strides of such dimensions mean nothing, and convolutions in channels-last order return others than
    the parameter has (1x1 kernels, depthwise kernels over time). DDP compares them and warns.
    """
    strides = zip(parameter.shape, gradient.stride(), parameter.stride(), strict=True)
    if all(own == wanted or size == 1 for size, own, wanted in strides):
        return gradient.as_strided(parameter.shape, parameter.stride())
    return gradient


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
