"""Videos in shard sets have the frames of the files: bit for bit, from a disk or a URL."""

import re
import shutil

import fsspec
import numpy as np
import pytest
import torch
from helpers.datasets import FRAMES, TEST, TRAIN, make_root, videos_of, write_flow
from helpers.decoders import every_decoder
from helpers.launch import call
from helpers.videos import encode, encode_audio, textured_frames

from ops.data.clips import Failure, TestDataset, TrainDataset
from ops.data.lists import check_files, resolve
from ops.data.loader import QueueSampler, ShardSampler, TrainSampler, make_loader
from ops.data.readers.base import UnreadableVideo
from ops.data.readers.frame_folder import count_frames
from ops.data.readers.open import open_reader
from ops.data.readers.shard_paths import exists, find
from ops.data.readers.shards import shard_name
from ops.utils.errors import UserError

TMPL = FRAMES["image_tmpl"]
ODD = {
    "a.avi": {"codec": "mpeg4"},
    "b.mkv": {"open_gop": True},
    "c.webm": {"codec": "libvpx-vp9"},
    "d.mpg": {"codec": "mpeg2video"},
    "e.ts": {},
    "turned.mp4": {"rotation": 90},
}
BAD = ("sound.mp4", "text.mp4", "empty.mp4")
REFUSED = {
    "pyav": (),
    "decord": ("cut.mp4",),
    "torchcodec": ("cut.mp4", "a.avi", "d.mpg", "e.ts"),
}
LINES = [
    *(f"v{i}.mp4 {i % 3}" for i in range(4)),
    "v4 1",
    "v5.mp4 2",
    "frames 12 2",
    "odd/frames 1",
]


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = make_root(tmp_path_factory.mktemp("videos"))
    (root / "odd").mkdir()
    for name, kind in ODD.items():
        encode(root / "odd" / name, textured_frames(20, 48, 64), **kind)
    cut = encode(
        root / "odd" / "cut.mp4",
        textured_frames(40, 48, 64),
        container_options={"movflags": "faststart"},
    )
    cut.write_bytes(cut.read_bytes()[: cut.stat().st_size * 2 // 3])
    encode_audio(root / "odd" / "sound.mp4")
    (root / "odd" / "empty.mp4").write_bytes(b"")
    (root / "odd" / "text.mp4").write_bytes(b"no video\n" * 99)
    shutil.copytree(root / "frames", root / "odd" / "frames")
    flow = textured_frames(12, 48, 64, seed=5)[..., :2]
    write_flow(root / "flow", flow)
    write_flow(root / "000123", flow, "000123-{}_{:05d}.jpg")
    names = [*ODD, "cut.mp4", *BAD]
    (root / "all.txt").write_text(
        "\n".join([*LINES, *(f"odd/{name} 0" for name in names), "flow 12 0", "123 24 1"])
    )
    return root


@pytest.fixture(scope="module")
def made(root, tmp_path_factory):
    """The shard set of everything in ``root``, about two videos a shard."""
    out = tmp_path_factory.mktemp("made") / "k.shards"
    assert (
        call(
            "make_shards",
            root / "all.txt",
            "--root_path",
            root,
            "--out",
            out,
            "--shard_size",
            "60KB",
            "-j",
            1,
        )
        == 0
    )
    return out


@pytest.fixture(params=["folder", "file", "memory"])
def place(request, made):
    """The shard set as a folder and at URLs."""
    if request.param == "memory":
        memory = fsspec.filesystem("memory")
        for path in made.iterdir():
            memory.pipe(f"/bucket/k.shards/{path.name}", path.read_bytes())
        return "memory://bucket/k.shards"
    return str(made) if request.param == "folder" else f"file://{made}"


def same(one, two):
    return type(one) is type(two) and all(
        torch.equal(a, b) if isinstance(a, torch.Tensor) else np.array_equal(a, b)
        for a, b in zip(one, two, strict=True)
    )


def test_clips_and_frames_are_those_of_the_files(root, place, tmp_path):
    plain, stored = (videos_of(path, tmp_path, *LINES) for path in (root, place))
    assert [(r.id, r.label, r.num_frames) for r in plain] == [
        (r.id, r.label, r.num_frames) for r in stored
    ]
    assert check_files(stored) == []
    train = [TrainDataset(videos, **TRAIN, seed=3) for videos in (plain, stored)]
    test = [
        TestDataset(videos, **TEST, crops=3, sampling="dense", clips=(0, 4, 9))
        for videos in (plain, stored)
    ]
    for index in range(len(plain)):
        for epoch in (0, 1, 0):
            assert same(train[0][epoch, index], train[1][epoch, index])
        assert same(test[0][0, index], test[1][0, index])


@pytest.mark.parametrize("workers", [0, 2])
def test_order_ranks_and_resuming_are_those_of_the_files(root, made, tmp_path, workers):
    def batches(videos, rank, epochs):
        sampler = TrainSampler(len(videos), 2, rank=rank, world_size=2, seed=3)
        loader = make_loader(TrainDataset(videos, **TRAIN, seed=3), sampler, 2, workers=workers)
        for epoch in epochs:
            sampler.set_epoch(epoch)
            yield from loader

    plain, stored = (videos_of(path, tmp_path, *LINES) for path in (root, f"file://{made}"))
    open_reader(
        stored[0].path, image_tmpl=TMPL
    ).close()  # so that the workers fork with a file system that is open
    for rank in (0, 1):
        all_epochs, resumed = (
            list(batches(plain, rank, (0, 1, 2))),
            list(batches(stored, rank, (2,))),
        )
        assert len(all_epochs) == 6 and len(resumed) == 2
        assert all(same(one[:3], two[:3]) for one, two in zip(all_epochs[4:], resumed, strict=True))
        assert all(not batch.failures for batch in resumed)
    for sampler in (
        ShardSampler(8, rank=1, world_size=2),
        QueueSampler(np.arange(8)[::-1], iter(range(9)).__next__),
    ):
        keys = list(sampler)
        one, two = (
            list(make_loader(TestDataset(videos, **TEST), keys, None, workers=workers))
            for videos in (plain, stored)
        )
        assert len(one) == len(keys) and all(map(same, one, two))


@every_decoder
@pytest.mark.parametrize("name", [*ODD, "cut.mp4", *BAD])
def test_odd_files_are_read_as_from_the_disk(root, made, name, decoder):
    ends = []
    for path in (root, made):
        try:
            with open_reader(f"{path}/odd/{name}", image_tmpl=TMPL, decoder=decoder) as reader:
                known = []
                for index in (len(reader) - 1, *range(len(reader))):
                    try:
                        known.append(reader.get([index]).tobytes())
                    except UnreadableVideo as error:
                        known.append(error.reason)
                ends.append((len(reader), known))
        except UnreadableVideo as error:
            ends.append(
                "unreadable" if decoder == "decord" else error.reason
            )  # decord's reasons name the file
    assert ends[0] == ends[1]
    assert isinstance(ends[0], str) == (name in BAD or name in REFUSED[decoder])


@pytest.mark.parametrize(
    "name, tmpl", [("flow", "flow_{}_{:05d}.jpg"), ("123", "{:06d}-{}_{:05d}.jpg")]
)
def test_flow(root, place, name, tmpl):
    for num_frames in (None, 8):
        readers = [
            open_reader(
                resolve(f"{path}/{name}"), image_tmpl=tmpl, modality="Flow", num_frames=num_frames
            )
            for path in (root, place)
        ]
        assert len(readers[0]) == len(readers[1]) > 0
        wanted = [0, 3, 1, 3]
        np.testing.assert_array_equal(*(reader.get(wanted) for reader in readers))
    with pytest.raises(UserError, match="flow is not read from a video file"):
        open_reader(f"{place}/v0.mp4", image_tmpl=tmpl, modality="Flow")


def test_missing_videos_and_images_are_named(made, tmp_path):
    lines = [
        "v0.mp4 0",
        "gone.mp4 1",
        "v4 1",
        "frames/ 12 0",
        "../k.shards/v0.mp4 0",
        "123 24 0",
        "odd 3 0",
    ]
    videos = videos_of(made, tmp_path, *lines)
    assert [record.line for record in check_files(videos)] == [2, 5, 7]
    assert not exists(str(made)) and not exists(f"{made}/") and exists(f"{made}//odd/../v0.mp4")
    with pytest.raises(UnreadableVideo, match=r"k\.shards/gone\.mp4: not in index\.tsv"):
        find(f"{made}/gone.mp4")
    with (
        open_reader(f"{made}/frames", image_tmpl=TMPL, num_frames=20) as reader,
        pytest.raises(UnreadableVideo, match=r"frames: img_00017\.jpg: not in the shard set"),
    ):
        reader.get([3, 16])
    names = find(f"{made}/frames").names()
    assert (
        len(open_reader(f"{made}/frames", image_tmpl=TMPL))
        == count_frames("frames", TMPL, "RGB", names)
        == 14
    )
    with pytest.raises(UnreadableVideo, match=r"img_00007\.jpg is missing, but img_00008\.jpg"):
        count_frames("frames", TMPL, "RGB", names - {"img_00007.jpg"})
    with pytest.raises(UnreadableVideo, match="no frames named"):
        open_reader(f"{made}/frames", image_tmpl="picture_{:05d}.jpg")


def test_only_the_index_is_asked_for_existence(made, tmp_path):
    (tmp_path / "k.shards").mkdir()
    shutil.copy(made / "index.tsv", tmp_path / "k.shards")
    assert check_files(videos_of(tmp_path / "k.shards", tmp_path, *LINES)) == []


@pytest.mark.parametrize("workers", [0, 2])
def test_a_damaged_shard_fails_its_videos_by_name(made, tmp_path, workers):
    out = shutil.copytree(made, tmp_path / "k.shards")
    shard = out / shard_name(0)
    data = bytearray(shard.read_bytes())
    data[5000] ^= 1
    shard.write_bytes(data[: find(f"{made}/v1.mp4").entry.location.offset + 9])
    videos = videos_of(out, tmp_path, *LINES)
    items = list(make_loader(TestDataset(videos, **TEST), ShardSampler(8), None, workers=workers))
    failures = [item for item in items if isinstance(item, Failure)]
    assert [(item.index, item.id, item.line) for item in failures][:2] == [
        (0, "v0.mp4", 1),
        (1, "v1.mp4", 2),
    ]
    assert failures[0].reason.startswith("shard-000000.tar is damaged at byte 2560")
    assert "shard-000000.tar is truncated or damaged: it has" in failures[1].reason
    assert len(failures) < 8 and all("shard-000000.tar" in item.reason for item in failures)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_missing_shard_stops_with_one_line(made, tmp_path, workers):
    out = shutil.copytree(made, tmp_path / "k.shards")
    (out / shard_name(0)).unlink()
    videos = videos_of(f"file://{out}", tmp_path, *LINES)
    with pytest.raises(UserError) as error:
        list(make_loader(TestDataset(videos, **TEST), ShardSampler(8), None, workers=workers))
    assert str(error.value) == (
        f"{videos.path}:1: v0.mp4: file://{out}/shard-000000.tar: no such file; copy it there, "
        "or make "
        "the set again with tools/make_shards.py"
    )


@pytest.mark.parametrize(
    "path, said",
    [
        ("s3://bucket/videos/v.mp4", "shard sets"),
        ("nowhere://bucket/k.shards/v.mp4", "Protocol not known: nowhere"),
        (
            "memory://empty/k.shards/v.mp4",
            "memory://empty/k.shards/index.tsv: no such file; copy it there",
        ),
        ("/no/such/k.shards/v.mp4", "/no/such/k.shards/index.tsv: no such file"),
    ],
)
def test_paths_that_are_not_shard_sets_are_refused(path, said):
    for ask in (exists, find):
        with pytest.raises(UserError, match=re.escape(said)) as error:
            ask(path)
        assert "\n" not in str(error.value)


def test_other_paths_are_those_of_the_disk(tmp_path):
    (tmp_path / "shards").mkdir()
    (tmp_path / "a.shards.mp4").touch()
    for name in ("shards", "a.shards.mp4", ".shards", "gone"):
        assert find(f"{tmp_path}/{name}") is None
        assert exists(f"{tmp_path}/{name}") == (tmp_path / name).exists()
