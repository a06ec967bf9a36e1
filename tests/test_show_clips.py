import re

import numpy as np
import pytest
import torch
from helpers.datasets import make_root, videos_of, write_flow
from helpers.launch import call, refused
from helpers.videos import decode_all, textured_frames
from PIL import Image

from lib.pictures import clip_sheet
from lib.pictures.traced_clips import TracedTestDataset, TracedTrainDataset
from ops.data.clips import TestDataset, TrainDataset
from ops.data.sampling import center_offsets
from ops.data.transforms import TestTransform, mirror, resize, to_frames

SIZE, T = 64, 3
FLIP = np.array([1, 0, 2])
COMMON = {"num_segments": T, "image_tmpl": "img_{:05d}.jpg", "crop_size": SIZE}


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """A dataset of small videos and flow: three classes of which two swap, and a broken video."""
    root = make_root(tmp_path_factory.mktemp("some data"))
    write_flow(root / "flow", textured_frames(12, 48, 64, seed=5)[..., :2])
    (root / "broken.mp4").write_bytes(b"no video")
    (root / "classes.txt").write_text("go left\ngo right\nstånd 立つ\n")
    (root / "train.txt").write_text(
        "v0.mp4 0\nv1.mp4 1\nv2.mp4 2\nv3.mp4 0\nbroken.mp4 1\nv5.mp4 1\n-x.mp4 1\nframes 12 1\n"
    )
    (root / "val.txt").write_text("v4.mp4 2\nv5.mp4 0\n")
    (root / "flow.txt").write_text("flow 12 0\n")
    (root / "set.toml").write_text(
        'class_names = "classes.txt"\ntrain_list = "train.txt"\nval_list = "val.txt"\n[flow]\n'
        'train_list = "flow.txt"\nval_list = "flow.txt"\n'
    )
    return root


def show(root, *args, modality="RGB"):
    """Run the tool on the dataset; returns the sheet, uint8 ``[H, W, 3]``."""
    out = root / "sheet.PNG"
    assert (
        call(
            "show_clips",
            root / "set.toml",
            modality,
            "--num_segments",
            T,
            "--input_size",
            SIZE,
            "-j",
            0,
            "--out",
            out,
            *args,
        )
        == 0
    )
    with Image.open(out) as picture:
        return np.asarray(picture)


def cells(sheet, rows, pictures, height=SIZE):
    """The pictures of a sheet without unreadable rows, ``[rows, T, K, height, SIZE, 3]``."""
    gap, line = clip_sheet.GAP, clip_sheet.LINE_HEIGHT
    pitch, top = height + line + gap, gap + 2 * line
    panels = sheet.reshape(rows, top + pictures * pitch + gap, -1, 3)
    grid = panels[:, top : top + pictures * pitch].reshape(rows, pictures, pitch, -1, 3)[
        :, :, :height, 2 * gap + SIZE :
    ]
    columns = [grid[:, :, :, t * (SIZE + gap) : t * (SIZE + gap) + SIZE] for t in range(T)]
    return np.stack(columns, 1)


def training(root, videos, L, **options):
    return TrainDataset(videos, **{**COMMON, "frames_per_segment": L, "flip_map": FLIP, **options})


@pytest.mark.parametrize(("module", "L"), [("tdn", 5), ("tsn", 1)])
def test_pictures_are_the_clips_of_the_dataset(root, tmp_path, module, L):
    lines = ["v0.mp4 0", "v1.mp4 1", "v2.mp4 2", "v3.mp4 0"]
    dataset = training(root, videos_of(root, tmp_path, *lines), L, seed=3)
    ids = ["--ids", "v0.mp4", "v1.mp4", "v2.mp4", "v3.mp4", "--module", module, "--seed", 3]
    for epoch in (0, 1):
        clips = np.stack([dataset[epoch, index].clip.numpy() for index in range(4)])
        truth = clips.reshape(4, T, L, 3, SIZE, SIZE).transpose(0, 1, 2, 4, 5, 3)
        np.testing.assert_array_equal(
            cells(show(root, *ids, "--epoch", epoch, "--all_frames"), 4, L), truth
        )
        np.testing.assert_array_equal(
            cells(show(root, *ids, "--epoch", epoch), 4, 1)[:, :, 0], truth[:, :, L // 2]
        )


def test_traced_values_describe_the_clip(root, tmp_path):
    videos = videos_of(root, tmp_path)
    plain = training(root, videos, 5)
    noting = TracedTrainDataset(videos, flip_map=FLIP, frames_per_segment=5, **COMMON)
    seen = set()
    for epoch in range(3):
        for index in range(6):
            traced, sample = noting[epoch, index], plain[epoch, index]
            assert torch.equal(traced.clip, sample.clip) and (traced.label, traced.index) == (
                sample.label,
                index,
            )
            frames = decode_all(root / f"v{index}.mp4")
            x, y, w, h = traced.crop
            cut = resize(to_frames(frames)[:, :, y : y + h, x : x + w], SIZE, SIZE)
            cut = mirror(cut, flow=False) if traced.is_mirrored else cut
            assert torch.equal(
                cut[traced.indices.flatten()].reshape(T, 15, SIZE, SIZE), sample.clip
            )
            assert (
                traced.total == len(frames)
                and sample.label == (FLIP if traced.is_mirrored else range(3))[index % 3]
            )
            np.testing.assert_array_equal(traced.whole, frames[traced.indices[1, 2]])
            seen.add((traced.is_mirrored, traced.crop != (0, 0, 64, 48)))
    assert seen >= {(True, True), (False, True)}


def test_validation_clips(root, tmp_path):
    videos = videos_of(root, tmp_path, "v4.mp4 2", "v5.mp4 0")
    sheet = show(root, "--split", "val", "--module", "tsn", "--epoch", 4)
    scale = SIZE * 256 // 224
    for index in range(2):
        frames, picks, _ = TestDataset(videos, scale_size=scale, frames_per_segment=1, **COMMON)[
            0, index
        ]
        clip = TestTransform(scale, SIZE, 1).crops(frames, picks[0])[0]
        np.testing.assert_array_equal(cells(sheet, 2, 1)[index, :, 0], clip.permute(0, 2, 3, 1))
        traced = TracedTestDataset(videos, scale_size=scale, frames_per_segment=1, **COMMON)[
            0, index
        ]
        x, y, w, h = traced.crop
        np.testing.assert_array_equal(
            traced.whole[y : y + h, x : x + w], clip[T // 2].permute(1, 2, 0)
        )
        assert traced.indices[:, 0].tolist() == center_offsets(22 + 3 * index, T, 1).tolist()
        assert (traced.label, traced.total) == ([2, 0][index], 22 + 3 * index)
    dense = show(root, "--split", "val", "--module", "tsn", "--sampling", "dense")
    assert (dense != sheet).any() and dense.shape == sheet.shape


def test_sampling_compat(root, capsys):
    show(root, "--ids", "v0.mp4", "--num_segments", 12, "--module", "tsn", "--sampling_compat")
    assert f"frames {' '.join('0' * 12)} of 10" in capsys.readouterr().out


def test_flow_and_differences(root, tmp_path):
    videos = videos_of(root, tmp_path, "flow 12 0")
    flips = set()
    for epoch in range(4):
        flow = training(
            root, videos, 5, modality="Flow", **{**COMMON, "image_tmpl": "flow_{}_{:05d}.jpg"}
        )[epoch, 0]
        drawn = cells(
            show(root, "--module", "tsn", "--epoch", epoch, "--all_frames", modality="Flow"),
            1,
            5,
            2 * SIZE,
        )[0]
        np.testing.assert_array_equal(drawn[..., 0].reshape(T, 10, SIZE, SIZE), flow.clip)
        assert (drawn[..., 1:] == drawn[..., :1]).all()
        flips.add(flow.label)
    assert flips == {0, 1}
    clip = training(root, videos_of(root, tmp_path, "v0.mp4 0"), 6, modality="RGBDiff")[
        0, 0
    ].clip.numpy()
    frames = clip.reshape(T, 6, 3, SIZE, SIZE).transpose(0, 1, 3, 4, 2).astype(float)
    drawn = cells(
        show(root, "--ids", "v0.mp4", "--module", "tsn", "--all_frames", modality="RGBDiff"), 1, 5
    )[0]
    assert (
        abs(drawn.astype(float) - 128 - np.diff(frames, axis=1) / 2).max() <= 0.5
        and drawn.std() > 5
    )


def test_printed_lines(root, tmp_path, capsys):
    sheet = show(root, "--no_flip", "--module", "tsn")
    lines = capsys.readouterr().out.splitlines()
    assert (
        lines[0].startswith("flip: none")
        and lines[-1] == f"written {root}/sheet.PNG"
        and len(lines) == 11
    )
    first = (
        r"v2\.mp4: frames \d+ \d+ \d+ of 16; label 2 stånd 立つ; crop \d+x\d+ at \d+,\d+ of 64x48"
    )
    assert re.fullmatch(first, lines[3].removeprefix(f"{root}/train.txt:3: "))
    assert "broken.mp4; unreadable: " in lines[5] and lines[7].endswith(
        "-x.mp4; unreadable: No such file or directory"
    )
    red = (sheet == clip_sheet.RED).all(-1).any(1)
    assert red.any()
    show(root, "--ids", "frames", "v0.mp4", "--module", "tdn", "--epoch", 0)
    flip, frames, v0, *_ = capsys.readouterr().out.splitlines()
    assert flip == "flip: 1 label pair swapped, 0 classes never flipped"
    assert (
        re.search(r"train\.txt:8: frames: frames (\d+-\d+ ){3}of 12; label 1 go right", frames)
        and "train.txt:1: v0" in v0
    )
    mirrored = training(root, videos_of(root, tmp_path, "v0.mp4 0"), 5)[0, 0].label == 1
    assert ("label 0 go left -> 1 go right; mirrored; crop" in v0) == mirrored


def test_labels_swap_in_what_is_printed(root, capsys):
    labels = set()
    for epoch in range(8):
        show(root, "--ids", "v0.mp4", "v2.mp4", "--epoch", epoch, "--module", "tsn")
        out = capsys.readouterr().out
        labels |= set(re.findall(r"label (.*?) crop", out))
    assert labels == {
        "0 go left;",
        "0 go left -> 1 go right; mirrored;",
        "2 stånd 立つ;",
        "2 stånd 立つ; mirrored;",
    }


def test_several_labels_and_no_names(root, capsys):
    (root / "multi.txt").write_text("v0.mp4 0,2\nv1.mp4 1\n")
    (root / "multi.toml").write_text(
        'num_class = 3\nval_list = "multi.txt"\nmulti_label = true\nflip_pairs = [[0, 1]]\n'
    )
    (root / "flag.toml").write_text("num_class = 3\nflip_pairs = [[0, 1]]\n")
    assert "--multi_label" in refused(
        capsys, "show_clips", root / "flag.toml", "RGB", "--train_list", root / "multi.txt"
    )
    assert (
        call(
            "show_clips",
            root / "flag.toml",
            "RGB",
            "--train_list",
            root / "multi.txt",
            "--multi_label",
            "--input_size",
            32,
            "-j",
            0,
            "--out",
            root / "multi.png",
        )
        == 0
    )
    capsys.readouterr()
    labels = set()
    for epoch in range(5):
        assert (
            call(
                "show_clips",
                root / "multi.toml",
                "RGB",
                "--train_list",
                root / "multi.txt",
                "--input_size",
                32,
                "-j",
                0,
                "--out",
                root / "multi.png",
                "--epoch",
                epoch,
            )
            == 0
        )
        labels |= set(re.findall(r"label (.*?) crop", capsys.readouterr().out))
    assert labels == {"0, 2;", "0, 2 -> 1, 2; mirrored;", "1;", "1 -> 0; mirrored;"}


def test_loader_processes_make_the_same_sheet(root):
    ids = ["--ids", "v0.mp4", "v1.mp4", "frames", "broken.mp4"]
    np.testing.assert_array_equal(show(root, *ids), show(root, *ids, "-j", 1))


def test_choice_of_videos(root, tmp_path):
    videos = videos_of(root, tmp_path, *(f"v{i % 3}.mp4 0" for i in range(100)))
    assert clip_sheet.choose_videos(videos, None, 4) == [
        0,
        33,
        66,
        99,
    ] and clip_sheet.choose_videos(videos, None, 1) == [0]
    assert clip_sheet.choose_videos(videos, None, 500) == list(range(100))
    assert clip_sheet.choose_videos(videos, ["v2.mp4", "v1.mp4", "v2.mp4"], 8) == [
        *range(2, 100, 3),
        *range(1, 100, 3),
    ]


def test_invalid_arguments_are_refused(root, tmp_path, capsys):
    start = ["show_clips", root / "set.toml", "RGB"]
    assert "ids v9: no such video in" in refused(capsys, *start, "--ids", "v9")
    assert "train.txt: none" in refused(capsys, *start, "--ids=-x.mp4", "-j", 0)
    assert "--out x.jpg" in refused(capsys, *start, "--out", "x.jpg")
    assert "x.png" in refused(
        capsys, *start, "--ids", "v0.mp4", "-j", 0, "--out", tmp_path / "none" / "x.png"
    )
    assert "--module tdn takes RGB only; for Flow use" in refused(
        capsys, "show_clips", root / "set.toml", "Flow"
    )
    assert "not allowed with argument" in refused(capsys, *start, "--ids", "v0.mp4", "--videos", 3)
    (tmp_path / "a.toml").write_text("num_class = 3\ntrain_lst = 'x'\n")
    assert "a.toml:2: unknown key 'train_lst'; did you mean train_list?" in refused(
        capsys, "show_clips", tmp_path / "a.toml", "RGB"
    )
