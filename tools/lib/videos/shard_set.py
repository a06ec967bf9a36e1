"""Makes a shard set, its shards and its index: what make_shards.py does."""

import json
import math
import os
import re
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

from tqdm import tqdm

from lib.messages import first_names
from lib.videos.shard_files import (
    MadeShard,
    PackedVideo,
    Shard,
    cannot_pack,
    make_shard,
    packed_size,
)
from lib.videos.sturdy_pool import Lost, run_jobs
from lib.videos.video_jobs import ANY_LABEL, Job, clean_up
from ops.data.lists import Record, VideoList, check_files, read_list, resolve
from ops.data.readers.shards import INDEX, shard_name
from ops.utils.errors import UserError, repeatable
from ops.utils.files import atomic_write
from ops.utils.locks import exclusive_lock

FORMAT_VERSION = 1
SHARD_NAME = re.compile(r"shard-[0-9]{6}\.tar")
THREADS = 16  # that ask for file sizes: on a network disk each call waits for the server


def find_videos(
    lists: list[str], root_path: str, num_class: int | None, multi_label: bool
) -> list[PackedVideo]:
    """The videos of lists, in their order.

    Args:
        lists: paths.
        root_path: folder that their paths are relative to.
        num_class: number of classes; None: no limit on labels.
        multi_label: whether a video can have several labels.

    Raises:
        UserError: a video is missing, listed twice or outside of the root.
    """
    if multi_label and num_class is None:
        raise UserError("--multi_label needs --num_class")
    places: dict[str, str] = {}  # path below the root -> line of a list
    videos: list[PackedVideo] = []
    for path in lists:
        records = read_list(
            path,
            root_path=root_path,
            num_class=num_class or ANY_LABEL,
            multi_label=multi_label,
        )
        _refuse_missing(records)
        for record in records:
            place = f"{path}:{record.line}"
            source = resolve(record.path)
            name = os.path.relpath(source, root_path or ".")
            if not _is_below_root(record, name):
                raise UserError(
                    f"{place}: {record.id} is not relative to --root_path, so a shard set cannot "
                    "contain it; write the list relative to a folder that contains all its videos"
                )
            if name in places:
                raise UserError(
                    f"{place}: {record.id} is listed before, in {places[name]}; remove one of the "
                    "lines"
                )
            places[name] = place
            videos.append(PackedVideo(len(videos), name, source, record.label))
    return videos


def _is_below_root(record: Record, name: str) -> bool:
    return not os.path.isabs(record.id) and name.split(os.sep)[0] not in (os.pardir, os.curdir)


def _refuse_missing(videos: VideoList) -> None:
    missing = check_files(videos)
    if missing:
        names = first_names([f"{record.id} (line {record.line})" for record in missing])
        raise UserError(
            f"{videos.path}: {len(missing)} of {len(videos)} videos are missing: {names}; correct "
            "the list (tools/check_videos.py --clean) or --root_path"
        )


def make_shard_set(
    videos: list[PackedVideo], out: Path, shard_size: int, processes: int
) -> list[MadeShard]:
    """Write the shards that do not exist yet, read all of them back, and write the index.

    Args:
        videos: in the order of the set.
        out: folder of the set.
        shard_size: largest size of a shard with several videos, in bytes.
        processes: number of processes.

    Raises:
        UserError: ``out`` has shards of other videos, another run is writing to it, or a file
            cannot be read or written.
    """
    try:
        shards = plan(videos, shard_size, out)
        out.mkdir(parents=True, exist_ok=True)
        with exclusive_lock(out, "run", "--out"), repeatable():
            return _make(shards, out, processes)
    except OSError as error:
        raise cannot_pack(error, out) from None


def plan(videos: list[PackedVideo], shard_size: int, out: Path) -> list[Shard]:
    """Divide videos into shards, in order; arguments as of ``make_shard_set``."""
    shards: list[Shard] = []
    used = math.inf  # bytes of the last shard
    with (
        ThreadPoolExecutor(THREADS) as pool,
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
            if used + size > shard_size:
                number = len(shards)
                shards.append(Shard(str(out / shard_name(number)), number, []))
                used = 0
            shards[-1].videos.append(video)
            used += size
    return shards


def _make(shards: list[Shard], out: Path, processes: int) -> list[MadeShard]:
    names = {os.path.basename(shard.path) for shard in shards}
    for name in sorted(os.listdir(out)):
        if SHARD_NAME.fullmatch(name) and name not in names:
            raise UserError(
                f"{out / name} is a shard of other lists or another --shard_size; give another "
                "--out, or remove it"
            )
    clean_up([Job("", shard.path) for shard in shards])
    made: dict[int, MadeShard] = {}
    with (
        closing(run_jobs(make_shard, shards, processes, math.inf)) as results,
        tqdm(total=sum(len(shard.videos) for shard in shards), unit="video", disable=None) as bar,
    ):
        for index, result in results:
            if isinstance(result, Lost):
                raise UserError(
                    f"the process that wrote {shards[index].path} {result.reason}; repeat the "
                    "command to continue"
                )
            made[index] = result
            bar.update(len(shards[index].videos))
    ordered = [made[index] for index in range(len(shards))]
    _write_index(out / INDEX, ordered)
    return ordered


def _write_index(path: Path, shards: list[MadeShard]) -> None:
    """Write the index: a header, and one line per video, sorted by id."""
    header = {"version": FORMAT_VERSION, "shards": [[one.size, one.digest] for one in shards]}
    lines = []
    for shard in shards:
        lines += shard.index_lines
    with atomic_write(path) as file:
        file.write(json.dumps(header).encode() + b"\n")
        for video_id, location in sorted(lines):
            file.write(video_id + b"\t" + location + b"\n")
