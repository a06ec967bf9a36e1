"""Signals that ask a run to stop: Ctrl-C, and those of Slurm, spot machines and ``kill``.

A training run saves its state before it ends. Its data-loading workers ignore the signals and end
with the run.
"""

import contextlib
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Iterator
from multiprocessing.connection import wait
from types import FrameType, TracebackType


def _existing(*names: str) -> tuple[signal.Signals, ...]:
    """Those of these signals that this platform has (Windows has no SIGUSR1)."""
    return tuple(getattr(signal, name) for name in names if hasattr(signal, name))


SIGNALS = _existing("SIGINT", "SIGTERM", "SIGUSR1")
_WORKER_GRACE_SECONDS = 60  # in which a signalled worker still serves the run that saves its state


class StopRequest:
    """Context in which ``SIGNALS`` are recorded instead of ending the process.

    A second signal ends the process at once.

    Attributes:
        number: the signal that was received, or 0.
        is_done: the state is saved and the run ends; further signals change nothing.
    """

    def __init__(self) -> None:
        self.number = 0
        self.is_done = False

    def __enter__(self) -> "StopRequest":
        self._before = {number: signal.signal(number, self._note) for number in SIGNALS}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, number: int, _: FrameType | None) -> None:
        if self.is_done:
            return
        if self.number:
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)
        self.number = number
        if number == signal.SIGINT:
            # os.write: the signal may have come in the middle of a print.
            with contextlib.suppress(OSError):
                os.write(2, b"\nstopping after this step; press Ctrl-C again to end at once\n")


@contextlib.contextmanager
def defer_interrupt() -> Iterator[None]:
    """Context that delays Ctrl-C until the context ends.

    For the start of processes: Python ignores exceptions in the hooks that it runs around ``fork``,
    ``KeyboardInterrupt`` included: a Ctrl-C would be lost there.
    """
    before = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or not callable(before):
        yield
        return
    noted = False

    def note(*_: object) -> None:
        nonlocal noted
        noted = True

    signal.signal(signal.SIGINT, note)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
        if noted:
            signal.raise_signal(signal.SIGINT)


@contextlib.contextmanager
def unwatched_children() -> Iterator[None]:
    """Context in which child processes may end in any way.

    Outside it, torch raises an exception in the main thread when a data-loading worker is killed.
    """
    if not hasattr(signal, "SIGCHLD") or (
        threading.current_thread() is not threading.main_thread()
    ):
        yield
        return
    before = signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    try:
        yield
    finally:
        signal.signal(signal.SIGCHLD, before or signal.SIG_DFL)


def kill_children() -> None:
    """Kill the daemonic child processes: one of them may hang, and Python would wait for it."""
    children = [child for child in multiprocessing.active_children() if child.daemon]
    if not children:
        return
    with unwatched_children():
        for child in children:
            child.kill()
        for child in children:
            child.join()


def ignore_signals() -> None:
    """Ignore the signals from now on.

    For one of several processes whose run is saved and ends: launchers send SIGTERM to the others
    as soon as one has ended, and it must not change their status.
    """
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)


def start_worker(_: int = 0) -> None:
    """Prepare a data-loading worker (``worker_init_fn``).

    A signal to the whole job reaches the workers as well, and must not end them before the run has
    saved its state. They end with the run, however that ends.
    """
    for number in SIGNALS:
        if number == signal.SIGINT or not hasattr(signal, "alarm"):
            signal.signal(number, signal.SIG_IGN)
        else:
            signal.signal(number, lambda *_: signal.alarm(_WORKER_GRACE_SECONDS))
    # A batch that is under way when the run is interrupted is no error: its receiver is gone.
    sys.excepthook = _print_unless_disconnected
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _print_unless_disconnected(
    kind: type[BaseException], error: BaseException, trace: TracebackType | None
) -> None:
    if not issubclass(kind, (ConnectionError, EOFError)):
        sys.__excepthook__(kind, error, trace)


def _end_with_parent() -> None:
    """End this process when the one that started it is gone.

    torch compares ``os.getppid()``, which is not the run with the start method "forkserver".
    """
    parent = multiprocessing.parent_process()
    if parent is None:
        return
    wait([parent.sentinel])
    os._exit(1)  # without Python's clean-up, which may wait for the parent
