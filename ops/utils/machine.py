"""What a run may use on this machine: cores, open files, memory."""

import ctypes
import os
import shutil
import sys
import tempfile
from pathlib import Path

from ops.utils.errors import UserError

SHARED_MEMORY = Path("/dev/shm")  # where Linux keeps the memory that processes share
_MAX_DEFAULT_WORKERS = 8  # per process; more rarely helps, and costs memory
# Parameters of mallopt, from malloc.h of glibc.
_M_TRIM_THRESHOLD = -1
_M_MMAP_MAX = -4


def available_cores() -> int:
    """The number of cores that this process may run on, at least 1."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0)) or 1
    return os.cpu_count() or 1


def processes_per_machine() -> int:
    """How many processes of this job run on this machine, as torchrun or Slurm report it."""
    for name in ("LOCAL_WORLD_SIZE", "SLURM_NTASKS_PER_NODE"):
        text = os.environ.get(name, "")
        if text.isdecimal() and int(text) > 0:
            return int(text)
    return 1


def default_workers() -> int:
    """The default number of data-loading workers: this process' share of the cores, 1 to 8."""
    share = available_cores() // processes_per_machine()
    return max(1, min(share, _MAX_DEFAULT_WORKERS))


def free_shared_memory() -> int | None:
    """Free bytes of ``/dev/shm``, or None on platforms without it.

    Raises:
        OSError: the folder is missing or cannot be written.
    """
    if sys.platform != "linux":
        return None
    with tempfile.TemporaryFile(dir=SHARED_MEMORY):
        return shutil.disk_usage(SHARED_MEMORY).free


def keep_freed_memory() -> None:
    """Let this process reuse the memory of freed tensors instead of returning it to the system.

    By default glibc maps the memory of every tensor above 32 MiB anew, and Linux clears it page by
    page: on a CPU this takes several times as long as copying the tensor. The process keeps the
    memory that it needed at its peak until it ends.

    Nothing is changed where the user has configured the allocator by environment variables, and on
    systems without glibc.
    """
    is_configured = "GLIBC_TUNABLES" in os.environ or any(
        name.startswith("MALLOC_") for name in os.environ
    )
    if is_configured or sys.platform != "linux":
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return
    mallopt(_M_MMAP_MAX, 0)
    mallopt(_M_TRIM_THRESHOLD, -1)


def check_open_files(needed: int, flag: str) -> None:
    """Check that this process may open so many files; raise its own limit if necessary.

    Args:
        needed: number of files.
        flag: the option that needs them, for the message.

    Raises:
        UserError: the limit of the system is lower.
    """
    try:
        import resource
    except ImportError:  # Windows has no such limit
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    unlimited = resource.RLIM_INFINITY
    if soft == unlimited or soft >= needed:
        return
    if hard == unlimited or hard >= needed:
        resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))
        return
    raise UserError(
        f"{flag} needs about {needed} open files, but ulimit -n allows {hard}; raise that limit, "
        f"or give a smaller {flag.split()[0]}"
    )
