"""Pack the videos of lists, files or folders of frames, into a shard set: a few large tar files and an index.

    python tools/make_shards.py train.txt val.txt --root_path videos --out k400.shards
    python main.py kinetics RGB --root_path k400.shards ...             or where it was copied to: s3://bucket/k400.shards

Training and tests read single videos from it, on a disk or at any URL of fsspec, exactly as from the files, and webdataset
streams it (docs/data.md). The same command goes on where an earlier one was cut off, and makes the same bytes; on a set
that is whole it reads everything and compares.
"""

import argparse
import json
import math
import os
import re
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

from tqdm import tqdm

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from lib.shard_files import Made, Shard, Video, failed, make_shard, packed_size
from lib.sturdy_pool import Lost, run_jobs
from lib.video_jobs import Job, clean_up
from ops.cli.types import positive_int
from ops.data.lists import VideoList, check_files, read_list, resolve
from ops.data.readers.shards import INDEX, shard_name
from ops.utils.errors import UserError, run_cli
from ops.utils.files import atomic_write
from ops.utils.locks import exclusive_lock
from ops.utils.signals import repeatable

_UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}


def main() -> None:
    args = parser().parse_args()
    if not args.out.name.endswith(".shards") or args.out.name == ".shards":
        raise UserError(
            f"--out {args.out}: a shard set is a folder called NAME.shards; give such a name"
        )
    videos = find_videos(args)
    try:
        shards = plan(videos, args.shard_size, args.out)
        args.out.mkdir(parents=True, exist_ok=True)
        with exclusive_lock(args.out, "run", "--out"), repeatable():
            made = make(shards, args.out, args.processes)
    except OSError as error:
        raise failed(error, args.out) from None
    print(
        f"{args.out}: {len(videos)} videos in {len(made)} shards, {sum(one.size for one in made) / 1e9:.3g} GB"
    )


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    top.add_argument(
        "lists",
        nargs="+",
        metavar="LIST",
        help="lists whose videos are packed, as --train_list and --val_list",
    )
    top.add_argument(
        "--root_path",
        default="",
        metavar="DIR",
        help="folder that the lists are relative to (default: the current one)",
    )
    top.add_argument(
        "--out",
        required=True,
        type=Path,
        metavar="NAME.shards",
        help="folder of the shard set; made if it is not there",
    )
    top.add_argument(
        "--shard_size",
        type=size_of,
        default="1GB",
        metavar="SIZE",
        help="a shard ends before the video that would make it larger: 500MB, 2GB (default: 1GB)",
    )
    top.add_argument(
        "--num_class",
        type=positive_int,
        metavar="N",
        help="number of classes (default: labels are not limited)",
    )
    top.add_argument(
        "--multi_label",
        action="store_true",
        help="a video may have several labels, joined by commas; needs --num_class",
    )
    top.add_argument(
        "-j",
        "--processes",
        type=positive_int,
        default=os.cpu_count() or 1,
        metavar="N",
        help="shards worked on at once (default: one for each core)",
    )
    return top


def size_of(text: str) -> int:
    """Bytes from ``1GB``, ``500M`` or ``1000000``."""
    match = re.fullmatch(r"([0-9]{1,9}(?:\.[0-9]{1,9})?)([KMGT]?)B?", text.upper())
    size = round(float(match[1]) * _UNITS[match[2]]) if match else 0
    if size < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a size like 1GB or 500MB")
    return size


def find_videos(args: argparse.Namespace) -> list[Video]:
    """The videos of the lists, in their order. Raises UserError if one is missing, listed twice or outside the root."""
    if args.multi_label and args.num_class is None:
        raise UserError("--multi_label needs --num_class")
    places: dict[str, str] = {}
    videos = []
    for path in args.lists:
        videos_of_list = read_list(
            path,
            root_path=args.root_path,
            num_class=args.num_class or 10**18,
            multi_label=args.multi_label,
        )
        _refuse_missing(videos_of_list)
        for record in videos_of_list:
            source, place = resolve(record.path), f"{path}:{record.line}"
            name = os.path.relpath(source, args.root_path or ".")
            if os.path.isabs(record.id) or name.split(os.sep)[0] in (os.pardir, os.curdir):
                raise UserError(
                    f"{place}: {record.id} is not given relative to --root_path, so a shard set cannot hold it; "
                    "write the list relative to a folder that holds all its videos"
                )
            if name in places:
                raise UserError(
                    f"{place}: {record.id} is listed before, in {places[name]}; remove one of the lines"
                )
            places[name] = place
            videos.append(Video(len(videos), name, source, record.label))
    return videos


def _refuse_missing(videos: VideoList) -> None:
    missing = check_files(videos)
    if missing:
        names = ", ".join(
            f"{record.id} (line {record.line})" for record in missing[:5]
        ) + ", ..." * (len(missing) > 5)
        raise UserError(
            f"{videos.path}: {len(missing)} of {len(videos)} videos are missing: {names}; mend the list "
            "(tools/check_videos.py --clean) or --root_path"
        )


def plan(videos: list[Video], shard_size: int, out: Path) -> list[Shard]:
    """The videos in shards, in order: how large they are is asked of the disk, from threads, since it may be a network's."""
    shards, total = [], math.inf
    with (
        ThreadPoolExecutor(16) as pool,
        tqdm(
            pool.map(packed_size, videos),
            total=len(videos),
            unit="video",
            desc="sizes",
            disable=None,
            leave=False,
        ) as sizes,
    ):
        for video, size in zip(videos, sizes, strict=True):
            if total + size > shard_size:
                shards.append(Shard(str(out / shard_name(len(shards))), len(shards), []))
                total = 0
            shards[-1].videos.append(video)
            total += size
    return shards


def make(shards: list[Shard], out: Path, processes: int) -> list[Made]:
    """Write the shards that are not there, read all of them back, and write the index. Raises UserError if shards of other
    videos are in ``out``."""
    names = {os.path.basename(shard.path) for shard in shards}
    for name in sorted(os.listdir(out)):
        if re.fullmatch(r"shard-[0-9]{6}\.tar", name) and name not in names:
            raise UserError(
                f"{out / name} is a shard of other lists or another --shard_size; give another --out, or remove it"
            )
    clean_up([Job("", shard.path) for shard in shards])  # removes what killed runs left
    made: dict[int, Made] = {}
    with (
        closing(run_jobs(make_shard, shards, processes, math.inf)) as ends,
        tqdm(total=sum(len(shard.videos) for shard in shards), unit="video", disable=None) as bar,
    ):
        for index, end in ends:
            if isinstance(end, Lost):
                raise UserError(
                    f"the process that wrote {shards[index].path} {end.reason}; repeat the command to go on"
                )
            made[index] = end
            bar.update(len(shards[index].videos))
    ordered = [made[index] for index in range(len(shards))]
    header = {"version": 1, "shards": [[one.size, one.digest] for one in ordered]}
    with atomic_write(out / INDEX) as file:
        file.write(json.dumps(header).encode() + b"\n")
        file.writelines(
            b"\t".join(row) + b"\n" for row in sorted(row for one in ordered for row in one.rows)
        )
    return ordered


if __name__ == "__main__":
    run_cli(main)
