"""Searches videos, files and folders of frames, below a folder.

Folders are listed from several threads: on a network disk each call waits for the server.
"""

import os
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

from tqdm import tqdm

from lib.lists.list_records import Annotations, Video, folder_name
from ops.data.readers.base import UnreadableVideo
from ops.data.readers.frame_folder import count_frames
from ops.data.readers.guess_template import explain_no_frames, listed_per_frame
from ops.utils.errors import UserError

# fmt: off
VIDEO_SUFFIXES = frozenset((
    ".264", ".265", ".3g2", ".3gp", ".asf", ".avi", ".divx", ".dv", ".f4v", ".flv", ".gif",
    ".h264", ".h265", ".hevc", ".ivf", ".m1v", ".m2ts", ".m2v", ".m4v", ".mjpeg", ".mjpg", ".mkv",
    ".mov", ".mp4", ".mpe", ".mpeg", ".mpg", ".mts", ".mxf", ".nut", ".ogm", ".ogv", ".rm",
    ".rmvb", ".ts", ".vob", ".webm", ".wmv", ".y4m",
))
# fmt: on
# Folders that macOS archives, Synology and QNAP servers, Windows and Linux add to a user's.
SYSTEM_FOLDERS = frozenset(
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


class Entry(NamedTuple):
    """A file or folder in a folder."""

    name: str
    is_folder: bool
    is_link: bool


class Place(NamedTuple):
    """A video file or a folder of frames.

    Attributes:
        path: relative to the folder that was searched, with ``/`` on every system.
        is_folder: whether it is a folder of frames.
    """

    path: str
    is_folder: bool


def is_ignored(name: str) -> bool:
    """Whether a file or folder is hidden, or added by a system."""
    return name.startswith(".") or name in SYSTEM_FOLDERS


def is_video_name(name: str) -> bool:
    """Whether a file has the name of a video."""
    return os.path.splitext(name)[1].lower() in VIDEO_SUFFIXES


def entries(folder: str) -> list[Entry]:
    """The files and folders in a folder, by name, without those that ``is_ignored``.

    Raises:
        UserError: it cannot be listed.
    """
    found = []
    try:
        with os.scandir(folder) as iterator:
            for entry in iterator:
                if not is_ignored(entry.name):
                    found.append(Entry(entry.name, _is_folder(entry), entry.is_symlink()))
    except NotADirectoryError:
        raise UserError(f"{folder}: a file; give the folder of the videos") from None
    except OSError as error:
        raise UserError(f"{folder}: {error.strerror}; give the folder of the videos") from None
    return sorted(found)


def _is_folder(entry: os.DirEntry) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False


def find(root: str, wanted: set[str], kind: str, threads: int = 16) -> dict[str, list[Place]]:
    """Search video files and folders by name.

    Folders with a wanted name are not searched themselves, and folders reached by several links
    only once.

    Args:
        root: folder to search, with all folders below it.
        wanted: names of folders, or of video files without suffix.
        kind: "videos" for files only, "frames" for folders only, "auto" for both.
        threads: number of threads.

    Returns:
        Name -> its places.

    Raises:
        UserError: a folder cannot be listed.
    """
    found: dict[str, list[Place]] = {}
    level = [""]
    link_targets: set[str] = set()
    with ThreadPoolExecutor(threads) as pool:
        while level:
            next_level: list[str] = []
            paths = [os.path.join(root, folder) if folder else root for folder in level]
            for folder, listed in zip(level, pool.map(entries, paths), strict=True):
                for entry in listed:
                    path = f"{folder}/{entry.name}" if folder else entry.name
                    name = _wanted_name(entry, wanted, kind)
                    if name is not None:
                        found.setdefault(name, []).append(Place(path, entry.is_folder))
                    elif _is_to_search(entry, wanted, os.path.join(root, path), link_targets):
                        next_level.append(path)
            level = next_level
    return found


def _wanted_name(entry: Entry, wanted: set[str], kind: str) -> str | None:
    """The wanted name that an entry has; None for another entry."""
    if entry.is_folder:
        return entry.name if kind != "videos" and entry.name in wanted else None
    stem, suffix = os.path.splitext(entry.name)
    if kind == "frames" or stem not in wanted or suffix.lower() not in VIDEO_SUFFIXES:
        return None
    return stem


def _is_to_search(entry: Entry, wanted: set[str], path: str, link_targets: set[str]) -> bool:
    if not entry.is_folder or entry.name in wanted:
        return False
    return not entry.is_link or _is_new_target(path, link_targets)


def _is_new_target(link: str, known: set[str]) -> bool:
    """Whether a link leads to a new folder; not above itself, nor where a known link leads."""
    target, parent = os.path.realpath(link), os.path.realpath(os.path.dirname(link))
    if target in known or os.path.commonpath((target, parent)) == target:
        return False
    known.add(target)
    return True


def choose(video: Video, found: dict[str, list[Place]], source: Annotations) -> Place | None:
    """The place of a video.

    Args:
        video: of the annotations.
        found: name -> places, from ``find``.
        source: the annotations.

    Returns:
        Its place, None if it was not found.

    Raises:
        UserError: it has several places, or is in the folder of another class.
    """
    for name in video.names:
        places = found.get(name, [])
        own_class, no_class = [], []
        for place in places:
            parent = os.path.basename(os.path.dirname(place.path))
            label = source.folders.get(folder_name(parent))
            if label == video.label:
                own_class.append(place)
            elif label is None:
                no_class.append(place)
        candidates = own_class or no_class
        if len(candidates) > 1:
            first, second = candidates[:2]
            raise UserError(
                f"{video.place}: {name} exists {len(candidates)} times ({first.path}, "
                f"{second.path}); keep one, or give --kind videos or --kind frames"
            )
        if candidates:
            return candidates[0]
        if places:
            raise UserError(
                f"{video.place}: {name} is of class {source.classes[video.label]!r}, but "
                f"{places[0].path} is in the folder of another class; correct one of them"
            )
    return None


def count_folders(
    root: str, places: Iterable[Place], image_tmpl: str, modality: str, threads: int = 16
) -> dict[str, int | str]:
    """Count the frames of folders.

    Args:
        root: folder that the places are relative to.
        places: videos; files among them are ignored.
        image_tmpl: file names in the folders.
        modality: "RGB" or "Flow".
        threads: number of threads.

    Returns:
        Path of a folder -> ``num_frames`` of a list, or as text why it cannot be used.
    """
    folders = list(dict.fromkeys(place.path for place in places if place.is_folder))

    def count(path: str) -> int | str:
        folder = os.path.join(root, path)
        try:
            frames = count_frames(folder, image_tmpl, modality)
        except UnreadableVideo as error:
            return error.reason
        if not frames:
            return explain_no_frames(folder, os.listdir(folder), image_tmpl, modality)
        return frames * listed_per_frame(image_tmpl, modality)

    with ThreadPoolExecutor(threads) as pool:
        counts = tqdm(
            pool.map(count, folders),
            total=len(folders),
            desc="counting frames",
            unit="folder",
            disable=None,
            leave=False,
        )
        return dict(zip(folders, counts, strict=True))
