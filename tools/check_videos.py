"""Check the videos of a list before training trips over them.

    python tools/check_videos.py train.txt --root_path videos --class_names classes.txt --other val.txt
    python tools/check_videos.py train.txt --root_path videos --frames all --csv problems.csv --clean train_clean.txt
    python tools/check_videos.py data/mine/mine.toml                both lists of a dataset, each against the other

Every video is opened as training opens it, by the same reader, also where --root_path is a shard set or the URL of one, and its
first, middle and last frame are decoded. Found are

    missing     nothing lies at the path, or the shard set has no such video
    empty       a file or folder with nothing in it
    template    a folder without frames of --image_tmpl; the template that would fit is named
    unreadable  a damaged file, a gap in the numbers of frames, a picture that cannot be decoded, or a video that kills its
                decoder or keeps it busy for more than --timeout seconds
    count       another number of frames than the list says
    short       fewer frames than --min_frames
    duplicate   a video that an earlier line has; both lines, if their labels differ
    leak        a video that --other has as well, by its path or, with --content, by its bytes
    labels      labels without videos

The list itself must be sound: a malformed line or a label out of range is an error that names the
line. The exit status is 0 if nothing is wrong, 1 if there are problems, 2 after an error. Ctrl-C
shows what was found until then, and --csv OUT writes problems to OUT.partial as they are found, so
that a killed run leaves them there.
"""

import argparse
import contextlib
import csv
import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path
from typing import IO, Any

import numpy as np
from tqdm import tqdm

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from lib.list_files import ENDINGS
from lib.sturdy_pool import Lost, run_jobs
from lib.video_checks import (
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
from ops.cli.types import positive_float, positive_int
from ops.data.class_names import read_class_names
from ops.data.dataset_files import MOST_CLASSES
from ops.data.datasets import dataset_file, not_a_dataset, resolve
from ops.data.lists import VideoList, read_list
from ops.data.readers.open import DECODERS
from ops.data.readers.templates import EXAMPLES, count_places
from ops.utils.errors import UserError, run_cli
from ops.utils.files import atomic_write
from ops.utils.text import counted

SHOWN = 3  # problems of each kind
COLUMNS = ("line", "id", "reason", "kind")  # of --csv


def main() -> None:
    args = parser().parse_args()
    have_problems = [check_list(one) for one in lists_to_check(args)]
    sys.exit(any(have_problems))


def lists_to_check(args: argparse.Namespace) -> list[argparse.Namespace]:
    """The arguments of each list to check: those given, or for a dataset file those of its lists.

    Raises UserError for flags that only fit one list, and where a dataset has none.
    """
    file = dataset_file(args.list)
    if file is None:
        if os.path.isdir(args.list):
            raise not_a_dataset(args.list)
        if os.path.splitext(args.list)[1].lower() in ENDINGS:
            raise UserError(
                f"{args.list}: a video, and not a list; write a list of one line: {args.list} 0"
            )
        return [args]
    for flag in ("other", "other_root", "csv", "clean"):
        if getattr(args, flag) is not None:
            raise UserError(f"--{flag} belongs to one list; give a list in place of {args.list}")
    dataset = resolve(
        file,
        args.modality,
        root_path=args.root_path,
        num_class=args.num_class,
        class_names=args.class_names,
        image_tmpl=args.image_tmpl,
        multi_label=args.multi_label or None,
    )
    lists = [path for path in (dataset.train_list, dataset.val_list) if path is not None]
    if not lists:
        raise UserError(f"{file}: neither train_list nor val_list is given; add one of the two")
    checks = []
    for path in lists:
        check = argparse.Namespace(**vars(args))
        check.list = path
        check.root_path = dataset.root_path
        check.num_class = dataset.num_class
        check.class_names = dataset.class_names
        check.image_tmpl = dataset.image_tmpl
        check.multi_label = dataset.multi_label
        # A video in both lists is one problem, not two: the first list is compared with the second.
        check.other = lists[1] if len(lists) == 2 and path == lists[0] else None
        checks.append(check)
    return checks


def check_list(args: argparse.Namespace) -> bool:
    """Check one list and report on it; returns whether it has problems."""
    root_path = args.root_path or ""
    image_tmpl = args.image_tmpl or EXAMPLES[args.modality]
    count_places(image_tmpl, args.modality)
    for flag in ("clean", "csv"):
        for path in (args.list, args.other):
            if (
                getattr(args, flag)
                and path
                and os.path.realpath(getattr(args, flag)) == os.path.realpath(path)
            ):
                raise UserError(f"--{flag} {path} is a list that is read; give another file")
    names = read_class_names(args.class_names, args.num_class) if args.class_names else None
    num_class = len(names) if names else args.num_class
    if args.multi_label and num_class is None:
        raise UserError("--multi_label needs --num_class or --class_names")
    kind = {"num_class": num_class or MOST_CLASSES, "multi_label": args.multi_label}
    videos = read_list(args.list, root_path=root_path, **kind)
    others = root_path if args.other_root is None else args.other_root
    other = read_list(args.other, root_path=others, **kind) if args.other else []
    if args.content and any(
        in_shard_set(record.path) for records in (videos, other) for record in records
    ):
        raise UserError(
            "--content compares files and folders, not what is in a shard set; leave it out, or give the folder "
            "that the set was made of"
        )
    rules = Rules(image_tmpl, args.modality, args.decoder, args.frames, args.min_frames)
    places: dict[int, str] = {}
    with Findings(args.csv) as findings:
        problems = findings.problems
        try:
            check_all(videos, rules, args.processes, args.timeout, places, findings)
            findings.add(
                repeated(videos, [places[index] for index in range(len(videos))], other, args)
            )
            findings.add(unused_labels(videos, names, num_class))
        except BaseException as error:
            stopped = "interrupted" if isinstance(error, KeyboardInterrupt) else "stopped"
            if places:
                done = f"{len(places)} of {counted(len(videos), 'video')} checked when {stopped}"
                report(args, problems, done)
            findings.reported = True
            raise
        report(args, problems, f"{counted(len(videos), 'video')} checked, {FRAMES[args.frames]}")
        findings.reported = True
    if args.clean:
        write_clean(args.clean, args.list, {problem.line for problem in problems})
    return bool(problems)


class Findings:
    """The problems found, also written one by one to ``PATH.partial``, so that a killed run leaves
    what it found.

    The file under the final name is only ever a whole report; once that is written, the partial one
    is removed.
    """

    def __init__(self, path: str | None) -> None:
        self.problems: list[Problem] = []
        self.reported = False  # whether all are in the final report, so that the partial one can go
        self._path = path
        self._partial = f"{path}.partial" if path else None
        self._file: IO | None = None

    def __enter__(self) -> "Findings":
        if self._partial:
            try:
                self._file = open(self._partial, "w", encoding="utf-8", newline="")
            except OSError as error:
                raise _cannot_write(self._path, error) from None
            csv_rows(self._file).writerow(COLUMNS)
        return self

    def add(self, problems: Iterable[Problem]) -> None:
        for problem in problems:
            self.problems.append(problem)
            if self._file is None:
                continue
            try:
                csv_rows(self._file).writerow(csv_row(problem))
                self._file.flush()
            except OSError as error:
                raise _cannot_write(self._path, error) from None

    def __exit__(self, kind: type | None, error: object, trace: object) -> None:
        if self._file is None:
            return
        with contextlib.suppress(OSError):  # of a full disk, which was reported when it was met
            self._file.close()
        if self.reported:
            os.unlink(self._partial)


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    top.add_argument(
        "list",
        metavar="LIST",
        help="list to check, as --train_list and --val_list; or a dataset file NAME.toml or its "
        "folder, for its lists",
    )
    top.add_argument(
        "--root_path",
        metavar="DIR",
        help="folder or shard set that its paths are relative to (default: this folder)",
    )
    top.add_argument(
        "--num_class",
        type=positive_int,
        metavar="N",
        help="number of classes (default: labels are not limited)",
    )
    top.add_argument(
        "--class_names", metavar="FILE", help="class names in label order, in place of --num_class"
    )
    top.add_argument(
        "--multi_label",
        action="store_true",
        help="a video may have several labels, joined by commas",
    )
    top.add_argument(
        "--other",
        metavar="LIST2",
        help="a list that must not have the same videos, such as the other split",
    )
    top.add_argument(
        "--other_root",
        metavar="DIR",
        help="folder that those of LIST2 are relative to (default: --root_path)",
    )
    top.add_argument(
        "--content",
        action="store_true",
        help="compare the bytes of videos as well, not only their paths; not of a shard set",
    )
    top.add_argument(
        "--frames",
        choices=tuple(FRAMES),
        default="first-middle-last",
        help="which frames to decode; none: only count them (default: first-middle-last)",
    )
    top.add_argument(
        "--min_frames",
        type=positive_int,
        default=1,
        metavar="N",
        help="fewer than N is too short (default: 1)",
    )
    top.add_argument(
        "--image_tmpl",
        help="names of the files in a folder of frames (default: "
        + ", for Flow ".join(EXAMPLES[modality] for modality in ("RGB", "Flow"))
        + ")",
    )
    top.add_argument(
        "--modality",
        choices=("RGB", "Flow"),
        default="RGB",
        help="what the frames are (default: RGB)",
    )
    top.add_argument(
        "--decoder", choices=tuple(DECODERS), default="pyav", help="of video files (default: pyav)"
    )
    top.add_argument(
        "--timeout",
        type=positive_float,
        default=300,
        metavar="SECONDS",
        help="for one video (default: 300)",
    )
    top.add_argument(
        "-j",
        "--processes",
        type=positive_int,
        default=os.cpu_count() or 1,
        metavar="N",
        help="processes (default: one for each core)",
    )
    top.add_argument("--csv", metavar="OUT", help="write all problems: line, id, reason, kind")
    top.add_argument(
        "--clean",
        metavar="OUT",
        help="write the lines of the list that have no problem, as they are",
    )
    return top


def check_all(
    videos: VideoList,
    rules: Rules,
    processes: int,
    timeout: float,
    places: dict[int, str],
    findings: Findings,
) -> None:
    """Look at every video by itself; adds where each lies to ``places``, by its number in the list, and what is wrong to
    ``findings``, also of those done before an exception."""
    with (
        closing(run_jobs(partial(check_video, rules), videos, processes, timeout)) as results,
        tqdm(total=len(videos), unit="video", disable=None, leave=False) as bar,
    ):
        for index, result in results:
            record = videos[index]
            if isinstance(result, Lost):
                result = (
                    os.path.normpath(record.path),
                    [
                        Problem(
                            record.line,
                            record.id,
                            "unreadable",
                            f"the process that read it {result.reason}",
                        )
                    ],
                )
            places[index], found = result
            findings.add(found)
            bar.set_postfix(problems=len(findings.problems), refresh=False)
            bar.update()


def repeated(
    videos: VideoList, places: list[str], other: VideoList | list, args: argparse.Namespace
) -> list[Problem]:
    """Videos that the list, or the list and the other one, have twice."""
    other_places = find_places(other)
    found = list(compare(videos, places, other, other_places, args.other, "the same path as"))
    if args.content:
        known = {(problem.line, problem.kind) for problem in found}
        digests = content_keys([*places, *other_places])
        bytewise = compare(
            videos,
            digests[: len(videos)],
            other,
            digests[len(videos) :],
            args.other,
            "the same bytes as",
        )
        found += [problem for problem in bytewise if (problem.line, problem.kind) not in known]
    return found


def unused_labels(
    videos: VideoList, names: list[str] | None, num_class: int | None
) -> list[Problem]:
    """One problem of the list as a whole, if there are labels that no line has. Without a number of
    classes, those below the highest label count (at most MOST_CLASSES: read_list refuses
    others)."""
    if videos.labels.ndim == 2:
        counts = videos.labels.sum(0)
    else:
        counts = np.bincount(videos.labels, minlength=num_class or 0)
    absent = [
        f"{label} {names[label]}" if names else str(label) for label in np.flatnonzero(counts == 0)
    ]
    if not absent:
        return []
    some = ", ".join(absent[:5]) + ", ..." * (len(absent) > 5)
    return [
        Problem(0, "", "labels", f"{len(absent)} of {len(counts)} labels without videos: {some}")
    ]


def report(args: argparse.Namespace, problems: list[Problem], checked: str) -> None:
    """Print the problems by kind, the first of each, and write all to --csv."""
    problems = sorted(problems, key=lambda problem: (problem.line, KINDS.index(problem.kind)))
    lines = [f"{args.list}: {checked}, {counted(len(problems), 'problem')}"]
    for kind in KINDS:
        same = [problem for problem in problems if problem.kind == kind]
        for number, problem in enumerate(same[:SHOWN]):
            place = f"{args.list}:{problem.line}: {problem.id}: " if problem.line else ""
            lines.append(
                f"{kind if not number else '':<12}{len(same) if not number else '':<8}{place}{problem.reason}"
            )
    print("\n".join(lines))
    if args.csv:
        with written(args.csv) as file:
            rows = csv_rows(file)
            rows.writerow(COLUMNS)
            rows.writerows(map(csv_row, problems))


def csv_rows(file: IO) -> Any:
    return csv.writer(file, lineterminator="\n")


def csv_row(problem: Problem) -> tuple[int | str, str, str, str]:
    return problem.line or "", problem.id, problem.reason, problem.kind


def write_clean(path: str, list_path: str, bad: set[int]) -> None:
    """Copy a list without some of its lines, and the others byte for byte.

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
            line = b"\r"  # "\r" and "\n", brought together, would be one line end
        kept.append(line)
    if not b"".join(kept).strip():
        raise UserError(f"{list_path}: every video has a problem; {path} is not written")
    with written(path, "wb") as file:
        file.writelines(kept)
    print(f"{len(kept)} of {counted(len(lines), 'line')} kept: {path}")


@contextmanager
def written(path: str, mode: str = "w") -> Iterator[IO]:
    """atomic_write, but the error of a file that cannot be written is a UserError."""
    try:
        with atomic_write(path, mode) as file:
            yield file
    except OSError as error:
        raise _cannot_write(path, error) from None


def _cannot_write(path: str, error: OSError) -> UserError:
    return UserError(f"{path}: {error.strerror}; give a file that can be written")


if __name__ == "__main__":
    run_cli(main)
