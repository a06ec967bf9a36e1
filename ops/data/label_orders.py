"""The orders in which published lists and weights number the classes of a dataset.

Weights and lists of different orders fit together without an error and score at chance. So the
tools that make lists and test weights compare their orders. The files of class names are in the
folder ``known``, beside the dataset files.
"""

from pathlib import Path

from ops.data.class_names import read_class_names
from ops.utils.errors import UserError

FOLDER = Path(__file__).parent / "known"
DEFAULT_ORDER = "sorted"
# Dataset -> order -> (file of class names, which weights and lists have this order).
LABEL_ORDERS = {
    "something": {
        "sorted": ("something_sorted.txt", "weights of TSM, TAM, TIN and TDN"),
        "official": ("something_official.txt", "weights of MMAction2"),
    },
    "jester": {
        "sorted": ("jester_sorted.txt", "weights of TSM's online demo"),
        "official": ("jester_official.txt", "weights of MMAction2"),
    },
    "hmdb51": {
        "sorted": ("hmdb51.txt", "weights of MMAction2"),
        "tsn": ("hmdb51_tsn.txt", "lists and Caffe weights of TSN"),
    },
}


def in_order(dataset: str, order: str, names: list[str]) -> list[str]:
    """Sort class names in one of the orders of ``LABEL_ORDERS[dataset]``.

    Args:
        dataset: key of ``LABEL_ORDERS``.
        order: key of ``LABEL_ORDERS[dataset]``. With "official", names that are not the official
            ones keep their order.
        names: the class names.

    Raises:
        UserError: the order is only defined for the official names, and these are others.
    """
    if order == "sorted":
        return sorted(names)
    file, _ = LABEL_ORDERS[dataset][order]
    known = read_class_names(FOLDER / file)
    if set(known) != set(names):
        if order == "official":
            return list(names)
        other = min(set(known) ^ set(names))
        raise UserError(
            f"--order {order}: defined for the {len(known)} official classes of {dataset} only "
            f"(first difference: {other!r}); give the class names in their order as --labels FILE"
        )
    return known


def describe_order(dataset: str, names: list[str]) -> str | None:
    """Which weights and lists use this order of class names; None for an unknown order."""
    for order, (file, users) in LABEL_ORDERS.get(dataset, {}).items():
        if read_class_names(FOLDER / file) == names:
            others = [
                f"--order {other} for {text}"
                for other, (_, text) in LABEL_ORDERS[dataset].items()
                if other != order
            ]
            return f"{order}, as {users} ({', '.join(others)})"
    return None


def same_classes(file: str, names: list[str]) -> bool:
    """Whether ``names`` are the classes of a shipped file, in any order and spelling."""
    known = read_class_names(FOLDER / file)
    return sorted(map(plain_name, known)) == sorted(map(plain_name, names))


def moved_labels(file: str, names: list[str]) -> int:
    """How many of ``names`` have another label than in a shipped file of the same classes."""
    pairs = zip(names, read_class_names(FOLDER / file), strict=True)
    return sum(plain_name(name) != plain_name(known) for name, known in pairs)


def plain_name(name: str) -> str:
    """A class name without the spelling that lists of the same classes differ in.

    That is upper and lower case, underscores, quotes and brackets.
    """
    text = name.lower().replace("_", " ")
    return "".join(letter for letter in text if letter not in "\"'()[]")
