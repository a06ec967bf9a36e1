"""Annotations as published, the files that they name, and the lists that make_lists.py makes."""

import random

from helpers.launch import call

# Labels of the six classes of Something-Something that a flip swaps, in both versions (TDN
# ops/models.py).
PAIRS = {
    86: "Pulling something from left to right",
    87: "Pulling something from right to left",
    93: "Pushing something from left to right",
    94: "Pushing something from right to left",
    166: "Turning the camera left while filming something",
    167: "Turning the camera right while filming something",
}
# What stands between them is made up, in alphabetical order, and says nothing of sides.
FILL = (
    (0, 86, "Holding"),
    (88, 93, "Pushing something a"),
    (95, 166, "Putting"),
    (168, 174, "Turning the camera upside"),
)
SOMETHING = [
    PAIRS.get(label)
    or next(f"{word} {label:03d}" for first, last, word in FILL if first <= label < last)
    for label in range(174)
]
# The 27 classes of Jester in their order (TSM online_demo/main.py).
JESTER = [
    "Doing other things",
    "Drumming Fingers",
    "No gesture",
    "Pulling Hand In",
    "Pulling Two Fingers In",
    "Pushing Hand Away",
    "Pushing Two Fingers Away",
    "Rolling Hand Backward",
    "Rolling Hand Forward",
    "Shaking Hand",
    "Sliding Two Fingers Down",
    "Sliding Two Fingers Left",
    "Sliding Two Fingers Right",
    "Sliding Two Fingers Up",
    "Stop Sign",
    "Swiping Down",
    "Swiping Left",
    "Swiping Right",
    "Swiping Up",
    "Thumb Down",
    "Thumb Up",
    "Turning Hand Clockwise",
    "Turning Hand Counterclockwise",
    "Zooming In With Full Hand",
    "Zooming In With Two Fingers",
    "Zooming Out With Full Hand",
    "Zooming Out With Two Fingers",
]
HEADER = "label,youtube_id,time_start,time_end,split\n"


def write(folder, **files):
    """Text files; ``__`` in a name is a dot."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name.replace("__", ".")).write_text(text)
    return folder


def touch(root, *paths):
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).touch()
    return root


def frames(folder, count, template="{:05d}.jpg", first=1):
    folder.mkdir(parents=True)
    for number in range(first, first + count):
        (folder / template.format(number)).touch()


def lines(path):
    return path.read_text().splitlines()


def shuffled(names):
    names = list(names)
    random.Random(0).shuffle(names)
    assert names != sorted(names)
    return names


def make(*args):
    return call("make_lists", *args)


def kinetics(tmp_path, train, val, **more):
    return write(tmp_path / "k", train__csv=HEADER + train, validate__csv=HEADER + val, **more)


def something_v1(folder):
    """The annotations of Something-Something V1: names not in order, as published."""
    return write(
        folder,
        **{
            "something-something-v1-labels.csv": "\n".join(shuffled(SOMETHING)) + "\n",
            "something-something-v1-train.csv": (
                f"11;{PAIRS[86]}\n7;{PAIRS[94]}\n100218;{SOMETHING[0]}\n9;{SOMETHING[173]}\n"
            ),
            "something-something-v1-validation.csv": f"5;{PAIRS[166]}\n",
        },
    )
