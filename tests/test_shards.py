"""Valid and invalid indexes of shard sets, and reading of shards."""

import json
import os
import random
import tracemalloc
import zlib

import fsspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ops.data.readers.base import UnreadableVideo
from ops.data.readers.shard_paths import StoredVideo, find
from ops.data.readers.shards import INDEX, ByteRange, ShardSet, padded, shard_name
from ops.utils.errors import UserError

DATA = random.Random(0).randbytes(10240)
CRC = zlib.crc32(DATA[512:1012])
ROW = f"\tvideo\t0\t512\t500\t{CRC:08x}\n"


def write_set(folder, rows, told=10240):
    """Write a set of one shard, DATA.

    `told` is its size in the index; `rows` are text, or bytes for the whole index.
    """
    folder.mkdir(exist_ok=True)
    (folder / shard_name(0)).write_bytes(DATA)
    header = {"version": 1, "shards": [[told, "0" * 64]]}
    (folder / INDEX).write_bytes(
        rows if isinstance(rows, bytes) else f"{json.dumps(header)}\n{rows}".encode()
    )
    return str(folder)


def part(offset, size, crc=None):
    return ByteRange(offset, size, zlib.crc32(DATA[offset : offset + size]) if crc is None else crc)


def test_entries_and_bytes(tmp_path):
    names = sorted(
        [*(f"class {i % 7}/v{i}.mp4" for i in range(100)), "視频", "z\r"], key=str.encode
    )
    shards = ShardSet(write_set(tmp_path / "k.shards", "".join(name + ROW for name in names)))
    for name in names:
        assert shards.find(name) == (False, 0, ByteRange(512, 500, CRC))
    for name in ("", ".", "a", "class 0/v", "class 0/v0.mp4\tvideo", "zz", "視", "~"):
        assert shards.find(name) is None
    assert shards.read("v", 0, [ByteRange(512, 500, CRC)]) == [DATA[512:1012]]
    assert ShardSet(write_set(tmp_path / "empty.shards", "")).find("a") is None


@settings(deadline=None, max_examples=50)
@given(places=st.lists(st.tuples(st.integers(0, len(DATA)), st.integers(0, 3000)), max_size=12))
def test_any_parts_together(tmp_path_factory, places):
    shards = ShardSet(write_set(tmp_path_factory.getbasetemp() / "any.shards", ""))
    if sum(size for _, size in places) > len(DATA) or any(
        sum(place) > len(DATA) for place in places
    ):
        with pytest.raises(UnreadableVideo, match="is truncated or damaged"):
            shards.read("v", 0, [part(*place) for place in places])
    else:
        assert shards.read("v", 0, [part(*place) for place in places]) == [
            DATA[i : i + n] for i, n in places
        ]


def test_a_forked_process_opens_its_own_file_system(tmp_path, monkeypatch):
    shards = ShardSet(write_set(tmp_path / "k.shards", ""))
    ours = shards.file_system()
    with monkeypatch.context() as child:
        child.setattr("os.getpid", lambda: 1)
        assert shards.file_system() is not ours and shards.read("v", 0, [part(5, 5)]) == [
            DATA[5:10]
        ]
    assert shards.file_system() is ours


def test_neighbors_are_read_together(tmp_path, monkeypatch):
    shards, asked = ShardSet(write_set(tmp_path / "k.shards", "")), []
    files = shards.file_system()
    whole = type(files).cat_ranges
    monkeypatch.setattr(
        type(files),
        "cat_ranges",
        lambda self, paths, starts, ends, **options: (
            asked.append([*zip(starts, ends, strict=True)])
            or whole(self, paths, starts, ends, **options)
        ),
    )
    shards.read("v", 0, [part(8000, 100), part(512, 700), part(1536, 300), part(9000, 0)])
    assert asked == [[(512, 1836), (8000, 8100)]]


@pytest.mark.parametrize(
    "row",
    [
        "a\tvideo\t0\t512\t500\n",
        "a\tvideo\t0\t512\t500\t0000000g\n",
        "a\tlink\t0\t0\t1\t00000000\n",
        "\tvideo\t0\t0\t1\t00000000\n",
        "a\tvideo\t1\t0\t1\t00000000\n",
        "a\tvideo\t-1\t0\t1\t00000000\n",
        "a\tvideo\t0\t-1\t1\t00000000\n",
        "a\tvideo\t0\t10000\t500\t00000000\n",
        f"a\tvideo\t0\t0\t{10**17}\t00000000\n",
        f"a\tvideo\t0\t{10**30}\t1\t00000000\n",
        "a\tvideo\t../../x\t0\t1\t00000000\n",
        "a" + ROW + "a" + ROW,
        "b" + ROW + "a" + ROW,
        "a" + ROW[:-1],
        "a" + ROW + "\n",
    ],
)
def test_malformed_lines(tmp_path, row):
    root = write_set(tmp_path / "k.shards", "0" + ROW + row)
    with pytest.raises(UserError, match=r"k\.shards/index\.tsv:[34]: malformed line"):
        ShardSet(root)


@pytest.mark.parametrize(
    "header",
    [
        {},
        [],
        1,
        "x",
        None,
        {"version": 2, "shards": []},
        {"version": 1},
        {"version": 1, "shards": 1},
        {"version": 1, "shards": [1]},
        {"version": 1, "shards": [["../x", "0"]]},
        {"version": 1, "shards": [[1.5, "0"]]},
        {"version": 1, "shards": [[1, 2, 3]]},
    ],
)
def test_malformed_headers(tmp_path, header):
    data = json.dumps(header).encode() + b"\n"
    with pytest.raises(UserError, match=r"index\.tsv:1: not the index of a shard set"):
        ShardSet(write_set(tmp_path / "k.shards", data))


@pytest.mark.parametrize(
    "data", [b"", b"\n", b"\xff\n", b"[" * 10**6 + b"\n", b'{"version": 1, "shards": []}']
)
def test_invalid_indexes(tmp_path, data):
    with pytest.raises(UserError, match=r"index\.tsv:1: not the index of a shard set"):
        ShardSet(write_set(tmp_path / "k.shards", data))


@settings(deadline=None, max_examples=200)
@given(st.data())
def test_a_damaged_index_is_refused_or_stays_inside(tmp_path_factory, data):
    folder = tmp_path_factory.getbasetemp() / "damaged.shards"
    write_set(folder, "".join(f"v{i}" + ROW for i in range(5)))
    whole = bytearray((folder / INDEX).read_bytes())
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(whole) - 1))
        whole[at : at + data.draw(st.integers(0, 4))] = data.draw(
            st.binary(max_size=4) | st.sampled_from([b"\t", b"9", b"\n"])
        )
    (folder / INDEX).write_bytes(whole)
    try:
        shards = ShardSet(str(folder))
    except UserError as error:
        assert "\n" not in str(error)
        return
    for name in [f"v{i}" for i in range(5)]:
        entry = shards.find(name)
        try:
            assert entry is None or shards.read(name, entry.shard, [entry.location]) == [
                DATA[entry.location.offset :][: entry.location.size]
            ]
        except UnreadableVideo:
            continue


def table(files):
    """The table of a folder, and its line in the index if it is at the beginning of the shard."""
    text = json.dumps({"files": files}).encode()
    return text, f"folder\tfolder\t0\t0\t{len(text)}\t{zlib.crc32(text):08x}\n"


@pytest.mark.parametrize("size", [10**12, 10**17])
def test_wrong_size_takes_no_memory(tmp_path, size):
    text, folder = table([["f", 0, size, 0], *([f"g{i}", 0, 9000, 0] for i in range(10**5))])
    root = write_set(
        tmp_path / "k.shards", folder + f"v\tvideo\t0\t0\t{size}\t00000000\n", told=size
    )
    (tmp_path / "k.shards" / shard_name(0)).write_bytes(
        text + bytes(padded(len(text)) - len(text)) + DATA
    )
    stored = StoredVideo(root, ShardSet(root), ShardSet(root).find("folder"))
    names = sorted(stored.names())
    tracemalloc.start()
    for read in (
        find(f"{root}/v").opener,
        lambda: stored.read(["f"]),
        lambda: stored.read(names[1:]),
    ):
        with pytest.raises(
            UnreadableVideo, match=r"shard-000000\.tar is truncated or damaged: it has"
        ):
            read()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 50 * 2**20


@pytest.mark.parametrize(
    "files",
    [
        None,
        1,
        [1],
        [["f"]],
        [["f", 0, 1]],
        [["f", -9000, 1, 0]],
        [["f", 0, -1, 0]],
        [["f", 0.5, 1, 0]],
        [[1, 0, 1, 0]],
        [["f", "0", 1, 0]],
        [[["f"], 0, 1, 0]],
        [["f", 0, True, 0]],
    ],
)
def test_a_folder_whose_table_lies(tmp_path, files):
    text, row = table(files)
    root = write_set(tmp_path / "k.shards", row)
    (tmp_path / "k.shards" / shard_name(0)).write_bytes(
        text + bytes(padded(len(text)) - len(text)) + DATA
    )
    with pytest.raises(
        UnreadableVideo, match=r"folder: shard-000000\.tar has no table of its files"
    ):
        find(f"{root}/folder")


def test_ids_and_names_never_become_paths(tmp_path):
    (tmp_path / "secret").write_text("secret")
    text, row = table([["../secret", 0, 6, zlib.crc32(DATA[:6])], ["/etc/passwd", 0, 6, 0]])
    root = write_set(tmp_path / "k.shards", "../secret" + ROW + "/etc/passwd" + ROW + row)
    (tmp_path / "k.shards" / shard_name(0)).write_bytes(
        text + bytes(padded(len(text)) - len(text)) + DATA
    )
    with pytest.raises(UnreadableVideo, match="is damaged"):  # not DATA, but bytes of the shard
        find(f"{root}/../secret").opener()
    stored = find(f"{root}/folder")
    assert stored.read(["../secret"]) == {"../secret": DATA[:6]}
    with pytest.raises(UnreadableVideo, match="is damaged"):
        stored.read(["/etc/passwd"])
    with pytest.raises(UnreadableVideo, match="not in the shard set"):
        stored.read(["img_00001.jpg"])


def test_a_table_too_large_is_refused(tmp_path):
    root = write_set(
        tmp_path / "k.shards", f"folder\tfolder\t0\t0\t{65 * 2**20}\t00000000\n", told=10**9
    )
    with pytest.raises(UserError, match=r"index\.tsv:2: malformed line"):
        ShardSet(root)


def test_errors_of_the_file_system_are_one_line(tmp_path, monkeypatch):
    root = write_set(tmp_path / "k.shards", "v" + ROW)
    shards = ShardSet(root)

    def fail(*args, **options):
        raise ConnectionError("reset\nby peer")

    monkeypatch.setattr(type(shards.file_system()), "cat_ranges", fail)
    with pytest.raises(
        UserError, match=r"shard-000000\.tar: cannot be read \(ConnectionError: reset by peer\)"
    ):
        shards.read("v", 0, [part(0, 9)])
    monkeypatch.setattr(fsspec.core, "url_to_fs", fail)
    with pytest.raises(UserError, match=r"ConnectionError: reset by peer"):
        ShardSet(root)
    monkeypatch.setattr(
        fsspec.core, "url_to_fs", lambda url: exec("raise ImportError('Install s3fs to access S3')")
    )
    with pytest.raises(
        UserError, match=r"Install s3fs to access S3; pip install fsspec, and s3fs for s3://"
    ):
        ShardSet("s3://bucket/k.shards")


@pytest.mark.parametrize("kind", ["fifo", "zeros"])
def test_shard_that_is_not_a_regular_file(tmp_path, kind):
    root = write_set(tmp_path / "k.shards", "")
    shard = tmp_path / "k.shards" / "shard-000000.tar"
    shard.unlink()
    if kind == "fifo":
        os.mkfifo(shard)
    else:
        shard.symlink_to("/dev/zero")
    with pytest.raises(UserError, match=r"shard-000000\.tar: .*not a regular file"):
        ShardSet(root).read("v", 0, [part(5, 5)])
