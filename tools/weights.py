"""List, download and identify published weight files, and print the accuracy to expect of them.

    python tools/weights.py list --system tsm --dataset kinetics
    python tools/weights.py get tsm_r50_8f_k400
    python tools/weights.py get --all --system tsm --dataset something
    python tools/weights.py check pretrained/*.pth
    python tools/weights.py record pretrained/best.pth.tar tdn_r50_8f_sthv1

The entries are in pretrained/manifest.json, and docs/model_zoo.md has a table of them. A file that
get has downloaded can be given by its name wherever a weight file can: --weights tsm_r50_8f_k400.
A file is identified by its sha256, of which MMAction2 publishes the first digits. Other files are
identified by their weights and their name: all entries that fit are listed, until you record which
one a file is (pretrained/sha256.json).
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from lib.arguments import command_parser
from ops.checkpoints.manifest import RECORDS, read_manifest
from ops.utils.errors import repeatable, run_cli

FILTERS = ("system", "module", "dataset")


def main() -> None:
    args = parser().parse_args()
    given = {name: getattr(args, name, None) for name in FILTERS}
    given = {name: value for name, value in given.items() if value is not None}
    from lib.weights import weight_downloads  # imports that --help does not need

    if args.command == "get":
        with repeatable():
            weight_downloads.get_files(args.names, given, args.all)
        return
    from lib.weights import published  # imports PyTorch

    if args.command == "list":
        published.print_entries(weight_downloads.find_entries(given))
    elif args.command == "check":
        published.check_files(args.files, args.records)
    else:
        published.record(args.file, args.id, args.records, args.force)


def parser() -> argparse.ArgumentParser:
    top = command_parser(__doc__)
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")

    purpose = "list the published files, with the protocols and accuracy their authors report"
    command = commands.add_parser("list", help=purpose, description=purpose, allow_abbrev=False)
    add_filters(command)

    purpose = "download published files to pretrained/; a download that was interrupted continues"
    command = commands.add_parser("get", help=purpose, description=purpose, allow_abbrev=False)
    command.add_argument("names", nargs="*", metavar="NAME", help="ids that list prints")
    command.add_argument(
        "--all", action="store_true", help="all files, or those of --system, --module and --dataset"
    )
    add_filters(command)

    purpose = "find the entry of a file, and print the accuracy to expect of it"
    command = commands.add_parser("check", help=purpose, description=purpose, allow_abbrev=False)
    command.add_argument("files", nargs="+", type=Path, metavar="FILE", help="weight files")
    add_records(command)

    purpose = "record the sha256 of a file, by which check, the tests and --tune_from identify it"
    command = commands.add_parser("record", help=purpose, description=purpose, allow_abbrev=False)
    command.add_argument(
        "file", type=Path, metavar="FILE", help="a file of known origin, as its authors publish it"
    )
    command.add_argument("id", metavar="ID", help="an id that list prints")
    command.add_argument(
        "--force", action="store_true", help="replace the record of another file of this name"
    )
    add_records(command)
    return top


def add_filters(command: argparse.ArgumentParser) -> None:
    for name in FILTERS:
        command.add_argument(
            f"--{name}",
            choices=sorted({entry[name] for entry in read_manifest()}),
            help=f"only the files of this {name}",
        )


def add_records(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--records",
        type=Path,
        default=RECORDS,
        metavar="FILE",
        help="file of the records (default: pretrained/sha256.json)",
    )


if __name__ == "__main__":
    run_cli(main)
