"""From a data set to what a front works on: a list checked against the disk, class names checked against a checkpoint."""

import os
from itertools import zip_longest

import numpy as np

from ops.data.datasets import KNOWN, Dataset
from ops.data.label_orders import plain_name
from ops.data.lists import VideoList, check_files, explain_missing, read_list, resolve
from ops.data.readers.base import UnreadableVideo
from ops.data.readers.open import open_reader
from ops.utils.errors import UserError


def read_checked(
    dataset: Dataset, field: str, *, stop: bool = True, remedy: str = ""
) -> tuple[VideoList, int]:
    """The list that a data set names (field: "train_list" or "val_list") and how many of its videos are not on disk.

    Raises UserError if the list is not given or not sound, which for "val_list" includes a video
    listed twice; if a video is missing and ``stop`` is set (``remedy`` says what else the user may
    do about it); and if all are missing. The list
    returned still holds the missing ones.
    """
    path = getattr(dataset, field)
    if path is None:
        raise UserError(f"data set {dataset.name!r} has no list of this kind; give --{field}")
    if not os.path.exists(path):
        raise UserError(
            f"{path}: no such file; put it there, give another --{field}, or make it with python "
            f"tools/make_lists.py {_list_kind(dataset)}"
        )
    videos = read_list(
        path,
        root_path=dataset.root_path,
        num_class=dataset.num_class,
        multi_label=dataset.multi_label,
        unique=field == "val_list",
    )
    missing = check_files(videos)
    if missing and (stop or len(missing) == len(videos)):
        first = missing[0]
        if reason := explain_missing(first):
            raise UserError(f"{path}:{first.line}: {reason}")
        raise UserError(
            f"{path}:{first.line}: {first.path} does not exist ({len(missing)} of {len(videos)} videos are "
            f"missing); mend the list or --root_path"
            + (f", or {remedy}" if remedy and stop else "")
        )
    return videos, len(missing)


def _list_kind(dataset: Dataset) -> str:
    """The arguments of tools/make_lists.py that make the lists of a dataset."""
    return f"{dataset.name} ANNOTATIONS" if dataset.name in KNOWN else "folder VIDEOS"


def training_lists(
    dataset: Dataset, modality: str, *, evaluate: bool, skip_missing: bool, decoder: str | None
) -> tuple[dict[str, VideoList], list[str]]:
    """The lists of a training run, "train" (unless ``evaluate``) and "val", and what is strange about them, a line each.

    ``decoder``: to try a few videos with (None: none are tried), so that a wrong flag is found before an epoch is lost.
    Raises UserError as read_checked does, for a video with two labels, and where no video tried can be read.
    """
    lists, warnings = {}, []
    if not evaluate:
        lists["train"], missing = read_checked(
            dataset,
            "train_list",
            stop=not skip_missing,
            remedy="train without them: --missing skip",
        )
        if missing:
            warnings.append(
                f"{missing} of {len(lists['train'])} training videos are not on disk and will be skipped"
            )
        labels = lists["train"].labels
        used = (
            labels.any(axis=0)
            if labels.ndim == 2
            else np.bincount(labels, minlength=dataset.num_class)
        )
        absent = np.flatnonzero(used == 0)
        if absent.size:
            some = ", ".join(map(str, absent[:5])) + ", ..." * (absent.size > 5)
            warnings.append(
                f"{absent.size} of {dataset.num_class} classes have no training video (labels {some})"
            )
    lists["val"], _ = read_checked(dataset, "val_list")
    if not evaluate and (shared := _check_pair(lists["train"], lists["val"])):
        warnings.append(shared)
    if decoder:
        for videos in lists.values():
            warnings += [
                f"{failure} (1 of {_TRIED} videos tried)"
                for failure in _try(videos, dataset, modality, decoder)
            ]
    return lists, warnings


_TRIED = 16  # videos of a list, at its start


def _check_pair(train: VideoList, val: VideoList) -> str | None:
    """A warning if videos of ``val`` are in ``train`` as well. Raises UserError, naming both lines, for a video that one list
    has twice with different labels. No file is looked at."""
    first, shared = {}, []
    for videos in (train, val):
        for record in videos:
            owner, other = first.setdefault(record.path, (videos, record))
            if owner is not videos:
                shared.append(
                    f"{videos.path}:{record.line}: {record.id} is also at {owner.path}:{other.line}"
                )
            elif other.label != record.label:
                raise UserError(
                    f"{videos.path}:{record.line}: {record.id} has another label on line {other.line}; mend it"
                )
    return (
        f"{len(shared)} of {len(val)} validation videos are trained on ({shared[0]})"
        if shared
        else None
    )


def _try(videos: VideoList, dataset: Dataset, modality: str, decoder: str) -> list[str]:
    """Read the first and last frame of a few videos spread over the list, as the loader will; returns the failures. Raises
    UserError if all fail: then it is a flag that is wrong, and not the videos."""
    failures, picks = [], np.unique(np.linspace(0, len(videos) - 1, _TRIED).astype(int))
    for record in map(videos.__getitem__, picks):
        try:
            with open_reader(
                resolve(record.path),
                image_tmpl=dataset.image_tmpl,
                num_frames=record.num_frames,
                decoder=decoder,
                modality=modality,
            ) as reader:
                reader.get([0, len(reader) - 1])
        except UnreadableVideo as error:
            failures.append(f"{videos.path}:{record.line}: {record.id}: {error.reason}")
        except UserError as error:
            raise UserError(f"{videos.path}:{record.line}: {record.id}: {error}") from None
    if len(failures) == len(picks):
        raise UserError(
            f"{failures[0]}; none of {len(picks)} videos tried can be read: correct --image_tmpl or --decoder, and "
            "see tools/check_videos.py"
        )
    return failures


def check_class_names(
    known: list[str] | None, names: list[str] | None, weights: str, file: str | None
) -> None:
    """Compare the class names that a checkpoint carries with those of the data set, where both are there.

    Raises UserError with the first differences: labels in another order would score as chance.
    """
    if known is None or names is None:
        return
    pairs = enumerate(zip_longest(known, names, fillvalue="nothing"))
    wrong = [
        f"{label}: {mine!r} / {theirs!r}"
        for label, (mine, theirs) in pairs
        if plain_name(mine) != plain_name(theirs)
    ]
    if wrong:
        raise UserError(
            f"{weights}: its class names differ from {file} at {len(wrong)} labels ({', '.join(wrong[:5])}); give "
            f"the --class_names that it was trained with"
        )
