import csv
import json
import os
import signal
import sys
from pathlib import Path

import numpy as np
import pytest
from helpers.datasets import make_root
from helpers.launch import call, refused, start_tool, wait_until
from helpers.models import randomize_norms, small_model

from ops.checkpoints import save_checkpoint
from ops.predict import Predictor

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tools"))

NAMES = ["<b>one</b>", "two", "three", "four", "five"]


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return make_root(tmp_path_factory.mktemp("videos"))


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "tsn.pth"
    save_checkpoint(
        path, randomize_norms(small_model("tsn", input_size=32, seed=1)), class_names=NAMES
    )
    return path


def predict(*args):
    return call("predict", *args, "--device", "cpu", "-j", 0)


def test_prints_the_best_classes(root, weights, capsys):
    assert predict(root / "v0.mp4", "--weights", weights, "-k", 2) == 0
    out, err = capsys.readouterr()
    lines = out.splitlines()
    assert lines[0] == str(root / "v0.mp4") and len(lines) == 3
    name, probability = Predictor(weights, "cpu")(root / "v0.mp4").top(1)[0]
    assert name in lines[1] and f"{100 * probability:.1f} %" in lines[1]
    assert "4 frames x 1 crop x 1 clip, 32" in err


def test_json_and_csv_in_the_order_of_the_inputs(root, weights, tmp_path, capsys):
    outs = ["--json", tmp_path / "out.jsonl", "--csv", tmp_path / "out.csv"]
    inputs = [root / "v3.mp4", "gone.mp4", root]
    assert predict(*inputs, "--weights", weights, *outs) == 1
    assert "1 video could not be read" in capsys.readouterr().err
    lines = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    names = ["v3.mp4", "gone.mp4", "frames", *(f"v{i}.mp4" for i in range(6))]
    assert [Path(line["path"]).name for line in lines] == names
    assert [line["error"] is None for line in lines] == [name != "gone.mp4" for name in names]
    expected = Predictor(weights, "cpu")(root / "v3.mp4")
    assert np.array_equal(lines[0]["logits"], expected.logits)
    assert lines[0] | {"seconds": 0} == lines[6] | {"seconds": 0}
    rows = list(csv.DictReader((tmp_path / "out.csv").open(newline="")))
    assert len(rows) == 8 * 5 + 1
    assert [row["label"] for row in rows[:5]] == [str(i) for i in np.argsort(-expected.logits)]
    assert rows[5]["error"] and rows[5]["path"] == "gone.mp4"


def test_json_on_standard_output(root, weights, capsys):
    assert predict(root / "v0.mp4", "--weights", weights, "--json", "-") == 0
    assert json.loads(capsys.readouterr().out)["error"] is None


def test_class_names_can_be_given(root, tmp_path, capsys):
    path = tmp_path / "bare.pth"
    save_checkpoint(path, small_model("tsn", input_size=32))
    assert predict(root / "v0.mp4", "--weights", path) == 0
    out, err = capsys.readouterr()
    assert "label " in out and "--class_names" in err
    (tmp_path / "names.txt").write_text("\n".join("abcde"))
    flags = ["--class_names", tmp_path / "names.txt"]
    assert predict(root / "v0.mp4", "--weights", path, *flags) == 0
    assert "label " not in capsys.readouterr().out


def test_threshold_of_a_multi_label_network(root, weights, capsys):
    flags = ["--weights", weights, "--multi_label", "--threshold", "0.99"]
    assert predict(root / "v0.mp4", *flags) == 0
    assert "0.99" in capsys.readouterr().out


def test_invalid_arguments_raise(root, weights, tmp_path, capsys):
    video = root / "v0.mp4"
    for flags in (
        [video, "--weights", tmp_path / "gone.pth"],
        [video, "--weights", weights, "--json", tmp_path / "no" / "out.jsonl"],
        [video, "--weights", weights, "--clips", 4],
        [tmp_path, "--weights", weights],
    ):
        refused(capsys, "predict", *flags, "--device", "cpu", "-j", 0)


@pytest.mark.slow
def test_ctrl_c_keeps_what_was_written(root, weights, tmp_path):
    out = tmp_path / "out.jsonl"
    listed = tmp_path / "list.txt"
    listed.write_text(f"{root / 'v0.mp4'}\n" * 20000)
    tool = start_tool(
        "predict", listed, "--weights", weights, "--device", "cpu", "--json", out, "-j", 1,
        cwd=tmp_path, env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    wait_until(lambda: out.exists() and out.stat().st_size > 2000, seconds=120)
    tool.send_signal(signal.SIGINT)
    _, err = tool.communicate(timeout=60)
    assert tool.returncode == 130 and "Traceback" not in err, err
    lines = out.read_text().splitlines()
    assert len(lines) > 1 and all(json.loads(line)["error"] is None for line in lines)
