"""The little of ``torch.distributed`` that the loops need, for one process or many."""

import contextlib
import dataclasses
import itertools
import os
import secrets
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import Any, NamedTuple

import torch
import torch.distributed as dist

from ops.utils.errors import Stopped, UserError
from ops.utils.machine import keep_freed_memory
from ops.utils.signals import ignore_signals
from ops.utils.text import counted

# The longest wait in a collective. Launchers end a job of which a process has died (torchrun, srun
# --kill-on-bad-exit); this ends a job in which all processes live and one hangs. So it is far above
# any wait of a healthy job: for a checkpoint on a slow disk, or the slowest part of a validation.
TIMEOUT = timedelta(minutes=30)
# The longest wait for all processes to start, which includes loading libraries from a slow disk.
JOIN_TIMEOUT = timedelta(minutes=10)
# How long a process that lost another one waits before it ends: launchers blame the process that
# ends first.
_LINGER_SECONDS = 3
# How often process 0 looks whether the others have come.
_POLL_SECONDS = 0.02
_MAX_PORT = 2**16 - 1


@dataclass(frozen=True)
class World:
    """The processes of a run: the place of this one among them, and what they exchange.

    Every process has to call a collective, and all in the same order. With one process they return
    at once.

    Attributes:
        rank: number of this process, from 0.
        size: number of processes.
        device: the device that this process computes on.
        store: numbers and marks that the processes share; None with one process.
        cpu_group: process group of everything but the tensors of the network: what is exchanged
            through it neither takes memory of a GPU nor waits for one. None with one process.
        local_rank: number of this process on its machine, from 0.
    """

    rank: int
    size: int
    device: torch.device
    store: "JobStore | None" = None
    cpu_group: dist.ProcessGroup | None = None
    local_rank: int = 0

    @property
    def is_main(self) -> bool:
        """Whether this process writes files and prints results."""
        return self.rank == 0

    def sum(self, values: Sequence[float]) -> list[float]:
        """Collective: element-wise sums of numbers over all processes, added in float64."""
        if self.size == 1:
            return [float(value) for value in values]
        total = torch.tensor(values, dtype=torch.float64)
        dist.all_reduce(total, group=self.cpu_group)
        return total.tolist()

    def max(self, *numbers: int) -> list[int]:
        """Collective: element-wise maxima of whole numbers over all processes."""
        if self.size == 1:
            return list(numbers)
        values = torch.tensor(numbers, dtype=torch.int64)
        dist.all_reduce(values, dist.ReduceOp.MAX, group=self.cpu_group)
        return values.tolist()

    def any(self, flag: object) -> bool:
        """Collective: whether a flag is true in one of the processes."""
        return self.max(int(bool(flag))) == [1]

    def gather(self, value: Any) -> list[Any]:
        """Collective: the picklable values of all processes, in rank order, on every process."""
        if self.size == 1:
            return [value]
        values = [None] * self.size
        dist.all_gather_object(values, value, group=self.cpu_group)
        return values

    def from_main(self, value: Any) -> Any:
        """Collective: the picklable value of rank 0, on every process."""
        if self.size == 1:
            return value
        values = [value]
        dist.broadcast_object_list(values, group=self.cpu_group)
        return values[0]

    def barrier(self) -> None:
        """Collective: wait for all processes."""
        if self.size > 1:
            dist.barrier(group=self.cpu_group)

    def broadcast_buffers(self, model: torch.nn.Module) -> None:
        """Collective: give every process the buffers (running statistics) of rank 0.

        DDP does the same before a training step.
        """
        if self.size > 1:
            for buffer in model.buffers():
                dist.broadcast(buffer, 0)

    def data_parallel(self, model: torch.nn.Module) -> torch.nn.Module:
        """The model in ``DistributedDataParallel``; the model itself with one process."""
        if self.size == 1:
            return model
        for parameter in model.parameters():
            if parameter.requires_grad and 1 in parameter.shape:
                parameter.register_hook(partial(_with_strides_of, parameter))
        devices = [self.device.index] if self.device.type == "cuda" else None
        # Gradients are views of DDP's buckets: otherwise each is kept twice, and copied.
        return torch.nn.parallel.DistributedDataParallel(
            model, device_ids=devices, gradient_as_bucket_view=True
        )

    def counter(self, name: str) -> Callable[[], int]:
        """A function that counts 0, 1, ... for all processes together, without waiting for them.

        Args:
            name: of this counter. Each name can be used once in a run.
        """
        if self.store is None:
            return itertools.count().__next__
        return lambda: self.store.add(name, 1) - 1

    def flag(self, name: str) -> Callable[[bool], bool]:
        """A flag that any process can raise for all, without waiting for the others.

        Args:
            name: of this flag.

        Returns:
            A function. It is called with whether this process raises the flag, and returns whether
            any process has raised it.
        """

        def is_raised(own: bool) -> bool:
            if self.store is None:
                return own
            if own:
                self.store.mark(name)
            return own or self.store.is_marked(name)

        return is_raised


class JobStore:
    """Numbers and marks that the processes of a job share.

    They are in the store of the launcher or of process 0.

    Operations raise ``DistError`` where the store has ended.
    """

    def __init__(self, store: dist.Store) -> None:
        self._store = dist.PrefixStore("run", store)

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
    """Context in which nothing is written to standard error.

    For a store that cannot be reached, or ends while an operation waits for it: torch prints the
    stack of its C++ code (15 lines), at a log level that can only be set before torch is imported.
    It raises an exception, too, so nothing is lost.
    """
    try:
        saved = os.dup(2)
    except OSError:  # standard error is closed
        yield
        return
    try:
        with open(os.devnull, "wb") as nothing:
            os.dup2(nothing.fileno(), 2)
        yield
    finally:
        os.dup2(saved, 2)
        os.close(saved)


class Ranks(NamedTuple):
    """``RANK``, ``WORLD_SIZE`` and ``LOCAL_RANK`` of a launcher, or those of one process."""

    rank: int
    size: int
    local_rank: int


def launched_ranks(local_rank: int | None = None) -> Ranks:
    """The ranks that a launcher set in the environment.

    Args:
        local_rank: what ``python -m torch.distributed.launch`` passed as a flag, in place of
            ``LOCAL_RANK``.

    Raises:
        UserError: a variable is not a whole number, or the rank is not below the size.
    """
    rank = _launcher_variable("RANK", 0)
    size = _launcher_variable("WORLD_SIZE", 1)
    if size > 1 and not 0 <= rank < size:
        raise UserError(f"RANK is {rank}, but WORLD_SIZE {size}: ranks are 0 to {size - 1}")
    if local_rank is None:
        local_rank = _launcher_variable("LOCAL_RANK", 0)
    return Ranks(rank, size, local_rank)


def _launcher_variable(name: str, default: int) -> int:
    """A whole number from the environment."""
    text = os.environ.get(name, default)
    try:
        return int(text)
    except ValueError:
        raise UserError(
            f"the environment variable {name} is {text!r}; launchers set a whole number"
        ) from None


@contextlib.contextmanager
def start(
    device: str | None = None, local_rank: int | None = None, deterministic: bool = False
) -> Iterator[World]:
    """Context of a run, which joins the process group of its launcher and leaves it at the end.

    Args:
        device: name such as "cpu" or "cuda:1"; None chooses the GPU of the local rank, or the CPU
            on a machine without GPUs.
        local_rank: see :func:`launched_ranks`.
        deterministic: choose algorithms of PyTorch that give the same numbers in every run.

    Returns:
        A :class:`World`. Its backend is NCCL on GPUs and gloo on CPUs.

    Raises:
        UserError: the device does not exist, the processes do not find each other, or another one
            ended.
    """
    ranks = launched_ranks(local_rank)
    if deterministic:
        # cuBLAS reads this before its first use.
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    before = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(deterministic or before)
    try:
        world = World(
            ranks.rank,
            ranks.size,
            choose_device(device, ranks.local_rank),
            local_rank=ranks.local_rank,
        )
        if world.device.type == "cpu":
            keep_freed_memory()
        if world.size == 1:
            yield world
        else:
            with _joined(world) as joined:
                yield joined
    finally:
        torch.use_deterministic_algorithms(before)


def choose_device(name: str | None = None, local_rank: int = 0) -> torch.device:
    """The device of a process.

    Args:
        name: such as "cpu", "cuda:1" or "mps"; "cuda" is the GPU of the local rank, and None that
            GPU, or the CPU on a machine without NVIDIA GPUs.
        local_rank: number of the process on its machine.

    Returns:
        The device; one of CUDA has an index.

    Raises:
        UserError: the device does not exist.
    """
    if name is None:
        name = f"cuda:{local_rank}" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError:
        raise UserError(f"unknown device {name!r}; give cpu, cuda, cuda:1 or mps") from None
    if device.type == "cuda":
        if device.index is None:
            device = torch.device("cuda", local_rank)
        available = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if device.index >= available:
            raise UserError(
                f"device {device} does not exist: PyTorch sees {counted(available, 'GPU')}; "
                f"give --device cpu, or start no more processes than there are GPUs"
            )
        torch.cuda.set_device(device)
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise UserError("device mps does not exist: it needs a Mac with an Apple GPU")
    return device


@contextlib.contextmanager
def _joined(world: World) -> Iterator[World]:
    """Context of one of several processes, in which ``world`` has its group and its store."""
    on_gpus = world.device.type == "cuda"
    store = _open_store(world)
    try:
        dist.init_process_group(
            "nccl" if on_gpus else "gloo",
            store=store,
            rank=world.rank,
            world_size=world.size,
            timeout=TIMEOUT,
        )
        group = dist.group.WORLD
        if on_gpus:
            group = dist.new_group(backend="gloo", timeout=TIMEOUT)
        try:
            yield dataclasses.replace(world, store=JobStore(store), cpu_group=group)
        except Stopped:
            ignore_signals()
            dist.destroy_process_group()
            raise
        dist.destroy_process_group()
    except Exception as error:
        if dist.is_initialized() and on_gpus and hasattr(dist.group.WORLD, "abort"):
            # Without it the end of this process waits for kernels that wait for other processes.
            dist.group.WORLD.abort()
        if not _is_lost_connection(error):
            raise
        time.sleep(_LINGER_SECONDS)
        raise UserError(
            f"process {world.rank} of {world.size} lost the connection to another one, which has "
            f"ended or was killed: see its error ({_reason(error)})"
        ) from None


def _open_store(world: World) -> dist.Store:
    """The store of the job, once all processes have started: torchrun's, or that of process 0.

    Returns:
        A store without keys of an earlier start.

    Raises:
        UserError: the environment is not one that a launcher sets, the store cannot be opened or
            reached, or processes are missing.
    """
    host = os.environ.get("MASTER_ADDR")
    port = _launcher_variable("MASTER_PORT", 0)
    if not host or not 0 < port <= _MAX_PORT:
        raise UserError(
            f"RANK and WORLD_SIZE are set, so MASTER_ADDR (the machine of rank 0) and MASTER_PORT "
            f"(a free port there) must be, too; MASTER_ADDR is {host!r}, MASTER_PORT {port}"
        )
    try:
        with _silent_native_code():
            store, _, _ = next(
                dist.rendezvous("env://", world.rank, world.size, timeout=JOIN_TIMEOUT)
            )
            token = agree_on_token(store, world.rank, world.size, JOIN_TIMEOUT)
    except (dist.DistError, RuntimeError) as error:
        if "EADDRINUSE" in str(error):
            raise UserError(
                f"process 0 cannot open MASTER_PORT {port} on {socket.gethostname()}: it is taken, "
                f"perhaps by another job; give all processes another one"
            ) from None
        reason = " ".join(str(error).partition("\n")[0].split())
        raise UserError(
            f"process {world.rank} of {world.size}: no connection to all others at {host}:{port} "
            f"within {JOIN_TIMEOUT.total_seconds():.0f} s; were they started with the same "
            f"MASTER_ADDR, MASTER_PORT and WORLD_SIZE, and have they printed errors? ({reason})"
        ) from None
    return dist.PrefixStore(token, store)


def agree_on_token(store: dist.Store, rank: int, size: int, timeout: timedelta) -> str:
    """Collective: a word that all processes of this start share, and no earlier start had.

    When torchrun restarts the processes of a job, its store keeps the keys of the start before. A
    process that finds an address among them waits for another one that is gone. So all keys of a
    start get this word as a prefix.

    Each process but the first asks with a random number of its own, and the first one answers with
    the word. It also answers numbers of an earlier start, which nobody reads, and therefore
    repeats until this start's processes have confirmed.

    Args:
        store: that all processes can reach.
        rank: number of this process.
        size: number of processes.
        timeout: longest wait for the others.

    Raises:
        DistError: the store has ended, or the others did not come within the timeout.
    """
    if rank > 0:
        question = secrets.token_hex(8)
        store.set(f"question/{rank}", question)
        store.wait([f"answer/{question}"], timeout)
        token = store.get(f"answer/{question}").decode()
        store.add(f"confirmed/{token}", 1)
        return token
    token = secrets.token_hex(8)
    deadline = time.monotonic() + timeout.total_seconds()
    while store.add(f"confirmed/{token}", 0) < size - 1:
        if time.monotonic() > deadline:
            raise dist.DistError("processes are missing")
        for other in range(1, size):
            if store.check([f"question/{other}"]):
                question = store.get(f"question/{other}").decode()
                store.set(f"answer/{question}", token)
        time.sleep(_POLL_SECONDS)
    return token


def _is_lost_connection(error: BaseException) -> bool:
    """Whether an exception of a collective means that another process is gone."""
    return isinstance(error, dist.DistError) or (
        isinstance(error, RuntimeError) and "/gloo/" in str(error)
    )


def _reason(error: BaseException) -> str:
    """The reason in a message of gloo.

    Such as ``[/path/of/its/source.cc:561] Connection closed by peer [127.0.0.1]:1420. This is ...``
    """
    line = str(error).partition("\n")[0].partition(". ")[0]
    after_file = line.rpartition(".cc:")[2]
    return after_file.partition("] ")[2] or after_file


def _with_strides_of(parameter: torch.Tensor, gradient: torch.Tensor) -> torch.Tensor:
    """The same gradient with the strides of its parameter, where only dimensions of size 1 differ.

    Strides of such dimensions mean nothing, and convolutions in channels-last order return other
    ones than the parameter has (1x1 kernels, depthwise kernels over time). DDP compares them and
    warns.
    """
    strides = zip(parameter.shape, gradient.stride(), parameter.stride(), strict=True)
    if all(own == wanted or size == 1 for size, own, wanted in strides):
        return gradient.as_strided(parameter.shape, parameter.stride())
    return gradient
