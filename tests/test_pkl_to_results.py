"""pkl_to_results.py as a user runs it: its output, its flags, and one line for everything that is wrong."""

import json
import pickle
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import pkl_to_results
from ops.errors import run_front
from ops.scores import save_scores, score_path

ROOT = Path(__file__).parents[1]
FINISHED = "-----Evaluation is finished------"


def process(*arguments):
    """The front in a process of its own, from another folder: (exit status, standard output, standard error)."""
    command = [sys.executable, ROOT / "pkl_to_results.py", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, cwd="/", timeout=60)
    return done.returncode, done.stdout, done.stderr


@pytest.fixture
def front(capsys):
    """The front in this process: (exit status, lines of standard output, standard error)."""

    def run(*arguments):
        status = 0
        try:
            run_front(lambda: pkl_to_results.main([*map(str, arguments)]))
        except SystemExit as stop:
            status = stop.code
        output = capsys.readouterr()
        return status, output.out.splitlines(), output.err

    return run


def softmax(logits):
    powers = np.exp(logits.astype(np.float64) - logits.max(1, keepdims=True))
    return powers / powers.sum(1, keepdims=True)


def percent(scores, labels, k):
    return 100 * np.mean([label in row[:k] for label, row in zip(labels, np.argsort(-scores, axis=1), strict=True)])


@pytest.fixture
def scores(tmp_path):
    """Two directories of 2 clips x 3 crops, 40 videos of 8 classes: (directories, {directory: logits [6, V, C]}, labels)."""
    rng = np.random.default_rng(0)
    labels = np.arange(40) % 8
    views = {}
    for name in ("eight", "sixteen"):
        logits = rng.normal(size=(6, 40, 8)).astype(np.float32)
        logits[:, np.arange(40), labels] += rng.normal(1, 2, size=40).astype(np.float32)
        views[tmp_path / name] = logits
        for view in range(6):
            save_scores(score_path(tmp_path / name, *divmod(view, 3)), logits[view], labels)
    return list(views), views, labels


def overall(fused, labels):
    return f"Overall Prec@1 {percent(fused, labels, 1):.02f}% Prec@5 {percent(fused, labels, 5):.02f}%"


def test_the_readmes_command_in_a_process(scores):
    (directory, _), views, labels = scores
    status, out, err = process("--num_clips", 2, "--test_crops", 3, "--output_dir", directory)
    assert (status, err) == (0, "")
    fused = sum(softmax(view) for view in views[directory])
    lines = out.splitlines()
    assert lines[0] == "2 clips x 3 crops, softmax per view, 40/40 videos"
    classes = [np.mean(fused[labels == c].argmax(1) == c) for c in range(8)]
    assert lines[1] == f"Mean class accuracy {100 * np.mean(classes):.02f}%"
    assert lines[2:] == [FINISHED, overall(fused, labels)]


def test_center_crop_uses_one_file_of_many(scores, front):
    (directory, _), views, labels = scores
    status, out, _ = front("--num_clips", 1, "--test_crops", 1, "--output_dir", directory)
    assert status == 0 and out[0] == "1 clips x 1 crops, softmax per view, 40/40 videos"
    assert out[-1] == overall(views[directory][0], labels)


def test_the_default_is_the_whole_grid(scores, front):
    (directory, _), _, _ = scores
    assert front(directory) == front("--num_clips", 2, "--test_crops", 3, "--output_dir", directory)


def test_logits(scores, front):
    (directory, _), views, labels = scores
    _, out, _ = front(directory, "--logits")
    assert out[0] == "2 clips x 3 crops, mean of logits, 40/40 videos"
    assert out[-1] == overall(views[directory].sum(0, dtype=np.float64), labels)


def ensemble(views, weights):
    return sum(w * np.mean([softmax(v) for v in view], axis=0) for w, view in zip(weights, views.values(), strict=True))


@pytest.mark.parametrize("flag", [["--multi_segments"], ["--multi_segments", "True"], ["--multi_segments", "true"]])
def test_two_directories_as_the_original_names_them(scores, front, flag):
    directories, views, labels = scores
    status, out, _ = front("--output_dir", directories[0], *flag, "--output_dir1", directories[1])
    assert status == 0 and out[-1] == overall(ensemble(views, (1, 1)), labels)
    assert out[:2] == [f"{d} (weight 1): 2 clips x 3 crops, softmax per view, 40/40 videos" for d in directories]


def test_weights(scores, front):
    directories, views, labels = scores
    status, out, _ = front(*directories, "--score_weights", 1, 1.5)
    assert status == 0 and out[-1] == overall(ensemble(views, (1, 1.5)), labels)
    assert "(weight 1.5)" in out[1]
    _, out, _ = front(*directories, "--score_weights", 1, 1e-9)
    _, alone, _ = front(directories[0])
    assert out[-1] == alone[-1] != front(directories[1])[1][-1]


def test_directories_with_different_numbers_of_views_weigh_the_same(scores, front):
    directories, views, labels = scores
    for view in range(1, 6):
        score_path(directories[1], *divmod(view, 3)).unlink()
    _, out, _ = front(*directories)
    views[directories[1]] = views[directories[1]][:1]
    assert out[-1] == overall(ensemble(views, (1, 1)), labels)
    assert "1 clips x 1 crops" in out[1]


def test_multi_segments_false_is_false(scores, front):
    (directory, other), _, _ = scores
    status, out, _ = front("--output_dir", directory, "--multi_segments", "False")
    assert status == 0 and out == front(directory)[1]
    status, _, err = front("--output_dir", directory, "--multi_segments", "False", "--output_dir1", other)
    assert status == 2 and "--multi_segments and --output_dir1 go together" in err


def test_per_view(scores, front):
    (directory, _), views, labels = scores
    _, out, _ = front(directory, "--per_view")
    assert out[0] == str(directory) and out[1].split() == ["clip", "crop", "Prec@1", "Prec@5"]
    for view, line in enumerate(out[2:8]):
        clip, crop, top1, top5 = line.split()
        assert (int(clip), int(crop)) == divmod(view, 3)
        assert top1 == f"{percent(views[directory][view], labels, 1):.2f}"
        assert top5 == f"{percent(views[directory][view], labels, 5):.2f}"
    assert out[8:] == front(directory)[1]


def protocol(directory, **changes):
    content = {"num_segments": 8, "frames_per_segment": 5, "crops": 3, "crop_size": 256, "scale_size": 256, "videos": 40}
    (directory / "protocol.json").write_text(json.dumps({**content, "listed": 40, **changes}))


def test_protocol_file(scores, front):
    (directory, _), _, _ = scores
    protocol(directory)
    assert front(directory)[1][0] == "8 frames x 3 crops x 2 clips, 256, 40/40 videos, softmax per view"
    protocol(directory, videos=38)
    assert "256, 38/40 videos" in front(directory)[1][0]
    protocol(directory, videos=90, listed=90)
    status, _, err = front(directory)
    assert status == 2 and "protocol.json is of 90/90 videos, the score files of 40" in err
    (directory / "protocol.json").write_text("{")
    assert front(directory)[2].startswith(f"error: {directory / 'protocol.json'}: cannot be read as JSON")


def test_files_of_the_original(tmp_path, front):
    # TDN test_models_three_crops.py: output.append([p[None, ...], g]), g a numpy integer.
    logits = np.eye(6, dtype=np.float32)[[0, 1, 2, 4]]
    for crop in range(3):
        rows = [[p[None, ...], g] for p, g in zip(logits, np.array([0, 1, 2, 3]), strict=True)]
        with open(tmp_path / f"0_crop{crop}.pkl", "wb") as file:
            pickle.dump(rows, file)
    _, out, _ = front("--num_clips", 1, "--test_crops", 3, "--output_dir", tmp_path)
    assert out[-2:] == [FINISHED, "Overall Prec@1 75.00% Prec@5 100.00%"]


def test_errors_are_one_line_and_status_2(scores, front, tmp_path):
    (directory, other), _, labels = scores

    def error(*arguments):
        status, out, err = front(*arguments)
        assert status == 2 and FINISHED not in out
        assert err.startswith("error: ") and err.count("\n") == 1
        return err

    assert "no such directory" in error(tmp_path / "none")
    assert "no score files" in error(tmp_path)
    assert re.search(r"24 of 30 score files are missing: 2_crop0\.pkl", error(directory, "--num_clips", 10))
    save_scores(score_path(other, 1, 1), np.zeros((39, 8), np.float32), labels[:39])
    assert "1_crop1.pkl: 39 videos, but" in error(other)
    for view in range(6):
        save_scores(score_path(other, *divmod(view, 3)), np.zeros((40, 8), np.float32), np.roll(labels, -1))
    assert f"{other}: row 1 has the label 1, but 0 in {directory}" in error(directory, other)
    score_path(directory, 0, 1).write_bytes(score_path(directory, 0, 1).read_bytes()[:-100])
    assert "0_crop1.pkl: is truncated" in error(directory)


def test_a_file_with_code_in_a_process(scores, tmp_path):
    (directory, _), _, _ = scores
    score_path(directory, 0, 0).write_bytes(b"cos\nsystem\n(S'touch %s'\ntR." % str(tmp_path / "made").encode())
    status, out, err = process(directory)
    assert (status, out) == (2, "") and not (tmp_path / "made").exists()
    assert err.startswith(f"error: {directory / '0_crop0.pkl'}: holds code (os.system) and was not loaded")
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    "arguments, message",
    [
        ([], "give either DIR or --output_dir"),
        (["a", "--output_dir", "b"], "give either DIR or --output_dir"),
        (["--output_dir", "a", "--multi_segments"], "--multi_segments and --output_dir1 go together"),
        (["--output_dir", "a", "--multi_segments", "yes please"], "neither true nor false"),
        (["a", "b", "--score_weights", "1"], "--score_weights: 1 for 2 directories"),
        (["a", "--score_weights", "0"], "is not a number above 0"),
        (["a", "--score_weights", "nan"], "is not a number above 0"),
        (["a", "--score_weights", "x"], "is not a number above 0"),
        (["a", "--num_clips", "0"], "is not a whole number above 0"),
        (["a", "--test_crops", "-3"], "is not a whole number above 0"),
        (["a", "--num_clip", "1"], "unrecognized arguments: --num_clip"),
    ],
)
def test_wrong_flags(front, arguments, message):
    status, out, err = front(*arguments)
    assert status == 2 and not out and message in err


def test_help_says_every_flag_and_its_default(front):
    status, out, _ = front("--help")
    text = " ".join(" ".join(out).split())
    assert status == 0 and "python pkl_to_results.py --num_clips 10 --test_crops 3 --output_dir DIR" in text
    options = text.partition("options:")[2]
    names = {"output_dir", "output_dir1", "multi_segments", "num_clips", "test_crops", "score_weights", "logits", "per_view"}
    assert set(re.findall(r"--(\w+) (?:DIR|\[true|K|M|W|average|print)", options)) == names
    assert options.count("(default: ") == len(names)
