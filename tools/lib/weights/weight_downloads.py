"""Selection and download of published weight files, for tools/weights.py."""

from ops.checkpoints import manifest
from ops.checkpoints.download import fetch
from ops.checkpoints.names import find_entry, how_to_get
from ops.utils.errors import UserError
from ops.utils.text import counted


def find_entries(fields: dict[str, str]) -> list[dict]:
    """The entries of the manifest with these values. Raises UserError if there are none."""
    entries = [
        entry
        for entry in manifest.read_manifest()
        if all(entry[name] == value for name, value in fields.items())
    ]
    if not entries:
        raise UserError("no published file is known with all of these; leave a flag out")
    return entries


def get_files(names: list[str], fields: dict[str, str], is_all: bool) -> None:
    """Download published files, and print a line about each.

    Args:
        names: ids of entries.
        fields: values that the entries have; with ``is_all`` only.
        is_all: all entries with these values, in place of names.

    Raises:
        UserError: the selection is not clear, or, at the end, files are missing.
    """
    if is_all == bool(names) or (fields and not is_all):
        raise UserError("give names, or --all with --system, --module or --dataset")
    entries = find_entries(fields) if is_all else [find_entry(name) for name in names]
    failed = by_hand = 0
    for entry in entries:
        path = manifest.FOLDER / entry["file"]
        if not entry["url"] and not path.exists():
            print(f"{entry['id']}: cannot be downloaded by a program: {how_to_get(entry)}")
            by_hand += 1
            continue
        try:
            path, is_new = fetch(entry)
        except UserError as error:
            if len(entries) == 1:
                raise
            print(error)
            failed += 1
            continue
        print(f"{entry['id']}: {path} ({'downloaded' if is_new else 'exists'})")
    if failed or by_hand:
        raise UserError(
            f"of {counted(len(entries), 'file')}, {failed} could not be downloaded, and {by_hand} "
            f"have to be downloaded by hand; see above"
        )
