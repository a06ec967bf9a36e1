"""Many processes, one fate: each looks after the others, so that none waits for one that has failed, died or left.

A process that fails prints its own error, then tells it to the others through the store of the job; they print one line and
end with its status, wherever their main thread is just then: in a collective, or in a wait for its GPU that no exception can
end. A process that was killed cannot tell anything, but it no longer counts: each process raises a number in the store about
every second, and looks at that of the next one. Only looks are counted, never seconds of a clock: to be suspended with all
others, or to be slow, is not to be silent.
"""

import json
import math
import multiprocessing
import os
import signal
import socket
import sys
import threading
import time
import traceback
from datetime import timedelta

import torch.distributed as dist

from ops.errors import explain

LOOK = 1.0  # seconds between two looks
# Looks at a number that stands still until its process is taken for dead. Python's threads stand still as well while a library
# is loaded from a slow network disk, so this is long; a launcher, or a broken connection, tells it sooner.
SILENCE = 120
BROKEN = 4  # the same, once a connection to some process is broken
LINGER = 3  # looks that the others live longer than the process that failed: launchers blame the first one that ends
END = 10  # seconds until the kernel ends a process that hangs on its way out


class Watch:
    """The look-out of process rank of a job, in two threads, from its :class:`ops.jobs.meeting.Meeting` to :meth:`leave` or
    :meth:`fail`. It has a connection of its own to the store, where an operation waits for the one before it."""

    def __init__(self, meeting, rank):
        self.rank, self.hosts, self.address = rank, meeting.hosts, meeting.address
        self._main = dist.PrefixStore(f"watch {meeting.name}", meeting.store)
        own = dist.TCPStore(
            *meeting.address,
            is_master=False,
            wait_for_workers=False,
            timeout=timedelta(seconds=SILENCE),
        )
        self._store = dist.PrefixStore(f"watch {meeting.name}", own)
        self._line = socket.create_connection(
            meeting.address
        )  # nothing is sent on it: it tells when the store closes
        self._looks = 0
        self._seen = {}  # rank: (its number, looks at which it stood still)
        self._broken = self._failed = False
        self._stop = threading.Event()
        self._threads = [
            threading.Thread(target=target, daemon=True)
            for target in (self._watch, self._watch_store)
        ]
        for thread in self._threads:
            thread.start()

    def leave(self, together=False):
        """This process has done its part and is not missed. Process 0 stays until all others have left: the store, which the
        others need, may be its own. together: nobody ends before all have come here, for at most ``LINGER``."""
        self._main.set(f"left {self.rank}", "")
        self._main.add("told", 1)
        if together:
            self._end_threads()
        until = time.monotonic() + LINGER * LOOK if together else math.inf
        while (self.rank == 0 or together) and time.monotonic() < until and not self._is_closed():
            if self._main.check([f"left {rank}" for rank in range(len(self.hosts))]):
                break
            time.sleep(LOOK / 10)
        self._end_threads()

    def fail(self, error):
        """Print an exception as ``run_front`` would, tell the others, and return the status for :func:`end`. Does not return if
        another process failed first: then one line says so, and this one ends with the status of that one."""
        text, status = explain(error)
        signal.signal(
            signal.SIGINT, signal.SIG_IGN
        )  # launchers pass on a Ctrl-C that the terminal has sent, too
        try:
            if is_broken_connection(error):
                self._broken = True
                time.sleep(
                    (BROKEN + LINGER + 2) * LOOK
                )  # the watch ends this process as soon as it knows who is missing
                text = f"error: a connection between the processes broke, and yet all run: {' '.join(str(error).split())}"
            signal.alarm(END)
            if self._is_closed():
                print(text, file=sys.stderr, flush=True)
            elif self._be_first():
                self._failed = True
                print(text, file=sys.stderr, flush=True)
                self._tell(self.rank, text if "\n" not in text else _last_words(error), status)
                for _ in range(3 * 20):
                    if self._main.add("told", 0) >= len(self.hosts) - 1:
                        break
                    time.sleep(LOOK / 20)
            else:
                time.sleep(
                    2 * LINGER * LOOK
                )  # the watch ends this process, unless the first one was killed before it told
                print(text, file=sys.stderr, flush=True)
        except dist.DistError:  # the store is gone, and all the others with it
            print(text, file=sys.stderr, flush=True)
        self._end_threads()
        return status

    def _end_threads(self):
        self._stop.set()
        for thread in self._threads:
            thread.join(2 * LOOK)

    def _is_closed(self):
        """Whether the store's process has ended. torch would tell it in fifty lines."""
        try:
            return not self._line.recv(1, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return False
        except OSError:
            return True

    def _be_first(self):
        """Whether this process is the first one that speaks of a failure."""
        mine = str(self.rank)
        return self._main.compare_set("first", "", mine).decode() == mine

    def _tell(self, rank, line, status):
        self._main.set("failure", json.dumps([rank, line, status]))

    def _watch(self):
        """Every second: count, listen, look at the next process."""
        try:
            while not self._stop.wait(LOOK):
                if self._is_closed():
                    self._lost_store("closed the connection")
                self._store.add(f"count {self.rank}", 1)
                self._listen()
                self._look()
                self._looks += 1
        except dist.DistError:
            if not self._stop.is_set():
                self._lost_store("closed the connection")

    def _watch_store(self):
        """A machine that is gone does not close its connections: an operation on the store then never ends."""
        looks, stood = 0, 0
        while not self._stop.wait(LOOK):
            looks, stood = self._looks, stood + 1 if looks == self._looks else 0
            if stood >= SILENCE:
                self._lost_store(f"has not answered for {SILENCE * LOOK:.0f} s")

    def _lost_store(self, what):
        end(
            1,
            f"the store of the job at {self.address[0]}:{self.address[1]} {what}: process 0 ({self.hosts[0]}) or its "
            f"launcher has ended, was killed, or its machine is gone; ending",
        )

    def _listen(self):
        if self._failed or not self._store.check(["failure"]):
            return
        rank, line, status = json.loads(self._store.get("failure"))
        self._store.add("told", 1)
        time.sleep(LINGER * LOOK)
        end(
            status,
            f"process {rank} of {len(self.hosts)} ({self.hosts[rank]}) failed: {line}; ending",
        )

    def _look(self):
        """At the next process that has not left, or at all of them if a connection is broken."""
        size, limit = len(self.hosts), BROKEN if self._broken else SILENCE
        for rank in ((self.rank + step) % size for step in range(1, size)):
            if self._store.check([f"left {rank}"]):
                continue
            count, stood = self._seen.get(rank, (-1, 0))
            now = self._store.add(f"count {rank}", 0)
            self._seen[rank] = now, stood + 1 if now == count else 0
            if self._seen[rank][1] >= limit and not self._failed:
                self._be_first()
                return self._tell(
                    rank,
                    f"silent for {limit * LOOK:.0f} s: it was killed, hangs, or its machine is gone",
                    1,
                )
            if not self._broken:
                return


def end(status, line=""):
    """Print a line on standard error and end the process and its loader processes, whatever the main thread is doing."""
    signal.alarm(END)  # the output may be a pipe that nobody empties
    if line:
        os.write(2, f"{line}\n".encode())
    for child in (
        multiprocessing.active_children()
    ):  # they would see it after seconds, and have the sockets open until then
        child.kill()
    sys.stdout.flush()
    os._exit(status)


def is_broken_connection(error):
    """Whether an exception of a collective says that another process is no longer there, rather than what is wrong here."""
    return isinstance(error, dist.DistError) or (
        isinstance(error, RuntimeError) and "/gloo/" in str(error)
    )


def _last_words(error):
    """The first line of what follows the traceback."""
    return traceback.format_exception_only(error)[0].partition("\n")[0]
