"""Make a small action data set whose classes differ in nothing but motion: no single frame tells them apart.

    python tools/make_motion_dataset.py --videos 640 --size 64 --out data/motion

A camera looks at a photograph: one in all training videos, another in all validation videos (both come with
scikit-learn; nothing is downloaded). In each video one of position, size and angle changes at a constant speed,
forwards or backwards in time. The names say what the picture does on the screen, not what the camera does, so a
horizontal flip exchanges left and right, clockwise and counterclockwise. Written to --out:

    videos/train/00000.mp4 ...  videos/val/00000.mp4 ...
    train.txt  val.txt    a line a video: path relative to --out, label
    classes.txt           the name of a class a line, in label order
    about.json            the arguments, written last

The same arguments give the same bytes on one machine, whatever -j is. The command completes what an earlier run of it
left unfinished, and does nothing if all is there.
"""

import argparse
import io
import json
import math
import os
import sys
from contextlib import closing
from functools import partial
from pathlib import Path

import av
import numpy as np
from PIL import Image
from tqdm import tqdm

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from lib.sturdy_pool import Lost, run_jobs
from ops.utils.errors import UserError, run_cli
from ops.utils.files import atomic_write, read_regular
from ops.utils.signals import repeatable

# What changes and in which direction: x to the right, y downwards, zoom to larger, turn clockwise.
CLASSES = {
    "Moving left to right": ("x", 1),
    "Moving right to left": ("x", -1),
    "Moving up": ("y", -1),
    "Moving down": ("y", 1),
    "Zooming in": ("zoom", 1),
    "Zooming out": ("zoom", -1),
    "Turning clockwise": ("turn", 1),
    "Turning counterclockwise": ("turn", -1),
}
SPLITS = ("train", "val")
# The part of each photograph that is full of detail, (left, upper, right, lower): a plain sky shows no motion.
PHOTOS = {"train": ("china.jpg", (60, 40, 355, 427)), "val": ("flower.jpg", (165, 85, 450, 427))}
VIEW = (70, 300)  # how much of the photograph the middle of a zoom shows, a side in its pixels
AMOUNT = (0.8, 1.6)  # of motion from first to last frame: radians turned, logarithm of the zoom
# The root mean square distance of a square's points from its center, in sides: moving by this times the amount
# displaces the pixels of the picture as far as turning or zooming by the amount does.
LEVER = 6**-0.5
MARGIN = int(VIEW[1] * np.exp(AMOUNT[1] / 2) * 0.5**0.5) + 2  # half the diagonal of the widest view


def main() -> None:
    args = parser().parse_args()
    if args.val_videos is None:
        args.val_videos = max(len(CLASSES), args.videos // 4 // len(CLASSES) * len(CLASSES))
    leasts = {
        "videos": len(CLASSES),
        "val_videos": len(CLASSES),
        "size": 32,
        "frames": 2,
        "seed": 0,
        "processes": 1,
    }
    for flag, least in leasts.items():
        if getattr(args, flag) < least:
            raise UserError(f"--{flag} {getattr(args, flag)} is too small; give {least} or more")
    if args.size % 2:
        raise UserError(
            f"--size {args.size} is odd; give an even number of pixels, which H.264 wants"
        )
    arguments = {
        name: getattr(args, name) for name in ("videos", "val_videos", "size", "frames", "seed")
    }
    try:
        make(args.out, arguments, args.processes, args.force)
    except OSError as error:
        raise failed(error, args.out) from None


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    top.add_argument(
        "--videos", type=int, required=True, metavar="N", help="training videos, 8 or more"
    )
    top.add_argument(
        "--val_videos",
        type=int,
        metavar="N",
        help="validation videos (default: a quarter of --videos)",
    )
    top.add_argument(
        "--size",
        type=int,
        required=True,
        metavar="S",
        help="their side in pixels, even, 32 or more",
    )
    top.add_argument(
        "--out",
        type=Path,
        required=True,
        metavar="DIR",
        help="folder to write; made if it is not there",
    )
    top.add_argument(
        "--frames", type=int, default=24, metavar="N", help="frames of each video (default: 24)"
    )
    top.add_argument(
        "--seed", type=int, default=0, help="another seed gives other videos (default: 0)"
    )
    top.add_argument(
        "-j",
        "--processes",
        type=int,
        default=os.cpu_count() or 1,
        help="(default: one for each core)",
    )
    top.add_argument(
        "--force",
        action="store_true",
        help="replace a data set that this tool made with other arguments",
    )
    return top


def make(out: Path, arguments: dict[str, int], processes: int, force: bool) -> None:
    """Write the data set, or what is missing of it, to ``out``. Raises UserError as ``claim`` and ``make_video`` do and if two
    processes die of one video, OSError if ``out`` cannot be written."""
    about, unfinished = out / "about.json", out / "unfinished.json"
    claim(out, about, unfinished, arguments, force)
    counts = {"train": arguments["videos"], "val": arguments["val_videos"]}
    names = [(split, index) for split in SPLITS for index in range(counts[split])]
    jobs = [
        (out / video_path(*name), *name, *(arguments[key] for key in ("size", "frames", "seed")))
        for name in names
        if not (out / video_path(*name)).exists()
    ]
    what = (
        f"{counts['train']} training and {counts['val']} validation videos, {arguments['frames']} frames of "
        f"{arguments['size']}x{arguments['size']}, in {out}"
    )
    if about.exists() and not jobs:
        print(f"already there: {what}")
        return
    for split in SPLITS:
        (out / "videos" / split).mkdir(parents=True, exist_ok=True)
    work = partial(make_video, {split: photo(split) for split in SPLITS})
    with (
        repeatable(),
        closing(run_jobs(work, jobs, processes, math.inf)) as ends,
        tqdm(total=len(names), initial=len(names) - len(jobs), unit="video", disable=None) as bar,
    ):
        for index, end in ends:
            if isinstance(end, Lost):
                raise UserError(
                    f"the process that made {jobs[index][0]} {end.reason}; repeat the command to go on"
                )
            bar.update()
    for leftover in (out / "videos").glob(
        "*/*.tmp"
    ):  # of killed processes, of an earlier run or of this one
        leftover.unlink()
    for split in SPLITS:
        lines = (
            f"{video_path(split, index)} {index % len(CLASSES)}\n" for index in range(counts[split])
        )
        write_text(out / f"{split}.txt", "".join(lines))
    write_text(out / "classes.txt", "".join(f"{name}\n" for name in CLASSES))
    if unfinished.exists():
        os.replace(unfinished, about)
    print(f"made {what}")


def claim(out: Path, about: Path, unfinished: Path, arguments: dict[str, int], force: bool) -> None:
    """See to it that what is in ``out`` belongs to ``arguments``: one of the two files says so afterwards, and it is
    ``unfinished`` until the data set is whole. Raises UserError if ``out`` holds a data set of other arguments and not
    ``force``, or anything that this tool did not make."""
    record = next((file for file in (about, unfinished) if file.exists()), None)
    if record is None:
        ours = [
            out / name for name in ("videos", "classes.txt", *(f"{split}.txt" for split in SPLITS))
        ]
        if foreign := [path for path in ours if path.exists()]:
            raise UserError(
                f"{foreign[0]} is there and was not made by this tool; give another --out"
            )
        out.mkdir(parents=True, exist_ok=True)
    else:
        try:
            there = dict(json.loads(read_regular(record).decode()))
        except (OSError, ValueError, TypeError):
            raise UserError(f"{record}: not a file of this tool; give another --out") from None
        if there == arguments:
            return
        if not force:
            changed = [key for key, value in arguments.items() if there.get(key) != value]
            changes = ", ".join(f"{key} {there.get(key)} -> {arguments[key]}" for key in changed)
            raise UserError(
                f"{out} holds a data set of other arguments ({changes}); give another --out, or --force to "
                "replace it"
            )
        # In this order a kill at any point leaves a folder that the old arguments, or --force, can complete.
        os.replace(record, unfinished)
        for old in (out / "videos").glob("*/*.mp4"):
            old.unlink()
    write_text(unfinished, json.dumps(arguments, indent=2) + "\n")


def write_text(path: Path, text: str) -> None:
    with atomic_write(path, "w") as file:
        file.write(text)


def video_path(split: str, index: int) -> str:
    return f"videos/{split}/{index:05d}.mp4"


def failed(error: OSError, path: Path) -> UserError:
    return UserError(
        f"{error.filename or path}: {error.strerror or error}; give an --out that can be written"
    )


def make_video(photos: dict[str, Image.Image], job: tuple[Path, str, int, int, int, int]) -> None:
    """Make one video, ``(path, split, index, size, frames, seed)``: the file is there whole or not at all. Raises UserError if
    it cannot be written."""
    path, split, index, size, frames, seed = job
    rng = np.random.default_rng((seed, SPLITS.index(split), index))
    data = encode(render(photos[split], list(CLASSES)[index % len(CLASSES)], size, frames, rng))
    try:
        with atomic_write(path) as file:
            file.write(data)
    except OSError as error:
        raise failed(error, path) from None


def photo(split: str) -> Image.Image:
    """The photograph of a split, as ``endless`` returns it."""
    from sklearn.datasets import (
        load_sample_image,
    )  # takes a second, for nothing if the data set is already there

    name, box = PHOTOS[split]
    return endless(np.asarray(Image.fromarray(load_sample_image(name)).crop(box)))


def endless(picture: np.ndarray) -> Image.Image:
    """uint8 ``[H, W, 3]``, continued by its reflections to one period of ``2H x 2W`` and ``MARGIN`` on each side."""
    height, width, _ = picture.shape
    return Image.fromarray(
        np.pad(picture, ((MARGIN, height + MARGIN), (MARGIN, width + MARGIN), (0, 0)), "symmetric")
    )


def render(
    plane: Image.Image, name: str, size: int, frames: int, rng: np.random.Generator
) -> np.ndarray:
    """A video of the class ``name``, of a picture made ``endless``: uint8 ``[frames, size, size, 3]``.

    Nothing but the motion may tell the classes apart. The picture has no end, hence position and angle can be even over
    all there are, and are so at each time of each class. The zoom cannot be: a random frame of any class has the same
    distribution of zooms, because the classes that do not zoom hold one at which the others pass by. Everything is
    drawn before the class is looked at, and every frame goes through the same interpolation.
    """
    period = np.array(plane.size) - 2 * MARGIN
    path = rng.uniform(*AMOUNT) * np.linspace(-0.5, 0.5, frames)
    course = dict.fromkeys(("x", "y", "turn"), np.zeros(frames)) | {
        "zoom": np.full(frames, rng.choice(path))
    }
    center, angle, view = (
        rng.uniform(0, period),
        rng.uniform(0, 2 * np.pi),
        np.exp(rng.uniform(*np.log(VIEW))),
    )
    colors, grain = color_tables(rng), rng.normal(0, rng.uniform(0, 4), (frames, size, size, 3))

    what, direction = CLASSES[name]
    course[what] = direction * path

    # A pixel is the mean of many bilinear samples, so close together that hardly anything of the photograph is skipped.
    fine = max(2, -(-256 // size))
    video = np.empty((frames, size, size, 3), np.uint8)
    for t, (x, y, turn, zoom) in enumerate(zip(*course.values(), strict=True)):
        # Where a point of the screen (in sides, from its center) lies in the photograph: origin + turned @ point.
        cos, sin = np.cos(angle - turn), np.sin(angle - turn)
        turned = view * np.exp(-zoom) * np.array([[cos, -sin], [sin, cos]])
        origin = (center - turned @ (LEVER * np.array([x, y]))) % period + MARGIN
        corner, step = origin - turned @ (0.5, 0.5), turned / (fine * size)
        frame = plane.transform(
            (fine * size, fine * size),
            Image.Transform.AFFINE,
            (*step[0], corner[0], *step[1], corner[1]),
            Image.Resampling.BILINEAR,
        )
        video[t] = frame.reduce(fine)
    recolored = np.stack([table[video[..., channel]] for channel, table in colors], axis=-1)
    return (recolored + grain).round().clip(0, 255).astype(np.uint8)


def color_tables(rng: np.random.Generator) -> list[tuple[int, np.ndarray]]:
    """Another look, channel by channel: the channel to take and the new value of each of its 256 (gamma, contrast,
    brightness, gain), not yet rounded or clipped."""
    gamma, contrast = np.exp(rng.uniform(-0.4, 0.4)), np.exp(rng.uniform(-0.4, 0.2))
    brightness, gains = rng.uniform(-0.1, 0.1), rng.uniform(0.8, 1.2, 3)
    levels = ((np.arange(256) / 255) ** gamma - 0.5) * contrast + 0.5 + brightness
    return [
        (int(channel), 255 * gain * levels)
        for channel, gain in zip(rng.permutation(3), gains, strict=True)
    ]


def encode(video: np.ndarray) -> bytes:
    """An H.264 mp4 file of uint8 ``[frames, size, size, 3]``, always of the same bytes: hence one thread and no
    macroblock tree, which in x264 depends on what was in the memory before (and makes quality depend on motion)."""
    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=12, options={"crf": "16", "mbtree": "0"})
        stream.height, stream.width = video.shape[1:3]
        stream.pix_fmt = "yuv420p"
        stream.codec_context.gop_size = 12
        stream.codec_context.thread_count = 1
        for frame in video:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode(None))
    return file.getvalue()


if __name__ == "__main__":
    run_cli(main)
