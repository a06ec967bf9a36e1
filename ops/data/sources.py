"""From a data set to what a front works on: a list checked against the disk, class names checked against a checkpoint."""
from itertools import zip_longest

from ops.data.datasets import Dataset
from ops.data.lists import VideoList, check_files, read_list
from ops.errors import UserError


def read_checked(dataset: Dataset, field: str, *, stop: bool = True, remedy: str = "") -> tuple[VideoList, int]:
    """The list that a data set names (field: "train_list" or "val_list") and how many of its videos are not on disk.

    Raises UserError if the list is not given or not sound; if a video is missing and ``stop`` is set (``remedy`` says what
    else the user may do about it); and if all are missing. The list returned still holds the missing ones.
    """
    path = getattr(dataset, field)
    if path is None:
        raise UserError(f"data set {dataset.name!r} has no list of this kind; give --{field}")
    videos = read_list(path, root_path=dataset.root_path, num_class=dataset.num_class, multi_label=dataset.multi_label)
    missing = check_files(videos)
    if missing and (stop or len(missing) == len(videos)):
        first = missing[0]
        raise UserError(f"{path}:{first.line}: {first.path} does not exist ({len(missing)} of {len(videos)} videos are "
                        f"missing); mend the list or --root_path" + (f", or {remedy}" if remedy and stop else ""))
    return videos, len(missing)


def check_class_names(known: list[str] | None, names: list[str] | None, weights: str, file: str | None) -> None:
    """Compare the class names that a checkpoint carries with those of the data set, where both are there.

    Raises UserError with the first differences: labels in another order would score as chance.
    """
    if known is None or names is None:
        return
    pairs = enumerate(zip_longest(known, names, fillvalue="nothing"))
    wrong = [f"{label}: {mine!r} / {theirs!r}" for label, (mine, theirs) in pairs if mine != theirs]
    if wrong:
        raise UserError(f"{weights}: its class names differ from {file} at {len(wrong)} labels ({', '.join(wrong[:5])}); give "
                        f"the --class_names that it was trained with")
