"""Where the videos of a list lie: files and folders of frames below a root, looked for with a few threads, since on a
network disk each question waits for the server."""

import hashlib
import itertools
import os
import re
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

from tqdm import tqdm

from lib.list_records import Source, Video, folder_name
from ops.data.readers.base import UnreadableVideo
from ops.data.readers.frame_folder import count_frames
from ops.data.readers.templates import count_places, file_namer
from ops.utils.errors import UserError

ENDINGS = frozenset(
    (
        ".264",
        ".265",
        ".3g2",
        ".3gp",
        ".asf",
        ".avi",
        ".divx",
        ".dv",
        ".f4v",
        ".flv",
        ".gif",
        ".h264",
        ".h265",
        ".hevc",
        ".ivf",
        ".m1v",
        ".m2ts",
        ".m2v",
        ".m4v",
        ".mjpeg",
        ".mjpg",
        ".mkv",
        ".mov",
        ".mp4",
        ".mpe",
        ".mpeg",
        ".mpg",
        ".mts",
        ".mxf",
        ".nut",
        ".ogm",
        ".ogv",
        ".rm",
        ".rmvb",
        ".ts",
        ".vob",
        ".webm",
        ".wmv",
        ".y4m",
    )
)
# Folders that systems add to those of a user: macOS archives, Synology and QNAP servers, Windows
# and Linux disks.
_SYSTEM_FOLDERS = frozenset(
    (
        "__MACOSX",
        "@eaDir",
        "#recycle",
        "@Recycle",
        "$RECYCLE.BIN",
        "System Volume Information",
        "lost+found",
    )
)
KINDS = ("auto", "videos", "frames")
# What a line of a list cannot hold: it is read up to a line break, its fields are stripped of blanks, and it is UTF-8.
_UNFIT = re.compile("[\t\n\r\0\ud800-\udfff]|^[ \ufeff]| $")


class Entry(NamedTuple):
    """What a folder holds."""

    name: str
    is_folder: bool
    is_link: bool


class Place(NamedTuple):
    """A file, or a folder of frames, by its path below the root, with ``/`` on every system."""

    path: str
    is_folder: bool


def find(root: str, wanted: set[str], kind: str, threads: int = 16) -> dict[str, list[Place]]:
    """Name -> where below ``root`` a video file of that name (with any of ENDINGS behind it) or a folder of that name is.

    kind: "videos" or "frames" look for one of them only. Wanted folders are not looked into, nor hidden ones, nor a second
    link to the same folder. Raises UserError if ``root`` or a folder in it cannot be listed.
    """
    found: dict[str, list[Place]] = {}
    level, links = [""], set()
    with ThreadPoolExecutor(threads) as pool:
        while level:
            deeper = []
            listed = pool.map(
                entries, (os.path.join(root, folder) if folder else root for folder in level)
            )
            for folder, there in zip(level, listed, strict=True):
                for entry in there:
                    path = f"{folder}/{entry.name}" if folder else entry.name
                    stem, ending = os.path.splitext(entry.name)
                    if entry.is_folder and entry.name not in wanted:
                        if not entry.is_link or _is_new(os.path.join(root, path), links):
                            deeper.append(path)
                    elif entry.is_folder and kind != "videos":
                        found.setdefault(entry.name, []).append(Place(path, True))
                    elif (
                        not entry.is_folder
                        and stem in wanted
                        and kind != "frames"
                        and ending.lower() in ENDINGS
                    ):
                        found.setdefault(stem, []).append(Place(path, False))
            level = deeper
    return found


def _is_new(link: str, known: set[str]) -> bool:
    """Whether a link to a folder leads neither above itself nor to where a known one led; it is known from now on."""
    target, here = os.path.realpath(link), os.path.realpath(os.path.dirname(link))
    if target in known or os.path.commonpath((target, here)) == target:
        return False
    known.add(target)
    return True


def is_passed_over(name: str) -> bool:
    """Whether a file or folder is hidden, or one that a system adds to a user's."""
    return name.startswith(".") or name in _SYSTEM_FOLDERS


def entries(folder: str) -> list[Entry]:
    """What is in a folder, by name, without what is_passed_over. Raises UserError if it cannot be
    listed."""

    def is_folder(entry: os.DirEntry) -> bool:
        try:
            return entry.is_dir()
        except OSError:  # a link to itself
            return False

    try:
        with os.scandir(folder) as there:
            return sorted(
                Entry(entry.name, is_folder(entry), entry.is_symlink())
                for entry in there
                if not is_passed_over(entry.name)
            )
    except NotADirectoryError:
        raise UserError(f"{folder}: a file; give the folder that the videos lie in") from None
    except OSError as error:
        raise UserError(
            f"{folder}: {error.strerror}; give the folder that the videos lie in"
        ) from None


def choose(video: Video, found: dict[str, list[Place]], source: Source) -> Place | None:
    """Where a video lies, or None. Raises UserError if it lies at several places, or in the folder of another class."""
    for name in video.names:
        places = found.get(name, [])
        classes = [
            source.folders.get(folder_name(os.path.basename(os.path.dirname(place.path))))
            for place in places
        ]
        own = [place for place, label in zip(places, classes, strict=True) if label == video.label]
        if not own:
            own = [place for place, label in zip(places, classes, strict=True) if label is None]
        if len(own) > 1:
            raise UserError(
                f"{video.place}: {name} is there {len(own)} times ({own[0].path}, {own[1].path}); keep one, or "
                "give --kind videos or --kind frames"
            )
        if own:
            return own[0]
        if places:
            raise UserError(
                f"{video.place}: {name} is of class {source.classes[video.label]!r}, but {places[0].path} is in "
                "the folder of another class; correct one of them"
            )
    return None


def count_folders(
    root: str, places: Iterable[Place], image_tmpl: str, modality: str, threads: int = 16
) -> dict[str, int | str]:
    """Path of a folder of frames -> what a list tells as num_frames (twice the frames of a three-place template), or in
    words what is wrong with it."""
    folders = list(dict.fromkeys(place.path for place in places if place.is_folder))

    def count(path: str) -> int | str:
        try:
            frames = count_frames(os.path.join(root, path), image_tmpl, modality)
        except UnreadableVideo as error:
            return error.reason
        return frames * listed_per_frame(image_tmpl, modality) or no_frames(
            os.path.join(root, path), image_tmpl, modality
        )

    with ThreadPoolExecutor(threads) as pool:
        counts = pool.map(count, folders)
        bar = tqdm(
            counts,
            total=len(folders),
            desc="counting frames",
            unit="folder",
            disable=None,
            leave=False,
        )
        return dict(zip(folders, bar, strict=True))


def listed_per_frame(image_tmpl: str, modality: str) -> int:
    """Lists of flow count the files of x and y if the template has three places (TSM ops/dataset.py)."""
    return 2 if modality == "Flow" and count_places(image_tmpl, modality) == 3 else 1


def no_frames(folder: str, image_tmpl: str, modality: str, names: list[str] | None = None) -> str:
    """In words why no file in ``folder`` is frame 1 of the template: it is empty, or has files of another one. ``names`` are
    those in a folder that is not on the disk."""
    names = os.listdir(folder) if names is None else names
    if not names:
        return "empty folder"
    other = guess_template(folder, names, modality)
    return f"no frames named {image_tmpl}; " + (
        f"{other} would fit" if other else f"it holds {min(names)!r}"
    )


def guess_template(folder: str, names: list[str], modality: str) -> str | None:
    """The template that names most of the files ``names`` of a folder, without a gap; None if none does."""
    templates, there = set(), set(names)
    for name in names:
        if match := re.fullmatch(r"([^{}]*?)([0-9]+)(\.[a-zA-Z]+)", name):
            width = f"0{len(match[2])}d" if match[2][0] == "0" else "d"
            templates |= {
                f"{before}{{{place}:{width}}}{match[3]}"
                for before in _befores(match[1], modality)
                for place in ("", "zero")
            }
    counts = {}
    for template in sorted(templates):
        try:
            names_of = file_namer(template, folder, modality)
        except UserError:  # the folder is not called by a number
            continue
        counts[template] = next(
            number for number in itertools.count() if not there.issuperset(names_of(number + 1))
        )
    # The more places the better: a folder called by its number would have a template of its own.
    best = max(counts, key=lambda template: (counts[template], template.count("{")), default=None)
    return best if best and counts[best] else None


def _befores(before: str, modality: str) -> list[str]:
    """What a template may have before the number of the frame, given what a name has."""
    if modality != "Flow":
        return [before]
    axis = re.sub("[xy](?=[^xy]*$)", "{}", before)
    video = re.match("[0-9]+(?=.*{}.*)", axis)
    return [before, axis, *([f"{{:0{len(video[0])}d}}{axis[video.end() :]}"] if video else [])]


def format_lines(rows: list[tuple[str, int | None, int]], root: str) -> str:
    """The text of a list of ``(path, num_frames or None, label)``, as ops/data/lists.py reads it: separated by tabs if a path
    holds a blank, else by blanks, which the originals read, too. Raises UserError for a path that no line can hold."""
    check_names((path for path, _, _ in rows), root)
    separator = "\t" if any(" " in path for path, _, _ in rows) else " "
    return "".join(
        separator.join(str(field) for field in row if field is not None) + "\n" for row in rows
    )


def check_names(names: Iterable[str], root: str) -> None:
    """Raises UserError for a name that no line of a list can hold."""
    for name in names:
        if _UNFIT.search(name):
            raise UserError(
                f"{root}: the name {name!r} holds a tab or a line break, begins or ends with a blank, or is no "
                "text; rename it"
            )


def class_text(names: list[str], numbered: bool) -> str:
    """The text of a file of class names, in label order, that ops.data.datasets.read_class_names reads as them.

    numbered: with a number from 1 before each, as UCF101's classInd.txt; also where names look like that by themselves.
    """
    numbered = numbered or all(re.match(r"[0-9]+[ \t]+\S", name) for name in names)
    return "".join(
        f"{number} {name}\n" if numbered else f"{name}\n" for number, name in enumerate(names, 1)
    )


def split_off(names: list[str], share: float, seed: int) -> set[str]:
    """About ``share`` of the names, chosen by their hashes: neither their order nor the other names matter. At least one
    if there are two, and never all."""
    count = min(max(round(len(names) * share), 1), len(names) - 1) if share else 0
    ranks = {
        name: hashlib.sha256(f"{seed}/{name}".encode(errors="surrogateescape")).digest()
        for name in names
    }
    return set(sorted(names, key=ranks.get)[:count])
