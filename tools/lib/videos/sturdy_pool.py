"""A pool of processes that survives the death of a process, and knows which job it worked on."""

import multiprocessing
import os
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any, NamedTuple

from ops.utils.errors import UserError
from ops.utils.signals import defer_interrupt

POLL_SECONDS = 0.5  # between checks of the time limit


class Lost(NamedTuple):
    """Takes the place of the result of a job whose process died or took too long."""

    reason: str


class _Busy(NamedTuple):
    """A process at work.

    Attributes:
        process: the process.
        job: index of its job.
        start_time: when it got the job; None while the process itself is still starting.
    """

    process: BaseProcess
    job: int
    start_time: float | None


def run_jobs(
    work: Callable[[Any], Any], jobs: Sequence, processes: int, timeout: float
) -> Iterator[tuple[int, Any]]:
    """Call ``work(job)`` for each job in several processes.

    A job whose process dies is tried once more in another process, since the first may have been
    killed from outside. No process outlives the iterator or this process.

    Args:
        work: a function of a module, or a ``functools.partial`` of one. The processes are spawned:
            a fork would keep the pipes of the others open.
        jobs: picklable.
        processes: number of processes.
        timeout: time limit for one job, in seconds.

    Yields:
        Index of a job and its result, or ``Lost``, in the order in which the jobs end.

    Raises:
        UserError: ``work`` raised it, or a process cannot start.
    """
    pool = _Pool(work, jobs, processes, timeout)
    try:
        while pool.has_work:
            pool.assign_jobs()
            yield from pool.collect_results()
            yield from pool.end_late_jobs()
    finally:
        pool.end_all()


class _Pool:
    """The state of ``run_jobs``."""

    def __init__(
        self, work: Callable[[Any], Any], jobs: Sequence, processes: int, timeout: float
    ) -> None:
        self._work = work
        self._jobs = jobs
        self._processes = processes
        self._timeout = timeout
        self._todo = deque(range(len(jobs)))
        self._died_once: set[int] = set()  # jobs
        self._free: list[tuple[Connection, BaseProcess]] = []
        self._busy: dict[Connection, _Busy] = {}

    @property
    def has_work(self) -> bool:
        return bool(self._todo or self._busy)

    def assign_jobs(self) -> None:
        """Give jobs to free processes, and to new ones."""
        while self._todo and len(self._busy) < self._processes:
            if self._free:
                connection, process = self._free.pop()
                start_time = time.monotonic()
            else:
                connection, process = _start(self._work)
                start_time = None
            job = self._todo.popleft()
            self._busy[connection] = _Busy(process, job, start_time)
            # A process that was killed while it was free is noticed when its result is read.
            with suppress(BrokenPipeError):
                connection.send(self._jobs[job])

    def collect_results(self) -> Iterator[tuple[int, Any]]:
        """Wait a moment for messages of the processes; yields the results among them."""
        for connection in wait(list(self._busy), POLL_SECONDS):
            busy = self._busy.pop(connection)
            try:
                message = connection.recv()
            except (EOFError, ConnectionResetError):
                yield from self._after_death(busy)
                continue
            if busy.start_time is None:  # its first message says that it has started
                self._busy[connection] = busy._replace(start_time=time.monotonic())
                continue
            self._free.append((connection, busy.process))
            if isinstance(message, UserError):
                raise message
            yield busy.job, message

    def _after_death(self, busy: _Busy) -> Iterator[tuple[int, Lost]]:
        """Repeat the job of a dead process, or yield that it is lost."""
        busy.process.join()
        reason = _describe_exit(busy.process.exitcode)
        if busy.start_time is None:
            raise UserError(
                f"a process for the work {reason} as it started; give a smaller -j"
            ) from None
        if busy.job in self._died_once:
            yield busy.job, Lost(reason)
        else:
            self._died_once.add(busy.job)
            self._todo.appendleft(busy.job)

    def end_late_jobs(self) -> Iterator[tuple[int, Lost]]:
        """End the processes whose job takes longer than the time limit."""
        for connection, busy in list(self._busy.items()):
            if busy.start_time is None or time.monotonic() - busy.start_time <= self._timeout:
                continue
            del self._busy[connection]
            _end(busy.process)
            yield busy.job, Lost(f"was not done within {self._timeout:g} s")

    def end_all(self) -> None:
        for busy in self._busy.values():
            _end(busy.process)
        for _, process in self._free:
            _end(process)


def _start(work: Callable[[Any], Any]) -> tuple[Connection, BaseProcess]:
    """Start a process; its first message says that it is ready."""
    context = multiprocessing.get_context("spawn")
    own_end, other_end = context.Pipe()
    process = context.Process(target=serve, args=(other_end, work), daemon=True)
    # An exception in the middle of a start would leave the process with half of what it needs.
    with defer_interrupt(), _blocked_interrupt():
        process.start()
    other_end.close()
    return own_end, process


@contextmanager
def _blocked_interrupt() -> Iterator[None]:
    """Context in which processes start that ignore Ctrl-C: they inherit this thread's signal mask.

    A signal may still reach another thread of this process, whose exception Python raises here.
    """
    if not hasattr(signal, "pthread_sigmask"):  # Windows, which has no resource tracker either
        yield
        return
    # The resource tracker starts with the first process, and would reset the signal mask.
    resource_tracker.ensure_running()
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGINT])


def serve(connection: Connection, work: Callable[[Any], Any]) -> None:
    """What a process does: work on jobs until the pipe is closed or the parent has ended."""
    threading.Thread(target=_exit_with_parent, daemon=True).start()
    connection.send("ready")
    with suppress(EOFError, BrokenPipeError):
        while True:
            job = connection.recv()
            try:
                result = work(job)
            except UserError as error:
                result = error
            connection.send(result)


def _exit_with_parent() -> None:
    multiprocessing.parent_process().join()
    os._exit(1)


def _describe_exit(status: int) -> str:
    if status < 0:
        return f"was killed by {signal.Signals(-status).name}"
    return f"ended with status {status}"


def _end(process: BaseProcess) -> None:
    process.kill()
    process.join()
