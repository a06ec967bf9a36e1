"""A pool of processes that goes on when one of them dies or hangs, and knows which job it was."""

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
from typing import Any, NamedTuple

from ops.utils.errors import UserError
from ops.utils.signals import deferred_interrupt

_LOOK = 0.5  # seconds between looks at the clock


class Lost(NamedTuple):
    """In place of a result: what became of the process that worked on the job."""

    reason: str


class _Worker(NamedTuple):
    process: multiprocessing.process.BaseProcess
    job: int
    began: float | None  # None: the process itself is still starting


def run_jobs(
    work: Callable[[Any], Any], jobs: Sequence, processes: int, timeout: float
) -> Iterator[tuple[int, Any]]:
    """Call ``work(job)`` in one of ``processes`` processes; yields ``(index of the job, result)`` in the order they end.

    work: a function of a module, or a ``functools.partial`` of one: the processes are spawned, since a fork would keep the
    pipes of the others open. A job whose process dies is tried once more in another, for it may have been killed from
    outside; the second death, or more than ``timeout`` seconds, gives a Lost. Raises UserError if ``work`` does, or if a
    process cannot start. No process outlives the iterator, nor the parent.
    """
    todo, died, free, busy = deque(range(len(jobs))), set(), [], {}
    try:
        while todo or busy:
            while todo and len(busy) < processes:
                connection, process, began = (
                    (*free.pop(), time.monotonic()) if free else (*_start(work), None)
                )
                busy[connection] = _Worker(process, todo.popleft(), began)
                with suppress(
                    BrokenPipeError
                ):  # it was killed while it was idle, and is found so below
                    connection.send(jobs[busy[connection].job])
            for connection in wait(list(busy), _LOOK):
                worker = busy.pop(connection)
                try:
                    result = connection.recv()
                except (EOFError, ConnectionResetError):
                    worker.process.join()
                    end = _end_of(worker.process.exitcode)
                    if worker.began is None:
                        raise UserError(
                            f"a process for the work {end} as it started; give a smaller -j"
                        ) from None
                    if worker.job in died:
                        yield worker.job, Lost(end)
                    else:
                        died.add(worker.job)
                        todo.appendleft(worker.job)
                    continue
                if worker.began is None:  # all that it has to say so far is that it is there
                    busy[connection] = worker._replace(began=time.monotonic())
                    continue
                free.append((connection, worker.process))
                if isinstance(result, UserError):
                    raise result
                yield worker.job, result
            for connection, worker in list(busy.items()):
                if worker.began is not None and time.monotonic() - worker.began > timeout:
                    del busy[connection]
                    _end(worker.process)
                    yield worker.job, Lost(f"was not done within {timeout:g} s")
    finally:
        for process in [worker.process for worker in busy.values()] + [
            process for _, process in free
        ]:
            _end(process)


def _start(work: Callable[[Any], Any]) -> tuple[Connection, multiprocessing.process.BaseProcess]:
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_serve, args=(theirs, work), daemon=True)
    # An exception in the middle of a start would leave the process with half of what it needs.
    with deferred_interrupt():
        # It is started with the first process, and lifts the mask that is set below.
        resource_tracker.ensure_running()
        with _blocked_interrupt():
            process.start()
    theirs.close()
    return ours, process


@contextmanager
def _blocked_interrupt() -> Iterator[None]:
    """Context in which processes start that Ctrl-C does not reach: they inherit the mask of this thread.

    A signal may still reach another thread of this process, whose exception Python raises here.
    """
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGINT])


def _serve(connection: Connection, work: Callable[[Any], Any]) -> None:
    parent = multiprocessing.parent_process()
    threading.Thread(target=lambda: (parent.join(), os._exit(1)), daemon=True).start()
    connection.send("ready")
    with suppress(EOFError, BrokenPipeError):
        while True:
            job = connection.recv()
            try:
                result = work(job)
            except UserError as error:
                result = error
            connection.send(result)


def _end_of(status: int) -> str:
    return (
        f"was killed by {signal.Signals(-status).name}"
        if status < 0
        else f"ended with status {status}"
    )


def _end(process: multiprocessing.process.BaseProcess) -> None:
    process.kill()
    process.join()
