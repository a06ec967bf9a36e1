"""Writes the motion dataset, its videos, lists and class names: make_motion_dataset.py."""

import json
import math
import os
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image
from tqdm import tqdm

from lib.videos.motion_videos import CLASSES, SPLITS, encode, photo, render
from lib.videos.sturdy_pool import Lost, run_jobs
from ops.utils.errors import UserError, repeatable
from ops.utils.files import atomic_write, read_regular


class Recipe(NamedTuple):
    """What decides the content of the dataset; ``about.json`` contains it.

    Attributes:
        videos: number of training videos.
        val_videos: number of validation videos.
        size: width and height of the videos in pixels.
        frames: frames per video.
        seed: of all random numbers.
    """

    videos: int
    val_videos: int
    size: int
    frames: int
    seed: int

    @property
    def counts(self) -> dict[str, int]:
        """Split -> number of videos."""
        return {"train": self.videos, "val": self.val_videos}

    def __str__(self) -> str:
        return (
            f"{self.videos} training and {self.val_videos} validation videos, {self.frames} frames "
            f"of {self.size}x{self.size}"
        )


class VideoJob(NamedTuple):
    """A video to make.

    Attributes:
        path: its file.
        split: "train" or "val".
        index: its number in the split.
    """

    path: Path
    split: str
    index: int

    @property
    def label(self) -> int:
        return self.index % len(CLASSES)


def default_val_videos(videos: int) -> int:
    """A quarter of the number of training videos, with the same number for each class."""
    return max(1, videos // 4 // len(CLASSES)) * len(CLASSES)


def make_dataset(out: Path, recipe: Recipe, processes: int, force: bool) -> str:
    """Write the dataset, or what is missing of it.

    Args:
        out: folder of the dataset.
        recipe: its content.
        processes: number of processes.
        force: whether to replace a dataset of another recipe.

    Returns:
        A line that says what was done.

    Raises:
        UserError: ``out`` has a dataset of another recipe and not ``force``, or files that this
            command did not make; it cannot be written; or two processes die of one video.
    """
    try:
        return _make_dataset(out, recipe, processes, force)
    except OSError as error:
        raise _cannot_write(error, out) from None


def _make_dataset(out: Path, recipe: Recipe, processes: int, force: bool) -> str:
    about, unfinished = out / "about.json", out / "unfinished.json"
    _claim(out, recipe, force)
    jobs = [
        VideoJob(out / _video_path(split, index), split, index)
        for split in SPLITS
        for index in range(recipe.counts[split])
    ]
    missing = [job for job in jobs if not job.path.exists()]
    if about.exists() and not missing:
        return f"already there: {recipe}, in {out}"
    for split in SPLITS:
        (out / "videos" / split).mkdir(parents=True, exist_ok=True)
    _make_videos(missing, len(jobs), recipe, processes)
    for leftover in (out / "videos").glob("*/*.tmp"):  # of processes that were killed
        leftover.unlink()
    for split in SPLITS:
        lines = [
            f"{_video_path(job.split, job.index)} {job.label}\n"
            for job in jobs
            if job.split == split
        ]
        _write_text(out / f"{split}.txt", "".join(lines))
    _write_text(out / "classes.txt", "".join(f"{name}\n" for name in CLASSES))
    if unfinished.exists():
        os.replace(unfinished, about)
    return f"made {recipe}, in {out}"


def _make_videos(jobs: list[VideoJob], total: int, recipe: Recipe, processes: int) -> None:
    """Make videos in several processes; ``total`` counts those that exist already, too."""
    photos = {split: photo(split) for split in SPLITS}
    work = partial(make_video, photos, recipe)
    with (
        repeatable(),
        closing(run_jobs(work, jobs, processes, math.inf)) as results,
        tqdm(total=total, initial=total - len(jobs), unit="video", disable=None) as bar,
    ):
        for index, result in results:
            if isinstance(result, Lost):
                raise UserError(
                    f"the process that made {jobs[index].path} {result.reason}; repeat the command "
                    "to continue"
                )
            bar.update()


def _claim(out: Path, recipe: Recipe, force: bool) -> None:
    """Record the recipe in ``out``, in ``unfinished.json`` until the dataset is complete.

    Raises UserError if ``out`` has a dataset of another recipe and not ``force``, or files that
    this command did not make.
    """
    about, unfinished = out / "about.json", out / "unfinished.json"
    if about.exists():
        record = about
    elif unfinished.exists():
        record = unfinished
    else:
        _refuse_foreign_files(out)
        out.mkdir(parents=True, exist_ok=True)
        _write_recipe(unfinished, recipe)
        return
    try:
        recorded = dict(json.loads(read_regular(record).decode()))
    except (OSError, ValueError, TypeError):
        raise UserError(f"{record}: not a file of this command; give another --out") from None
    wanted = recipe._asdict()
    if recorded == wanted:
        return
    if not force:
        changes = ", ".join(
            f"{key} {recorded.get(key)} -> {value}"
            for key, value in wanted.items()
            if recorded.get(key) != value
        )
        raise UserError(
            f"{out} holds a dataset of other arguments ({changes}); give another --out, or replace "
            "it with --force"
        )
    # In this order: after a kill at any point, the old arguments, or --force, can complete it.
    os.replace(record, unfinished)
    for old in (out / "videos").glob("*/*.mp4"):
        old.unlink()
    _write_recipe(unfinished, recipe)


def _refuse_foreign_files(out: Path) -> None:
    for name in ("videos", "classes.txt", "train.txt", "val.txt"):
        if (out / name).exists():
            raise UserError(
                f"{out / name} exists and was not made by this command; give another --out"
            )


def make_video(photos: dict[str, Image.Image], recipe: Recipe, job: VideoJob) -> None:
    """Make one video; its file appears whole or not at all.

    Args:
        photos: split -> photograph.
        recipe: of the dataset.
        job: the video.

    Raises:
        UserError: the file cannot be written.
    """
    rng = np.random.default_rng((recipe.seed, SPLITS.index(job.split), job.index))
    name = list(CLASSES)[job.label]
    data = encode(render(photos[job.split], name, recipe.size, recipe.frames, rng))
    try:
        with atomic_write(job.path) as file:
            file.write(data)
    except OSError as error:
        raise _cannot_write(error, job.path) from None


def _video_path(split: str, index: int) -> str:
    return f"videos/{split}/{index:05d}.mp4"


def _write_recipe(path: Path, recipe: Recipe) -> None:
    _write_text(path, json.dumps(recipe._asdict(), indent=2) + "\n")


def _write_text(path: Path, text: str) -> None:
    with atomic_write(path, "w") as file:
        file.write(text)


def _cannot_write(error: OSError, path: Path) -> UserError:
    reason = error.strerror or error
    return UserError(f"{error.filename or path}: {reason}; give an --out that can be written")
