"""Whether the labels of a list are in the order that published weights were trained with.

Published files contain no class names; ``pretrained/manifest.json`` contains the order of their
labels.
"""

from pathlib import Path

from ops.checkpoints.identify import WeightFile
from ops.checkpoints.manifest import read_manifest
from ops.data.class_names import read_class_names
from ops.data.datasets import KNOWN
from ops.data.label_orders import FOLDER, LABEL_ORDERS, moved_labels, same_classes


def class_names_of(file: WeightFile) -> list[str] | None:
    """The class names of a weight file in label order.

    Args:
        file: as ``ops.checkpoints.identify.read_weights`` returns it.

    Returns:
        The names that the file contains. For a published file, whose entry in the manifest or whose
        dataset is known, the names in the order of its authors. None where the order is not known.
    """
    if file.class_names:
        return file.class_names
    if file.published:
        entries = [file.published]
    else:
        entries = [
            entry
            for entry in _entries(file.layout, file.spec["num_class"])
            if entry["dataset"] == file.dataset
        ]
    orders = {entry["class_names"] for entry in entries}
    if len(orders) != 1 or None in orders:
        return None
    return read_class_names(FOLDER / orders.pop())


def _entries(layout: str, num_class: int) -> list[dict]:
    """The entries of the manifest with this layout and number of classes."""
    return [
        entry
        for entry in read_manifest()
        if entry["layout"] == layout and entry["num_class"] == num_class
    ]


def order_warning(
    weights: str,
    layout: str,
    dataset: str,
    names: list[str] | None,
    names_file: str | None,
    published: dict | None = None,
) -> str | None:
    """A warning where published weights and a list number the same classes in different orders.

    Args:
        weights: path of the weight file.
        layout: its layout, a key of ``ops.checkpoints.layouts.LAYOUTS``.
        dataset: name of the dataset that is tested on.
        names: its class names in label order, or None where there are none.
        names_file: where these are.
        published: the entry of the manifest that the weight file is known to be, or None.

    Returns:
        One line, or None: nothing is published in this layout, or the names are in the order of the
        weights, or are other classes.
    """
    if names is None:
        return None
    entries = _published_as(weights, layout, dataset, len(names), published)
    files = [file for file in dict.fromkeys(entry["class_names"] for entry in entries) if file]
    moved = {file: moved_labels(file, names) for file in files if same_classes(file, names)}
    if not moved or 0 in moved.values():
        return None
    file, count = next(iter(moved.items()))
    return (
        f"{weights}: published weights of this kind number their classes as {FOLDER / file} does, "
        f"but {names_file} has another order ({count} of {len(names)} labels differ), so the "
        f"scores would be at chance; {_fix(dataset, file)}"
    )


def _published_as(
    weights: str, layout: str, dataset: str, num_class: int, published: dict | None
) -> list[dict]:
    """The entries of the manifest that a weight file may be."""
    if published:
        return [published]
    entries = _entries(layout, num_class)
    named = [entry for entry in entries if entry["file"] == Path(weights).name]
    if named:
        return named
    return [entry for entry in entries if entry["dataset"] == dataset or dataset not in KNOWN]


def _fix(dataset: str, file: str) -> str:
    for order, (of_order, _) in LABEL_ORDERS.get(dataset, {}).items():
        if of_order == file:
            command = f"python tools/make_lists.py {dataset} ANNOTATIONS --order {order}"
            return f"make the lists again: {command}"
    return "number the classes of the lists in that order"
