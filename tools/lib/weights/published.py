"""Identification of published weight files, for tools/weights.py."""

import re
from pathlib import Path
from typing import NamedTuple

from lib.measure import table
from ops.checkpoints import load_model
from ops.checkpoints.file_names import spec_of_name
from ops.checkpoints.identify import read_weights
from ops.checkpoints.layouts import layout_name
from ops.checkpoints.manifest import (
    entry_of_hash,
    has_hash,
    read_manifest,
    read_records,
    write_record,
)
from ops.checkpoints.names import resolve_weights
from ops.utils.errors import UserError
from ops.utils.files import sha256
from ops.utils.text import counted

HEADER = (
    "id",
    "module",
    "arch",
    "modality",
    "T",
    "dataset",
    "frames x crops x clips",
    "size",
    "sampling",
    "top-1",
    "top-5",
    "mAP",
    "source",
)


class FileFacts(NamedTuple):
    """What a weight file and its name contain.

    Attributes:
        layout: key of ``ops.checkpoints.layouts.LAYOUTS``.
        spec: arguments of ``ops.models.TSN``.
        dataset: name, or None if it is not in the file.
        dense: whether its name contains dense sampling; None if it has no such name.
    """

    layout: str
    spec: dict
    dataset: str | None
    dense: bool | None


def check_files(paths: list[Path], records_path: Path) -> None:
    """Print a paragraph about each file.

    Raises:
        UserError: at the end, if a file cannot be read, differs from its record or fits no entry.
    """
    bad = 0
    for number, path in enumerate(paths):
        if number:
            print()
        try:
            bad += not check_file(path, read_records(records_path))
        except UserError as error:
            print(error)
            bad += 1
    if bad:
        raise UserError(
            f"{bad} of {len(paths)} files were not identified, or differ from their record; "
            f"see above"
        )


def check_file(path: Path, records: dict[str, dict]) -> bool:
    """Print which entries a file can be.

    Args:
        path: of the file.
        records: what :func:`ops.checkpoints.manifest.read_records` returns.

    Returns:
        whether an entry fits and the file is the one that was recorded.

    Raises:
        UserError: the file cannot be read, or does not load strictly.
    """
    path = resolve_weights(path)
    digest = sha256(path)
    is_changed = path.name in records and records[path.name]["sha256"] != digest
    if is_changed:
        record = records[path.name]
        print(
            f"{path}: NOT the file of this name that was recorded as {record['id']}, but changed, "
            f"damaged or another one: its sha256 is {digest}, recorded was {record['sha256']}"
        )
    facts = read_facts(path)
    print(f"{path}: layout: {layout_name(facts.layout)}, {_describe(facts.spec)}")
    entry = entry_of_hash(digest, records)
    if entry is not None:
        print(f"is {entry['id']}, by its sha256")
        print_entries([entry])
        return not is_changed
    entries = read_manifest()
    # A file with a published hash would have been found by it.
    fitting = [entry for entry in entries if entry["sha256"] is None and fits(entry, facts)]
    named = [entry for entry in entries if entry["file"] == path.name]
    if named and named[0]["sha256"] is not None:
        print(
            f"has the name of {named[0]['id']}, but its sha256 is {digest}, not "
            f"{named[0]['sha256']}"
        )
        return False
    if named and named[0] not in fitting:
        print(f"has the name of {named[0]['id']}, but other weights")
        return False
    fitting = named or fitting
    if not fitting and facts.layout == "ours":
        print("fits no published file: a checkpoint of this project")
    elif not fitting:
        print("fits no published file")
    if not fitting:
        return False
    evidence = "weights"
    if named or spec_of_name(path):
        evidence = "weights and name"
    if len(fitting) == 1:
        print(f"fits {fitting[0]['id']}, by its {evidence}")
    else:
        print(
            f"fits {len(fitting)} entries, which its {evidence} do not distinguish; "
            f"record the one that it is"
        )
    print_entries(fitting)
    return not is_changed


def _describe(spec: dict) -> str:
    """The model of a file in a few words."""
    module = spec.get("module", "module not in the file,")
    modality = spec.get("modality", "RGB")
    classes = counted(spec["num_class"], "class", "classes")
    segments = spec.get("num_segments", "not in the file")
    return f"{module} {spec['arch']}, {modality}, {classes}, T {segments}"


def record(path: Path, entry_id: str, records_path: Path, force: bool) -> None:
    """Record that a file is an entry of the manifest, by its sha256.

    Args:
        path: of the file.
        entry_id: id of the entry.
        records_path: file of the records.
        force: whether the record of another file of this name is replaced.

    Raises:
        UserError: the entry does not exist or does not fit the file, another file of this name is
            recorded, or a file cannot be read or written.
    """
    entries = {entry["id"]: entry for entry in read_manifest()}
    if entry_id not in entries:
        raise UserError(f"{entry_id}: no such entry; python tools/weights.py list prints them")
    path = resolve_weights(path)
    facts = read_facts(path)
    records = read_records(records_path)
    digest = sha256(path)
    entry = entries[entry_id]
    if entry["sha256"] is not None and not has_hash(entry, digest):
        raise UserError(f"{path}: is not {entry_id}: its sha256 is {digest}, not {entry['sha256']}")
    if not fits(entry, facts):
        raise UserError(
            f"{path}: is not {entry_id}, by its weights and its name; "
            f"python tools/weights.py check lists what it can be"
        )
    new = {"id": entry_id, "sha256": digest}
    old = records.get(path.name, new)
    if old != new and not force:
        raise UserError(
            f"{records_path}: another file or entry is recorded for {path.name} ({old['id']}, "
            f"sha256 {old['sha256']}); --force replaces it"
        )
    try:
        write_record(records_path, path.name, entry_id, new["sha256"])
    except OSError as error:
        raise UserError(f"{records_path}: cannot be written ({error.strerror})") from None
    print(f"{path.name} is {entry_id}: sha256 {new['sha256']}, written to {records_path}")


def read_facts(path: Path) -> FileFacts:
    """Read a weight file. Raises UserError, also if it does not load strictly."""
    # Without the records, or a wrong one could not be corrected.
    file = read_weights(path, use_records=False)
    load_model(file, quiet=True)
    dense = None
    for name in (path.name, path.resolve().parent.name):
        if "num_segments" in spec_of_name(name):
            dense = "dense" in re.split(r"[_.]", name)
            break
    return FileFacts(file.layout, file.spec, file.dataset, dense)


def fits(entry: dict, facts: FileFacts) -> bool:
    """Whether a file may be an entry: nothing that both contain differs."""
    spec = facts.spec
    found = {
        "layout": facts.layout,
        "dataset": facts.dataset,
        "T": spec.get("num_segments"),
        "arch": spec["arch"],
        "modality": spec.get("modality", "RGB"),
        "num_class": spec["num_class"],
        "module": spec.get("module"),
    }
    options = {**spec, "dense": facts.dense}
    pairs = [(entry[name], value) for name, value in found.items()]
    pairs += [(value, options.get(name)) for name, value in entry["options"].items()]
    return all(None in pair or pair[0] == pair[1] for pair in pairs)


def print_entries(entries: list[dict]) -> None:
    """Print a table with one line per protocol, and notes about the entries below."""
    lines = []
    for entry in entries:
        names = ("id", "module", "arch", "modality", "T", "dataset")
        first = [entry[name] for name in names]
        for result in entry["expected"] or [{}]:
            views = [_cell(result.get(name)) for name in ("frames", "crops", "clips")]
            rest = ("size", "sampling", "top1", "top5", "mAP", "source")
            lines.append([*first, " x ".join(views), *(result.get(name) for name in rest)])
    table(HEADER, [[_cell(value) for value in line] for line in lines])
    for entry in entries:
        if entry["caveat"]:
            print(f"{entry['id']}: {entry['caveat']}")
    for names in dict.fromkeys(entry["class_names"] for entry in entries if entry["class_names"]):
        print(f"classes in the order of ops/data/known/{names}")
    for place in dict.fromkeys(entry["published"] for entry in entries):
        print(f"published by {place}")


def _cell(value: object) -> str:
    if value is None:
        return "-"
    return str(value)
