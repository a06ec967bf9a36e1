import pickle
import shutil

import numpy as np
import pytest
import torch
from helpers.datasets import make_flow, make_motion
from helpers.launch import call, refused, run_command_ranks

from ops.checkpoints import export_state_dict, save_checkpoint
from ops.checkpoints.layouts import from_ours
from ops.checkpoints.manifest import read_manifest
from ops.data.label_orders import FOLDER
from ops.models import TSN
from ops.scores.metadata import read_metadata
from ops.testing import RUNTIMES
from ops.testing.test import print_published
from ops.utils.text import counted


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    flags = make_motion(tmp_path_factory.mktemp("motion"), videos=8)
    del flags[4:6]  # --train_list
    return flags


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """A tiny TDN with scores far enough apart to compare."""
    torch.manual_seed(0)
    model = TSN(8, 2, arch="resnet18", module="tdn", input_size=32)
    torch.nn.init.normal_(model.head.weight)
    path = tmp_path_factory.mktemp("weights") / "tdn.pth"
    save_checkpoint(path, model)
    return path


def read(path):
    with open(path, "rb") as file:
        return pickle.load(file)


def test_center_crop_writes_the_file_of_tdn(data, weights, tmp_path, capsys):
    assert (
        call(
            "test_models_center_crop",
            "motion",
            *data,
            "--archs=resnet18",
            "--weights",
            weights,
            "--test_segments=2",
            "--test_crops=1",
            "--batch_size=3",
            "--gpus",
            0,
            "--output_dir",
            tmp_path,
            "-j",
            0,
            "--clip_index=0",
        )
        == 0
    )
    assert (
        "clip 0, 2 frames x 1 crop x 1 clip, 32, 8/8 videos, softmax per view: Prec@1"
        in capsys.readouterr().out
    )
    rows = read(tmp_path / "0_crop0.pkl")
    assert (
        len(rows) == 8
        and rows[0][0].shape == (1, 8)
        and rows[0][0].dtype == np.float32
        and type(rows[0][1]) is int
    )
    labels = [int(line.split()[-1]) for line in (data[1] / "val.txt").read_text().splitlines()]
    assert [row[1] for row in rows] == labels
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "0_crop0.pkl",
        "failures.csv",
        "scores.json",
    ]
    assert (
        call("pkl_to_results", "--num_clips", 1, "--test_crops", 1, "--output_dir", tmp_path) == 0
    )
    out = capsys.readouterr().out
    assert "2 frames x 1 crop x 1 clip, 32, 8/8 videos" in out and "Overall Prec@1" in out


@pytest.mark.slow
def test_three_crops_and_random_clips(data, weights, tmp_path):
    def scores(folder, clip, *flags):
        assert (
            call(
                "test_models_three_crops",
                "motion",
                *data,
                "--weights",
                weights,
                "--test_sampling",
                "random",
                "--full_res",
                "--output_dir",
                tmp_path / folder,
                "-j",
                0,
                "--clip_index",
                clip,
                *flags,
            )
            == 0
        )
        return [
            np.concatenate([row[0] for row in read(tmp_path / folder / f"{clip}_crop{k}.pkl")])
            for k in range(3)
        ]

    first, second = scores("a", 0), scores("a", 1)
    assert not np.allclose(first[0], second[0])  # another clip
    assert all(
        np.array_equal(x, y) for x, y in zip(first, scores("again", 0), strict=True)
    )  # and the same one again
    fast = scores("fused", 0, "--fuse_bn", "--no-channels_last", "--batch_size", 3)
    assert all(np.allclose(x, y, atol=1e-4) for x, y in zip(first, fast, strict=True))
    assert sorted(p.name for p in (tmp_path / "a").glob("*.pkl")) == [
        f"{c}_crop{k}.pkl" for c in (0, 1) for k in range(3)
    ]


@pytest.mark.slow
def test_views_of_two_protocols_are_not_mixed(data, weights, tmp_path, capsys):
    flags = [
        "test_models_center_crop",
        "motion",
        *data,
        "--weights",
        weights,
        "--output_dir",
        tmp_path,
        "-j",
        0,
    ]
    assert call(*flags) == 0
    first = last_accuracy(capsys.readouterr().out)
    before = (tmp_path / "0_crop0.pkl").stat().st_mtime_ns
    assert call(*flags) == 0  # the same again: there is nothing to do
    out = capsys.readouterr().out
    assert "scored already" in out and last_accuracy(out) == first
    assert (tmp_path / "0_crop0.pkl").stat().st_mtime_ns == before
    assert "crop_size 32 -> 36" in refused(capsys, *flags, "--full_res")
    assert "amp none -> bf16" in refused(capsys, *flags, "--amp", "bf16")
    other = tmp_path / "other.pth"
    torch.manual_seed(1)
    save_checkpoint(other, TSN(8, 2, arch="resnet18", module="tdn", input_size=32))
    assert "weights " in refused(capsys, *flags, "--weights", other)
    short = tmp_path / "val.txt"
    short.write_text("".join((data[1] / "val.txt").read_text().splitlines(keepends=True)[:-1]))
    assert "videos 8 -> 7" in refused(capsys, *flags, "--val_list", short)


@pytest.mark.slow
def test_any_number_of_processes_gives_the_same_files(data, weights, tmp_path):
    """Seven videos on two processes."""
    val = tmp_path / "val.txt"
    val.write_text("".join((data[1] / "val.txt").read_text().splitlines(keepends=True)[:7]))
    flags = [
        "motion",
        *data[:4],
        "--val_list",
        val,
        "--weights",
        weights,
        "-j",
        0,
        "--device",
        "cpu",
    ]
    assert call("test_models_center_crop", *flags, "--output_dir", tmp_path / "one") == 0
    two = ["--output_dir", tmp_path / "two"]
    run_command_ranks(tmp_path, "test_models_center_crop", *flags, *two)
    assert "7/7 videos" in (tmp_path / "log0").read_text()
    one, two = (read(tmp_path / name / "0_crop0.pkl") for name in ("one", "two"))
    assert [row[1] for row in one] == [row[1] for row in two]
    assert (tmp_path / "one" / "0_crop0.pkl").read_bytes() == (
        tmp_path / "two" / "0_crop0.pkl"
    ).read_bytes()


@pytest.mark.parametrize(("order", "warned"), [("sorted", False), ("official", True)])
def test_weights_of_another_label_order_are_warned_of(data, tmp_path, capsys, order, warned):
    """TDN sorts the classes of Something-Something V1, MMAction2 does not."""
    model = TSN(174, 2, arch="resnet18", module="tdn")
    weights = tmp_path / "published.pth"
    torch.save({"state_dict": export_state_dict(model, "tdn")}, weights)
    args = ["something", *data[:2], "--val_list", data[1] / "val.txt", "--weights", weights]
    names = FOLDER / f"something_{order}.txt"
    flags = ["--class_names", names, "--test_segments", 2, "--dry_run"]
    assert call("test_models_center_crop", *args, *flags, "--output_dir", tmp_path / "out") == 0
    lines = [line for line in capsys.readouterr().err.splitlines() if "warning" in line]
    assert len(lines) == warned
    if warned:
        assert "something_sorted.txt" in lines[0] and str(names) in lines[0]
        assert "--order sorted" in lines[0]


def test_published_layout_scores_the_same(data, weights, tmp_path):
    from ops.checkpoints import load_model

    released = {
        "epoch": 60,
        "arch": "resnet18",
        "state_dict": export_state_dict(load_model(weights), "tdn"),
    }
    torch.save(released, tmp_path / "released.pth.tar")
    for name, file in (("ours", weights), ("theirs", tmp_path / "released.pth.tar")):
        assert (
            call(
                "test_models_center_crop",
                "motion",
                *data,
                "--weights",
                file,
                "--test_segments",
                2,
                "-j",
                0,
                "--scale_size",
                36,
                "--full_res",
                "--output_dir",
                tmp_path / name,
            )
            == 0
        )
    ours, theirs = (
        np.concatenate([row[0] for row in read(tmp_path / name / "0_crop0.pkl")])
        for name in ("ours", "theirs")
    )
    np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("kind", ["missing", "empty", "text", "truncated"])
def test_an_unreadable_video_stops_or_counts_as_wrong(data, weights, tmp_path, capsys, kind):
    root = tmp_path / "data"
    shutil.copytree(data[1], root)
    lines = (root / "val.txt").read_text().splitlines()
    video = root / lines[2].rsplit(None, 1)[0]
    content = video.read_bytes()
    video.unlink()
    if kind != "missing":
        video.write_bytes(
            {
                "empty": b"",
                "text": b"not a video\n" * 100,
                "truncated": content[: len(content) // 2],
            }[kind]
        )
    flags = [
        "test_models_center_crop",
        "motion",
        *[str(flag).replace(str(data[1]), str(root)) for flag in data],
        "--weights",
        weights,
        "--output_dir",
        tmp_path / "out",
    ]
    for workers in (0, 1):
        line = refused(capsys, *flags, "-j", workers)
        assert f"{root}/val.txt:3: " in line and "--on-error count-wrong" in line
        assert not list((tmp_path / "out").glob("*.pkl"))
    assert call(*flags, "-j", 1, "--on-error", "count-wrong") == 0
    assert "7/8 videos" in capsys.readouterr().out
    scores, label = read(tmp_path / "out" / "0_crop0.pkl")[2]
    assert scores.argmin() == label and (scores == scores.min()).sum() == 1
    metadata = read_metadata(tmp_path / "out")
    assert (
        metadata.read,
        len(metadata.ids),
        metadata.failures[0]["line"],
        metadata.failures[0]["row"],
    ) == (
        7,
        8,
        3,
        2,
    )
    header, row = (tmp_path / "out" / "failures.csv").read_text().splitlines()
    assert (
        header == "line,id,reason,clips"
        and row.startswith(f"3,{metadata.ids[2]},")
        and row.endswith(",0")
    )
    csv_file = tmp_path / "predictions.csv"
    assert call("pkl_to_results", tmp_path / "out", "--csv_file", csv_file) == 0
    output = capsys.readouterr()
    assert "7/8 videos" in output.out and "1 of 8 videos" in output.err
    predictions = dict(line.split(";") for line in csv_file.read_text().splitlines())
    assert [video for video, name in predictions.items() if not name] == [metadata.ids[2]]
    written = csv_file.read_bytes()
    assert call(*flags, "--on-error", "count-wrong", "--csv_file", csv_file) == 0
    assert "1 of 8 videos" in capsys.readouterr().err and csv_file.read_bytes() == written


def test_invalid_input_is_one_line(data, weights, tmp_path, capsys):
    def error(*flags, weights=weights):
        return refused(
            capsys,
            "test_models_center_crop",
            "motion",
            *data,
            "--weights",
            weights,
            "-j",
            0,
            "--output_dir",
            tmp_path / "out",
            *flags,
        )

    save_checkpoint(tmp_path / "five.pth", TSN(5, 2, arch="resnet18", module="tsn", input_size=32))
    assert "5 classes" in error(weights=tmp_path / "five.pth")
    named = tmp_path / "named.pth"
    save_checkpoint(
        named, TSN(8, 2, arch="resnet18", module="tsn", input_size=32), class_names=list("abcdefgh")
    )
    assert "class names differ" in error(weights=named)
    (tmp_path / "text.pth").write_text("hello")
    assert "not a PyTorch checkpoint" in error(weights=tmp_path / "text.pth")
    assert "resnet18" in error("--archs", "resnet50")
    assert "--test_crops" in error("--test_crops", 4)
    assert "torchrun" in error("--gpus", 0, 1)
    assert "center sampling" in error("--clip_index", 1)
    assert "32" in error("--scale_size", 16)  # the crops are 32
    assert not (tmp_path / "out").exists()


# Several clips, several networks.


@pytest.fixture(scope="module")
def networks(tmp_path_factory):
    """A TSM of RGB, one of Flow, and a TSN of RGBDiff."""
    folder, files = tmp_path_factory.mktemp("networks"), {}
    kinds = (("rgb", "tsm", "RGB"), ("flow", "tsm", "Flow"), ("diff", "tsn", "RGBDiff"))
    for seed, (name, module, modality) in enumerate(kinds):
        torch.manual_seed(seed)
        model = TSN(8, 4, arch="resnet18", module=module, modality=modality, input_size=32)
        torch.nn.init.normal_(model.head.weight)
        files[name] = folder / f"{name}.pth"
        save_checkpoint(files[name], model)
    return files


def logits_of(path):
    return np.concatenate([row[0] for row in read(path)])


def last_accuracy(out):
    return next(line for line in reversed(out.splitlines()) if line.startswith("Overall"))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("flags", "clips"),
    [
        (["--dense_sample"], 10),
        (["--twice_sample"], 2),
        (["--test_sampling", "random", "--clips", 3], 3),
        ([], 1),
    ],
)
def test_all_clips_of_one_run_are_those_of_one_run_each(
    data, networks, tmp_path, capsys, flags, clips
):
    command = [
        "test_models_three_crops",
        "motion",
        *data,
        "--weights",
        networks["rgb"],
        *flags,
        "-j",
        0,
    ]
    assert call(*command, "--output_dir", tmp_path / "all") == 0
    out = capsys.readouterr().out
    assert f"4 frames x 3 crops x {counted(clips, 'clip')}, 32, 8/8 videos, mean of logits" in out
    names = [f"{clip}_crop{crop}.pkl" for clip in range(clips) for crop in range(3)]
    assert sorted(path.name for path in (tmp_path / "all").glob("*.pkl")) == sorted(names)
    for clip in {0, clips - 1}:
        assert call(*command, "--clip_index", clip, "--output_dir", tmp_path / "one") == 0
        for crop in range(3):
            name = f"{clip}_crop{crop}.pkl"
            assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "all" / name).read_bytes()
    assert (
        call(*command, "--output_dir", tmp_path / "fast", "--batch_size", 5, "--view_batch", 7) == 0
    )
    for name in names:
        np.testing.assert_allclose(
            logits_of(tmp_path / "fast" / name), logits_of(tmp_path / "all" / name), atol=1e-4
        )
    capsys.readouterr()
    assert (
        call("pkl_to_results", tmp_path / "all") == 0
    )  # averages logits, too, as scores.json specifies
    assert last_accuracy(capsys.readouterr().out) == last_accuracy(out)


def test_an_ensemble_of_two_modalities_is_joined_by_video(data, networks, tmp_path, capsys):
    lines = [line.split() for line in (data[1] / "val.txt").read_text().splitlines()]
    flow = make_flow(tmp_path / "flow", [(video, int(label)) for video, label in reversed(lines)])
    out = tmp_path / "out"
    assert (
        call(
            "test_models_center_crop",
            "motion",
            "--class_names",
            data[3],
            "--weights",
            f"{networks['rgb']},{networks['flow']}",
            "--test_list",
            f"{data[5]},{flow}",
            "--root_path",
            f"{data[1]},{tmp_path / 'flow'}",
            "--image_tmpl",
            "img_{:05d}.jpg,flow_{}_{:05d}.jpg",
            "--test_segments",
            "4,2",
            "--test_crops",
            "1,10",
            "--coeff",
            "1,1.5",
            "--softmax",
            "-j",
            0,
            "--output_dir",
            out,
            "--csv_file",
            tmp_path / "s.csv",
        )
        == 0
    )
    printed = capsys.readouterr().out
    assert "4 frames x 1 crop x 1 clip" in printed and "2 frames x 10 crops x 1 clip" in printed
    rgb = logits_of(out / "0_rgb" / "0_crop0.pkl")
    of_flow = sum(logits_of(out / "1_flow" / f"0_crop{k}.pkl") for k in range(10))[::-1] / 10
    softmax = [np.exp(x) / np.exp(x).sum(1, keepdims=True) for x in (rgb, of_flow)]
    best = (softmax[0] + 1.5 * softmax[1]).argmax(1)
    labels = np.array([int(label) for _, label in lines])
    assert last_accuracy(printed).startswith(f"Overall Prec@1 {100 * (best == labels).mean():.2f}%")
    names = data[3].read_text().splitlines()
    expected = [f"{video};{names[k]}" for (video, _), k in zip(lines, best, strict=True)]
    assert (tmp_path / "s.csv").read_text().splitlines() == expected
    assert (
        call(
            "pkl_to_results", out / "0_rgb", out / "1_flow", "--score_weights", 1, 1.5, "--softmax"
        )
        == 0
    )
    assert last_accuracy(capsys.readouterr().out) == last_accuracy(printed)


def test_max_num_counts_videos(data, networks, tmp_path, capsys):
    command = [
        "test_models_center_crop",
        "motion",
        *data,
        "--weights",
        networks["diff"],
        "-j",
        0,
        "--batch_size",
        3,
        "--output_dir",
        tmp_path / "out",
    ]
    assert call(*command, "--max_num", 5, "--save_scores", tmp_path / "s.npz") == 0
    assert "5/5 videos" in capsys.readouterr().out
    saved = np.load(tmp_path / "s.npz")
    assert saved["scores"].shape[:2] == (5, 1) and saved["scores"].shape[3:] == (1, 8)
    means = saved["scores"].mean(2)[:, 0, 0]
    assert np.allclose(means, logits_of(tmp_path / "out" / "0_crop0.pkl"), atol=1e-5)
    assert "videos 5 -> 8" in refused(capsys, *command)
    assert call("pkl_to_results", tmp_path / "s.npz") == 0


def test_saved_scores_have_an_entry_per_segment(data, networks, tmp_path, capsys):
    """As tsn-pytorch's, so that TSN's eval_scores.py, top-k and windows can put them together."""
    command = ["test_models_center_crop", "motion", *data, "--weights", networks["rgb"], "-j", 0]
    command += ["--test_crops", 3, "--twice_sample"]
    out = tmp_path / "out"
    assert call(*command, "--output_dir", tmp_path / "plain") == 0
    plain = last_accuracy(capsys.readouterr().out)
    assert call(*command, "--output_dir", out, "--save_scores", tmp_path / "s") == 0
    assert last_accuracy(capsys.readouterr().out) == plain
    names = sorted(path.name for path in out.glob("*.pkl"))
    assert len(names) == 6
    for name in names:  # the same bytes as without --save_scores
        assert (out / name).read_bytes() == (tmp_path / "plain" / name).read_bytes()
    saved = np.load(tmp_path / "s.npz")  # named as numpy does
    segments, views = 4, [[logits_of(out / f"{c}_crop{k}.pkl") for k in range(3)] for c in (0, 1)]
    assert saved["scores"].shape == (8, 1, 2 * segments, 3, 8)
    for clip in (0, 1):
        part = saved["scores"][:, 0, clip * segments : (clip + 1) * segments]
        for crop in range(3):
            assert np.allclose(part[:, :, crop].mean(1), views[clip][crop], atol=1e-5)
    assert not np.allclose(saved["scores"][:, 0, 0], saved["scores"][:, 0, 1])
    # TSN tools/eval_scores.py: default_aggregation_func of each of scores[:, 0].
    aggregated = [one.mean(axis=1).mean(axis=0) for one in saved["scores"][:, 0]]
    assert np.allclose(aggregated, np.mean(views, (0, 1)), atol=1e-5)
    assert call("pkl_to_results", tmp_path / "s", "--frame_agg", "topk:3") == 0
    assert call("pkl_to_results", tmp_path / "s") == 0
    assert last_accuracy(capsys.readouterr().out) == plain
    # What is complete is not scored again; what is missing is.
    assert call(*command, "--output_dir", out, "--save_scores", tmp_path / "s.npz") == 0
    assert "scored already" in capsys.readouterr().out
    assert call(*command, "--output_dir", tmp_path / "plain", "--save_scores", tmp_path / "t") == 0
    assert "scored already" not in capsys.readouterr().out
    assert np.array_equal(np.load(tmp_path / "t.npz")["scores"], saved["scores"])


def test_networks_that_do_not_match_raise(data, networks, tmp_path, capsys):
    def error(*flags):
        return refused(
            capsys,
            "test_models_center_crop",
            "motion",
            *data,
            "-j",
            0,
            "--output_dir",
            tmp_path / "out",
            *flags,
        )

    save_checkpoint(tmp_path / "five.pth", TSN(5, 2, arch="resnet18", input_size=32))
    assert "5 classes" in error("--weights", f"{networks['rgb']},{tmp_path / 'five.pth'}")
    assert "flow is not read from a video file" in error("--weights", networks["flow"])
    assert "--modality Flow" in error("--weights", networks["rgb"], "--modality", "Flow")
    assert "--save_scores" in error(
        "--weights", f"{networks['rgb']},{networks['rgb']}", "--save_scores", tmp_path / "s.npz"
    )
    assert "twice sampling" in error("--weights", networks["rgb"], "--twice_sample", "--clips", 3)
    assert not list((tmp_path / "out").glob("*.pkl"))


def bare(path, layout, **options):
    """A file in a published layout, of a network for the data."""
    torch.manual_seed(0)
    model = TSN(8, 2, arch="resnet18", **options)
    torch.nn.init.normal_(model.head.weight)
    state = from_mmaction2(model) if layout == "mmaction2" else export_state_dict(model, layout)
    torch.save({"state_dict": state}, path)
    return path


def from_mmaction2(model):
    """The names of MMAction2, by the table backwards."""
    return from_ours(model.state_dict(), "mmaction2")


def test_mmaction2_files_average_probabilities(data, tmp_path, capsys):
    """The default of their authors; after a conversion as well, and --average still decides."""
    command = ["test_models_center_crop", "motion", *data, "--dry_run", "--test_segments", 2]
    theirs = bare(tmp_path / "mm.pth", "mmaction2", module="tsn")
    converted = tmp_path / "ours.pth"
    assert call("convert_checkpoint", theirs, converted, "--num_segments", 2) == 0
    again = tmp_path / "again.pth"
    assert call("convert_checkpoint", converted, again) == 0
    tsm = bare(tmp_path / "tsm.pth", "tsm", module="tsn")
    for path, flags, is_softmax in (
        (theirs, [], True),
        (converted, [], True),
        (again, [], True),
        (theirs, ["--average", "logits"], False),
        (tsm, [], False),
    ):
        capsys.readouterr()
        assert call(*command, "--weights", path, *flags) == 0
        assert ("softmax per view" in capsys.readouterr().out) == is_softmax


def test_published_results_are_printed(capsys):
    entries = {entry["id"]: entry for entry in read_manifest()}
    print_published(entries["tsm_r50_8f_k400_dense"])
    printed = capsys.readouterr().out
    assert "10 clips" in printed and "Prec@1 74.1" in printed
    print_published(entries["tsm_r50_8f_k400"])
    assert "8 frames, 1 crop, 1 clip, 224" in capsys.readouterr().out


def test_weights_by_key_and_by_folder(data, tmp_path, capsys):
    first, second = (TSN(8, 2, arch="resnet18", input_size=32) for _ in range(2))
    run = tmp_path / "run"
    run.mkdir()
    save_checkpoint(run / "best.pth", first, trained_state_dict=second.state_dict())
    command = ["test_models_center_crop", "motion", *data, "-j", 0, "--output_dir", tmp_path / "a"]
    assert call(*command, "--weights", run) == 0
    assert f"{run / 'best.pth'}: " in capsys.readouterr().out
    command[-1] = tmp_path / "b"
    assert call(*command, "--weights", run, "--weights_key", "trained_state_dict") == 0
    assert "weights trained_state_dict (not state_dict" in capsys.readouterr().out
    folders = [read(tmp_path / name / "0_crop0.pkl") for name in "ab"]
    assert not np.array_equal(folders[0][0][0], folders[1][0][0])
    # The other weights of the same file are another network, with other scores.
    assert "weights_key" in refused(capsys, *command, "--weights", run)


@pytest.mark.slow
def test_onnxruntime_scores_the_same_and_int8_nearly(data, tmp_path, capsys):
    pytest.importorskip("onnxruntime", reason="tools/requirements.txt is not installed")
    torch.manual_seed(0)
    model = TSN(8, 2, arch="resnet18", module="tsm", input_size=32)
    torch.nn.init.normal_(model.head.weight)
    save_checkpoint(tmp_path / "tsm.pth", model)
    common = ["motion", *data, "--weights", tmp_path / "tsm.pth", "-j", 0, "--device", "cpu"]
    scores = {}
    for runtime in RUNTIMES:
        flags = ["--runtime", runtime, "--output_dir", tmp_path / runtime, "--full_res"]
        assert call("test_models_center_crop", *common, *flags) == 0
        assert "Overall Prec@1" in capsys.readouterr().out
        rows = read(next((tmp_path / runtime).glob("*.pkl")))
        scores[runtime] = np.concatenate([row[0] for row in rows])
    scale = np.abs(scores["torch"]).max()
    assert np.abs(scores["onnxruntime"] - scores["torch"]).max() < 1e-4 * scale
    assert 1e-4 * scale < np.abs(scores["onnxruntime-int8"] - scores["torch"]).max() < 0.1 * scale
    # Scores of one directory have one precision.
    folder = ["--output_dir", tmp_path / "torch", "--full_res"]
    line = refused(
        capsys, "test_models_center_crop", *common, *folder, "--runtime", "onnxruntime-int8"
    )
    assert "amp" in line


@pytest.mark.parametrize("flags", [["--amp", "bf16"], ["--compile"], ["--save_scores", "x.npz"]])
def test_flags_that_onnxruntime_does_not_have_raise(data, weights, tmp_path, capsys, flags):
    common = ["motion", *data, "--weights", weights, "--output_dir", tmp_path, "--device", "cpu"]
    line = refused(capsys, "test_models_center_crop", *common, "--runtime", "onnxruntime", *flags)
    assert "--runtime onnxruntime" in line and flags[0] in line
