"""Checks all videos of a list and reports the problems: what check_videos.py does."""

import contextlib
import csv
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import IO, Any

import numpy as np
from tqdm import tqdm

from lib.lists.video_search import is_video_name
from lib.messages import first_names
from lib.videos.sturdy_pool import Lost, run_jobs
from lib.videos.video_checks import (
    FRAMES,
    KINDS,
    Problem,
    Rules,
    check_video,
    compare,
    content_keys,
    find_places,
    in_shard_set,
)
from ops.data.class_names import read_class_names
from ops.data.dataset_files import MOST_CLASSES
from ops.data.datasets import KNOWN, dataset_file, load_class_names, not_a_dataset, resolve
from ops.data.lists import Record, VideoList, read_list
from ops.data.readers.templates import EXAMPLES, count_places
from ops.utils.errors import UserError
from ops.utils.files import atomic_write
from ops.utils.text import counted

PRINTED_PER_KIND = 3
COLUMNS = ("line", "id", "reason", "kind")  # of the CSV file


@dataclass(frozen=True)
class ListCheck:
    """What to check, as the flags of check_videos.py give it.

    Attributes:
        list: the list, or the file or folder of a dataset.
        root_path: folder or shard set that its paths are relative to; None: the current folder.
        num_class: number of classes; None: no limit on labels.
        class_names: file of class names, instead of ``num_class``.
        multi_label: whether a video can have several labels.
        other: list that must not have the same videos.
        other_root: the ``root_path`` of ``other``; None: that of the list.
        content: whether to compare bytes too, not only paths.
        frames: frames to decode, one of ``FRAMES``.
        min_frames: smallest number of frames of a video.
        image_tmpl: file names in a folder of frames; None: the default of the modality.
        modality: "RGB" or "Flow".
        decoder: library that decodes video files.
        timeout: time limit for one video, in seconds.
        processes: number of processes.
        csv: file that gets all problems.
        clean: file that gets the lines without problems.
    """

    list: str
    root_path: str | None
    num_class: int | None
    class_names: str | None
    multi_label: bool
    other: str | None
    other_root: str | None
    content: bool
    frames: str
    min_frames: int
    image_tmpl: str | None
    modality: str
    decoder: str
    timeout: float
    processes: int
    csv: str | None
    clean: str | None


def _dataset_of(path: str) -> str | None:
    """The file of a dataset, or the name of a known one; None for a list."""
    if path in KNOWN and not os.path.exists(path):
        return path
    return dataset_file(path)


def lists_to_check(check: ListCheck) -> list[ListCheck]:
    """The check itself, or for a dataset one check per list.

    Raises:
        UserError: the path is not a list, the dataset has no lists, or a flag is only possible
            for one list.
    """
    name = _dataset_of(check.list)
    if name is None:
        if os.path.isdir(check.list):
            raise not_a_dataset(check.list)
        if is_video_name(check.list):
            raise UserError(
                f"{check.list}: a video, not a list; write a list of one line: {check.list} 0"
            )
        return [check]
    for flag in ("other", "other_root", "csv", "clean"):
        if getattr(check, flag) is not None:
            raise UserError(f"--{flag} needs one list; give a list instead of {check.list}")
    dataset = resolve(
        name,
        check.modality,
        root_path=check.root_path,
        num_class=check.num_class,
        class_names=check.class_names,
        image_tmpl=check.image_tmpl,
        multi_label=check.multi_label or None,
    )
    lists = [path for path in (dataset.train_list, dataset.val_list) if path is not None]
    if not lists:
        raise UserError(f"{name}: neither train_list nor val_list is given; add one of them")
    # That of a known dataset may be absent.
    has_names = load_class_names(dataset) is not None
    common = replace(
        check,
        root_path=dataset.root_path,
        num_class=dataset.num_class,
        class_names=dataset.class_names if has_names else None,
        image_tmpl=dataset.image_tmpl,
        multi_label=dataset.multi_label,
    )
    checks = [replace(common, list=path) for path in lists]
    if len(checks) == 2:
        # A video in both lists is one problem, not two: only the first list is compared.
        checks[0] = replace(checks[0], other=lists[1])
    return checks


def check_list(check: ListCheck) -> bool:
    """Check one list, print a report and write the files that were asked for.

    Returns:
        Whether there are problems.

    Raises:
        UserError: invalid settings or lists, or a file that cannot be written.
    """
    image_tmpl = check.image_tmpl or EXAMPLES[check.modality]
    count_places(image_tmpl, check.modality)
    _protect_lists(check)
    names = None
    num_class = check.num_class
    if check.class_names:
        names = read_class_names(check.class_names, check.num_class)
        num_class = len(names)
    videos, other = _read_lists(check, num_class)
    rules = Rules(image_tmpl, check.modality, check.decoder, check.frames, check.min_frames)
    places: dict[int, str] = {}
    with ProblemLog(check.csv) as log:
        try:
            check_all(videos, rules, check.processes, check.timeout, places, log)
            log.add(repeated(videos, [places[index] for index in range(len(videos))], other, check))
            log.add(unused_labels(videos, names, num_class))
        except BaseException as error:
            stopped = "interrupted" if isinstance(error, KeyboardInterrupt) else "stopped"
            if places:
                done = f"{len(places)} of {counted(len(videos), 'video')} checked when {stopped}"
                report(check, log.problems, done)
            log.is_reported = True
            raise
        done = f"{counted(len(videos), 'video')} checked, {FRAMES[check.frames]}"
        report(check, log.problems, done)
        log.is_reported = True
    if check.clean:
        write_clean(check.clean, check.list, {problem.line for problem in log.problems})
    return bool(log.problems)


def _protect_lists(check: ListCheck) -> None:
    """Raises UserError for an output file that is one of the lists."""
    inputs = [path for path in (check.list, check.other) if path]
    for flag, output in (("clean", check.clean), ("csv", check.csv)):
        for path in inputs:
            if output and os.path.realpath(output) == os.path.realpath(path):
                raise UserError(f"--{flag} {path} is a list that is read; give another file")


def _read_lists(check: ListCheck, num_class: int | None) -> tuple[VideoList, Sequence[Record]]:
    """The list, and the other list (empty without one)."""
    if check.multi_label and num_class is None:
        raise UserError("--multi_label needs --num_class or --class_names")
    root_path = check.root_path or ""
    options = {"num_class": num_class or MOST_CLASSES, "multi_label": check.multi_label}
    videos = read_list(check.list, root_path=root_path, **options)
    other: Sequence[Record] = []
    if check.other:
        other_root = root_path if check.other_root is None else check.other_root
        other = read_list(check.other, root_path=other_root, **options)
    if check.content:
        for record in (*videos, *other):
            if in_shard_set(record.path):
                raise UserError(
                    "--content compares files and folders, not the videos of a shard set; leave "
                    "it out, or give the folder that the shard set was made of"
                )
    return videos, other


class ProblemLog:
    """The problems found, also written one by one to ``PATH.partial`` in case the run is killed.

    The file under its final name is always a whole report; the partial one is removed once that
    is written.

    Attributes:
        problems: the problems in the order in which they were found.
        is_reported: whether all are in the final report.
    """

    def __init__(self, path: str | None) -> None:
        self.problems: list[Problem] = []
        self.is_reported = False
        self._path = path
        self._partial = f"{path}.partial" if path else None
        self._file: IO | None = None

    def __enter__(self) -> "ProblemLog":
        if self._partial:
            try:
                self._file = open(self._partial, "w", encoding="utf-8", newline="")
            except OSError as error:
                raise _cannot_write(self._path, error) from None
            csv_writer(self._file).writerow(COLUMNS)
        return self

    def add(self, problems: Iterable[Problem]) -> None:
        for problem in problems:
            self.problems.append(problem)
            if self._file is None:
                continue
            try:
                csv_writer(self._file).writerow(csv_row(problem))
                self._file.flush()
            except OSError as error:
                raise _cannot_write(self._path, error) from None

    def __exit__(self, kind: type | None, error: object, trace: object) -> None:
        if self._file is None:
            return
        with contextlib.suppress(OSError):  # a full disk was reported by the write before
            self._file.close()
        if self.is_reported:
            os.unlink(self._partial)


def check_all(
    videos: VideoList,
    rules: Rules,
    processes: int,
    timeout: float,
    places: dict[int, str],
    log: ProblemLog,
) -> None:
    """Check every video by itself, in several processes.

    Args:
        videos: the list.
        rules: how videos are read.
        processes: number of processes.
        timeout: time limit for one video, in seconds.
        places: gets the path of each checked video, by its index in the list; after an exception
            it has those checked before.
        log: gets the problems.
    """
    with (
        closing(run_jobs(partial(check_video, rules), videos, processes, timeout)) as results,
        tqdm(total=len(videos), unit="video", disable=None, leave=False) as bar,
    ):
        for index, result in results:
            if isinstance(result, Lost):
                record = videos[index]
                reason = f"the process that read it {result.reason}"
                places[index] = os.path.normpath(record.path)
                log.add([Problem(record.line, record.id, "unreadable", reason)])
            else:
                places[index], problems = result
                log.add(problems)
            bar.set_postfix(problems=len(log.problems), refresh=False)
            bar.update()


def repeated(
    videos: VideoList, places: list[str], other: Sequence[Record], check: ListCheck
) -> list[Problem]:
    """Videos that are repeated in the list, or that the other list contains too."""
    other_places = find_places(other)
    found = list(compare(videos, places, other, other_places, check.other, "the same path as"))
    if not check.content:
        return found
    known = {(problem.line, problem.kind) for problem in found}
    keys = content_keys([*places, *other_places])
    own_keys, other_keys = keys[: len(videos)], keys[len(videos) :]
    for problem in compare(videos, own_keys, other, other_keys, check.other, "the same bytes as"):
        if (problem.line, problem.kind) not in known:
            found.append(problem)
    return found


def unused_labels(
    videos: VideoList, names: list[str] | None, num_class: int | None
) -> list[Problem]:
    """One problem for the list as a whole if there are labels without videos, else none.

    Without a number of classes, the labels up to the highest of the list are expected.
    """
    if videos.labels.ndim == 2:
        counts = videos.labels.sum(0)
    else:
        counts = np.bincount(videos.labels, minlength=num_class or 0)
    absent = np.flatnonzero(counts == 0).tolist()
    if not absent:
        return []
    texts = [f"{label} {names[label]}" if names else str(label) for label in absent]
    reason = f"{len(absent)} of {len(counts)} labels without videos: {first_names(texts)}"
    return [Problem(0, "", "labels", reason)]


def report(check: ListCheck, problems: list[Problem], checked: str) -> None:
    """Print the first problems of each kind, and write all to the CSV file.

    Args:
        check: gives the list and the CSV file.
        problems: in any order.
        checked: what was checked, in words.
    """
    problems = sorted(problems, key=lambda problem: (problem.line, KINDS.index(problem.kind)))
    print(f"{check.list}: {checked}, {counted(len(problems), 'problem')}")
    for kind in KINDS:
        same = [problem for problem in problems if problem.kind == kind]
        heading = f"{kind:<12}{len(same):<8}"
        for problem in same[:PRINTED_PER_KIND]:
            place = f"{check.list}:{problem.line}: {problem.id}: " if problem.line else ""
            print(f"{heading}{place}{problem.reason}")
            heading = " " * len(heading)
    if check.csv:
        with _output_file(check.csv) as file:
            writer = csv_writer(file)
            writer.writerow(COLUMNS)
            writer.writerows(map(csv_row, problems))


def csv_writer(file: IO) -> Any:
    return csv.writer(file, lineterminator="\n")


def csv_row(problem: Problem) -> tuple[int | str, str, str, str]:
    return problem.line or "", problem.id, problem.reason, problem.kind


def write_clean(path: str, list_path: str, bad: set[int]) -> None:
    """Copy a list without some of its lines; the others stay the same byte for byte.

    Args:
        path: file to write.
        list_path: the list.
        bad: numbers of the lines to leave out, from 1.

    Raises:
        UserError: no video would be left, or the file cannot be written.
    """
    with open(list_path, "rb") as file:
        lines = file.read().splitlines(keepends=True)
    kept: list[bytes] = []
    for number, line in enumerate(lines, 1):
        if number in bad:
            continue
        if line == b"\n" and kept and kept[-1].endswith(b"\r"):
            line = b"\r"  # "\r" followed by "\n" would be read as one line end
        kept.append(line)
    if not b"".join(kept).strip():
        raise UserError(f"{list_path}: every video has a problem; {path} is not written")
    with _output_file(path, "wb") as file:
        file.writelines(kept)
    print(f"{len(kept)} of {counted(len(lines), 'line')} kept: {path}")


@contextmanager
def _output_file(path: str, mode: str = "w") -> Iterator[IO]:
    """Like ``atomic_write``, but a file that cannot be written raises UserError."""
    try:
        with atomic_write(path, mode) as file:
            yield file
    except OSError as error:
        raise _cannot_write(path, error) from None


def _cannot_write(path: str, error: OSError) -> UserError:
    return UserError(f"{path}: {error.strerror}; give a file that can be written")
