import json
import os
import shutil
import sys
from urllib.error import URLError

import pytest
import torch
import torchvision
from helpers.datasets import make_flow, make_motion
from helpers.launch import call, free_port, launch, refused, run_command_ranks, run_ranks
from helpers.runs import is_same

from ops.backbones import pretrained
from ops.checkpoints import save_checkpoint
from ops.models import TSN

# MobileNetV2 has a fifth of the weights of ResNet-18, so that its checkpoints are written quickly.
TINY = [
    "--module",
    "tsn",
    "--arch",
    "mobilenetv2",
    "--pretrain",
    "none",
    "--num_segments",
    2,
    "--input_size",
    32,
    "--batch-size",
    4,
    "--lr",
    0.01,
    "-j",
    0,
    "--epochs",
    2,
    "--device",
    "cpu",
    "--print-freq",
    1,
]
RESNET = ["--arch", "resnet18"]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return make_motion(tmp_path_factory.mktemp("motion"))


@pytest.fixture(scope="module")
def trained(data, tmp_path_factory):
    """The output folder of two epochs in one process."""
    out = tmp_path_factory.mktemp("run") / "out"
    assert call("main", "motion", "RGB", *data, *TINY, "--output_dir", out) == 0
    return out


def load(path):
    return torch.load(path, weights_only=True)


def with_list(data, flag, path):
    data = list(data)
    data[data.index(flag) + 1] = path
    return data


def test_files_of_a_run(trained):
    assert {p.name for p in trained.iterdir()} == {
        "args.json",
        "args.toml",
        "log.txt",
        "log.jsonl",
        "tensorboard",
        "last.pth",
        "last.1.pth",
        "best.pth",
    }
    args = json.loads((trained / "args.json").read_text())
    assert args["lr_policy"] == "groups" and args["partial_bn"] is False and args["world_size"] == 1
    rows = [json.loads(line) for line in (trained / "log.jsonl").read_text().splitlines()]
    assert (
        [row["epoch"] for row in rows] == [1, 2]
        and rows[0]["train_videos"] == 16
        and rows[0]["val_videos"] == 8
    )
    assert "8/8 videos: Prec@1" in (trained / "log.txt").read_text()
    last = load(trained / "last.pth")
    assert (
        last["epoch"] == 2
        and last["model"]["module"] == "tsn"
        and last["class_names"][0].startswith("Moving")
    )
    assert last["recipe"]["lr"] == 0.01 and last["metrics"]["val_listed"] == 8


def test_resumed_run_is_bit_identical(data, trained, tmp_path):
    assert (
        call("main", "motion", "RGB", *data, *TINY, "--output_dir", tmp_path / "out", "--epochs", 1)
        == 0
    )
    assert (
        call(
            "main",
            "motion",
            "RGB",
            *data,
            *TINY,
            "--output_dir",
            tmp_path / "out",
            "--resume",
            "auto",
            "-j",
            2,
        )
        == 0
    )
    whole, parts = load(trained / "last.pth"), load(tmp_path / "out" / "last.pth")
    assert is_same(whole["state_dict"], parts["state_dict"]) and is_same(
        whole["optimizer"]["state"], parts["optimizer"]["state"]
    )
    assert whole["metrics"]["val_top1"] == parts["metrics"]["val_top1"]


def test_args_toml_repeats_a_run(trained, tmp_path, capsys):
    config = ["--config", trained / "args.toml"]
    assert "already contains a training" in refused(capsys, "main", *config)
    assert call("main", *config, "--output_dir", tmp_path / "out") == 0
    assert f"flags from {trained}/args.toml" in (tmp_path / "out" / "log.txt").read_text()
    first, second = load(trained / "last.pth"), load(tmp_path / "out" / "last.pth")
    assert is_same(first["state_dict"], second["state_dict"])
    assert is_same(first["optimizer"], second["optimizer"])
    # A resumed run may take its flags from there as well.
    assert call("main", *config, "--resume", "auto") == 0
    assert "resumed" in capsys.readouterr().out


def test_resume_refuses_another_recipe(data, trained, tmp_path, capsys):
    shutil.copytree(trained, tmp_path / "out")
    common = [
        "main",
        "motion",
        "RGB",
        *data,
        *TINY,
        "--output_dir",
        tmp_path / "out",
        "--resume",
        "auto",
    ]
    assert "lr 0.01 -> 0.5" in refused(capsys, *common, "--lr", 0.5)
    assert "num_segments 2 -> 4" in refused(capsys, *common, "--num_segments", 4)


def test_evaluate_and_dry_run(data, trained, tmp_path, capsys):
    common = ["main", "motion", "RGB", *data, *TINY, "--output_dir", tmp_path / "out"]
    assert call(*common, "-e", "--resume", trained / "last.pth") == 0
    expected = capsys.readouterr().out
    assert "8/8 videos: Prec@1" in expected
    # Options that matter in training only, such as those that group the parameters, may be others.
    other = ["--partial_bn", "--lr_policy", "flat"]
    assert call(*common, "-e", "--resume", trained / "last.pth", *other) == 0
    assert capsys.readouterr().out == expected
    assert call(*common, "--dry_run") == 0
    assert "16 train videos, 8 val videos, 8 classes" in capsys.readouterr().out
    assert "--resume" in refused(capsys, *common, "-e")
    assert not (tmp_path / "out").exists()


def test_evaluation_names_a_damaged_checkpoint(data, trained, tmp_path, capsys):
    content = (trained / "last.pth").read_bytes()
    (tmp_path / "last.1.pth").write_bytes(content)
    (tmp_path / "last.pth").write_bytes(content[: len(content) // 2])
    assert call("main", "motion", "RGB", *data, *TINY, "-e", "--resume", tmp_path) == 0
    assert f"{tmp_path}/last.pth: damaged" in capsys.readouterr().out


def test_precision_accumulation_and_tdn(data, tmp_path):
    out = tmp_path / "out"
    assert (
        call(
            "main",
            "motion",
            "RGB",
            *data,
            *TINY,
            *RESNET,
            "--module",
            "tdn",
            "--amp",
            "bf16",
            "--accumulate",
            2,
            "--gd",
            5,
            "--lr_scheduler",
            "cosine",
            "--warmup_epoch",
            1,
            "--epochs",
            1,
            "--output_dir",
            out,
        )
        == 0
    )
    row = json.loads((out / "log.jsonl").read_text())
    assert row["step"] == 2  # 16 videos, 4 a batch, 2 batches a step
    assert load(out / "last.pth")["recipe"]["lr_policy"] == "flat"


@pytest.mark.slow
@pytest.mark.parametrize("launcher", ["torch.distributed.run", "torch.distributed.launch"])
def test_two_processes_score_each_video_once(data, tmp_path, capsys, launcher):
    """Uneven data: 16 training videos in batches of 2 x 3, and 7 videos to validate."""
    val = tmp_path / "val.txt"
    val.write_text("".join((data[1] / "val.txt").read_text().splitlines(keepends=True)[:7]))
    flags = [*with_list(data, "--val_list", val), *TINY, "--batch-size", 3, "--epochs", 1]
    out = tmp_path / "out"
    run = launch(
        "-m",
        launcher,
        "--nproc_per_node",
        2,
        "--master_port",
        free_port(),
        "main.py",
        "motion",
        "RGB",
        *flags,
        "--output_dir",
        out,
    )
    assert run.returncode == 0, run.stderr[-3000:]
    row = json.loads((out / "log.jsonl").read_text())
    assert (row["train_videos"], row["val_videos"], row["val_listed"]) == (12, 7, 7)
    assert json.loads((out / "args.json").read_text())["world_size"] == 2
    # The same weights, scored by one process
    assert call("main", "motion", "RGB", *flags, "-e", "--resume", out / "last.pth") == 0
    assert (
        f"7/7 videos: Prec@1 {row['val_top1']:.2f}% Prec@5 {row['val_top5']:.2f}% "
        f"mean class {row['val_mean_class']:.2f}% loss {row['val_loss']:.4f}"
    ) in capsys.readouterr().out


@pytest.mark.slow
def test_unreadable_training_videos_are_skipped_and_named(data, tmp_path):
    """One process, then two of which one meets a batch without a single readable video."""
    root, train = data[1], tmp_path / "train.txt"
    (tmp_path / "bad.mp4").write_bytes(b"")
    lines = (root / "train.txt").read_text().splitlines()
    train.write_text("\n".join([*lines[:3], f"{tmp_path}/bad.mp4 0"]) + "\n")
    flags = [*with_list(data, "--train_list", train), *TINY, *RESNET, "--epochs", 1]
    assert call("main", "motion", "RGB", *flags, "--output_dir", tmp_path / "one") == 0
    row = json.loads((tmp_path / "one" / "log.jsonl").read_text())
    assert (row["train_videos"], row["train_skipped"]) == (3, 1)
    assert f"{train}:4: " in (tmp_path / "one" / "log.txt").read_text()
    command = ["main", "motion", "RGB", *flags, "--batch-size", 1, "--output_dir", tmp_path / "two"]
    run_command_ranks(tmp_path, *command)
    row = json.loads((tmp_path / "two" / "log.jsonl").read_text())
    assert (row["train_videos"], row["train_skipped"]) == (3, 1)
    assert all(
        value.isfinite().all()
        for value in load(tmp_path / "two" / "last.pth")["state_dict"].values()
    )


def test_multi_label_training(data, tmp_path, capsys):
    lists = [tmp_path / name for name in ("train.txt", "val.txt")]
    for path, name in zip(lists, ("train", "val"), strict=True):
        lines = [
            line.rsplit(None, 1) for line in (data[1] / f"{name}.txt").read_text().splitlines()
        ]
        path.write_text(
            "".join(f"{video} {label},{(int(label) + 3) % 8}\n" for video, label in lines)
        )
    flags = with_list(with_list(data, "--train_list", lists[0]), "--val_list", lists[1])
    out = tmp_path / "out"
    assert "need --multi_label" in refused(
        capsys, "main", "motion", "RGB", *flags, *TINY, "--output_dir", out
    )
    assert (
        call(
            "main",
            "motion",
            "RGB",
            *flags,
            *TINY,
            "--epochs",
            1,
            "--loss_type",
            "bce",
            "--output_dir",
            out,
        )
        == 0
    )
    row = json.loads((out / "log.jsonl").read_text())
    assert {"val_map", "val_map_samples", "val_top1", "val_top5"} <= row.keys() and row[
        "best"
    ] == row["val_map"]
    assert 0.5 < row["train_loss"] < 0.9  # ln 2 is that of a new classifier
    assert " mAP " in (out / "log.txt").read_text()
    scores = tmp_path / "scores"
    command = [
        "test_models_center_crop",
        "motion",
        *flags[:4],
        "--val_list",
        lists[1],
        "--weights",
        out / "last.pth",
        "-j",
        0,
    ]
    assert call(*command, "--multi_label", "--output_dir", scores) == 0
    printed = capsys.readouterr().out
    assert (
        f"mean of logits: mAP {row['val_map']:.2f}% mAP of samples {row['val_map_samples']:.2f}%"
        in printed
    )
    assert call("pkl_to_results", scores) == 0
    assert capsys.readouterr().out.splitlines()[-1] == printed.splitlines()[-1]


def test_invalid_input_is_one_line(data, tmp_path, capsys):
    out = tmp_path / "out"
    names, empty, gone, label, word = (
        tmp_path / name for name in ("names.txt", "empty.txt", "gone.txt", "label.txt", "word.txt")
    )
    names.write_text("a\nb\n")
    empty.write_text("")
    gone.write_text("videos/train/nowhere.mp4 0\n")
    label.write_text("videos/train/00000.mp4 0\nvideos/train/00001.mp4 8\n")
    word.write_text("videos/train/00000.mp4 one\n")

    def error(flags, *more):
        return refused(capsys, "main", "motion", "RGB", *flags, *TINY, "--output_dir", out, *more)

    assert str(tmp_path / "no.txt") in error(with_list(data, "--train_list", tmp_path / "no.txt"))
    assert str(empty) in error(with_list(data, "--val_list", empty))
    assert f"{label}:2" in error(with_list(data, "--train_list", label))
    assert f"{word}:1" in error(with_list(data, "--train_list", word))
    line = error(with_list(data, "--train_list", gone))
    assert f"{gone}:1" in line and "--missing skip" in line
    assert str(names) in error(with_list(data, "--class_names", names), "--num_class", 8)
    assert "batch" in error(data, "--batch-size", 64)
    assert "no such checkpoint" in error(data, "--resume", tmp_path / "none.pth")
    assert str(names) in error(data, "--pretrain", names)
    assert not out.exists()


def test_a_loss_that_is_not_finite_stops_the_run(data, tmp_path, capsys):
    line = refused(
        capsys,
        "main",
        "motion",
        "RGB",
        *data,
        *TINY,
        "--lr",
        1e30,
        "--output_dir",
        tmp_path / "out",
    )
    assert "the loss is" in line and "step" in line


# TSM, other modalities, fine-tuning.


@pytest.mark.parametrize(
    "flags",
    [
        [
            *RESNET,
            "--shift",
            "--shift_div",
            4,
            "--consensus_type",
            "identity",
            "--non_local",
            "--lr_type",
            "cos",
            "--no_flip",
        ],
        [*RESNET, "--shift", "--temporal_pool", "--dense_sample", "--partial_bn"],
        ["--module", "tsn", "--arch", "mobilenetv2"],
    ],
)
def test_tsm_trains(data, tmp_path, capsys, flags):
    out = tmp_path / "out"
    assert (
        call("main", "motion", "RGB", *data, *TINY[2:], "--epochs", 1, *flags, "--output_dir", out)
        == 0
    )
    last = load(out / "last.pth")
    assert last["model"]["module"] == ("tsn" if "tsn" in flags else "tsm")
    assert ("flip: none" in (out / "log.txt").read_text()) == ("--no_flip" in flags)
    again = ["--output_dir", out, "--resume", "auto", "-e"]
    assert call("main", "motion", "RGB", *data, *TINY[2:], "--epochs", 1, *flags, *again) == 0
    assert f"Prec@1 {last['metrics']['val_top1']:.2f}%" in capsys.readouterr().out.splitlines()[-1]


def test_other_modalities_train(data, tmp_path):
    videos = [(f"v{index:02d}", index % 8) for index in range(16)]
    flow = make_flow(tmp_path / "flow", videos)
    names = data[data.index("--class_names") + 1]
    assert (
        call(
            "main",
            "motion",
            "Flow",
            flow,
            flow,
            "--root_path",
            tmp_path / "flow",
            "--class_names",
            names,
            "--flow_pref",
            "flow_",
            *TINY,
            "--epochs",
            1,
            "--output_dir",
            tmp_path / "f",
        )
        == 0
    )
    assert load(tmp_path / "f" / "last.pth")["state_dict"][
        "backbone.features.0.0.weight"
    ].shape == (
        32,
        10,
        3,
        3,
    )
    assert (
        call(
            "main", "motion", "RGBDiff", *data, *TINY, "--epochs", 1, "--output_dir", tmp_path / "d"
        )
        == 0
    )
    assert load(tmp_path / "d" / "last.pth")["model"]["modality"] == "RGBDiff"


def test_tuning_from_a_run(data, trained, tmp_path, capsys):
    flags = [
        "main",
        "motion",
        "RGB",
        *data,
        *TINY[2:],
        "--epochs",
        1,
        "--lr",
        1e-9,
        "--shift",
        "--tune_from",
    ]
    assert call(*flags, trained / "last.pth", "--output_dir", tmp_path / "same") == 0
    printed = capsys.readouterr().out
    assert "head taken over, new 0, not used 0" in printed and "partial BN" in printed
    recipe = load(tmp_path / "same" / "last.pth")["recipe"]
    assert recipe["fc_lr5"] is False and recipe["pretrain"] == "none"
    renamed = tmp_path / "classes.txt"
    renamed.write_text("".join(f"{name}\n" for name in "abcdefgh"))
    assert (
        call(
            *flags,
            trained / "last.pth",
            "--class_names",
            renamed,
            "--output_dir",
            tmp_path / "other",
        )
        == 0
    )
    assert "head new (8 -> 8): other classes" in capsys.readouterr().out
    assert load(tmp_path / "other" / "last.pth")["recipe"]["fc_lr5"] is True
    assert "no such checkpoint" in refused(capsys, *flags, tmp_path / "none.pth")


@pytest.mark.slow
@pytest.mark.parametrize("module", ["tam", "tin"])
def test_adaptive_and_interlaced_networks_train(data, tmp_path, capsys, module):
    """With --deterministic and TIN's schedule. Afterwards T cannot be changed."""
    flags = [
        *RESNET,
        "--epochs",
        1,
        f"--{module}",
        "--lr_scheduler",
        "cosine",
        "--warmup_epoch",
        1,
        "--warmup_multiplier",
        10,
        "--min_lr",
        0,
    ]
    for out in ("a", "b"):
        assert (
            call(
                "main",
                "motion",
                "RGB",
                *data,
                *TINY[2:],
                *flags,
                "--deterministic",
                "--output_dir",
                tmp_path / out,
            )
            == 0
        )
    first, again = (load(tmp_path / out / "last.pth") for out in ("a", "b"))
    assert is_same(first["state_dict"], again["state_dict"]) and first["model"]["module"] == module
    assert not torch.are_deterministic_algorithms_enabled()
    assert "mean class" in capsys.readouterr().out
    line = refused(
        capsys,
        "test_models_center_crop",
        "motion",
        *data[:4],
        "--val_list",
        data[-1],
        "--weights",
        tmp_path / "a" / "last.pth",
        "--test_segments",
        4,
    )
    assert f"{module} of 2 segments" in line


def run_tiny(data, *flags):
    """Status of a small run; later flags win over those of TINY."""
    return call("main", "motion", "RGB", *data, *TINY, *flags)


def swapped_names(data, tmp_path):
    """The flags of the dataset with two class names exchanged."""
    names = (data[1] / "classes.txt").read_text().splitlines()
    path = tmp_path / "swapped.txt"
    path.write_text("\n".join([names[1], names[0], *names[2:]]))
    return with_list(data, "--class_names", path)


def test_class_names_of_another_order_are_refused(data, trained, tmp_path, capsys):
    """The weights have learned the names of the checkpoint."""
    shutil.copytree(trained, tmp_path / "out")
    swapped = swapped_names(data, tmp_path)
    command = ["main", "motion", "RGB", *swapped, *TINY, "--output_dir", tmp_path / "out"]
    for flags in (["--resume", "auto", "--epochs", 3], ["-e", "--resume", trained / "last.pth"]):
        message = refused(capsys, *command, *flags)
        assert "last.pth" in message and "class names differ" in message and "2 labels" in message
    assert load(tmp_path / "out" / "last.pth")["epoch"] == 2


@pytest.mark.parametrize(
    ("flags", "named"),
    [
        (["--module", "tam", "--arch", "mobilenetv2"], "--module tam"),
        (["--batch-size", "auto"], "--batch-size auto"),
    ],
)
def test_flags_that_exclude_each_other_are_refused_before_a_download(
    flags, named, data, tmp_path, monkeypatch, capsys
):
    def refuse(url, *args, **kwargs):
        raise AssertionError(f"{url} was asked for")

    monkeypatch.setattr(pretrained, "FOLDER", tmp_path / "pretrained")
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))
    monkeypatch.setattr(torch.hub, "download_url_to_file", refuse)
    line = refused(
        capsys,
        "main",
        "motion",
        "RGB",
        *data,
        *TINY,
        "--pretrain",
        "imagenet",
        *flags,
        "--output_dir",
        tmp_path / "out",
        "--device",
        "cpu",
    )
    assert named in line


def test_resuming_and_evaluating_need_no_pretrained_weights(data, tmp_path, monkeypatch, capsys):
    asked = []

    def refuse(url, *args, **kwargs):
        asked.append(url)
        raise URLError("no network")

    monkeypatch.setattr(pretrained, "FOLDER", tmp_path / "pretrained")
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))
    monkeypatch.setattr(torch.hub, "download_url_to_file", refuse)
    file = tmp_path / "pretrained" / "resnet18-f37072fd.pth"
    file.parent.mkdir()
    torch.save(torchvision.models.resnet18().state_dict(), file)
    flags = [*RESNET, "--pretrain", "imagenet", "--output_dir", tmp_path / "out"]
    assert run_tiny(data, *flags, "--epochs", 1) == 0
    file.unlink()
    last = tmp_path / "out" / "last.pth"
    assert run_tiny(data, *flags, "-e", "--resume", last) == 0
    assert run_tiny(data, *flags, "--resume", "auto") == 0
    assert load(last)["epoch"] == 2 and not asked
    new = [*RESNET, "--pretrain", "imagenet", "--output_dir", tmp_path / "new"]
    assert "resnet18-f37072fd.pth" in refused(capsys, "main", "motion", "RGB", *data, *TINY, *new)
    assert len(asked) == 1


def train_with_downloads(hub, *arguments):
    """Main function of a rank whose downloads are new weights."""

    def download(url, path, *args, **kwargs):
        print("downloaded", flush=True)
        torch.save(torchvision.models.resnet18().state_dict(), path)

    os.environ["LOCAL_RANK"] = os.environ["RANK"]  # both are processes of one machine
    pretrained.FOLDER = hub / "none"
    torch.hub.set_dir(hub)
    torch.hub.download_url_to_file = download
    sys.exit(call("main", *arguments))


@pytest.mark.slow
def test_one_process_downloads_and_the_others_find_the_file(data, tmp_path):
    """Two processes ask for pretrained weights: the file is fetched once."""
    flags = [
        *TINY,
        *RESNET,
        "--pretrain",
        "imagenet",
        "--epochs",
        1,
        "--output_dir",
        tmp_path / "out",
    ]
    rank = (train_with_downloads, tmp_path / "hub", "motion", "RGB", *data, *flags)
    found = run_ranks(tmp_path, rank, rank)
    assert [end.status for end in found] == [0, 0], found
    assert "".join(end.text for end in found).count("downloaded\n") == 1


def test_module_of_the_checkpoint_to_be_tuned(data, tmp_path, capsys):
    torch.manual_seed(0)
    options = {"module": "tsm", "shift_div": 4, "shift_direction": "past"}
    save_checkpoint(tmp_path / "tsm.pth", TSN(8, 4, arch="resnet18", **options))
    command = ["motion", "RGB", *data, *TINY[2:], *RESNET, "--dry_run"]
    command += ["--tune_from", tmp_path / "tsm.pth"]
    assert call("main", *command) == 0
    printed = capsys.readouterr().out
    assert "module tsm" in printed and "--module" in printed
    assert "loaded 120, head new" in printed and "shift 1/4 blockres, past only" in printed
    assert call("main", *command, "--module", "tdn") == 0
    printed = capsys.readouterr().out
    assert "tdn resnet18" in printed and "module tsm, that of" not in printed


def test_dry_run_reports_an_invalid_checkpoint_to_be_tuned(data, tmp_path, capsys):
    command = ["main", "motion", "RGB", *data, *TINY[2:], *RESNET, "--dry_run", "--tune_from"]
    assert "none.pth" in refused(capsys, *command, tmp_path / "none.pth")
    assert "none.pth" in refused(capsys, *command, tmp_path / "none.pth", "--module", "tsn")
    torch.manual_seed(0)
    torch.save(TSN(8, 4, arch="resnet18", module="tsm").state_dict(), tmp_path / "bare.pth")
    assert "--module" in refused(capsys, *command, tmp_path / "bare.pth")
    message = refused(
        capsys, *command, tmp_path / "bare.pth", "--module", "tsm", "--arch", "resnet34"
    )
    assert "--arch resnet18" in message


def test_weights_that_are_not_finite_are_not_evaluated(data, trained, tmp_path, capsys):
    content = load(trained / "last.pth")
    content["state_dict"]["head.bias"][3] = float("nan")
    torch.save(content, tmp_path / "broken.pth")
    command = ["main", "motion", "RGB", *data, *TINY, "-e", "--resume", tmp_path / "broken.pth"]
    message = refused(capsys, *command)
    assert "val.txt:1: " in message and "not finite" in message and "8 of 8 videos" in message
    assert "100.00%" not in capsys.readouterr().out


@pytest.mark.parametrize("flags", [[*RESNET, "--module", "tam"], ["--module", "tsn", "--npb"]])
def test_a_batch_with_one_value_per_channel_is_refused_before_training(data, flags, capsys):
    command = ["main", "motion", "RGB", *data, *TINY, *flags, "--num_segments", 1]
    message = refused(capsys, *command, "--batch-size", 1)
    assert "--batch-size 1" in message and "--num_segments 1" in message and "BatchNorm" in message


def test_a_resumed_run_does_not_need_the_checkpoint_it_was_tuned_from(data, trained, tmp_path):
    start = tmp_path / "start.pth"
    start.write_bytes((trained / "last.pth").read_bytes())
    out = tmp_path / "out"
    flags = ["--tune_from", start, "--epochs", 1, "--lr", 1e-9, "--output_dir", out]
    assert run_tiny(data, *flags) == 0
    recipe = load(out / "last.pth")["recipe"]
    assert recipe["fc_lr5"] is False  # the head was taken over
    assert f"{start}: " in (out / "log.txt").read_text()
    start.unlink()
    assert run_tiny(data, *flags, "--resume", "auto") == 0
    assert run_tiny(data, *flags, "-e", "--resume", out / "last.pth") == 0
