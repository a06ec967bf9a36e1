"""Runs a function on many videos in several processes, and completes what an earlier run left.

extract_frames.py, resize_videos.py and extract_flow.py share it. A result appears whole or not at
all, with the name of its video: ``SRC/class/v.mp4`` becomes ``OUT/class/v`` (a folder) or
``OUT/class/v.mp4``.
"""

import argparse
import contextlib
import csv
import errno
import io
import json
import math
import os
import re
import secrets
import shutil
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple

import av
from tqdm import tqdm

from lib.lists.video_search import is_ignored, is_video_name
from lib.videos.sturdy_pool import Lost, run_jobs
from ops.data.lists import read_list, resolve
from ops.data.readers.base import UnreadableVideo
from ops.data.readers.templates import file_namer
from ops.utils.errors import UserError, repeatable
from ops.utils.files import atomic_write, is_temporary, read_regular
from ops.utils.locks import exclusive_lock
from ops.utils.text import counted

RESERVED = re.compile(r"failures\.csv|\.lock|\.\w+\.json")  # the command's own files in OUT
ANY_LABEL = 10**18  # number of classes where labels are not used


class Job(NamedTuple):
    """A video to work on.

    Attributes:
        source: a video file or a folder of frames.
        target: path of the result.
    """

    source: str
    target: str


def find_jobs(
    args: argparse.Namespace, result_suffix: str = "", frames_tmpl: str | None = None
) -> list[Job]:
    """The videos that the arguments of ``lib.arguments.add_video_flags`` select.

    Args:
        args: the arguments.
        result_suffix: suffix of the results.
        frames_tmpl: search folders with frames of these names instead of video files.

    Returns:
        The videos of a folder sorted by path, those of a list in its order. Hidden files and
        folders, and those that a system adds, are ignored.

    Raises:
        UserError: there are no videos, two of them have the same result or one result is a folder
            of another, OUT is in SRC, or the arguments contradict each other.
    """
    if (args.src is None) == (args.list is None):
        raise UserError("give either SRC (a folder or a video) or --list FILE, and OUT after it")
    if args.processes < 1:
        raise UserError(f"-j {args.processes} is too small; give 1 or more")
    root, sources = _find_sources(args, frames_tmpl)
    jobs: dict[str, Job] = {}
    for source in sources:
        name = _result_name(args, root, source, has_suffix=frames_tmpl is None) + result_suffix
        job = Job(source, os.path.join(args.out, name))
        if RESERVED.fullmatch(os.path.normpath(name)):
            raise UserError(
                f"{source} would become {job.target}, a name that this command uses itself; "
                "rename it"
            )
        other = jobs.setdefault(job.target, job)
        if other is not job:
            raise UserError(
                f"{other.source} and {source} would both become {job.target}; rename one of them"
            )
    for job in jobs.values():
        for folder in map(str, Path(job.target).parents):
            if folder in jobs:
                raise UserError(
                    f"{job.source} would be written into {folder}, the result of "
                    f"{jobs[folder].source}; rename one of them"
                )
    return list(jobs.values())


def _find_sources(args: argparse.Namespace, frames_tmpl: str | None) -> tuple[str, list[str]]:
    """The folder that results are named relative to, and the paths of the videos."""
    if args.src is None:
        records = read_list(args.list, root_path=args.root_path, num_class=ANY_LABEL)
        paths = [resolve(record.path) for record in records]
        return str(args.root_path or "."), list(dict.fromkeys(paths))
    if args.src.is_file() and frames_tmpl is None:
        return str(args.src.parent), [str(args.src)]
    if args.out.resolve().is_relative_to(args.src.resolve()):
        raise UserError(f"{args.out} is inside of {args.src}, the source; give another OUT")
    return str(args.src), _search(str(args.src), frames_tmpl)


def _result_name(args: argparse.Namespace, root: str, source: str, has_suffix: bool) -> str:
    """The path of a result below OUT, without suffix.

    has_suffix: whether a video's suffix is to be removed; folders of frames have none.
    """
    name = os.path.relpath(source, root)
    if name.split(os.sep)[0] == os.pardir:
        raise UserError(
            f"{args.list}: {source} is not in {root}; give a --root_path that contains all videos "
            "of the list"
        )
    if name == os.curdir:
        name = os.path.basename(os.path.realpath(root))
    if has_suffix and is_video_name(name):
        return os.path.splitext(name)[0]
    return name


def _search(root: str, frames_tmpl: str | None) -> list[str]:
    """The video files below a folder, or the folders with frames of these names."""
    first_frame = None if frames_tmpl is None else file_namer(frames_tmpl, "")(1)[0]
    found = []
    for folder, folders, files in os.walk(root, onerror=_refuse_folder, followlinks=True):
        folders[:] = [name for name in sorted(folders) if _is_to_search(folder, name)]
        if first_frame is None:
            for name in sorted(files):
                if not name.startswith(".") and is_video_name(name):
                    found.append(os.path.join(folder, name))
        elif os.path.exists(os.path.join(folder, first_frame)):
            found.append(folder)
    if not found:
        wanted = "video" if first_frame is None else f"folder with a {first_frame}"
        raise UserError(f"{root}: no {wanted} in it or below it; give another SRC")
    return found


def _refuse_folder(error: OSError) -> None:
    raise UserError(f"{error.filename}: {error.strerror}; give a folder that can be read")


def _is_to_search(parent: str, name: str) -> bool:
    """Whether a folder is searched; a link to a folder above would never end."""
    resolved = Path(parent).resolve()
    return not is_ignored(name) and not resolved.is_relative_to((resolved / name).resolve())


def run(
    command: str,
    out: Path,
    jobs: list[Job],
    work: Callable[[Job], None],
    arguments: dict,
    processes: int,
) -> int:
    """Call ``work(job)`` for each job without a result, and print how many were done.

    Args:
        command: name of the command.
        out: folder of all results.
        jobs: the videos.
        work: makes the result of a job; it raises UnreadableVideo or UserError for a video that
            has none.
        arguments: what decides the content of the results; kept in ``out/.COMMAND.json``.
        processes: number of processes.

    Returns:
        Exit status: 1 if videos failed, which ``out/failures.csv`` then lists, else 0.

    Raises:
        UserError: ``out`` has results of other arguments or of another program, another run is
            writing to it, or it cannot be written.
    """
    failures: dict[str, str] = {}
    try:
        out.mkdir(parents=True, exist_ok=True)
        with exclusive_lock(out, "run", "OUT"), repeatable():
            _claim(out / f".{command}.json", arguments, jobs)
            todo = clean_up(jobs)
            existing = len(jobs) - len(todo)
            try:
                _work_on(todo, existing, work, processes, failures)
            finally:
                clean_up(jobs)
                _write_failures(out / "failures.csv", failures)
    except OSError as error:
        place, reason = error.filename or out, error.strerror or error
        raise UserError(
            f"{place}: {reason}; {out} must be writable and have free space; repeat the command "
            "to continue"
        ) from None
    done = len(todo) - len(failures)
    line = f"{out}: {counted(done, 'video')} done, {existing} already there, {len(failures)} failed"
    if failures:
        line += f" and are listed in {out / 'failures.csv'}"
    print(line)
    return 1 if failures else 0


def _work_on(
    jobs: list[Job],
    existing: int,
    work: Callable[[Job], None],
    processes: int,
    failures: dict[str, str],
) -> None:
    """Work on jobs in several processes.

    Args:
        jobs: those without a result.
        existing: number of results that exist already, for the progress bar.
        work: see ``run``.
        processes: number of processes.
        failures: gets source -> reason of each failed job.

    Raises:
        OSError: the results cannot be written.
    """
    with (
        contextlib.closing(run_jobs(partial(_attempt, work), jobs, processes, math.inf)) as results,
        tqdm(total=existing + len(jobs), initial=existing, unit="video", disable=None) as bar,
    ):
        for index, result in results:
            if isinstance(result, OSError):
                raise result
            bar.update()
            if result is None:
                continue
            if isinstance(result, Lost):
                result = f"the process that worked on it {result.reason}"
            failures[jobs[index].source] = result
            bar.write(f"{jobs[index].source}: {result}", file=sys.stderr)


def _attempt(work: Callable[[Job], None], job: Job) -> str | OSError | None:
    """Work on a job.

    Returns:
        None if it is done; a reason if the video itself cannot be used; an OSError if the results
        cannot be written at all (a full disk).
    """
    try:
        return work(job)
    except UnreadableVideo as error:
        return error.reason
    except UserError as error:
        return str(error)
    except Exception as error:
        is_about_output = isinstance(error, OSError) and not isinstance(error, av.FFmpegError)
        # A name can be too long for the result of a single video.
        if is_about_output and error.errno != errno.ENAMETOOLONG:
            return error
        return f"{type(error).__name__}: {error}"


def clean_up(jobs: list[Job]) -> list[Job]:
    """Create the folders of results, and remove from them what killed runs left.

    The caller holds the lock of OUT, so every temporary file in it belongs to a run that ended.

    Returns:
        The jobs without a result.
    """
    existing = set()
    for folder in {os.path.dirname(job.target) for job in jobs}:
        os.makedirs(folder, exist_ok=True)
        for name in os.listdir(folder):
            path = os.path.join(folder, name)
            if not is_temporary(name):
                existing.add(path)
            elif os.path.isdir(path):
                # Its worker may be about to end, and still write to it.
                shutil.rmtree(path, ignore_errors=True)
            else:
                os.unlink(path)
    return [job for job in jobs if job.target not in existing]


def _claim(record: Path, arguments: dict, jobs: list[Job]) -> None:
    """Record the arguments, or compare them with the recorded ones.

    Raises UserError if OUT belongs to another program or to other arguments.
    """
    if not record.exists():
        for job in jobs:
            if os.path.lexists(job.target):
                raise UserError(
                    f"{job.target} exists and was not made by this command; give another OUT"
                )
        with atomic_write(record, "w") as file:
            file.write(json.dumps(arguments, indent=2) + "\n")
        return
    try:
        recorded = dict(json.loads(read_regular(record).decode()))
    except (OSError, ValueError, TypeError):
        raise UserError(f"{record}: not a file of this command; give another OUT") from None
    changes = [
        f"{key} {recorded.get(key)} -> {arguments.get(key)}"
        for key in {**recorded, **arguments}
        if recorded.get(key) != arguments.get(key)
    ]
    if changes:
        raise UserError(
            f"{record.parent} holds results of other arguments ({', '.join(changes)}); give "
            "another OUT, or remove it first"
        )


def _write_failures(path: Path, failures: dict[str, str]) -> None:
    if not failures:
        path.unlink(missing_ok=True)
        return
    table = io.StringIO()
    csv.writer(table, lineterminator="\n").writerows([("video", "reason"), *failures.items()])
    with atomic_write(path) as file:
        # File names need not be valid text.
        file.write(table.getvalue().encode(errors="backslashreplace"))


@contextlib.contextmanager
def atomic_folder(path: str) -> Iterator[str]:
    """Create a temporary folder that is renamed when the block ends without an exception.

    The data is on the disk before the name is. After an exception the folder is removed;
    ``clean_up`` removes that of a killed process.

    Args:
        path: its final path.

    Yields:
        The path of the temporary folder, beside ``path``.
    """
    temporary = os.path.join(os.path.dirname(path), f".{secrets.token_hex(4)}.tmp")
    os.mkdir(temporary)
    try:
        yield temporary
        # Once for all files: fsync of each takes a sixth of a video's time, more on a hard disk.
        os.sync()
        os.rename(temporary, path)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
