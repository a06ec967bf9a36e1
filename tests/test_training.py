import json
import os
import re
import signal

import pytest
import torch
from helpers.datasets import make_motion
from helpers.launch import call, refused, run_command_ranks
from helpers.models import small_model
from torch.nn.functional import cross_entropy

from ops.training import trainer, validation
from ops.training.ema import WeightAverage
from ops.training.logger import RunLog
from ops.training.resume import ResumeState

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


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return make_motion(tmp_path_factory.mktemp("motion"))


def run(data, out, *flags):
    return call("main", "motion", "RGB", *data, *TINY, "--output_dir", out, *flags)


def load(path):
    return torch.load(path, weights_only=True)


@pytest.mark.parametrize(
    ("start", "text"),
    [
        (ResumeState(0, 7), "in epoch 1 after step 7 of 7 (not validated yet)"),
        (ResumeState(2, 3, None, 41.2), "in epoch 3 after step 3 of 7, best 41.20%"),
        (ResumeState(3, 0, None, 0.0), "after epoch 3, best 0.00%"),
        (ResumeState(3), "after epoch 3 (not validated yet)"),
    ],
)
def test_description_of_a_resumed_state(start, text):
    assert start.describe(7) == text


def test_ema_is_the_recursion():
    net = small_model("tsm").train()
    ema = WeightAverage(net, 0.75)
    expected = {name: p.detach().clone() for name, p in net.named_parameters()}
    optimizer = torch.optim.SGD(net.parameters(), 0.1)
    for step in range(3):
        clip = torch.randint(
            256, (2, 4, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(step)
        )
        optimizer.zero_grad()
        cross_entropy(net(clip), torch.tensor([0, 1])).backward()
        optimizer.step()
        ema.update(net)
        expected = {
            name: 0.75 * expected[name] + 0.25 * p.detach() for name, p in net.named_parameters()
        }
    for name, p in ema.module.named_parameters():
        torch.testing.assert_close(p, expected[name])
    assert all(torch.equal(a, b) for a, b in zip(ema.module.buffers(), net.buffers(), strict=True))
    assert ema.module.spec == net.spec


@pytest.mark.slow
def test_ema_weights_are_validated_and_tested(data, tmp_path, capsys):
    out = tmp_path / "out"
    assert (
        run(
            data,
            out,
            "--ema",
            0.8,
            "--mixup",
            0.2,
            "--cutmix",
            1,
            "--label_smoothing",
            0.1,
            "--stochastic_depth",
            0.1,
        )
        == 0
    )
    best, row = load(out / "best.pth"), json.loads((out / "log.jsonl").read_text().splitlines()[-1])
    trained, average = best["trained_state_dict"], best["state_dict"]
    assert trained.keys() == average.keys() and not torch.equal(
        trained["head.weight"], average["head.weight"]
    )
    statistics = "backbone.features.0.1.running_mean"
    assert torch.equal(trained[statistics], average[statistics])
    capsys.readouterr()
    last = load(out / "last.pth")
    assert (
        run(data, tmp_path / "e", "-e", "--resume", out / "last.pth", "--stochastic_depth", 0.1)
        == 0
    )
    assert (
        f"loss {row['val_loss']:.4f}" in capsys.readouterr().out
        and last["metrics"]["val_loss"] == row["val_loss"]
    )


def test_lr_is_scaled_with_the_batch(data, tmp_path, capsys):
    assert run(data, tmp_path / "a", "--epochs", 1, "--lr_batch", 16) == 0  # of 4 videos, as it is
    printed = capsys.readouterr().out
    assert "lr 0.01 was tuned for a total batch of 16 (this run: 4)" in printed
    assert "--scale_lr would use 0.0025" in printed
    assert run(data, tmp_path / "b", "--epochs", 1, "--lr_batch", 16, "--scale_lr") == 0
    said = capsys.readouterr().out
    assert (
        "total batch 4 = 1 process x 4 videos x 1 accumulated; lr 0.0025 = 0.01 x 4 / 16, groups"
        in said
    )
    args = json.loads((tmp_path / "b" / "args.json").read_text())
    assert (args["lr"], args["lr_used"], args["total_batch"]) == (0.01, 0.0025, 4)
    assert (
        args["videos"] == {"train": 16, "val": 8}
        and args["num_classes"] == 8
        and len(args["class_names_sha256"]) == 64
    )
    rates = [
        load(tmp_path / name / "last.pth")["optimizer"]["param_groups"][0]["lr"] for name in "ab"
    ]
    assert rates == [0.01, 0.0025]
    assert "--scale_lr needs --lr_batch" in refused(
        capsys, "main", "motion", "RGB", *data, *TINY, "--scale_lr"
    )


def test_a_small_rate_is_logged_with_its_digits(data, tmp_path):
    assert run(data, tmp_path, "--epochs", 1, "--lr", 2.5e-7) == 0
    assert "[1/4] lr 2.5e-07 " in (tmp_path / "log.txt").read_text()


def test_multi_label_and_label_smoothing_exclude_each_other(data, capsys):
    line = refused(
        capsys, "main", "motion", "RGB", *data, *TINY, "--multi_label", "--label_smoothing", 0.1
    )
    assert "--label_smoothing" in line


@pytest.mark.slow
def test_resume_needs_the_same_total_batch(data, tmp_path, capsys):
    """Two processes of 4 videos are, between epochs, one of 4 that accumulates twice."""
    out = tmp_path / "out"
    command = ["main", "motion", "RGB", *data, *TINY, "--epochs", 1, "--output_dir", out]
    run_command_ranks(tmp_path, *command)
    line = refused(
        capsys, "main", "motion", "RGB", *data, *TINY, "--output_dir", out, "--resume", "auto"
    )
    assert "total_batch 8 -> 4" in line
    assert run(data, out, "--resume", "auto", "--accumulate", 2) == 0
    assert load(out / "last.pth")["step"] == 4  # of 16 videos, 8 a step, twice


@pytest.mark.slow
def test_the_split_of_the_total_batch_changes_only_at_the_start_of_an_epoch(data, tmp_path, capsys):
    out = tmp_path / "out"
    assert run(data, out, "--epochs", 1, "--accumulate", 2) == 0
    content = load(out / "last.pth")
    torch.save({**content, "step_in_epoch": 1}, out / "within.pth")
    without_total = {key: value for key, value in content["recipe"].items() if key != "total_batch"}
    torch.save({**content, "recipe": without_total}, out / "old.pth")
    common = ("main", "motion", "RGB", *data, *TINY, "--batch-size", 8, "--output_dir", out)
    line = refused(capsys, *common, "--resume", out / "within.pth")
    assert "batch_size 4 -> 8" in line
    line = refused(capsys, *common, "--resume", out / "old.pth")
    assert "batch_size 4 -> 8" in line
    line = refused(capsys, *common, "--resume", "auto", "--accumulate", 2)
    assert "total_batch 8 -> 16" in line
    assert call(*common, "--resume", "auto") == 0
    assert load(out / "last.pth")["step"] == 4  # of 16 videos, 8 per step, twice


@pytest.mark.slow
def test_signal_during_validation_stops_at_once(data, tmp_path, monkeypatch, capsys):
    """The epoch is saved; when the run goes on, its validation is done."""
    assert run(data, tmp_path / "whole") == 0
    real, scored = validation.score_videos, []

    def signalled(*args, stop=None, **options):
        def asked():
            scored.append(0)
            if len(scored) == 3:
                os.kill(os.getpid(), signal.SIGTERM)
            return stop()

        return real(*args, stop=asked, **options)

    monkeypatch.setattr(validation, "score_videos", signalled)
    out = tmp_path / "out"
    assert run(data, out) == 75 and len(scored) < 8
    stopped = capsys.readouterr().err
    assert "SIGTERM in epoch 1" in stopped and "step 4 of 4" in stopped
    monkeypatch.undo()
    assert load(out / "last.pth")["step_in_epoch"] == 4 and not (out / "best.pth").exists()
    assert run(data, out, "--resume", "auto") == 0
    whole, parts = load(tmp_path / "whole" / "last.pth"), load(out / "last.pth")
    assert all(
        torch.equal(value, parts["state_dict"][key]) for key, value in whole["state_dict"].items()
    )
    assert (
        whole["metrics"]["val_loss"] == parts["metrics"]["val_loss"]
        and whole["best"] == parts["best"]
    )


@pytest.mark.slow
def test_signal_while_statistics_are_estimated(data, tmp_path, monkeypatch, capsys):
    """The epoch is saved; when the run is resumed, they are estimated anew."""
    flags = ["--precise_bn", 3]
    assert run(data, tmp_path / "whole", *flags) == 0
    real = trainer.estimate_statistics

    def signalled(*args, **options):
        os.kill(os.getpid(), signal.SIGTERM)
        return real(*args, **options)

    monkeypatch.setattr(trainer, "estimate_statistics", signalled)
    out = tmp_path / "out"
    assert run(data, out, *flags) == 75
    assert "SIGTERM in epoch 1" in capsys.readouterr().err
    monkeypatch.undo()
    assert load(out / "last.pth")["step_in_epoch"] == 4
    assert run(data, out, *flags, "--resume", "auto") == 0
    whole, parts = load(tmp_path / "whole" / "last.pth"), load(out / "last.pth")
    assert all(v.equal(parts["state_dict"][key]) for key, v in whole["state_dict"].items())
    assert whole["metrics"]["val_loss"] == parts["metrics"]["val_loss"]


@pytest.mark.slow
def test_two_runs_in_one_folder(data, tmp_path, capsys):
    with RunLog(tmp_path / "out", True):
        line = refused(
            capsys, "main", "motion", "RGB", *data, *TINY, "--output_dir", tmp_path / "out"
        )
        assert (
            "/out: another training is writing there; wait for it, or give another --output_dir"
            in line
        )
    assert run(data, tmp_path / "out", "--epochs", 1) == 0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"recipe": None}, "training state"),
        ({"epoch": "1"}, "training state"),
        ({"meters": 3}, "training state"),
        ({"model": {"arch": torch.ones(3)}}, "another model .arch tensor"),
        (
            {"recipe": {"lr": [[torch.ones(2)]], "lr_steps": "a\nb"}},
            "another recipe .lr .* -> 0.01, lr_steps a.nb -> ",
        ),
        ({"state_dict": {"head.weight": torch.ones(3)}}, "is not one of this model"),
        ({"optimizer": {}}, "is not one of this model"),
        ({"optimizer": {"state": {}, "param_groups": 5}}, "is not one of this model"),
    ],
)
def test_invalid_training_states_raise(data, tmp_path_factory, changes, message, capsys):
    folder = tmp_path_factory.getbasetemp() / "to_resume"
    if not folder.exists():
        assert run(data, folder, "--epochs", 1) == 0
    torch.save({**load(folder / "last.pth"), **changes}, folder / "changed.pth")
    line = refused(
        capsys,
        "main",
        "motion",
        "RGB",
        *data,
        *TINY,
        "--output_dir",
        folder,
        "--resume",
        folder / "changed.pth",
    )
    assert re.search(message, line) and "\n" not in line


def test_another_training_is_not_overwritten(data, tmp_path, capsys):
    out = tmp_path / "out"
    assert run(data, out, "--epochs", 1) == 0
    before = {path.name: path.read_bytes() for path in out.iterdir() if path.is_file()}
    new = ["main", "motion", "RGB", *data, *TINY, "--output_dir", out, "--lr", 0.02]
    for flags in ([], ["--dry_run"]):
        line = refused(capsys, *new, *flags)
        assert str(out) in line and "--resume auto" in line and "--overwrite" in line
    assert {path.name: path.read_bytes() for path in out.iterdir() if path.is_file()} == before
    assert "--overwrite" in refused(capsys, *new, "--overwrite", "--resume", "auto")
    assert run(data, out, "--epochs", 1, "--lr", 0.02, "--overwrite") == 0
    assert json.loads((out / "args.json").read_text())["lr"] == 0.02
    assert len((out / "log.jsonl").read_text().splitlines()) == 1
    assert len(list((out / "tensorboard").iterdir())) == 1


@pytest.mark.slow
def test_a_checkpoint_of_another_folder_does_not_overwrite(data, tmp_path, capsys):
    for name in ("a", "b"):
        assert run(data, tmp_path / name, "--epochs", 1) == 0
    resumed = ["--resume", tmp_path / "a" / "last.pth"]
    line = refused(
        capsys, "main", "motion", "RGB", *data, *TINY, "--output_dir", tmp_path / "b", *resumed
    )
    assert "--overwrite" in line
    assert run(data, tmp_path / "a", *resumed) == 0  # the training of this very folder
    assert run(data, tmp_path / "c", *resumed) == 0


def test_resume_takes_the_folder_of_a_run(data, tmp_path, capsys):
    source = tmp_path / "a"
    assert run(data, source, "--epochs", 1) == 0
    assert run(data, tmp_path / "b", "--resume", source) == 0
    assert f"resumed {source / 'last.pth'}" in (tmp_path / "b" / "log.txt").read_text()
    assert run(data, source, "--resume", source) == 0  # the training of this very folder
    assert run(data, tmp_path / "c", "-e", "--resume", source) == 0
    (tmp_path / "empty").mkdir()
    new = ["main", "motion", "RGB", *data, *TINY, "--output_dir", tmp_path / "d"]
    for absent in ("empty", "gone"):
        assert str(tmp_path / absent) in refused(capsys, *new, "--resume", tmp_path / absent)


def test_the_total_batch_may_be_split_otherwise_at_the_start_of_an_epoch(data, tmp_path, capsys):
    out = tmp_path / "out"
    assert run(data, out, "--epochs", 1) == 0
    split = ["--batch-size", 2, "--accumulate", 2]
    assert run(data, out, "--resume", "auto", *split) == 0
    assert load(out / "last.pth")["step"] == 8

    part = tmp_path / "part"
    assert run(data, part, "--epochs", 1) == 0
    torch.save({**load(part / "last.pth"), "step_in_epoch": 1}, part / "last.pth")
    new = ["main", "motion", "RGB", *data, *TINY, "--output_dir", part, "--resume", "auto"]
    assert "batch_size 4 -> 2" in refused(capsys, *new, *split)


# No step changes a network with these flags, so that no validation is better than the first.
CONSTANT = ["--freeze", "backbone", "--lr", 1e-30, "--epochs", 9]


def epochs_of(out):
    return [json.loads(line)["epoch"] for line in (out / "log.jsonl").read_text().splitlines()]


def test_a_run_ends_when_its_patience_does(data, tmp_path):
    out = tmp_path / "out"
    assert run(data, out, *CONSTANT, "--patience", 1) == 0
    assert epochs_of(out) == [1, 2]
    assert "--patience 1" in (out / "log.txt").read_text()
    assert load(out / "last.pth")["since_best"] == 1 and load(out / "best.pth")["since_best"] == 0
    assert run(data, out, *CONSTANT, "--patience", 1, "--resume", "auto") == 0
    assert epochs_of(out) == [1, 2]
    assert run(data, out, *CONSTANT, "--patience", 2, "--resume", "auto") == 0
    assert epochs_of(out) == [1, 2, 3]


@pytest.mark.slow
def test_processes_end_together_when_their_patience_does(data, tmp_path):
    out = tmp_path / "out"
    flags = [*TINY, *CONSTANT, "--patience", 2, "--eval-freq", 2, "--output_dir", out]
    run_command_ranks(tmp_path, "main", "motion", "RGB", *data, *flags)
    assert epochs_of(out) == [1, 2, 3, 4, 5, 6]


# The options of the optimization together, those that exclude each other by module.
OPTIONS = ["--balanced_sampling", "--class_weights", "balanced", "--layer_decay", 0.8]
OPTIONS += ["--checkpoint_activations", "--stochastic_depth", 0.2, "--precise_bn", 2]
OPTIONS += ["--patience", 5]
SETS = {
    "tdn": ["--freeze", "stem,stages:1", "--optimizer", "adamw", "--optimizer_impl", "foreach"],
    "tam": ["--freeze", "stages:1-2", "--nesterov", "--optimizer_impl", "fused", "--ema", 0.9],
    "tsm": ["--partial_bn", "--freeze", "stem", "--accumulate", 2],
}


@pytest.mark.slow
@pytest.mark.parametrize("module", SETS)
def test_a_run_with_all_options_resumes_bit_identically(data, tmp_path, module):
    flags = ["--module", module, "--arch", "resnet18", *OPTIONS, *SETS[module]]
    whole = tmp_path / "whole"
    assert run(data, whole, *flags, "--save_every", 1, "--keep", 9) == 0
    states = {path: load(path) for path in whole.glob("last*.pth")}
    position = (0, 1)  # in the first epoch, after its first step
    (within,) = [
        path
        for path, state in states.items()
        if (state["epoch"], state["step_in_epoch"]) == position
    ]
    out = tmp_path / "out"
    assert run(data, out, *flags, "--resume", within) == 0
    expected, last = states[whole / "last.pth"], load(out / "last.pth")
    for key in ("state_dict", "trained_state_dict"):
        weights = expected.get(key, {}).items()
        assert all(value.equal(last[key][name]) for name, value in weights)
    assert last["metrics"]["val_loss"] == expected["metrics"]["val_loss"]


@pytest.mark.slow
def test_processes_train_with_all_options(data, tmp_path):
    """DDP finds no unused parameter; 2 x 4 videos are one step."""
    out = tmp_path / "out"
    flags = [*TINY, "--module", "tdn", "--arch", "resnet18", *OPTIONS, *SETS["tdn"]]
    run_command_ranks(tmp_path, "main", "motion", "RGB", *data, *flags, "--output_dir", out)
    last = load(out / "last.pth")
    assert last["step"] == 4 and all(v.isfinite().all() for v in last["state_dict"].values())
    trained = last["optimizer"]["param_groups"]
    assert not any(group["name"].endswith("layer 0") for group in trained)
