"""Checks before a run: the lists against the disk, the class names against a checkpoint."""

import os
from itertools import zip_longest

import numpy as np

from ops.data.datasets import KNOWN, Dataset
from ops.data.label_orders import plain_name
from ops.data.lists import Record, VideoList, check_files, explain_missing, read_list, resolve
from ops.data.readers.base import UnreadableVideo
from ops.data.readers.open import open_reader
from ops.utils.errors import UserError

_TRIED_VIDEOS = 16  # of each list
_MAX_NAMED = 5  # labels in a message


def read_checked(
    dataset: Dataset, field: str, *, stop: bool = True, alternative: str = ""
) -> tuple[VideoList, int]:
    """Read a list of a dataset and check that its videos exist.

    Args:
        dataset: the dataset.
        field: "train_list" or "val_list".
        stop: a missing video is an error.
        alternative: what else the user can do about it, for the message.

    Returns:
        The list, with the missing videos in it, and their number.

    Raises:
        UserError: the list is missing or invalid (of a "val_list", also a video that is listed
            twice); a video is missing and ``stop`` is set; or all videos are missing.
    """
    path = getattr(dataset, field)
    if path is None:
        raise UserError(f"dataset {dataset.name!r} has no list of this kind; give --{field}")
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
        raise missing_error(videos, missing, alternative if stop else "")
    return videos, len(missing)


def _list_kind(dataset: Dataset) -> str:
    """The arguments of tools/make_lists.py that make the lists of a dataset."""
    if dataset.name in KNOWN:
        return f"{dataset.name} ANNOTATIONS"
    return "folder VIDEOS"


def missing_error(videos: VideoList, missing: list[Record], alternative: str = "") -> UserError:
    """The error for videos that do not exist.

    Args:
        videos: the list.
        missing: those of ``check_files``, at least one.
        alternative: what the user can do but correct the list, for the message.
    """
    first = missing[0]
    place = f"{videos.path}:{first.line}"
    if reason := explain_missing(first):
        return UserError(f"{place}: {reason}")
    hint = f", or {alternative}" if alternative else ""
    return UserError(
        f"{place}: {first.path} does not exist ({len(missing)} of {len(videos)} videos are "
        f"missing); correct the list or --root_path{hint}"
    )


def training_lists(
    dataset: Dataset, modality: str, *, evaluate: bool, skip_missing: bool, decoder: str | None
) -> tuple[dict[str, VideoList], list[str]]:
    """Read and check the lists of a training run.

    Args:
        dataset: the dataset.
        modality: "RGB", "Flow" or "RGBDiff".
        evaluate: only the validation list is needed.
        skip_missing: training skips missing videos.
        decoder: decoder to try a few videos with, so that a wrong flag is found before an epoch is
            lost; None: try none.

    Returns:
        The lists "train" (unless ``evaluate``) and "val", and warnings.

    Raises:
        UserError: as read_checked does; a video has two labels; or no tried video can be read.
    """
    lists = {}
    warnings = []
    if not evaluate:
        lists["train"], missing = read_checked(
            dataset,
            "train_list",
            stop=not skip_missing,
            alternative="train without them: --missing skip",
        )
        if missing:
            warnings.append(
                f"{missing} of {len(lists['train'])} training videos are not on disk and will be "
                f"skipped"
            )
        warnings += _warn_of_unused_classes(lists["train"], dataset.num_class)
    lists["val"], _ = read_checked(dataset, "val_list")
    if not evaluate:
        warnings += _warn_of_shared_videos(lists["train"], lists["val"])
    if decoder:
        for videos in lists.values():
            warnings += _try_videos(videos, dataset, modality, decoder)
    return lists, warnings


def _warn_of_unused_classes(videos: VideoList, num_class: int) -> list[str]:
    if videos.labels.ndim == 2:
        videos_per_class = videos.labels.sum(axis=0)
    else:
        videos_per_class = np.bincount(videos.labels, minlength=num_class)
    unused = np.flatnonzero(videos_per_class == 0).tolist()
    if not unused:
        return []
    labels = ", ".join(map(str, unused[:_MAX_NAMED]))
    if len(unused) > _MAX_NAMED:
        labels += ", ..."
    return [f"{len(unused)} of {num_class} classes have no training video (labels {labels})"]


def _warn_of_shared_videos(train: VideoList, val: VideoList) -> list[str]:
    """A warning if videos are in both lists. No file is looked at.

    Raises:
        UserError: a list contains a video twice with different labels.
    """
    in_train = _first_indices(train)
    in_val = _first_indices(val)
    shared = [path for path in in_val if path in in_train]
    if not shared:
        return []
    record, other = val[in_val[shared[0]]], train[in_train[shared[0]]]
    place = f"{val.path}:{record.line}: {record.id} is also at {train.path}:{other.line}"
    return [f"{len(shared)} of {len(val)} validation videos are trained on ({place})"]


def _first_indices(videos: VideoList) -> dict[str, int]:
    """Where each path of a list is first.

    Raises:
        UserError: the list contains a video twice with different labels.
    """
    first: dict[str, int] = {}
    for index, path in enumerate(videos.paths()):
        if first.setdefault(path, index) == index:
            continue
        record, other = videos[index], videos[first[path]]
        if other.label != record.label:
            raise UserError(
                f"{videos.path}:{record.line}: {record.id} has another label on line {other.line}; "
                f"correct it"
            )
    return first


def _try_videos(videos: VideoList, dataset: Dataset, modality: str, decoder: str) -> list[str]:
    """Read the first and last frame of a few videos spread over the list, as the loader will.

    Returns:
        A warning for each that cannot be read.

    Raises:
        UserError: all videos fail, so that a flag is wrong and not the videos.
    """
    indices = np.unique(np.linspace(0, len(videos) - 1, _TRIED_VIDEOS).astype(int))
    failures = []
    for index in indices:
        record = videos[index]
        place = f"{videos.path}:{record.line}: {record.id}"
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
            failures.append(f"{place}: {error.reason}")
        except UserError as error:
            raise UserError(f"{place}: {error}") from None
    if len(failures) == len(indices):
        raise UserError(
            f"{failures[0]}; none of {len(indices)} videos tried can be read: correct --image_tmpl "
            f"or --decoder, and see tools/check_videos.py"
        )
    return [f"{failure} (1 of {len(indices)} videos tried)" for failure in failures]


def check_class_names(
    known: list[str] | None, names: list[str] | None, weights: str, file: str | None
) -> None:
    """Compare the class names in a checkpoint with those of the dataset, if both exist.

    Args:
        known: class names in the checkpoint.
        names: class names of the dataset.
        weights: path of the checkpoint, for the message.
        file: file of the dataset's class names, for the message.

    Raises:
        UserError: they differ. With labels in another order, the accuracy would be chance.
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
            f"{weights}: its class names differ from {file} at {len(wrong)} labels "
            f"({', '.join(wrong[:_MAX_NAMED])}); give the --class_names that it was trained with"
        )
