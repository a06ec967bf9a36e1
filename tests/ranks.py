"""Processes of one job, started with the environment that a launcher sets, without a launcher that watches them."""

import multiprocessing
import os
import socket
import time
from typing import NamedTuple

from ops.utils.errors import run_front

HOST = socket.gethostname()


class End(NamedTuple):
    """Status of a process, what it has printed, and when it ended (``time.monotonic``)."""

    status: int | None
    text: str
    time: float


def free_port():
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        return server.getsockname()[1]


def _run(function, arguments, environment, log):
    os.environ.update(environment)
    os.dup2(os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666), 1)
    os.dup2(1, 2)
    try:
        run_front(lambda: function(*arguments))
    except SystemExit as end:
        os._exit(end.code or 0)
    os._exit(0)


def start(folder, function, *arguments, rank, size, port, **environment):
    """Process rank of size, in which function (of a module, so that it can be sent) runs as the main of a front does; what it
    prints goes to ``folder/log{rank}``."""
    environment = {
        "RANK": str(rank),
        "WORLD_SIZE": str(size),
        "LOCAL_RANK": "0",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        **environment,
    }
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["ops.testing.test", "ops.training.loop", "main"])
    log = folder / f"log{rank}"
    log.unlink(missing_ok=True)
    process = context.Process(target=_run, args=(function, arguments, environment, log))
    process.start()
    return process


def start_all(folder, *functions):
    """A job: a (function, *arguments) for each process."""
    port = free_port()
    return [
        start(folder, *function, rank=rank, size=len(functions), port=port)
        for rank, function in enumerate(functions)
    ]


def ends(folder, processes, limit=240):
    """The :class:`End` of each of these processes; the status of one that has not ended in time is None, and it is killed."""
    times, deadline = {}, time.monotonic() + limit
    while len(times) < len(processes) and time.monotonic() < deadline:
        times.update(
            {
                rank: time.monotonic()
                for rank, process in enumerate(processes)
                if rank not in times and process.exitcode is not None
            }
        )
        time.sleep(0.01)
    statuses = [process.exitcode for process in processes]
    for process in processes:
        process.kill()
        process.join()
    return [
        End(status, (folder / f"log{rank}").read_text(), times.get(rank, deadline))
        for rank, status in enumerate(statuses)
    ]


def run_all(folder, *functions, limit=240):
    """A job to its end."""
    return ends(folder, start_all(folder, *functions), limit)
