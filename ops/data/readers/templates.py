"""Names of the files in a frame folder: the ``--image_tmpl`` of a data set, filled in as TSM ops/dataset.py does.

======  ================================  ==========================================================================
places  filled with                       for
======  ================================  ==========================================================================
1       frame number                      RGB; flow of which one picture holds x and y as its first two channels
2       ``x`` or ``y``, frame number      flow of TSN's tools, ``flow_{}_{:05d}.jpg``
3       number that the folder is called, flow of Something-Something V1, ``{:06d}-{}_{:05d}.jpg``
        ``x`` or ``y``, frame number
======  ================================  ==========================================================================

Frames count from 1 in names, or from 0 where the place of the frame number is ``{zero}``: ``img_{zero:05d}.jpg``.
"""

import os
import re
from collections.abc import Callable
from string import Formatter

from ops.utils.errors import UserError

_KNOWN = {"RGB": (1,), "Flow": (1, 2, 3), "RGBDiff": (1,)}
EXAMPLES = {"RGB": "img_{:05d}.jpg", "Flow": "flow_{}_{:05d}.jpg", "RGBDiff": "img_{:05d}.jpg"}


def count_places(image_tmpl: str, modality: str = "RGB") -> int:
    """How many places a template has. Raises UserError for one that cannot name the frames of this modality ("RGB",
    "Flow" or "RGBDiff")."""
    try:
        fields = [part[1:] for part in Formatter().parse(image_tmpl) if part[1] is not None]
        # A template may come with a data set: a place is a number's, not of its attributes, and not a million characters wide.
        if any(
            not re.fullmatch("zero|[0-9]?", name) or re.search("[0-9]{4}|{", spec)
            for name, spec, _ in fields
        ):
            raise ValueError
        places = len(fields)
        first, second = (
            image_tmpl.format(*[1, "x", number][-places:], zero=number - 1) for number in (1, 2)
        )
    except (AttributeError, LookupError, TypeError, ValueError):
        places, first, second = 0, "", ""
    if places not in _KNOWN[modality] or first == second:
        number = (
            "a place for the frame number"
            if modality != "Flow"
            else "places for x or y and the frame number"
        )
        raise UserError(
            f"--image_tmpl {image_tmpl[:100]!r} does not name the {modality} frames; give one with {number}, like "
            f"{EXAMPLES[modality]}"
        )
    return places


def from_zero(image_tmpl: str) -> str:
    """The template with the frame number, its last place, counting from 0; one that does already
    stays as it is."""
    return re.sub(r"\{[0-9]?(:[^{}]*)?\}(?=[^{}]*$)", r"{zero\1}", image_tmpl)


def file_namer(
    image_tmpl: str, folder: str, modality: str = "RGB"
) -> Callable[[int], tuple[str, ...]]:
    """A function of a frame number (from 1) that gives the files in ``folder`` which hold the frame: one, or one for x
    and one for y.

    Raises UserError as count_places does, and if the template asks for the number of a folder that is not called by one.
    """
    places = count_places(image_tmpl, modality)
    if places == 1:
        return lambda number: (image_tmpl.format(number, zero=number - 1),)
    if places == 2:
        return lambda number: tuple(
            image_tmpl.format(axis, number, zero=number - 1) for axis in "xy"
        )
    video = os.path.basename(os.path.normpath(folder))
    if not re.fullmatch("[0-9]{1,255}", video):
        raise UserError(
            f"--image_tmpl {image_tmpl[:100]!r} begins with the number of the video, but the folder is called "
            f"{video[:100]!r}; give a template with places for x or y and the frame number only"
        )
    return lambda number: tuple(
        image_tmpl.format(int(video), axis, number, zero=number - 1) for axis in "xy"
    )
