"""The videos that the arguments of a command name: files, folders, lists, globs, standard input."""

import glob
import os
import re
import sys
from collections.abc import Iterable, Iterator, Sequence

from lib.lists.video_search import entries, is_video_name
from ops.data.lists import read_text
from ops.data.readers.guess_template import guess_template
from ops.utils.errors import UserError

STDIN = "-"
_LIST_SUFFIXES = (".txt", ".lst", ".list", ".csv", ".tsv")
_IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".ppm", ".pgm")
# The label, or the number of frames and the label, at the end of a line of a list.
_LIST_NUMBERS = re.compile(r"(?: +-?[0-9]+)? +-?[0-9]+(?:,-?[0-9]+)*$")
_LAST_NUMBER = re.compile(r" +-?[0-9]+(?:,-?[0-9]+)*$")


def find_inputs(arguments: Sequence[str], modality: str = "RGB") -> list[str]:
    """The videos that arguments name, in their order.

    Args:
        arguments: each a video file, a folder of frames, a folder that is searched for both, a
            list (``.txt``, ``.csv``, ...), a glob pattern, or ``-`` for a list on standard input.
        modality: "RGB", "Flow" or "RGBDiff", for the folders of frames.

    Returns:
        Paths of video files and of folders of frames. A path that does not exist stays, so that it
        is reported with the results.

    Raises:
        UserError: a list cannot be read, a folder has no videos, or a pattern fits nothing.
    """
    found = []
    for argument in arguments:
        found += _videos_of(argument, modality)
    if not found:
        raise UserError("no videos: give video files, folders, or lists")
    return found


def _videos_of(argument: str, modality: str) -> list[str]:
    if argument == STDIN:
        return list(_listed(sys.stdin, ""))
    if os.path.isdir(argument):
        videos = list(_search(argument, modality))
        if not videos:
            raise UserError(f"{argument}: no videos and no folders of frames in it")
        return videos
    if os.path.exists(argument):
        if not is_list_name(argument):
            return [argument]
        lines = read_text(argument).split("\n")
        videos = list(_listed(lines, os.path.dirname(argument)))
        if not videos:
            raise UserError(f"{argument}: the list is empty; write one path per line")
        return videos
    if glob.has_magic(argument):
        matches = sorted(glob.glob(argument, recursive=True))
        if not matches:
            raise UserError(f"{argument}: no file fits this pattern")
        return [video for match in matches for video in _videos_of(match, modality)]
    return [argument]


def is_list_name(name: str) -> bool:
    """Whether a file has the name of a list, such as ``val.txt``."""
    return os.path.splitext(name)[1].lower() in _LIST_SUFFIXES


def _search(folder: str, modality: str) -> Iterator[str]:
    """The videos in a folder and below it, sorted by name; the folder itself if it has frames."""
    if is_frame_folder(folder, modality):
        yield folder
        return
    for entry in entries(folder):
        path = os.path.join(folder, entry.name)
        if entry.is_folder:
            if not entry.is_link:  # a link may lead back to this folder
                yield from _search(path, modality)
        elif is_video_name(entry.name) and modality != "Flow":
            yield path


def is_frame_folder(folder: str, modality: str = "RGB") -> bool:
    """Whether a folder has numbered images, and no videos or folders beside them."""
    listed = entries(folder)
    images = []
    for entry in listed:
        if entry.is_folder or is_video_name(entry.name):
            return False
        if os.path.splitext(entry.name)[1].lower() in _IMAGE_SUFFIXES:
            images.append(entry.name)
    return bool(images) and guess_template(folder, images, modality) is not None


def _listed(lines: Iterable[str], folder: str) -> Iterator[str]:
    """The paths in the lines of a list; those that do not exist are relative to its folder."""
    for line in lines:
        text = line.strip(" \t\r\n")
        if text:
            yield _listed_path(text, folder)


def _listed_path(line: str, folder: str) -> str:
    """The path in one line: ``path``, ``path label`` or ``path num_frames label``."""
    candidates = [line]
    if "\t" in line:
        candidates.append(line.partition("\t")[0].strip(" "))
    candidates.append(_LAST_NUMBER.sub("", line))
    candidates.append(_LIST_NUMBERS.sub("", line))
    for candidate in candidates:
        for path in (candidate, os.path.join(folder, candidate)):
            if os.path.exists(path):
                return path
    return candidates[1] if "\t" in line else line
