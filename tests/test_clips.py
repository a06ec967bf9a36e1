import numpy as np
import pytest
import torch
from helpers.datasets import TEST, TRAIN, make_root, test_views, videos_of, views_of, write_flow
from helpers.videos import decode_all, textured_frames
from PIL import Image

from ops.data.clips import Failure, TestDataset, TrainDataset
from ops.data.lists import read_list
from ops.data.loader import collate
from ops.data.sampling import (
    center_offsets,
    clip_rng,
    dense_offsets,
    dense_train_offsets,
    edge_offsets,
    frame_indices,
    train_offsets,
)
from ops.data.transforms import TestTransform, TrainTransform
from ops.utils.errors import UserError


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """make_root, and folders ``flow`` and ``000123`` of 12 frames of flow, named in two ways."""
    root = make_root(tmp_path_factory.mktemp("data"))
    flow = textured_frames(12, 48, 64, seed=5)[..., :2]
    write_flow(root / "flow", flow)
    write_flow(root / "000123", flow, "000123-{}_{:05d}.jpg")
    return root


@pytest.fixture(scope="module")
def flow(root):
    """The flow in these folders as PIL reads it, uint8 ``[12, 48, 64, 2]``."""
    return np.stack(
        [
            np.stack(
                [
                    np.asarray(
                        Image.open(root / "flow" / f"flow_{axis}_{i + 1:05d}.jpg").convert("L")
                    )
                    for axis in "xy"
                ],
                -1,
            )
            for i in range(12)
        ]
    )


def test_training_clip_is_the_plain_composition(root, tmp_path):
    videos = videos_of(root, tmp_path)
    dataset = TrainDataset(videos, **TRAIN, seed=5)
    assert len(dataset) == 7
    flips = set()
    for index in range(6):
        truth = decode_all(root / f"v{index}.mp4")
        for epoch in range(4):
            sample = dataset[epoch, index]
            rng = clip_rng(5, epoch, f"v{index}.mp4:{index + 1}", 0)
            flip = rng.random() < 0.5 and index % 3 != 2
            flips.add((flip, sample.label))
            picks = frame_indices(train_offsets(len(truth), 4, 2, rng), 2, len(truth))
            assert torch.equal(sample.clip, TrainTransform(32)(truth, picks, rng, flip))
            assert (
                sample.label == ([1, 0, 2][index % 3] if flip else index % 3)
                and sample.index == index
            )
    assert flips == {(False, 0), (False, 1), (False, 2), (True, 0), (True, 1)}


def test_a_repeated_video_is_another_clip(root, tmp_path):
    dataset = TrainDataset(videos_of(root, tmp_path), **TRAIN)
    usual, first, second = (dataset[key].clip for key in ((0, 5), (0, 5, 0), (0, 5, 1)))
    assert first.equal(usual) and not second.equal(first)


def test_no_flip_map_never_flips(root, tmp_path):
    videos = videos_of(root, tmp_path)
    swap, never = (
        TrainDataset(videos, **{**TRAIN, "flip_map": flip_map})
        for flip_map in (np.array([0, 1, 2]), None)
    )
    for epoch in range(8):
        a, b = swap[epoch, 0].clip, never[epoch, 0].clip
        assert torch.equal(a, b) == (clip_rng(0, epoch, "v0.mp4:1", 0).random() >= 0.5)
        assert torch.equal(a, b) or torch.equal(a, b.flip(-1))


def test_several_labels_are_flipped_each(root, tmp_path):
    path = tmp_path / "list.txt"
    path.write_text("v0.mp4 0\nv0.mp4 0,2\nv1.mp4 1,0,3\n")
    videos = read_list(str(path), root_path=str(root), num_class=5, multi_label=True)
    assert [videos[row].label for row in range(3)] == [
        (0,),
        (0, 2),
        (0, 1, 3),
    ] and videos.labels.dtype == bool
    dataset = TrainDataset(videos, **{**TRAIN, "flip_map": np.array([1, 0, -1, 4, 3])})
    seen = {
        row: {tuple(np.flatnonzero(dataset[epoch, row].label).tolist()) for epoch in range(8)}
        for row in range(3)
    }
    assert seen == {0: {(0,), (1,)}, 1: {(0, 2)}, 2: {(0, 1, 3), (0, 1, 4)}}
    batch = collate([dataset[0, 0], dataset[0, 1]])
    assert batch.labels.dtype == torch.bool and batch.labels.shape == (2, 5)


def test_views_are_the_plain_composition(root, tmp_path):
    dataset = TestDataset(videos_of(root, tmp_path), **TEST, crops=3)
    for index in range(6):
        truth = decode_all(root / f"v{index}.mp4")
        views = test_views(dataset, index)
        picks = frame_indices(center_offsets(len(truth), 4, 2), 2, len(truth))
        assert torch.equal(views, views_of(TestTransform(40, 32, 3), truth, picks[None]))
        assert views.shape == (3, 4, 6, 32, 32)


def test_number_of_frames_of_a_folder_is_the_lists(root, tmp_path):
    views = test_views(TestDataset(videos_of(root, tmp_path, "frames 12 2"), **TEST))
    truth = np.stack(
        [np.array(Image.open(root / "frames" / f"img_{i + 1:05d}.jpg")) for i in range(12)]
    )
    expected = views_of(
        TestTransform(40, 32, 1), truth, frame_indices(center_offsets(12, 4, 2)[None], 2, 12)
    )
    assert (views.int() - expected.int()).abs().max() <= 2  # JPEG decoders may differ by rounding


def test_random_clips_depend_on_the_video_not_on_its_place(root, tmp_path):
    def views(clip, *lines, seed=0):
        dataset = TestDataset(
            videos_of(root, tmp_path, *lines), **TEST, sampling="random", clips=[clip], seed=seed
        )
        return test_views(dataset, len(lines) - 1)

    first = views(0, "v5.mp4 1")
    assert torch.equal(first, views(0, "v0.mp4 1", "v5.mp4 2"))
    assert not any(
        torch.equal(first, other) for other in (views(1, "v5.mp4 1"), views(0, "v5.mp4 1", seed=1))
    )
    with pytest.raises(ValueError, match="edges"):
        TestDataset(videos_of(root, tmp_path), **TEST, sampling="edges")


def test_mp4_suffix_is_optional_in_lists(root, tmp_path):
    bare, full = (
        test_views(TestDataset(videos_of(root, tmp_path, line), **TEST))
        for line in ("v1 0", "v1.mp4 0")
    )
    assert torch.equal(bare, full)


def test_dense_and_compat_training(root, tmp_path):
    videos = videos_of(root, tmp_path, "frames 14 2", "v0.mp4 2")
    pictures = np.stack(
        [np.array(Image.open(root / "frames" / f"img_{i + 1:05d}.jpg")) for i in range(14)]
    )
    for index, truth in enumerate((pictures, decode_all(root / "v0.mp4"))):
        n = len(truth)
        for sampling, compat in (("dense", False), ("uniform", False), ("uniform", True)):
            dataset = TrainDataset(
                videos, **{**TRAIN, "num_segments": 12}, sampling=sampling, compat=compat
            )
            rng = clip_rng(0, 0, f"{videos[index].id}:{index + 1}", 0)
            rng.random()
            offsets = (
                dense_train_offsets(n, 12, rng)
                if sampling == "dense"
                else train_offsets(n, 12, 2, rng, compat=compat)
            )
            expected = TrainTransform(32)(truth, frame_indices(offsets, 2, n), rng, False)
            assert torch.equal(dataset[0, index].clip, expected)
            assert (not offsets.any()) == (compat and n == 10)
    for wrong, error in (
        ({"sampling": "center"}, ValueError),
        ({"sampling": "dense", "num_segments": 65}, UserError),
    ):
        with pytest.raises(error, match="sampling"):
            TrainDataset(videos, **{**TRAIN, **wrong})


def test_many_clips_of_one_read(root, tmp_path):
    videos = videos_of(root, tmp_path, "v5.mp4 1")
    truth = decode_all(root / "v5.mp4")
    n, sizes = len(truth), []

    def together(sampling, clips, num_clips=None):
        dataset = TestDataset(
            videos, **TEST, crops=3, sampling=sampling, clips=clips, num_clips=num_clips
        )
        sizes.append(len(dataset[0, 0].frames))
        views = test_views(dataset)
        assert views.shape == (3 * len(clips), 4, 6, 32, 32)
        return views.unflatten(0, (len(clips), 3))

    def alone(offsets):
        return views_of(TestTransform(40, 32, 3), truth, frame_indices(offsets[None], 2, n))

    twice = together("twice", [0, 1])
    assert torch.equal(twice[0], alone(center_offsets(n, 4, 2))) and torch.equal(
        twice[1], alone(edge_offsets(n, 4, 2))
    )
    dense = together("dense", [4, 0], 5)
    assert torch.equal(dense[0], alone(dense_offsets(n, 4, 4, 5))) and torch.equal(
        dense[1], alone(dense_offsets(n, 4, 0, 5))
    )
    random = together("random", range(10))
    for clip in range(10):
        assert torch.equal(
            random[clip], alone(train_offsets(n, 4, 2, clip_rng(0, 0, "v5.mp4", clip)))
        )
    assert max(sizes) <= n  # no frame twice
    collapsed = test_views(TestDataset(videos, **{**TEST, "num_segments": 30}, compat=True))
    assert torch.equal(collapsed, collapsed[:, :1].expand_as(collapsed))
    with pytest.raises(UserError, match="clips 0 to 2"):
        together("dense", [3], 3)


@pytest.mark.parametrize(
    ("line", "tmpl"), [("flow 12 0", "flow_{}_{:05d}.jpg"), ("123 24 0", "{:06d}-{}_{:05d}.jpg")]
)
def test_flow_of_a_list(root, tmp_path, flow, line, tmpl):
    """The second form is Something-Something V1's: six digits, and the list counts x and y."""
    videos = videos_of(root, tmp_path, line)
    frames = {
        "num_segments": 2,
        "frames_per_segment": 5,
        "image_tmpl": tmpl,
        "crop_size": 32,
        "modality": "Flow",
    }
    picks = frame_indices(center_offsets(12, 2, 5), 5, 12)
    views = test_views(TestDataset(videos, **frames, scale_size=40, crops=10))
    assert views.shape == (10, 2, 10, 32, 32)
    assert torch.equal(views, views_of(TestTransform(40, 32, 10, flow=True), flow, picks[None]))
    flips = set()
    dataset = TrainDataset(videos, **frames, flip_map=np.array([1, 0, 2]))
    for epoch in range(6):
        rng = clip_rng(0, epoch, f"{videos[0].id}:1", 0)
        flip = bool(rng.random() < 0.5)
        picks = frame_indices(train_offsets(12, 2, 5, rng), 5, 12)
        sample = dataset[epoch, 0]
        assert torch.equal(
            sample.clip, TrainTransform(32, (1, 0.875, 0.75), flow=True)(flow, picks, rng, flip)
        )
        assert sample.label == int(flip)
        flips.add(flip)
        never = TrainDataset(videos, **frames, flip_map=np.array([-1, 1, 2]))[
            epoch, 0
        ]  # as RGB, flow honours it
        assert never.label == 0 and torch.equal(never.clip, sample.clip) != flip
    assert flips == {False, True}


def test_rgbdiff_reads_images_with_the_scales_of_flow(root, tmp_path):
    videos = videos_of(root, tmp_path, "v3.mp4 2")
    rgb, diff = (
        TrainDataset(videos, **TRAIN, modality=modality) for modality in ("RGB", "RGBDiff")
    )
    assert (rgb.transform.scales, diff.transform.scales) == (
        (1, 0.875, 0.75, 0.66),
        (1, 0.875, 0.75),
    )
    assert (
        not rgb.transform.flow
        and not diff.transform.flow
        and diff[0, 0].clip.shape == (4, 6, 32, 32)
    )
    views = [
        test_views(TestDataset(videos, **TEST, modality=modality))
        for modality in ("RGB", "RGBDiff")
    ]
    assert torch.equal(*views)


def test_flow_that_is_not_there(root, tmp_path):
    frames = {
        "num_segments": 2,
        "frames_per_segment": 5,
        "image_tmpl": "flow_{}_{:05d}.jpg",
        "crop_size": 32,
        "scale_size": 40,
        "modality": "Flow",
    }
    videos = videos_of(root, tmp_path, "v0.mp4 0", "flow 20 0", "gone 20 0")
    dataset = TestDataset(videos, **frames)
    with pytest.raises(
        UserError, match=r"list.txt:1: v0.mp4: flow is not read from a video file; extract it"
    ):
        dataset[0, 0]
    failure = dataset[0, 1]
    assert isinstance(failure, Failure) and failure.reason.startswith(
        "flow_x_00013.jpg: No such file"
    )
    assert dataset[0, 2].reason == "No such file or directory"


def test_dense_stride_reaches_training_and_validation(root, tmp_path):
    """TIN's windows are of 2T frames."""
    videos = videos_of(root, tmp_path, "v5.mp4 2")
    truth = decode_all(root / "v5.mp4")
    n = len(truth)
    dataset = TrainDataset(videos, **TRAIN, sampling="dense", dense_stride=2)
    rng = clip_rng(0, 0, f"{videos[0].id}:1", 0)
    rng.random()
    offsets = dense_train_offsets(n, TRAIN["num_segments"], rng, stride=2)
    expected = TrainTransform(32)(truth, frame_indices(offsets, 2, n), rng, False)
    assert torch.equal(dataset[0, 0].clip, expected)
    views = test_views(TestDataset(videos, **TEST, sampling="dense", num_clips=1, dense_stride=2))
    offsets = dense_offsets(n, 4, 0, 1, stride=2)
    assert not np.array_equal(offsets, dense_offsets(n, 4, 0, 1))
    expected = views_of(TestTransform(40, 32, 1), truth, frame_indices(offsets[None], 2, n))
    assert torch.equal(views, expected.reshape(views.shape))
