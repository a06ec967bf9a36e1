"""Pack the videos of lists, files or folders of frames, into a shard set: tar files and an index.

    python tools/make_shards.py train.txt val.txt --root_path videos --out k400.shards
    python main.py kinetics RGB --root_path k400.shards ...
        or a copy elsewhere: --root_path s3://bucket/k400.shards

Training and tests read single videos from it, on a disk or at any fsspec URL, exactly as from the
files; webdataset streams it (docs/data.md). The same command completes an earlier run that was
interrupted, and writes the same bytes. On a complete set it reads everything and compares it with
the videos.
"""

import argparse
import os
import re
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from lib.arguments import command_parser
from ops.cli.types import positive_int
from ops.utils.errors import UserError, run_cli
from ops.utils.text import counted

UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}
SHARD_SET_SUFFIX = ".shards"


def main() -> None:
    args = parser().parse_args()
    if not args.out.stem or args.out.suffix != SHARD_SET_SUFFIX:
        raise UserError(f"--out {args.out}: a shard set is a folder named NAME{SHARD_SET_SUFFIX}")
    from lib.videos.shard_set import find_videos, make_shard_set  # not needed for --help

    videos = find_videos(args.lists, args.root_path, args.num_class, args.multi_label)
    made = make_shard_set(videos, args.out, args.shard_size, args.processes)
    size = sum(shard.size for shard in made)
    print(
        f"{args.out}: {counted(len(videos), 'video')} in {counted(len(made), 'shard')}, "
        f"{size / UNITS['G']:.3g} GB"
    )


def parser() -> argparse.ArgumentParser:
    top = command_parser(__doc__)
    top.add_argument(
        "lists",
        nargs="+",
        metavar="LIST",
        help="lists of the videos, as for --train_list and --val_list",
    )
    top.add_argument(
        "--root_path",
        default="",
        metavar="DIR",
        help="folder that the paths of the lists are relative to (default: the current folder)",
    )
    top.add_argument(
        "--out",
        required=True,
        type=Path,
        metavar="NAME.shards",
        help="folder of the shard set; created if missing",
    )
    top.add_argument(
        "--shard_size",
        type=parse_bytes,
        default="1GB",
        metavar="SIZE",
        help="maximum size of a shard with several videos, such as 500MB or 2GB (default: 1GB)",
    )
    top.add_argument(
        "--num_class",
        type=positive_int,
        metavar="N",
        help="number of classes (default: no limit on labels)",
    )
    top.add_argument(
        "--multi_label",
        action="store_true",
        help="a video can have several labels, joined by commas; needs --num_class",
    )
    top.add_argument(
        "-j",
        "--processes",
        type=positive_int,
        default=os.cpu_count() or 1,
        metavar="N",
        help="number of processes, each of which writes one shard (default: one per core)",
    )
    return top


def parse_bytes(text: str) -> int:
    """A flag's number of bytes, such as ``1GB``, ``500M`` or ``1000000``."""
    match = re.fullmatch(r"([0-9]{1,9}(?:\.[0-9]{1,9})?)([KMGT]?)B?", text.upper())
    size = round(float(match[1]) * UNITS[match[2]]) if match else 0
    if size < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a size like 1GB or 500MB")
    return size


if __name__ == "__main__":
    run_cli(main)
