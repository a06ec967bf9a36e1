"""Run commands as a user does: in this process (quick), in another one, or as ranks of a job."""

import hashlib
import importlib
import multiprocessing
import os
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

from ops.utils.errors import run_cli

ROOT = Path(__file__).resolve().parents[2]
# What the server of forked processes imports once, so that each of them starts quickly.
_PRELOADED = ["ops.testing.test", "ops.training.train", "main"]


def call(command, *args):
    """Run ``command.py args`` in this process, as its last line would; returns the exit status."""
    module = importlib.import_module(command)
    argv, sys.argv = sys.argv, [f"{command}.py", *map(str, args)]
    try:
        run_cli(module.main)
    except SystemExit as stop:
        return stop.code
    finally:
        sys.argv = argv
    return 0


def refused(capsys, command, *args):
    """Run a command that must refuse its input: exit status 2 and one line. Returns the line."""
    capsys.readouterr()
    assert call(command, *args) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    errors = [line for line in lines if "error: " in line]
    assert len(errors) == 1 and "Traceback" not in "".join(lines), lines
    return errors[0]


def launch(*args, timeout=300):
    """Run ``python args`` from the root of the project in a new interpreter with one thread."""
    env = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    return subprocess.run(
        [sys.executable, *map(str, args)],
        cwd=ROOT,
        env=env,
        capture_output=True,
        text=True,
        timeout=timeout,
    )


def start_tool(tool, *args, **kwargs):
    """Start ``tools/TOOL.py args`` in a new interpreter; returns the ``Popen`` with pipes."""
    command = [sys.executable, str(ROOT / "tools" / f"{tool}.py"), *map(str, args)]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **kwargs
    )


def start_command(command, *args, log=os.devnull, **environment):
    """Start ``command.py args`` in a forked process that has torch loaded already.

    Args:
        command: name of the module, such as "main".
        *args: its arguments.
        log: file that its output is appended to.
        **environment: environment variables.

    Returns:
        The started ``multiprocessing`` process.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(_PRELOADED)
    process = context.Process(
        target=_run_command, args=(command, [*map(str, args)], environment, str(log))
    )
    process.start()
    return process


def _run_command(command, arguments, environment, log):
    os.environ.update(environment)
    _redirect_output(log)
    os._exit(call(command, *arguments) or 0)


class RankResult(NamedTuple):
    """Exit status of a process, its output, and when it ended (``time.monotonic``)."""

    status: int | None
    text: str
    time: float


def free_port():
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        return server.getsockname()[1]


def start_rank(folder, function, *arguments, rank, size, port, **environment):
    """Start one process of a job with the environment that a launcher sets, without a launcher.

    Args:
        folder: the output goes to ``folder/log{rank}``.
        function: main function of the process, at the top level of a module.
        *arguments: its arguments.
        rank: rank of the process.
        size: number of processes of the job.
        port: port of rank 0's store.
        **environment: further environment variables.

    Returns:
        The started ``multiprocessing`` process.
    """
    environment = {
        "RANK": str(rank),
        "WORLD_SIZE": str(size),
        "LOCAL_RANK": "0",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        **environment,
    }
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(_PRELOADED)
    log = folder / f"log{rank}"
    log.unlink(missing_ok=True)
    process = context.Process(target=_run_rank, args=(function, arguments, environment, log))
    process.start()
    return process


def _run_rank(function, arguments, environment, log):
    os.environ.update(environment)
    _redirect_output(log)
    try:
        run_cli(lambda: function(*arguments))
    except SystemExit as end:
        os._exit(end.code or 0)
    os._exit(0)


def run_ranks(folder, *functions, limit=240):
    """Run a job with one process per (function, \\*arguments); returns a :class:`RankResult` each.

    The status of a process that has not ended after ``limit`` seconds is None, and it is killed.
    """
    port = free_port()
    processes = [
        start_rank(folder, *function, rank=rank, size=len(functions), port=port)
        for rank, function in enumerate(functions)
    ]
    deadline = time.monotonic() + limit
    times = {}
    while len(times) < len(processes) and time.monotonic() < deadline:
        for rank, process in enumerate(processes):
            if rank not in times and process.exitcode is not None:
                times[rank] = time.monotonic()
        time.sleep(0.01)
    statuses = [process.exitcode for process in processes]
    for process in processes:
        process.kill()
        process.join()
    return [
        RankResult(status, (folder / f"log{rank}").read_text(), times.get(rank, deadline))
        for rank, status in enumerate(statuses)
    ]


def run_command_ranks(folder, command, *args, size=2):
    """Run ``command.py args`` as the forked processes of one job; all must succeed.

    A launcher and new interpreters, which would import torch once each, take ten times as long.
    """
    found = run_ranks(folder, *[(_exit_with, command, *map(str, args))] * size)
    assert [end.status for end in found] == [0] * size, [end.text for end in found]


def _exit_with(command, *args):
    sys.exit(call(command, *args))


def _redirect_output(log):
    """Append standard output and standard error to a file, those of native code too."""
    os.dup2(os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666), 1)
    os.dup2(1, 2)


def wait_until(condition, seconds=30):
    """Poll until a condition holds, at most so many seconds."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.005)


def is_running(pid):
    """Whether a process exists and is not a zombie (Linux)."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def contents(folder):
    """The hash of every file in a folder, of hidden ones as well, by relative path."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file()
    }
