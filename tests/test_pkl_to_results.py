"""pkl_to_results.py as a user runs it: its output, its flags, and its errors."""

import json
import pickle
import re
import subprocess
import sys
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from helpers.score_dirs import describe
from sklearn.metrics import average_precision_score

import pkl_to_results
from ops.scores.npz_file import save_npz
from ops.scores.pickle_file import save_scores, score_path
from ops.scores.source import AccuracyByView, Aggregation, load_source
from ops.utils.errors import run_cli

ROOT = Path(__file__).parents[1]


def has_result(lines):
    return any(line.startswith("Overall ") for line in lines)


def process(*arguments):
    """Run it in a process of its own: (exit status, standard output, standard error)."""
    command = [sys.executable, ROOT / "pkl_to_results.py", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, cwd="/", timeout=60)
    return done.returncode, done.stdout, done.stderr


@pytest.fixture
def results(capsys):
    """The results in this process: (exit status, lines of standard output, standard error)."""

    def run(*arguments):
        status = 0
        try:
            run_cli(lambda: pkl_to_results.main([*map(str, arguments)]))
        except SystemExit as stop:
            status = stop.code
        output = capsys.readouterr()
        return status, output.out.splitlines(), output.err

    return run


def softmax(logits):
    powers = np.exp(logits.astype(np.float64) - logits.max(1, keepdims=True))
    return powers / powers.sum(1, keepdims=True)


def percent(scores, labels, k):
    return 100 * np.mean(
        [label in row[:k] for label, row in zip(labels, np.argsort(-scores, axis=1), strict=True)]
    )


@pytest.fixture
def scores(tmp_path):
    """Two directories of 2 clips x 3 crops, 40 videos, 8 classes.

    Returns (directories, {directory: logits [6, V, C]}, labels).
    """
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
    return (
        f"Overall Prec@1 {percent(fused, labels, 1):.02f}% Prec@5 {percent(fused, labels, 5):.02f}%"
    )


def test_readme_command(scores):
    (directory, _), views, labels = scores
    status, out, err = process("--num_clips", 2, "--test_crops", 3, "--output_dir", directory)
    assert (status, err) == (0, "")
    fused = sum(softmax(view) for view in views[directory])
    lines = out.splitlines()
    assert lines[0] == "2 clips x 3 crops, softmax per view, 40/40 videos"
    classes = [np.mean(fused[labels == c].argmax(1) == c) for c in range(8)]
    assert lines[1] == f"Mean class accuracy {100 * np.mean(classes):.02f}%"
    assert lines[2:] == [overall(fused, labels)]


def test_center_crop_uses_one_file_of_many(scores, results):
    (directory, _), views, labels = scores
    status, out, _ = results("--num_clips", 1, "--test_crops", 1, "--output_dir", directory)
    assert status == 0 and out[0] == "1 clip x 1 crop, softmax per view, 40/40 videos"
    assert out[-1] == overall(views[directory][0], labels)


def test_all_clips_and_crops_by_default(scores, results):
    (directory, _), _, _ = scores
    assert results(directory) == results(
        "--num_clips", 2, "--test_crops", 3, "--output_dir", directory
    )


def test_logits(scores, results):
    (directory, _), views, labels = scores
    _, out, _ = results(directory, "--average", "logits")
    assert out[0] == "2 clips x 3 crops, mean of logits, 40/40 videos"
    assert out[-1] == overall(views[directory].sum(0, dtype=np.float64), labels)


def test_average_of_the_protocol(scores, results):
    (directory, _), _, _ = scores
    describe(directory, scores[2], average="logits")
    assert results(directory) == results(directory, "--average", "logits")
    assert results(directory)[1][-1] != results(directory, "--average", "softmax")[1][-1]


def test_best_clips_and_crops(scores, results):
    (directory, _), views, labels = scores
    clips = views[directory].reshape(2, 3, 40, 8).astype(np.float64)
    _, out, _ = results(
        directory, "--average", "logits", "--crop_agg", "max", "--frame_agg", "topk:1"
    )
    assert out[0] == "2 clips x 3 crops, logits, max of crops, top 1 of clips, 40/40 videos"
    assert out[-1] == overall(clips.max((0, 1)), labels) != results(directory)[1][-1]
    _, out, _ = results(directory, "--frame_agg", "window", "--average", "logits")
    assert (
        out[0] == "2 clips x 3 crops, logits, max of crops, sliding windows of clips, 40/40 videos"
    )
    crops = clips.max(
        1
    )  # windows of one clip average two of them, the wider ones have one window of both
    assert out[-1] == overall((crops.mean(0) + 4 * crops.max(0)) / 5, labels)


def test_softmax_of_the_averages(scores, results):
    directories, views, labels = scores
    _, out, _ = results(*directories, "--average", "logits", "--softmax")
    expected = sum(softmax(view.astype(np.float64).mean(0)) for view in views.values())
    assert out[-1] == overall(expected, labels) and out[-3].startswith("fusion of softmaxes ")
    assert (
        out[-1]
        != results(*directories, "--average", "logits")[1][-1]
        != results(*directories)[1][-1]
    )
    status, _, err = results(directories[0], "--softmax")
    assert status == 2 and "--average logits" in err


def ensemble(views, weights):
    return sum(
        w * np.mean([softmax(v) for v in view], axis=0)
        for w, view in zip(weights, views.values(), strict=True)
    )


@pytest.mark.parametrize(
    "flag", [["--multi_segments"], ["--multi_segments", "True"], ["--multi_segments", "true"]]
)
def test_two_directories_with_the_flags_of_tdn(scores, results, flag):
    directories, views, labels = scores
    status, out, _ = results("--output_dir", directories[0], *flag, "--output_dir1", directories[1])
    assert status == 0 and out[-1] == overall(ensemble(views, (1, 1)), labels)
    assert out[:2] == [
        f"{d} (weight 1): 2 clips x 3 crops, softmax per view, 40/40 videos" for d in directories
    ]


def test_weights(scores, results):
    directories, views, labels = scores
    status, out, _ = results(*directories, "--score_weights", 1, 1.5)
    assert status == 0 and out[-1] == overall(ensemble(views, (1, 1.5)), labels)
    assert "(weight 1.5)" in out[1]
    _, out, _ = results(*directories, "--score_weights", 1, 1e-9)
    _, alone, _ = results(directories[0])
    assert out[-1] == alone[-1] != results(directories[1])[1][-1]


def table(lines):
    """{source: the numbers of its row}."""
    at = next(row for row, line in enumerate(lines) if line.split()[:2] == ["source", "weight"])
    assert len({len(line) for line in lines[at:-2]}) == 1  # aligned
    return {line.split()[0]: line.split()[1:] for line in lines[at + 1 : -2]}


def test_table_of_sources_and_fusion(scores, results):
    directories, _, _ = scores
    _, out, _ = results(*directories, "--score_weights", 1, 1.5)
    rows = table(out)
    assert list(rows) == [*map(str, directories), "fusion"] and out[-2].startswith(
        "Mean class accuracy"
    )
    for directory, weight in zip(directories, ("1", "1.5"), strict=True):
        alone = results(directory)[1]
        assert rows[str(directory)][0] == weight
        assert alone[-1] == "Overall Prec@1 {}% Prec@5 {}%".format(*rows[str(directory)][1:3])
        assert alone[1] == f"Mean class accuracy {rows[str(directory)][3]}%"
    assert out[-1] == "Overall Prec@1 {}% Prec@5 {}%".format(*rows["fusion"])
    assert out[-2] == f"Mean class accuracy {rows['fusion'][2]}%"


def test_sources_in_different_order_are_joined_by_id(scores, results, tmp_path):
    directories, views, labels = scores
    ids = [f"video {row}" for row in range(40)]
    describe(directories[0], labels, ids)
    order = np.random.default_rng(1).permutation(40)
    grid = views[directories[1]].reshape(2, 3, 40, 8).transpose(2, 0, 1, 3)
    save_npz(tmp_path / "b.npz", grid[order], labels[order], [ids[row] for row in order])
    flags = ("--average", "softmax", "--score_weights", 1, 1.5)
    status, out, err = results(directories[0], tmp_path / "b.npz", *flags)
    assert (status, err) == (0, "") and out[-1] == overall(ensemble(views, (1, 1.5)), labels)
    assert (
        out[1]
        == f"{tmp_path / 'b.npz'} (weight 1.5): 2 frames x 3 crops, 40 videos, softmax per view"
    )
    save_npz(
        tmp_path / "b.npz", grid[order][1:], labels[order][1:], [ids[row] for row in order[1:]]
    )
    status, out, err = results(directories[0], tmp_path / "b.npz", *flags)
    assert status == 2 and not has_result(out)
    assert err.startswith(f"error: 1 of 40 videos of {directories[0]} ")
    assert f"{tmp_path / 'b.npz'} ({ids[order[0]]})" in err and err.count("\n") == 1


def test_tsn_of_two_streams(tmp_path, results):
    """temporal-segment-networks: eval_scores.py RGB.npz FLOW.npz --score_weights 1 1.5."""
    rng = np.random.default_rng(2)
    labels = rng.integers(0, 8, 40)
    streams = rng.normal(size=(2, 40, 25, 10, 8)) + 0.2 * np.eye(8)[labels][:, None, None]
    for name, stream in zip(("rgb", "flow"), streams, strict=True):
        rows = np.empty((40, 2), object)
        rows[:, 0], rows[:, 1] = list(stream), labels
        np.savez(tmp_path / f"{name}.npz", scores=rows, labels=labels)
    status, out, err = results(
        tmp_path / "rgb.npz", tmp_path / "flow.npz", "--score_weights", 1, 1.5
    )
    fused = streams[0].mean((1, 2)) + 1.5 * streams[1].mean((1, 2))
    assert (status, err) == (0, "") and out[0].endswith(
        "(weight 1): 25 frames x 10 crops, 40 videos, mean of logits"
    )
    assert (
        out[-1] == overall(fused, labels)
        and table(out)["fusion"][0] == f"{percent(fused, labels, 1):.2f}"
    )
    _, out, _ = results(tmp_path / "rgb.npz", "--crop_agg", "max")
    assert out[-1] == overall(streams[0].max(2).mean(1), labels)


def test_sum_of_probabilities_and_logits_warns(scores, results, tmp_path):
    (directory, _), views, labels = scores
    save_npz(tmp_path / "b.npz", views[directory].transpose(1, 0, 2)[:, :, None], labels)
    status, out, err = results(directory, tmp_path / "b.npz")
    assert status == 0 and has_result(out)
    assert (
        err.startswith(
            f"warning: {directory} contains probabilities and {tmp_path / 'b.npz'} logits"
        )
        and err.count("\n") == 1
    )
    for flags in (["--softmax"], ["--average", "logits"], ["--average", "softmax"]):
        assert not results(directory, tmp_path / "b.npz", *flags)[2]


def test_submissions(scores, results, tmp_path):
    directories, views, labels = scores
    fused, path = ensemble(views, (1, 1)), tmp_path / "made" / "x.csv"
    assert "--csv_file" in results(*directories, "--csv_file", path)[2]
    ids = [f"{row}" for row in range(40)]
    describe(directories[1], labels, ids)
    describe(directories[0], labels, ids, dataset="somethingv2")
    assert results(*directories, "--csv_file", path) == results(*directories)
    best = np.argsort(-fused, axis=1)
    assert path.read_text() == "".join(
        f"{name};{';'.join(map(str, row[:5]))}\n" for name, row in zip(ids, best, strict=True)
    )
    (tmp_path / "names.txt").write_text("".join(f"Doing {label}\n" for label in range(8)))
    flags = ("--csv_file", path, "--dataset", "jester")
    assert "--class_names" in results(*directories, *flags)[2]
    assert results(*directories, *flags, "--class_names", tmp_path / "names.txt")[0] == 0
    assert path.read_text().splitlines() == [
        f"{name};Doing {row[0]}" for name, row in zip(ids, best, strict=True)
    ]
    (tmp_path / "names.txt").write_text("Doing\nNothing\n")
    status, out, err = results(*directories, *flags, "--class_names", tmp_path / "names.txt")
    assert (
        status == 2
        and "2 class names, but the scores are of 8 classes" in err
        and not has_result(out)
    )


def test_directories_with_different_numbers_of_views_weigh_the_same(scores, results):
    directories, views, labels = scores
    for view in range(1, 6):
        score_path(directories[1], *divmod(view, 3)).unlink()
    _, out, _ = results(*directories)
    views[directories[1]] = views[directories[1]][:1]
    assert out[-1] == overall(ensemble(views, (1, 1)), labels)
    assert "1 clip x 1 crop" in out[1]


def test_multi_segments_false_is_false(scores, results):
    (directory, other), _, _ = scores
    status, out, _ = results("--output_dir", directory, "--multi_segments", "False")
    assert status == 0 and out == results(directory)[1]
    status, _, err = results(
        "--output_dir", directory, "--multi_segments", "False", "--output_dir1", other
    )
    assert status == 2 and "--multi_segments and --output_dir1" in err


def test_per_view(scores, results):
    (directory, _), views, labels = scores
    _, out, _ = results(directory, "--per_view")
    assert out[0] == str(directory) and out[1].split() == ["clip", "crop", "Prec@1", "Prec@5"]
    for view, line in enumerate(out[2:8]):
        clip, crop, top1, top5 = line.split()
        assert (int(clip), int(crop)) == divmod(view, 3)
        assert top1 == f"{percent(views[directory][view], labels, 1):.2f}"
        assert top5 == f"{percent(views[directory][view], labels, 5):.2f}"
    assert out[8:] == results(directory)[1]


def test_protocol_file(scores, results):
    (directory, _), _, labels = scores
    describe(directory, labels)
    assert (
        results(directory)[1][0]
        == "8 frames x 3 crops x 2 clips, 256, 40/40 videos, softmax per view"
    )
    describe(directory, labels, failures=2)
    assert "256, 38/40 videos" in results(directory)[1][0]
    describe(directory, labels[:30])
    status, _, err = results(directory)
    assert (
        status == 2
        and f"{directory}: the score files: 40 videos, but {directory / 'scores.json'} has 30"
        in err
    )
    (directory / "scores.json").write_text("{")
    assert results(directory)[2].startswith(
        f"error: {directory / 'scores.json'}: cannot be read as JSON"
    )


def test_report(scores, results, tmp_path):
    directories, views, labels = scores
    for directory in directories:
        describe(directory, labels, class_names=[f"Class {c}" for c in range(8)], clips=[0, 1])
    status, out, _ = results(*directories, "--report", tmp_path / "made" / "report")
    assert status == 0 and out[-3] == f"report written to {tmp_path}/made/report/report.html"
    assert sorted(path.name for path in (tmp_path / "made" / "report").iterdir()) == [
        "confusion.csv",
        "confusion.png",
        "per_class.csv",
        "predictions.csv",
        "report.html",
        "results.json",
    ]
    result = json.loads((tmp_path / "made" / "report" / "results.json").read_text())
    fused = ensemble(views, (1, 1))
    assert result["fusion"]["metrics"]["top1"] == pytest.approx(percent(fused, labels, 1))
    assert "Class 7" in (tmp_path / "made" / "report" / "per_class.csv").read_text()


def test_accuracy_of_the_first_clips_and_crops(scores):
    (directory, _), views, labels = scores
    grid = AccuracyByView()
    load_source(str(directory), Aggregation("logits"), on_view=grid)
    for clip, crop in product(range(2), range(3)):
        part = (
            views[directory]
            .reshape(2, 3, 40, 8)[: clip + 1, : crop + 1]
            .sum((0, 1), dtype=np.float64)
        )
        assert grid.top1[clip][crop] == pytest.approx(percent(part, labels, 1))


def test_several_labels_per_video(tmp_path, results):
    rng = np.random.default_rng(0)
    logits, hot = rng.normal(size=(20, 6)).astype(np.float32), rng.random((20, 6)) < 0.3
    hot[:, 0] |= ~hot.any(1)
    save_scores(score_path(tmp_path, 0, 0), logits, hot)
    describe(tmp_path, hot, num_class=6, average="logits")
    status, out, _ = results(tmp_path, tmp_path, "--report", tmp_path / "report")
    expected = 100 * average_precision_score(hot, logits, average="macro")
    assert (
        status == 0
        and out[-1].startswith(f"Overall mAP {expected:.2f}% mAP of samples ")
        and "mAP" in out[2]
    )


def test_files_of_tdn(tmp_path, results):
    # TDN test_models_three_crops.py: output.append([p[None, ...], g]), g a numpy integer.
    logits = np.eye(6, dtype=np.float32)[[0, 1, 2, 4]]
    for crop in range(3):
        rows = [[p[None, ...], g] for p, g in zip(logits, np.array([0, 1, 2, 3]), strict=True)]
        with open(tmp_path / f"0_crop{crop}.pkl", "wb") as file:
            pickle.dump(rows, file)
    _, out, _ = results("--num_clips", 1, "--test_crops", 3, "--output_dir", tmp_path)
    assert out[-1] == "Overall Prec@1 75.00% Prec@5 100.00%"


def test_errors_are_one_line_and_status_2(scores, results, tmp_path):
    (directory, other), _, labels = scores

    def error(*arguments):
        status, out, err = results(*arguments)
        assert status == 2 and not has_result(out)
        assert err.startswith("error: ") and err.count("\n") == 1
        return err

    assert "no such directory" in error(tmp_path / "none")
    assert "none.npz: cannot be read (No such file or directory)" in error(
        directory, tmp_path / "none.npz"
    )
    assert "--frame_agg 'best'" in error(directory, "--frame_agg", "best")
    assert "names.txt: no such file" in error(
        directory, "--csv_file", "x.csv", "--class_names", tmp_path / "names.txt"
    )
    assert "no score files" in error(tmp_path)
    assert re.search(
        r"24 of 30 score files are missing: 2_crop0\.pkl", error(directory, "--num_clips", 10)
    )
    save_scores(score_path(other, 1, 1), np.zeros((39, 8), np.float32), labels[:39])
    assert "1_crop1.pkl: 39 videos, but" in error(other)
    for view in range(6):
        save_scores(
            score_path(other, *divmod(view, 3)), np.zeros((40, 8), np.float32), np.roll(labels, -1)
        )
    assert f"{other}: row 1 has the label 1, but 0 in {directory}" in error(directory, other)
    score_path(directory, 0, 1).write_bytes(score_path(directory, 0, 1).read_bytes()[:-100])
    assert "0_crop1.pkl: " in error(directory)


def test_file_with_code(scores, tmp_path):
    (directory, _), _, _ = scores
    score_path(directory, 0, 0).write_bytes(
        b"cos\nsystem\n(S'touch %s'\ntR." % str(tmp_path / "made").encode()
    )
    status, out, err = process(directory)
    assert (status, out) == (2, "") and not (tmp_path / "made").exists()
    assert err.startswith(f"error: {directory / '0_crop0.pkl'}: contains code (os.system)")
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    "arguments, message",
    [
        ([], "give either SOURCE or --output_dir"),
        (["a", "--output_dir", "b"], "give either SOURCE or --output_dir"),
        (
            ["--output_dir", "a", "--multi_segments"],
            "--multi_segments and --output_dir1",
        ),
        (["--output_dir", "a", "--multi_segments", "yes please"], "neither true nor false"),
        (["a", "b", "--score_weights", "1"], "--score_weights: 1 for 2 sources"),
        (["a", "--score_weights", "0"], "is not a positive number"),
        (["a", "--score_weights", "nan"], "is not a positive number"),
        (["a", "--score_weights", "x"], "--score_weights: 'x' is not a number"),
        (["a", "--num_clips", "0"], "is not a positive number"),
        (["a", "--test_crops", "-3"], "is not a positive number"),
        (["a", "--logits"], "unrecognized arguments: --logits"),
        (["a", "--average", "mean"], "invalid choice: 'mean'"),
        (["a", "--crop_agg", "median"], "invalid choice: 'median'"),
        (
            ["a.npz", "--num_clips", "1"],
            "--num_clips, --test_crops and --per_view are for directories",
        ),
        (
            ["a.npz", "b.npz", "--per_view"],
            "--num_clips, --test_crops and --per_view are for directories",
        ),
        (["a", "--dataset", "jester"], "--dataset"),
        (["a", "--num_clip", "1"], "unrecognized arguments: --num_clip"),
    ],
)
def test_wrong_flags(results, arguments, message):
    status, out, err = results(*arguments)
    assert status == 2 and not out and message in err


def test_help_has_every_flag_and_its_default(results):
    status, out, _ = results("--help")
    text = " ".join(" ".join(out).split())
    assert (
        status == 0
        and "python pkl_to_results.py --num_clips 10 --test_crops 3 --output_dir DIR" in text
    )
    options = text.partition("options:")[2]
    names = {
        "output_dir",
        "output_dir1",
        "multi_segments",
        "num_clips",
        "test_crops",
        "score_weights",
        "average",
        "crop_agg",
        "frame_agg",
        "softmax",
        "csv_file",
        "dataset",
        "class_names",
        "per_view",
        "report",
        "explain",
    }
    assert set(re.findall(r"^  --(\w+)", "\n".join(out), re.MULTILINE)) == names
    assert options.count("(default: ") == len(names)
