"""Which file name template fits a folder of frames, and what lists count."""

import re
from collections.abc import Collection

from ops.data.readers.templates import count_places, file_namer
from ops.utils.errors import UserError

# "img_", "00017" and ".jpg" of the name of a frame.
FRAME_NAME = re.compile(r"([^{}]*?)([0-9]+)(\.[a-zA-Z]+)")


def listed_per_frame(image_tmpl: str, modality: str) -> int:
    """How many frames a list counts for each frame of a folder.

    Lists of flow whose template has three places count the files of x and y (TSM, ops/dataset.py).
    """
    return 2 if modality == "Flow" and count_places(image_tmpl, modality) == 3 else 1


def explain_no_frames(folder: str, names: Collection[str], image_tmpl: str, modality: str) -> str:
    """Why a folder has no first frame: it is empty, or has files with other names.

    Args:
        folder: its path.
        names: the names of the files in it.
        image_tmpl: the template that does not fit.
        modality: "RGB" or "Flow".
    """
    if not names:
        return "empty folder"
    fitting = guess_template(folder, names, modality)
    if fitting:
        return f"no frames named {image_tmpl}; {fitting} would fit"
    return f"no frames named {image_tmpl}; it holds {min(names)!r}"


def guess_template(folder: str, names: Collection[str], modality: str) -> str | None:
    """The template that fits most frames of a folder without a gap, None if none fits.

    Args:
        folder: its path.
        names: the names of the files in it.
        modality: "RGB" or "Flow".
    """
    templates: set[str] = set()
    for name in names:
        templates |= _templates_of(name, modality)
    existing = set(names)
    counts = {}
    for template in sorted(templates):
        try:
            names_of = file_namer(template, folder, modality)
        except UserError:  # the template needs a folder whose name is a number
            continue
        number = 0
        while existing.issuperset(names_of(number + 1)):
            number += 1
        if number:
            counts[template] = number
    # Of equal templates the one with more places: without a place for the folder's own number, a
    # template would fit this folder only.
    return max(counts, key=lambda template: (counts[template], template.count("{")), default=None)


def _templates_of(name: str, modality: str) -> set[str]:
    """The templates that a file name can come from; frames are numbered from 1 or from 0."""
    match = FRAME_NAME.fullmatch(name)
    if not match:
        return set()
    start, number, suffix = match.groups()
    width = f"0{len(number)}d" if number.startswith("0") else "d"
    templates = set()
    for before in _starts(start, modality):
        templates.add(f"{before}{{:{width}}}{suffix}")
        templates.add(f"{before}{{zero:{width}}}{suffix}")
    return templates


def _starts(start: str, modality: str) -> list[str]:
    """What a template can have before the frame number, for a file name that starts like this."""
    if modality != "Flow":
        return [start]
    with_axis = re.sub("[xy](?=[^xy]*$)", "{}", start)
    starts = [start, with_axis]
    video = re.match("[0-9]+(?=.*{}.*)", with_axis)
    if video:
        starts.append(f"{{:0{len(video[0])}d}}{with_axis[video.end() :]}")
    return starts
