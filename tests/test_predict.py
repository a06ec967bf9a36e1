import json
import pickle

import numpy as np
import pytest
import torch
from helpers.datasets import make_root, write_flow
from helpers.launch import call
from helpers.models import randomize_norms, small_model
from helpers.videos import encode, textured_frames

from ops.checkpoints import save_checkpoint
from ops.predict import Predictor, to_probabilities
from ops.utils.errors import UserError

NAMES = ["running", "jumping", "Größe", "don't know", 'a "quoted" class']


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return make_root(tmp_path_factory.mktemp("videos"))


def checkpoint(folder, module="tsn", **options):
    """A checkpoint of a small network whose scores differ between videos."""
    model = randomize_norms(small_model(module, input_size=32, **options))
    torch.nn.init.normal_(model.head.weight)
    path = folder / f"{module}.pth"
    save_checkpoint(path, model, class_names=NAMES)
    return path


def score_rows(folder, weights, videos, *flags):
    """The rows of the score files that a test script writes, ``[videos][views, classes]``."""
    folder.mkdir(exist_ok=True)
    listed = folder / "list.txt"
    listed.write_text("".join(f"{video}\t0\n" for video in videos))
    arguments = ["mine", "--num_class", 5, "--val_list", listed, "--weights", weights, "-j", 0]
    out = folder / "scores"
    assert call("test_models_center_crop", *arguments, "--output_dir", out, *flags) == 0
    views = []
    for path in sorted(out.glob("*_crop*.pkl"), key=lambda path: _numbers(path.name)):
        views.append(np.concatenate([row[0] for row in pickle.loads(path.read_bytes())]))
    return np.stack(views, axis=1)


def _numbers(name):
    clip, crop = name.removesuffix(".pkl").split("_crop")
    return int(clip), int(crop)


@pytest.mark.parametrize(
    "module, flags, options",
    [
        ("tsn", [], {}),
        ("tsm", ["--test_crops", 3, "--twice_sample", "--full_res"], {"crops": 3, "sampling": "twice", "full_res": True}),
        ("tdn", ["--test_sampling", "random", "--clips", 2], {"sampling": "random", "clips": 2}),
        ("tam", ["--sample", "dense-3", "--test_crops", 10], {"sampling": "dense", "clips": 3, "crops": 10}),
        ("tin", ["--sample", "uniform-2", "--fuse_bn"], {"sampling": "uniform", "clips": 2, "fuse_bn": True}),
    ],
)  # fmt: skip
def test_scores_equal_those_of_the_test_script(root, tmp_path, module, flags, options):
    weights = checkpoint(tmp_path, module)
    videos = [root / "v0.mp4", root / "frames", root / "v3.mp4"]
    rows = score_rows(tmp_path, weights, videos, *flags)
    results = list(Predictor(weights, "cpu", **options).many(videos, workers=2))
    assert [result.path for result in results] == [str(video) for video in videos]
    for row, result in zip(rows, results, strict=True):
        assert np.array_equal(result.views, row)
        assert result.views.dtype == np.float32
        assert np.array_equal(result.logits, row.astype(np.float64).sum(0) / len(row))
        assert result.probabilities.sum() == pytest.approx(1)


def test_flow_equals_the_test_script(tmp_path):
    rng = np.random.default_rng(0)
    write_flow(tmp_path / "flow", rng.integers(0, 256, (14, 40, 48, 2), np.uint8))
    weights = checkpoint(tmp_path, "tsm", modality="Flow")
    rows = score_rows(tmp_path, weights, [tmp_path / "flow"])
    predictor = Predictor(weights, "cpu")
    assert np.array_equal(predictor(tmp_path / "flow").views, rows[0])
    encode(tmp_path / "v.mp4", textured_frames(6))
    assert "flow" in predictor(tmp_path / "v.mp4").error


def test_softmax_per_view_is_averaged_as_in_the_test_script(root, tmp_path):
    weights = checkpoint(tmp_path)
    result = Predictor(weights, "cpu", crops=3, average="softmax")(root / "v0.mp4")
    expected = to_probabilities(result.views, False).mean(0)
    assert np.allclose(result.probabilities, expected, rtol=1e-12)
    assert "softmax" in result.protocol


def test_top_names_and_json(root, tmp_path):
    result = Predictor(checkpoint(tmp_path), "cpu")(root / "v0.mp4")
    top = result.top(2)
    assert [name for name, _ in top] == [NAMES[i] for i in np.argsort(-result.logits)[:2]]
    assert top[0][1] >= top[1][1] > 0
    assert len(result.top(99)) == 5 and result.top(5, threshold=2.0) == []
    line = result.to_json(3)
    content = json.loads(line)
    assert "\n" not in line
    assert set(content) == {
        *("path", "top", "probabilities", "logits", "protocol", "seconds", "error")
    }
    assert content["error"] is None and content["top"][0]["name"] == top[0][0]
    assert content["probabilities"][content["top"][0]["label"]] == top[0][1]


def test_unreadable_videos_are_results_with_the_reason(root, tmp_path):
    empty = tmp_path / "empty.mp4"
    empty.write_bytes(b"")
    noise = tmp_path / "noise.mp4"
    noise.write_bytes(bytes(range(256)) * 40)
    bad = [empty, noise, tmp_path / "missing.mp4", tmp_path, "", "bad\udcff.mp4", "zero\0.mp4"]
    paths = [bad[0], root / "v0.mp4", *bad[1:4], root / "v1.mp4", *bad[4:]]
    results = list(Predictor(checkpoint(tmp_path), "cpu").many(paths, workers=1))
    assert [result.error is None for result in results].count(True) == 2
    assert [result.path for result in results] == [str(path) for path in paths]
    for result in results:
        if result.error:
            assert result.top() == [] and result.logits is None and "\n" not in result.error
            assert json.loads(result.to_json())["error"] == result.error


def test_short_videos_and_one_frame(tmp_path):
    encode(tmp_path / "one.mp4", textured_frames(1))
    result = Predictor(checkpoint(tmp_path, "tdn"), "cpu")(tmp_path / "one.mp4")
    assert result.error is None and np.isfinite(result.logits).all()


@pytest.mark.parametrize(
    "name", ["a b.mp4", "100%.mp4", "#1.mp4", "-dash.mp4", "ünï 走.mp4", "a:b.mp4"]
)
def test_unusual_names(root, tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    (tmp_path / name).write_bytes((root / "v0.mp4").read_bytes())
    predictor = Predictor(checkpoint(tmp_path), "cpu")
    assert np.array_equal(predictor(name).views, predictor(root / "v0.mp4").views)


def test_template_of_frames_is_inferred(root, tmp_path):
    (tmp_path / "clip").mkdir()
    for path in sorted((root / "frames").iterdir()):
        number = int(path.stem.removeprefix("img_")) - 1
        (tmp_path / "clip" / f"f{number:03d}.jpg").write_bytes(path.read_bytes())
    predictor = Predictor(checkpoint(tmp_path), "cpu")
    assert np.array_equal(predictor(tmp_path / "clip").views, predictor(root / "frames").views)


def test_multi_label_of_the_recipe(root, tmp_path):
    path = tmp_path / "multi.pth"
    save_checkpoint(path, small_model(input_size=32), recipe={"multi_label": True})
    result = Predictor(path, "cpu")(root / "v0.mp4")
    assert result.multi_label
    assert np.allclose(result.probabilities, 1 / (1 + np.exp(-result.logits)))
    assert result.top(1)[0][0] == f"label {result.logits.argmax()}"


def test_a_network_in_memory(root, tmp_path):
    path = checkpoint(tmp_path)
    model = randomize_norms(small_model("tsn", input_size=32))
    torch.nn.init.normal_(model.head.weight)
    expected = Predictor(path, "cpu")(root / "v0.mp4").views
    assert np.array_equal(Predictor(model, "cpu")(root / "v0.mp4").views, expected)


def test_protocol_of_a_dataset_and_of_the_training(tmp_path):
    def protocol(module="tsn", **recipe):
        path = tmp_path / "recipe.pth"
        save_checkpoint(path, small_model(module, input_size=32), recipe=recipe)
        return Predictor(path, "cpu").protocol

    assert protocol().sampling == "center"
    assert protocol("tam", dataset="kinetics").sampling == "dense"
    assert protocol("tdn", dataset="kinetics").clips == (0,)
    assert len(protocol(dataset="mine", sampling="dense").clips) == 10
    assert protocol(dataset=["odd"], sampling=7).sampling == "center"
    assert protocol("tdn").average == "softmax"


def test_arguments_that_do_not_fit_raise(tmp_path):
    path = checkpoint(tmp_path)
    (tmp_path / "names.txt").write_text("a\nb\n")
    for options in (
        {"class_names": tmp_path / "names.txt"},
        {"class_names": ["a", "b"]},
        {"class_names": [*NAMES[:4], "other"]},
        {"sampling": "center", "clips": 3},
        {"crops": 4},
        {"crop_size": 64},
        {"average": "median"},
    ):
        with pytest.raises(UserError):
            Predictor(path, "cpu", **options)
    with pytest.raises(UserError):
        Predictor(path, "nonsense")


def test_scores_that_are_not_finite_are_an_error(root, tmp_path):
    model = small_model("tsn", input_size=32)
    torch.nn.init.constant_(model.head.bias, float("nan"))
    assert "finite" in Predictor(model, "cpu")(root / "v0.mp4").error
