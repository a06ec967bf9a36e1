"""The published weight files (``pretrained/manifest.json``), and which of them a file is.

A file is known by its SHA-256: MMAction2 publishes its first digits, and the hash of any other file
is recorded (``pretrained/sha256.json``) when ``tools/weights.py get`` has downloaded it, or by
``tools/weights.py record``. Then its name does not matter.
"""

import json
from pathlib import Path

from ops.utils.errors import UserError
from ops.utils.files import atomic_write, read_regular, sha256

FOLDER = Path(__file__).resolve().parents[2] / "pretrained"
MANIFEST = FOLDER / "manifest.json"
RECORDS = FOLDER / "sha256.json"


def read_manifest() -> list[dict]:
    """The entries of the files that can be loaded, as ``pretrained/README.md`` describes them."""
    return _read()["files"]


def read_unsupported() -> list[dict]:
    """The published files that cannot be loaded; ``reason`` says why."""
    return _read()["unsupported"]


def _read() -> dict:
    return json.loads(MANIFEST.read_text(encoding="utf-8"))


def read_records(path: Path | None = None) -> dict[str, dict]:
    """The recorded hashes.

    Args:
        path: the file of records; None is ``pretrained/sha256.json``.

    Returns:
        File name -> {"id", "sha256"}; empty if nothing has been recorded.

    Raises:
        UserError: the file is not one that ``tools/weights.py`` wrote.
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
    raise UserError(f"{path}: not a file that tools/weights.py wrote; move it away")


def write_record(path: Path, file_name: str, entry_id: str, digest: str) -> None:
    """Record the hash of a file; records of other files stay.

    Args:
        path: the file of records.
        file_name: name of the weight file, without its folder.
        entry_id: id of its entry in the manifest.
        digest: its SHA-256, in hexadecimal.

    Raises:
        UserError: the file of records is not one that ``tools/weights.py`` wrote.
        OSError: it cannot be written.
    """
    from ops.utils.locks import waiting_lock  # a slow import, which reading does not need

    with waiting_lock(path.with_name(f".{path.name}.lock"), f"{path}: waiting for another process"):
        records = read_records(path)
        records[file_name] = {"id": entry_id, "sha256": digest}
        with atomic_write(path, "w") as file:
            json.dump(records, file, indent=1, sort_keys=True)
            file.write("\n")


def entry_of_hash(digest: str, records: dict[str, dict]) -> dict | None:
    """The manifest entry of a file with this hash.

    Args:
        digest: SHA-256 of the file, in hexadecimal.
        records: result of :func:`read_records`. They take precedence over the manifest.

    Returns:
        The entry, or None for a file that is in neither of the two.
    """
    entries = read_manifest()
    for record in records.values():
        if record["sha256"] == digest:
            return next((entry for entry in entries if entry["id"] == record["id"]), None)
    return next((entry for entry in entries if has_hash(entry, digest)), None)


def has_hash(entry: dict, digest: str) -> bool:
    """Whether the published hash of an entry, or its first digits, are those of ``digest``."""
    return entry["sha256"] is not None and digest.startswith(entry["sha256"])


def published_entry(path: str | Path) -> dict | None:
    """The manifest entry of a weight file.

    It is known by its hash, whatever its name. A file in ``pretrained/`` without a published or
    recorded hash is known by its name.

    Args:
        path: an existing file.

    Returns:
        The entry, or None for a file that is not known.

    Raises:
        UserError: the records, or the file, cannot be read; the file is one that cannot be loaded;
            or it has the name of an entry, in ``pretrained/``, but another hash.
    """
    path = Path(path)
    digest, records = sha256(path), read_records()
    for unsupported in read_unsupported():
        if has_hash(unsupported, digest):
            name, reason = unsupported["id"], unsupported["reason"]
            raise UserError(f"{path}: is {name}, which cannot be loaded ({reason})")
    entry = entry_of_hash(digest, records)
    if entry is not None or path.absolute().parent.resolve() != FOLDER.resolve():
        return entry
    entry = next((entry for entry in read_manifest() if entry["file"] == path.name), None)
    if entry is None:
        return None
    record = records.get(path.name)
    expected = record["sha256"] if record else entry["sha256"]
    if expected is not None:
        raise UserError(
            f"{path}: is not {entry['id']}: its sha256 is {digest}, not {expected}; remove it and "
            f"fetch it again: python tools/weights.py get {entry['id']}"
        )
    return entry


def published_spec(entry: dict) -> dict:
    """Arguments of ``ops.models.TSN`` that an entry contains, and ``dataset``."""
    spec = {name: entry[name] for name in ("dataset", "arch", "modality", "module", "num_class")}
    spec["num_segments"] = entry["T"]
    spec.update((name, value) for name, value in entry["options"].items() if name != "dense")
    if entry["module"] == "tsm":
        spec.setdefault("shift_direction", "both")  # causal are the entries that name a direction
    return {name: value for name, value in spec.items() if value is not None}


def published_sampling(entry: dict) -> str | None:
    """The test sampling that all published results of an entry share, else None."""
    samplings = {result["sampling"] for result in entry["expected"]}
    return samplings.pop() if len(samplings) == 1 else None
