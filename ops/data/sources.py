"""From a data set to what a front works on: a list checked against the disk, class names checked against a checkpoint."""
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
    videos = read_list(path, root_path=dataset.root_path, num_class=dataset.num_class)
    missing = check_files(videos)
    if missing and (stop or len(missing) == len(videos)):
        first = missing[0]
        raise UserError(f"{path}:{first.line}: {first.path} does not exist ({len(missing)} of {len(videos)} videos are missing); "
                        f"mend the list or --root_path" + (f", or {remedy}" if remedy and stop else ""))
    return videos, len(missing)


def check_class_names(known: list[str] | None, names: list[str] | None, weights: str, file: str | None) -> None:
    """Compare the class names that a checkpoint carries with those of the data set, where both are there.

    Raises UserError with the first difference: labels in another order would score as chance.
    """
    for label, (mine, theirs) in enumerate(zip(known or (), names or (), strict=False)):
        if mine != theirs:
            raise UserError(f"{weights}: class names differ: class {label} is {mine!r} in the checkpoint but {theirs!r} in {file}; "
                            f"give the --class_names that it was trained with")
