"""Published weight files: which there are, which one a file is, and what score to expect of it.

    python tools/weights.py list --system tsm --dataset kinetics
    python tools/weights.py check pretrained/*.pth
    python tools/weights.py record pretrained/best.pth.tar tdn_r50_8f_sthv1

pretrained/manifest.json has the entries. A file is known by its sha256, of which MMAction2 publishes
the first digits. Other files are known by their weights and their name: all entries that fit are
listed, until you record which entry a file is (pretrained/sha256.json).
"""

import argparse
import json
import re
import sys
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from lib.measure import table
from ops.checkpoints import load_model
from ops.checkpoints.identify import facts_of_name, read_weights
from ops.checkpoints.layouts import layout_name
from ops.checkpoints.manifest import RECORDS, entry_of_hash, read_manifest, read_records
from ops.utils.errors import UserError, run_cli
from ops.utils.files import atomic_write, sha256
from ops.utils.text import counted

FILTERS = ("system", "module", "dataset")
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


class Seen(NamedTuple):
    """What a file tells: its layout, arguments of ``ops.models.TSN``, data set (None: not told), whether its name says that
    it was trained with dense sampling (None: not told)."""

    layout: str
    spec: dict
    dataset: str | None
    dense: bool | None


def main() -> None:
    args = parser().parse_args()
    args.run(args)


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    verbs = top.add_subparsers(required=True, metavar="VERB")

    def verb(name, run, purpose):
        made = verbs.add_parser(name, help=purpose, description=purpose, allow_abbrev=False)
        made.set_defaults(run=run)
        return made

    one = verb(
        "list",
        list_rows,
        "the published files: protocols and the accuracy that their authors report",
    )
    for name in FILTERS:
        one.add_argument(
            f"--{name}",
            choices=sorted({row[name] for row in read_manifest()}),
            help=f"of one {name} only",
        )
    one = verb("check", check, "say which row a file is, and what to expect of it")
    one.add_argument("files", nargs="+", type=Path, metavar="FILE", help="weight files")
    add_records(one)
    one = verb(
        "record",
        record,
        "write down which row a file is, by its sha256, so that check, the test scripts and --tune_from know it",
    )
    one.add_argument(
        "file", type=Path, metavar="FILE", help="a file that you know, fresh from its authors"
    )
    one.add_argument("id", metavar="ID", help="a row that list shows")
    one.add_argument(
        "--force", action="store_true", help="replace what is recorded for a file of this name"
    )
    add_records(one)
    return top


def add_records(verb: argparse.ArgumentParser) -> None:
    verb.add_argument(
        "--records",
        type=Path,
        default=RECORDS,
        metavar="FILE",
        help="where record writes (default: pretrained/sha256.json)",
    )


def list_rows(args: argparse.Namespace) -> None:
    rows = [
        row
        for row in read_manifest()
        if all(getattr(args, name) in (None, row[name]) for name in FILTERS)
    ]
    if not rows:
        raise UserError("no published file is known of all these; leave a flag out")
    print_rows(rows)


def check(args: argparse.Namespace) -> None:
    """Print a paragraph a file. Raises UserError at the end if one cannot be read, is not what was recorded or fits no row."""
    bad = 0
    for number, path in enumerate(args.files):
        if number:
            print()
        try:
            bad += not check_file(path, read_records(args.records))
        except UserError as error:
            print(error)
            bad += 1
    if bad:
        raise UserError(
            f"{bad} of {len(args.files)} files could not be told or are not what they should be; see above"
        )


def check_file(path: Path, records: dict[str, dict]) -> bool:
    """Print which rows a file can be. Returns whether there is one and nothing speaks against it. Raises UserError."""
    digest, rows = sha256(path), read_manifest()
    changed = records.get(path.name, {"sha256": digest})["sha256"] != digest
    if changed:
        print(
            f"{path}: NOT the file of this name that was recorded as {records[path.name]['id']}, but changed, damaged or "
            f"another one: its sha256 is {digest}, recorded was {records[path.name]['sha256']}"
        )
    seen = look(path)
    spec = seen.spec
    module = spec.get("module", "module not in the file,")
    kind = f"{module} {spec['arch']}, {spec.get('modality', 'RGB')}, {counted(spec['num_class'], 'class', 'classes')}"
    print(
        f"{path}: layout: {layout_name(seen.layout)}, {kind}, T {spec.get('num_segments', 'not told')}"
    )
    entry = entry_of_hash(digest, records)
    if entry is not None:
        print(f"is {entry['id']}, by its sha256")
        print_rows([entry])
        return not changed
    fitting = [row for row in rows if fits(row, seen)]
    named = [row for row in rows if row["file"] == path.name]
    if named and named[0] not in fitting:
        print(f"has the name of {named[0]['id']}, but does not hold it")
        return False
    fitting = named or fitting
    if not fitting:
        print(
            "fits no published file"
            + (": a checkpoint of this project" if seen.layout == "ours" else "")
        )
        return False
    by = "name and weights" if named else "weights and name" if facts_of_name(path) else "weights"
    print(
        f"fits {fitting[0]['id']}, by its {by}"
        if len(fitting) == 1
        else f"fits {len(fitting)} rows, which its {by} cannot tell apart; record says which it is"
    )
    print_rows(fitting)
    return not changed


def record(args: argparse.Namespace) -> None:
    row = next((row for row in read_manifest() if row["id"] == args.id), None)
    if row is None:
        raise UserError(f"{args.id}: no such row; python tools/weights.py list shows them")
    seen, records = look(args.file), read_records(args.records)
    if not fits(row, seen):
        raise UserError(
            f"{args.file}: is not {args.id}, by what its weights and its name tell; check says what it can be"
        )
    new = {"id": args.id, "sha256": sha256(args.file)}
    old = records.get(args.file.name, new)
    if old != new and not args.force:
        raise UserError(
            f"{args.records}: another file or row is recorded for {args.file.name} ({old['id']}, sha256 "
            f"{old['sha256']}); --force to replace it"
        )
    try:
        with atomic_write(args.records, "w") as file:
            json.dump({**records, args.file.name: new}, file, indent=1, sort_keys=True)
            file.write("\n")
    except OSError as error:
        raise UserError(f"{args.records}: cannot be written ({error.strerror})") from None
    print(f"{args.file.name} is {args.id}: sha256 {new['sha256']}, written to {args.records}")


def look(path: Path) -> Seen:
    """Read a weight file. Raises UserError, also if it does not load strictly."""
    file = read_weights(path, use_records=False)  # or a wrong record could not be corrected
    load_model(file, quiet=True)
    names = [
        name
        for name in (path.name, path.resolve().parent.name)
        if "num_segments" in facts_of_name(name)
    ]
    dense = "dense" in re.split(r"[_.]", names[0]) if names else None
    return Seen(file.layout, file.spec, file.dataset, dense)


def fits(row: dict, seen: Seen) -> bool:
    """Whether nothing that a file tells speaks against a row; what either of the two does not tell speaks not."""
    options, spec = row["options"], seen.spec
    told = {
        "layout": seen.layout,
        "dataset": seen.dataset,
        "T": spec.get("num_segments"),
        "arch": spec["arch"],
        "modality": spec.get("modality", "RGB"),
        "num_class": spec["num_class"],
        "module": spec.get("module"),
    }
    pairs = [(row[name], value) for name, value in told.items()]
    pairs += [(options.get(name), spec.get(name)) for name in options if name != "dense"] + [
        (options.get("dense"), seen.dense)
    ]
    return all(None in pair or pair[0] == pair[1] for pair in pairs)


def print_rows(rows: list[dict]) -> None:
    """A table with a line for each protocol, and what one must know of a row below."""
    lines = []
    for row in rows:
        who = [row["id"], row["module"], row["arch"], row["modality"], row["T"], row["dataset"]]
        for one in row["expected"] or [{}]:
            views = " x ".join(cell(one.get(name)) for name in ("frames", "crops", "clips"))
            lines.append(
                [
                    *who,
                    views,
                    *(
                        one.get(name)
                        for name in ("size", "sampling", "top1", "top5", "mAP", "source")
                    ),
                ]
            )
    table(HEADER, [[cell(value) for value in line] for line in lines])
    for row in rows:
        if row["caveat"]:
            print(f"{row['id']}: {row['caveat']}")
    for names in dict.fromkeys(row["class_names"] for row in rows if row["class_names"]):
        print(f"classes in the order of ops/data/known/{names}")
    for place in dict.fromkeys(row["published"] for row in rows):
        print(f"published by {place}")


def cell(value: object) -> str:
    return "-" if value is None else str(value)


if __name__ == "__main__":
    run_cli(main)
