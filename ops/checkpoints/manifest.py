"""The published weight files (``pretrained/manifest.json``), and which of them a file of the user's is.

Nobody has published hashes, so the user records once which entry a file is (``tools/weights.py record``); from then on it
is known by its content, whatever its name.
"""

import json
from pathlib import Path

from ops.utils.errors import UserError
from ops.utils.files import read_regular, sha256

MANIFEST = Path(__file__).resolve().parents[2] / "pretrained" / "manifest.json"
RECORDS = MANIFEST.with_name("sha256.json")


def read_manifest() -> list[dict]:
    """The entries of the manifest, as ``pretrained/README.md`` describes them."""
    return json.loads(MANIFEST.read_text(encoding="utf-8"))


def read_records(path: Path | None = None) -> dict[str, dict]:
    """What the user has recorded.

    Args:
        path: the file of records; None is ``pretrained/sha256.json``.

    Returns:
        File name -> {"id", "sha256"}; empty if nothing has been recorded.

    Raises:
        UserError: the file is not one that ``record`` wrote.
    """
    path = path or RECORDS
    try:
        records = json.loads(read_regular(path).decode())
        if all(
            isinstance(one["id"], str) and isinstance(one["sha256"], str)
            for one in records.values()
        ):
            return records
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, AttributeError, KeyError, TypeError):
        pass
    raise UserError(f"{path}: not a file that record wrote; move it away")


def published_entry(path: str | Path) -> dict | None:
    """The manifest entry of a weight file, by its content.

    Args:
        path: an existing file.

    Returns:
        The entry, or None for a file that neither the manifest nor the user's records know.

    Raises:
        UserError: the records, or the file, cannot be read.
    """
    entries = {entry["id"]: entry for entry in read_manifest()}
    known = {entry["sha256"]: entry["id"] for entry in entries.values() if entry["sha256"]}
    known.update((record["sha256"], record["id"]) for record in read_records().values())
    if not known:
        return None  # and a large file need not be read
    return entries.get(known.get(sha256(path)))


def published_spec(entry: dict) -> dict:
    """Arguments of ``ops.models.TSN`` that an entry contains, and ``dataset``."""
    names = {"dataset": "dataset", "arch": "arch", "modality": "modality", "module": "module"}
    spec = {ours: entry[theirs] for ours, theirs in names.items()}
    spec["num_segments"] = entry["T"]
    spec.update((name, value) for name, value in entry["options"].items() if name != "dense")
    if entry["module"] == "tsm":
        spec.setdefault("shift_direction", "both")  # causal are the entries that name a direction
    return {name: value for name, value in spec.items() if value is not None}


def published_sampling(entry: dict) -> str | None:
    """The test sampling that all published results of an entry share, else None."""
    samplings = {result["sampling"] for result in entry["expected"]}
    return samplings.pop() if len(samplings) == 1 else None
