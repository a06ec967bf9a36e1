"""Names of the files in a frame folder: ``--image_tmpl``, filled in as TSM ops/dataset.py does.

======  ========================  ==================================================================
places  filled with               used for
======  ========================  ==================================================================
1       frame number              images; flow with x and y as the first two channels of one image
2       ``x`` or ``y``,           flow of TSN's tools, ``flow_{}_{:05d}.jpg``
        frame number
3       number in the folder's    flow of Something-Something V1, ``{:06d}-{}_{:05d}.jpg``
        name, ``x`` or ``y``,
        frame number
======  ========================  ==================================================================

Frames count from 1 in names, or from 0 where the place of the frame number is ``{zero}``:
``img_{zero:05d}.jpg``.
"""

import os
import re
from collections.abc import Callable
from string import Formatter

from ops.utils.errors import UserError

EXAMPLES = {"RGB": "img_{:05d}.jpg", "Flow": "flow_{}_{:05d}.jpg", "RGBDiff": "img_{:05d}.jpg"}
_ALLOWED_PLACES = {"RGB": (1,), "Flow": (1, 2, 3), "RGBDiff": (1,)}
_PLACES_NEEDED = {
    "RGB": "a place for the frame number",
    "Flow": "places for x or y and the frame number",
    "RGBDiff": "a place for the frame number",
}

# A template may come with a dataset of a stranger. A place is that of a number, not of one of its
# attributes, and not a million characters wide.
_FIELD_NAME = re.compile("zero|[0-9]?")
_UNSAFE_FORMAT = re.compile("[0-9]{4}|{")


FLOW_SUFFIX = "{}_{:05d}.jpg"  # of tsn-pytorch's flow files, after its --flow_prefix


def choose_template(image_tmpl: str | None, flow_prefix: str | None, modality: str) -> str | None:
    """The template that the flags give.

    Args:
        image_tmpl: ``--image_tmpl``, or None.
        flow_prefix: ``--flow_prefix``, start of the names of flow files, or None.
        modality: "RGB", "Flow" or "RGBDiff".

    Returns:
        the template, None if no flag gives one.

    Raises:
        UserError: both flags are given.
    """
    if flow_prefix is None:
        return image_tmpl
    if image_tmpl:
        raise UserError("--flow_prefix and --image_tmpl both name the files; give one of the two")
    return flow_prefix + FLOW_SUFFIX if modality == "Flow" else None


def count_places(image_tmpl: str, modality: str = "RGB") -> int:
    """Count the places of a template.

    Args:
        image_tmpl: the template.
        modality: "RGB", "RGBDiff" or "Flow".

    Returns:
        1, 2 or 3.

    Raises:
        UserError: the template cannot name the frames of this modality.
    """
    places = _parse_places(image_tmpl)
    if places in _ALLOWED_PLACES[modality]:
        return places
    raise UserError(
        f"--image_tmpl {image_tmpl[:100]!r} does not name the {modality} frames; give one with "
        f"{_PLACES_NEEDED[modality]}, like {EXAMPLES[modality]}"
    )


def _parse_places(image_tmpl: str) -> int:
    """The number of places; 0 for a text that is no template, or names all frames alike."""
    try:
        fields = [
            (name, spec) for _, name, spec, _ in Formatter().parse(image_tmpl) if name is not None
        ]
        for name, spec in fields:
            if not _FIELD_NAME.fullmatch(name) or _UNSAFE_FORMAT.search(spec):
                return 0
        places = len(fields)
        first = image_tmpl.format(*[1, "x", 1][-places:], zero=0)
        second = image_tmpl.format(*[1, "x", 2][-places:], zero=1)
    except (AttributeError, LookupError, TypeError, ValueError):
        return 0
    if first == second:
        return 0
    return places


def number_from_zero(image_tmpl: str) -> str:
    """The template with the frame number, its last place, counting from 0."""
    return re.sub(r"\{[0-9]?(:[^{}]*)?\}(?=[^{}]*$)", r"{zero\1}", image_tmpl)


def file_namer(
    image_tmpl: str, folder: str, modality: str = "RGB"
) -> Callable[[int], tuple[str, ...]]:
    """Return the function that names the files of a frame.

    Args:
        image_tmpl: the template.
        folder: the folder of the video; its name fills the first of three places.
        modality: "RGB", "RGBDiff" or "Flow".

    Returns:
        A function of the frame number, from 1. It returns the files relative to `folder`: one, or
        one for x and one for y.

    Raises:
        UserError: as `count_places` does, or the name of the folder is not the number that the
            template requires.
    """
    places = count_places(image_tmpl, modality)
    if places == 1:
        return lambda number: (image_tmpl.format(number, zero=number - 1),)
    leading = []
    if places == 3:
        leading = [_video_number(image_tmpl, folder)]

    def names_of(number: int) -> tuple[str, ...]:
        return (
            image_tmpl.format(*leading, "x", number, zero=number - 1),
            image_tmpl.format(*leading, "y", number, zero=number - 1),
        )

    return names_of


def _video_number(image_tmpl: str, folder: str) -> int:
    video = os.path.basename(os.path.normpath(folder))
    if not re.fullmatch("[0-9]{1,255}", video):
        raise UserError(
            f"--image_tmpl {image_tmpl[:100]!r} begins with the number of the video, but the "
            f"folder is called {video[:100]!r}; give a template with places for x or y and the "
            f"frame number only"
        )
    return int(video)
