"""Names of published weight files, which work wherever a file does.

``tsm_r50_8f_k400`` stands for the file of this entry of ``pretrained/manifest.json`` in
``pretrained/``. Nothing is downloaded here: see ``ops.checkpoints.download``.
"""

import difflib
import re
from pathlib import Path

from ops.checkpoints import manifest
from ops.checkpoints.manifest import read_manifest, read_unsupported
from ops.utils.errors import UserError

_NAME = re.compile(r"\w+(-\w+)*")  # no dot and no slash, as every path of a weight file has
_SUGGESTIONS = 3
# Words of a name that others write differently.
_SYNONYMS = {
    "kinetics": "k400",
    "kinetics400": "k400",
    "something": "sthv1",
    "somethingv1": "sthv1",
    "somethingv2": "sthv2",
    "ssv1": "sthv1",
    "ssv2": "sthv2",
    "resnet18": "r18",
    "resnet50": "r50",
    "resnet101": "r101",
    "tanet": "tam",
    "mbv2": "mobilenetv2",
    "8": "8f",
    "16": "16f",
}


def resolve_weights(source: str | Path) -> Path:
    """The file that is meant by a path or by the name of a published file.

    Args:
        source: a weight file; the folder of a training run, which stands for its ``best.pth``; or
            a name such as ``tsm_r50_8f_k400``. A file or folder that exists takes precedence.

    Returns:
        The path of a file. A path that does not exist is returned as it is, for the reader to
        refuse.

    Raises:
        UserError: a published file that is not there yet, a name that nothing has, or a folder
            without ``best.pth``.
    """
    path = Path(source)
    if path.is_dir():
        return _best_of_run(path)
    if path.exists() or not _NAME.fullmatch(str(source)):
        return path
    entry = find_entry(str(source))
    file = manifest.FOLDER / entry["file"]
    if not file.is_file():
        raise UserError(f"{source}: is not downloaded yet; {how_to_get(entry)}")
    return file


def find_entry(name: str) -> dict:
    """The entry of the manifest with this name.

    Raises:
        UserError: there is none (the message has the nearest names), or the file cannot be loaded.
    """
    entries = read_manifest()
    for entry in entries:
        if entry["id"] == name:
            return entry
    for entry in read_unsupported():
        if entry["id"] == name:
            raise UserError(f"{name}: cannot be loaded ({entry['reason']})")
    nearest = nearest_names(name, [entry["id"] for entry in entries])
    hint = f"; did you mean {' or '.join(nearest)}?" if nearest else ""
    raise UserError(
        f"{name}: no such file, and no published weights have this name{hint} "
        f"(python tools/weights.py list)"
    )


def nearest_names(name: str, names: list[str]) -> list[str]:
    """The most similar of ``names``; the order of the words does not matter."""
    by_words = {_sorted_words(known): known for known in names}
    matches = difflib.get_close_matches(_sorted_words(name), by_words, n=_SUGGESTIONS, cutoff=0.7)
    return [by_words[match] for match in matches]


def _sorted_words(name):
    words = re.split(r"[-_. ]+", name.lower())
    return "_".join(sorted(_SYNONYMS.get(word, word) for word in words))


def how_to_get(entry: dict) -> str:
    """What a user does to get the file of an entry, as the end of a sentence."""
    if entry["url"]:
        return f"fetch it with: python tools/weights.py get {entry['id']}"
    return (
        f"open {entry['page']}, take {entry['take']}, and save it as "
        f"{manifest.FOLDER / entry['file']}"
    )


def _best_of_run(folder):
    """``best.pth`` of a training run. Raises UserError if there is none."""
    best = folder / "best.pth"
    if best.is_file():
        return best
    others = sorted(other.name for other in folder.glob("*.pth*"))
    hint = f"; it contains {', '.join(others[:3])}" if others else ""
    raise UserError(f"{folder}: a folder without best.pth; give the checkpoint file itself{hint}")
