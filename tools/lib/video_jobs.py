"""What extract_frames.py, resize_videos.py and extract_flow.py share: find the videos, work on them in several processes,
go on where an earlier run was cut off. A result appears whole or not at all, under the name of its video:
``SRC/class/v.mp4`` becomes ``OUT/class/v`` (a folder) or ``OUT/class/v.mp4``.
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

from lib.sturdy_pool import Lost, run_jobs
from lib.video_search import VIDEO_SUFFIXES, is_ignored
from ops.data.lists import read_list, resolve
from ops.data.readers.base import UnreadableVideo
from ops.data.readers.templates import file_namer
from ops.utils.errors import UserError
from ops.utils.files import atomic_write, is_temporary, read_regular
from ops.utils.locks import exclusive_lock
from ops.utils.signals import repeatable
from ops.utils.text import counted

_OWN = re.compile(r"failures\.csv|\.lock|\.\w+\.json")  # in OUT itself


class Job(NamedTuple):
    """A video file, or a folder of its frames, and the path of its result."""

    source: str
    target: str


def add_flags(parser: argparse.ArgumentParser, result: str) -> None:
    """The flags that all three have, for ``parse_intermixed_args`` (SRC may be left out); ``result`` says what they make."""
    parser.add_argument(
        "src",
        nargs="?",
        type=Path,
        metavar="SRC",
        help="folder of videos, searched with all its folders, or one video",
    )
    parser.add_argument(
        "out", type=Path, metavar="OUT", help=f"folder for the {result}; made if it is not there"
    )
    parser.add_argument(
        "--list",
        metavar="FILE",
        help="take the videos of a list, as main.py reads it, instead of SRC",
    )
    parser.add_argument(
        "--root_path",
        default="",
        metavar="DIR",
        help="folder that the list is relative to (default: the current one)",
    )
    parser.add_argument(
        "-j",
        "--processes",
        type=int,
        default=os.cpu_count() or 1,
        metavar="N",
        help="videos worked on at once (default: one for each core)",
    )


def find_jobs(
    args: argparse.Namespace, result_suffix: str = "", frames_tmpl: str | None = None
) -> list[Job]:
    """The videos that the flags of ``add_flags`` name, sorted by path in a folder, in list order otherwise. With
    ``frames_tmpl``, folders of frames so named instead of video files.

    Hidden files and folders, and those that a system adds, are passed over. Raises UserError if
    there is none, if two would have the same result or one the result of another as its folder, or
    if OUT is in SRC.
    """
    if (args.src is None) == (args.list is None):
        raise UserError("give either SRC (a folder or a video) or --list FILE, and OUT after it")
    if args.processes < 1:
        raise UserError(f"-j {args.processes} is too small; give 1 or more")
    root = str(args.root_path or ".") if args.src is None else str(args.src)
    if args.src is None:
        records = read_list(
            args.list, root_path=args.root_path, num_class=10**18
        )  # labels do not matter here
        sources = dict.fromkeys(resolve(record.path) for record in records)
    elif args.src.is_file() and frames_tmpl is None:
        root = str(args.src.parent)
        sources = [str(args.src)]
    else:
        if args.out.resolve().is_relative_to(args.src.resolve()):
            raise UserError(
                f"{args.out} lies in {args.src}, where videos are looked for; give another OUT"
            )
        sources = _search(root, frames_tmpl)
    jobs: dict[str, Job] = {}
    for source in sources:
        name = os.path.relpath(source, root)
        if name.split(os.sep)[0] == os.pardir:
            raise UserError(
                f"{args.list}: {source} is not in {root}; give a --root_path that holds all videos of the list"
            )
        if name == os.curdir:
            name = os.path.basename(os.path.realpath(root))
        stem, suffix = os.path.splitext(name)
        if frames_tmpl is None and suffix.lower() in VIDEO_SUFFIXES:
            name = stem
        job = Job(source, os.path.join(args.out, name + result_suffix))
        if _OWN.fullmatch(os.path.normpath(name + result_suffix)):
            raise UserError(
                f"{source} would become {job.target}, a file of this tool's own; rename it"
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
                    f"{job.source} would be written into {folder}, the result of {jobs[folder].source}; rename one "
                    "of them"
                )
    return list(jobs.values())


def _search(root: str, frames_tmpl: str | None) -> list[str]:
    def refuse(error: OSError) -> None:
        raise UserError(f"{error.filename}: {error.strerror}; give a folder that can be read")

    found = []
    first = "" if frames_tmpl is None else file_namer(frames_tmpl, "")(1)[0]
    for folder, folders, files in os.walk(root, onerror=refuse, followlinks=True):
        here = Path(folder).resolve()
        folders[:] = sorted(
            name
            for name in folders
            if not is_ignored(name) and not here.is_relative_to((here / name).resolve())
        )  # a link to a folder above never ends
        if frames_tmpl is not None:
            found += [folder] * os.path.exists(os.path.join(folder, first))
        else:
            found += [
                os.path.join(folder, name)
                for name in sorted(files)
                if not name.startswith(".") and os.path.splitext(name)[1].lower() in VIDEO_SUFFIXES
            ]
    if not found:
        what = "video" if frames_tmpl is None else f"folder with a {first}"
        raise UserError(f"{root}: no {what} in it or below it; give another SRC")
    return found


def run(
    tool: str,
    out: Path,
    jobs: list[Job],
    work: Callable[[Job], None],
    arguments: dict,
    processes: int,
) -> int:
    """Call ``work(job)`` for each job whose target does not exist, and return the exit status: 1 if a video
    failed, which are then in ``out/failures.csv``, else 0.

    ``arguments`` decide what the results look like; they are kept in ``out/.TOOL.json``. Raises UserError if ``out`` holds
    results of others or of something else, if another run is at work in it, or if it cannot be written.
    """
    record, failures = out / f".{tool}.json", {}
    try:
        out.mkdir(parents=True, exist_ok=True)
        with exclusive_lock(out, "run", "OUT"), repeatable():
            _claim(record, arguments, jobs)
            left = left_of(jobs)
            done = len(jobs) - len(left)
            try:
                with (
                    contextlib.closing(
                        run_jobs(partial(_attempt, work), left, processes, math.inf)
                    ) as ends,
                    tqdm(total=len(jobs), initial=done, unit="video", disable=None) as bar,
                ):
                    for index, end in ends:
                        if isinstance(end, OSError):
                            raise end
                        bar.update()
                        if end is not None:
                            source = left[index].source
                            failures[source] = (
                                f"the process that worked on it {end.reason}"
                                if isinstance(end, Lost)
                                else end
                            )
                            bar.write(f"{source}: {failures[source]}", file=sys.stderr)
            finally:
                left_of(jobs)  # what killed workers leave
                _write_failures(out / "failures.csv", failures)
    except OSError as error:
        place, reason = error.filename or out, error.strerror or error
        raise UserError(
            f"{place}: {reason}; {out} must be writable and have room; repeat the command to go on"
        ) from None
    made = len(left) - len(failures)
    print(
        f"{out}: {counted(made, 'video')} done, {done} already there, {len(failures)} failed"
        + (f" and are listed in {out / 'failures.csv'}" if failures else "")
    )
    return 1 if failures else 0


def _attempt(work: Callable[[Job], None], job: Job) -> str | OSError | None:
    """None if it is done; why it cannot be, if that is the fault of the one video; an OSError if it concerns the results as a
    whole (a full disk)."""
    try:
        return work(job)
    except UnreadableVideo as error:
        return error.reason
    except UserError as error:
        return str(error)
    except Exception as error:
        ours = isinstance(error, OSError) and not isinstance(error, av.FFmpegError)
        # A name may be too long for the result of one video alone.
        return (
            error
            if ours and error.errno != errno.ENAMETOOLONG
            else f"{type(error).__name__}: {error}"
        )


def left_of(jobs: list[Job]) -> list[Job]:
    """The jobs without a result; makes the folders of the results, and removes from them what killed runs left.

    The caller holds the lock of OUT, so every temporary file and folder in it is of a run that has ended.
    """
    there = set()
    for folder in {os.path.dirname(job.target) for job in jobs}:
        os.makedirs(folder, exist_ok=True)
        for name in os.listdir(folder):
            path = os.path.join(folder, name)
            if not is_temporary(name):
                there.add(path)
            elif os.path.isdir(path):
                shutil.rmtree(path, ignore_errors=True)  # a worker of it may be about to end
            else:
                os.unlink(path)
    return [job for job in jobs if job.target not in there]


def _claim(record: Path, arguments: dict, jobs: list[Job]) -> None:
    if not record.exists():
        foreign = next((job.target for job in jobs if os.path.lexists(job.target)), None)
        if foreign is not None:
            raise UserError(f"{foreign} is there and was not made by this tool; give another OUT")
        with atomic_write(record, "w") as file:
            file.write(json.dumps(arguments, indent=2) + "\n")
        return
    try:
        there = dict(json.loads(read_regular(record).decode()))
    except (OSError, ValueError, TypeError):
        raise UserError(f"{record}: not a file of this tool; give another OUT") from None
    if there != arguments:
        changes = ", ".join(
            f"{key} {there.get(key)} -> {arguments.get(key)}"
            for key in {**there, **arguments}
            if there.get(key) != arguments.get(key)
        )
        raise UserError(
            f"{record.parent} holds results of other arguments ({changes}); give another OUT, or remove it first"
        )


def _write_failures(path: Path, failures: dict[str, str]) -> None:
    if not failures:
        path.unlink(missing_ok=True)
        return
    table = io.StringIO()
    csv.writer(table, lineterminator="\n").writerows([("video", "reason"), *failures.items()])
    with atomic_write(path) as file:
        file.write(table.getvalue().encode(errors="backslashreplace"))  # names need not be UTF-8


@contextlib.contextmanager
def atomic_folder(path: str) -> Iterator[str]:
    """Make a temporary folder beside ``path`` and rename it to ``path`` once the block ends without an exception, the data
    on the disk before the name is; after an exception it is removed. :func:`left_of` removes that of a killed process."""
    temporary = os.path.join(os.path.dirname(path), f".{secrets.token_hex(4)}.tmp")
    os.mkdir(temporary)
    try:
        yield temporary
        os.sync()  # one for all files: fsync of each costs a sixth of the time of a video, and more on a turning disk
        os.rename(temporary, path)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
