"""Being asked to stop: Slurm, spot machines and ``kill`` send a signal, and a run saves what it has before it ends."""

import os
import signal
from types import FrameType

STATUS = 75  # EX_TEMPFAIL of sysexits.h: the same command may be tried again
SIGNALS = (signal.SIGTERM, signal.SIGUSR1)
_GRACE = 60  # seconds that a loader process outlives SIGTERM, so that its batch does not fail while the run is saved


class Stopped(Exception):
    """The run has saved its state because it was asked to stop; ``run_front`` ends with status 75."""


class StopRequest:
    """Context in which SIGTERM and SIGUSR1 are noted instead of ending the process. A second one of them ends it at once.

    ``number`` is the signal that came, or 0.
    """

    def __init__(self) -> None:
        self.number = 0

    def __enter__(self) -> "StopRequest":
        self._before = {number: signal.signal(number, self._note) for number in SIGNALS}
        return self

    def __exit__(self, *_) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, number: int, _: FrameType | None) -> None:
        if self.number:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
        self.number = number


def ignore_signals() -> None:
    """For one of several processes whose run is saved and ends: launchers send SIGTERM to the others as soon as one has ended,
    and it must not change their status."""
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)


def outlive_signals(_: int = 0) -> None:
    """What loader processes start with: a signal sent to the whole job reaches them as well, and must not end them before the
    run has saved its state. They end with the run, and by themselves a minute later."""
    for number in SIGNALS:
        signal.signal(number, lambda *_: signal.alarm(_GRACE))
