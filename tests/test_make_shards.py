import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import numpy as np
import pytest
from helpers.datasets import make_root, write_flow
from helpers.launch import ROOT, call, refused
from PIL import Image

from lib.videos.shard_files import PackedVideo, files_of, packed_size
from ops.data.readers.shard_paths import find
from ops.data.readers.shards import ShardSet, shard_name

LISTS = {
    "train.txt": "v0.mp4 0\nsub dir/v.1.x.MP4 1\n./-v2 日本 2\nframes 12 2\n",
    "val.txt": "v3.mp4 0\nv4 1\n123 9 1\n",
}


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Videos with odd names, a folder of pictures, one of flow with repeated names; two lists."""
    root = make_root(tmp_path_factory.mktemp("videos"))
    (root / "sub dir").mkdir()
    (root / "v1.mp4").rename(root / "sub dir" / "v.1.x.MP4")
    (root / "v2.mp4").rename(root / "-v2 日本.mp4")
    write_flow(root / "000123", np.zeros((9, 32, 32, 2), np.uint8))
    (root / "000123" / "x").mkdir()
    shutil.copy(root / "000123" / "flow_x_00001.jpg", root / "000123" / "x" / "flow_x_00001.jpg")
    (root / "frames" / ".hidden").write_text("not packed")
    for name, text in LISTS.items():
        (root / name).write_text(text)
    return root


def flags(root, out, *more):
    return (
        root / "train.txt",
        root / "val.txt",
        "--root_path",
        root,
        "--out",
        out,
        "--shard_size",
        "64KB",
        *more,
    )


@pytest.fixture(scope="module")
def made(root, tmp_path_factory):
    out = tmp_path_factory.mktemp("made") / "k.shards"
    assert call("make_shards", *flags(root, out, "-j", 2)) == 0
    return out


def content(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_every_file_is_in_the_set(root, made):
    assert sorted(content(made)) == ["index.tsv", *(shard_name(i) for i in range(3))]
    for name in ("v0.mp4", "sub dir/v.1.x.MP4", "-v2 日本.mp4", "v3.mp4", "v4.mp4"):
        with find(f"{made}/{name}").opener()() as file:
            assert file.read() == (root / name).read_bytes() and file.name.endswith(name)
    for name in ("frames", "000123"):
        stored, files = find(f"{made}/{name}"), files_of(str(root / name))
        assert (
            stored.is_folder
            and stored.names() == {file for file, _ in files}
            and ".hidden" not in stored.names()
        )
        assert stored.read([file for file, _ in files]) == {
            file: Path(path).read_bytes() for file, path in files
        }


def test_index_lists_each_shard(made):
    header = json.loads((made / "index.tsv").read_text().partition("\n")[0])
    data = [(made / shard_name(i)).read_bytes() for i in range(3)]
    assert header == {
        "version": 1,
        "shards": [[len(one), hashlib.sha256(one).hexdigest()] for one in data],
    }
    assert all(len(one) <= 64_000 for one in data)


def test_tar_and_webdataset_read_them(root, made):
    for i in range(3):
        with tarfile.open(made / shard_name(i)) as tar:
            assert all(
                (info.mtime, info.uid, info.gid, info.uname, info.mode) == (0, 0, 0, "", 0o644)
                for info in tar
            )
    wds = pytest.importorskip("webdataset")
    shards = [str(made / shard_name(i)) for i in range(3)]
    samples = list(wds.WebDataset(shards, shardshuffle=False).decode("rgb8"))
    assert [sample["json"]["id"] for sample in samples] == [
        "v0.mp4",
        "sub dir/v.1.x.MP4",
        "-v2 日本.mp4",
        "frames",
        "v3.mp4",
        "v4.mp4",
        "000123",
    ]
    assert (
        [sample["cls"] for sample in samples]
        == [sample["json"]["label"] for sample in samples]
        == [0, 1, 2, 2, 0, 1, 1]
    )
    for sample in samples[:3]:
        assert sample["mp4"] == (root / sample["json"]["id"]).read_bytes()
    picture = np.asarray(Image.open(root / "frames" / "img_00003.jpg"))
    assert np.array_equal(samples[3]["img_00003.jpg"], picture)
    assert {"flow_x_00001.jpg", "x.flow_x_00001.jpg"} < samples[6].keys()


@pytest.mark.parametrize("processes", [1, 2])
def test_killed_runs_are_completed_to_the_same_bytes(root, made, tmp_path, processes):
    out = tmp_path / "k.shards"
    shutil.copytree(made, out)
    for name in (shard_name(1), "index.tsv"):
        (out / name).unlink()
    (out / f"{shard_name(1)}.0123abcd.tmp").write_bytes(b"half of it")
    kept = os.stat(out / shard_name(0))
    assert call("make_shards", *flags(root, out, "-j", processes)) == 0
    assert content(out) == content(made)
    assert os.stat(out / shard_name(0)).st_ino == kept.st_ino


def test_killed_run_leaves_no_partial_shard(root, made, tmp_path):
    out = tmp_path / "k.shards"
    command = [sys.executable, ROOT / "tools" / "make_shards.py", *flags(root, out, "-j", 1)]
    process = subprocess.Popen(list(map(str, command)), stderr=subprocess.DEVNULL)
    while process.poll() is None and not (out / shard_name(0)).exists():
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    process.wait()
    for name, data in content(out).items():
        assert name.endswith((".tmp", ".lock")) or data == content(made)[name]
    assert call("make_shards", *flags(root, out, "-j", 1)) == 0
    assert content(out) == content(made)


def test_damaged_or_foreign_shard_is_refused(root, made, tmp_path, capsys):
    out = tmp_path / "k.shards"
    shutil.copytree(made, out)
    shard = out / shard_name(0)
    data = bytearray(shard.read_bytes())
    data[4000] ^= 1  # in the first video
    shard.write_bytes(data)
    assert "is damaged or holds other videos" in refused(capsys, "make_shards", *flags(root, out))
    shard.write_bytes(data[:5000])
    assert "is damaged or holds other videos" in refused(capsys, "make_shards", *flags(root, out))
    shutil.copy(made / shard_name(0), shard)
    (tmp_path / "train.txt").write_text(LISTS["train.txt"].replace("v0.mp4 0", "v0.mp4 1"))
    given = [tmp_path / "train.txt", *flags(root, out)[1:]]
    assert f"{shard} is damaged or holds other videos" in refused(capsys, "make_shards", *given)
    other = flags(root, out, "--shard_size", "1GB")
    assert "shard-000001.tar is a shard of other lists" in refused(capsys, "make_shards", *other)
    assert content(out) == content(made)


def test_multi_label(root, tmp_path):
    (tmp_path / "list.txt").write_text("v0.mp4 2,1\nframes 12 0\n")
    out = tmp_path / "m.shards"
    assert (
        call(
            "make_shards",
            tmp_path / "list.txt",
            "--root_path",
            root,
            "--out",
            out,
            "--multi_label",
            "--num_class",
            3,
        )
        == 0
    )
    with tarfile.open(out / shard_name(0)) as tar:
        samples = {
            info.name: tar.extractfile(info).read()
            for info in tar
            if "mp4" in info.name or "json" in info.name
        }
    assert [json.loads(samples[f"00000000{i}.json"])["label"] for i in (0, 1)] == [[1, 2], [0]]
    assert samples["000000000.mp4"] == (root / "v0.mp4").read_bytes()
    assert ShardSet(str(out)).find("v0.mp4").location.size == (root / "v0.mp4").stat().st_size


@pytest.mark.parametrize(
    "lines, more, words",
    [
        (
            "gone.mp4 0\nv0.mp4 0\nalso gone 3 0",
            [],
            "2 of 3 videos are missing: gone.mp4 (line 1), also gone (line 3);",
        ),
        ("v0.mp4 0\nv0 1", [], "list.txt:2: v0 is listed before, in {list}:1"),
        ("v0.mp4 0", ["{root}/train.txt"], "train.txt:1: v0.mp4 is listed before"),
        ("{root}/v0.mp4 0", [], "is not relative to --root_path"),
        (
            "../{name}/v0.mp4 0\n../{name}/../{up} 3 0",
            [],
            "list.txt:2: ../{name}/../{up} is not relative",
        ),
        ("v0.mp4 0,1", [], "need --multi_label"),
        ("v0.mp4 0", ["--multi_label"], "--multi_label needs --num_class"),
        ("v0.mp4 5", ["--num_class", "5"], "label 5"),
        ("v0.mp4 0", ["--out", "folder"], "NAME.shards"),
        ("v0.mp4 0", ["--out", "{root}/train.txt/k.shards"], "Not a directory"),
    ],
)
def test_invalid_arguments_are_refused(root, tmp_path, capsys, lines, more, words):
    def fill(text):
        return text.format(root=root, name=root.name, up=tmp_path.name, list=tmp_path / "list.txt")

    (root.parent / tmp_path.name).mkdir(exist_ok=True)
    (tmp_path / "list.txt").write_text(fill(lines))
    out = tmp_path / "k.shards"
    also = [fill(flag) for flag in more if flag.endswith("train.txt")]
    given = [
        tmp_path / "list.txt",
        *also,
        "--root_path",
        root,
        "--out",
        out,
        *(fill(flag) for flag in more if not also),
    ]
    assert fill(words) in refused(capsys, "make_shards", *given)
    assert not out.exists()


def test_two_files_with_one_webdataset_name_are_refused(tmp_path, capsys):
    (tmp_path / "video" / "x").mkdir(parents=True)
    for name in ("x.1.jpg", "x/1.jpg"):
        (tmp_path / "video" / name).write_bytes(b"1")
    (tmp_path / "list.txt").write_text("video 1 0\n")
    line = refused(
        capsys,
        "make_shards",
        tmp_path / "list.txt",
        "--root_path",
        tmp_path,
        "--out",
        tmp_path / "k.shards",
    )
    assert f"{tmp_path}/video: " in line
    assert content(tmp_path / "k.shards") == {}


def test_any_file_name(tmp_path):
    names = [
        b"\xff\xfe.jpg",
        ("視" * 60 + ".jpg").encode(),
        b"a" * 200 + b".jpg",
        b"line\nend.jpg",
        b"noext",
    ]
    (tmp_path / "video").mkdir()
    for number, name in enumerate(names):
        (tmp_path / "video" / os.fsdecode(name)).write_bytes(bytes([number]) * (number * 300))
    (tmp_path / "list.txt").write_text("video 5 0\n")
    assert (
        call(
            "make_shards",
            tmp_path / "list.txt",
            "--root_path",
            tmp_path,
            "--out",
            tmp_path / "k.shards",
            "-j",
            1,
        )
        == 0
    )
    stored = find(f"{tmp_path}/k.shards/video")
    names = list(map(os.fsdecode, names))
    assert stored.read(names) == {
        name: bytes([number]) * (number * 300) for number, name in enumerate(names)
    }


def test_file_that_cannot_be_read_is_named(root, tmp_path, capsys, monkeypatch):
    def refuse(path, *rest):
        raise PermissionError(13, "Permission denied", path)

    monkeypatch.setattr("os.scandir", refuse)  # root may read everything
    line = refused(capsys, "make_shards", *flags(root, tmp_path / "k.shards"))
    assert f"{root}/frames: Permission denied" in line


def test_packed_size_is_not_too_low(root, made):
    videos = [PackedVideo(0, name, str(root / name), 0) for name in ("v0.mp4", "frames")]
    for video, number, shard in zip(videos, (0, 3), (0, 1), strict=True):
        with tarfile.open(made / shard_name(shard)) as tar:
            size = sum(
                512 + -(-info.size // 512) * 512
                for info in tar
                if info.name.startswith(f"{number:09d}.")
            )
        assert packed_size(video) - 2560 <= size <= packed_size(video)
