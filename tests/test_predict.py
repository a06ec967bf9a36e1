import json
import os
import pickle
import signal
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from helpers.datasets import make_root, write_flow
from helpers.launch import call
from helpers.models import randomize_norms, small_model
from helpers.videos import encode, textured_frames

from ops.checkpoints import save_checkpoint
from ops.data.readers.base import UnreadableVideo
from ops.data.readers.open import open_reader
from ops.data.readers.stream import VideoStream, open_stream
from ops.data.sampling import frame_indices
from ops.predict import Predictor
from ops.scores.aggregation import to_probabilities
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


# Module, flags of the test script, and the same as arguments of a Predictor.
PROTOCOLS = [
    ("tsn", [], {}),
    (
        "tsm",
        ["--test_crops", 3, "--twice_sample", "--full_res"],
        {"crops": 3, "sampling": "twice", "full_res": True},
    ),
    (
        "tdn",
        ["--test_sampling", "random", "--clips", 2],
        {"sampling": "random", "clips": 2},
    ),
    (
        "tam",
        ["--sample", "dense-3", "--test_crops", 10],
        {"sampling": "dense", "clips": 3, "crops": 10},
    ),
    (
        "tin",
        ["--sample", "uniform-2", "--fuse_bn"],
        {"sampling": "uniform", "clips": 2, "fuse_bn": True},
    ),
]


@pytest.mark.parametrize("module, flags, options", PROTOCOLS)
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


@pytest.mark.skipif(sys.platform != "linux", reason="workers inherit the patch by a fork")
def test_a_video_that_crashes_its_decoder_is_a_failure(root, tmp_path, monkeypatch):
    def crash(path, **options):
        if path.endswith("v2.mp4"):
            os.kill(os.getpid(), signal.SIGKILL)
        return open_reader(path, **options)

    monkeypatch.setattr("ops.data.clips.open_reader", crash)
    paths = [root / f"v{number}.mp4" for number in range(6)]
    results = list(Predictor(checkpoint(tmp_path), "cpu").many(paths, workers=2))
    assert [result.path for result in results] == [str(path) for path in paths]
    assert [result.error is None for result in results] == [number != 2 for number in range(6)]


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


def test_protocol_of_a_published_file():
    def result(**values):
        return {"frames": 4, "clips": 1, "crops": 1, "size": 224, "sampling": "center", **values}

    dense = result(clips=3, crops=3, size=256, sampling="dense")
    model = small_model("tsn")
    model.published = {"multi_label": False, "expected": [dense]}
    protocol = Predictor(model, "cpu").protocol
    assert (protocol.sampling, protocol.clips, protocol.crops) == ("dense", (0, 1, 2), 3)
    assert protocol.crop_size == 256
    assert Predictor(model, "cpu", crops=1, clips=2).protocol.clips == (0, 1)
    assert Predictor(model, "cpu", sampling="center").protocol.clips == (0,)
    model.published = {"multi_label": True, "expected": [dense, result(), result(frames=8)]}
    predictor = Predictor(model, "cpu")
    assert predictor.protocol.sampling == "center" and predictor.multi_label


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
    with pytest.raises(UserError, match="num_segments"):
        Predictor(small_model("tsn", input_size=32), "cpu", num_segments=8)


def test_scores_that_are_not_finite_are_an_error(root, tmp_path):
    model = small_model("tsn", input_size=32)
    torch.nn.init.constant_(model.head.bias, float("nan"))
    assert "finite" in Predictor(model, "cpu")(root / "v0.mp4").error


def naive_logits(predictor, path, window, step):
    """Logits of each window, from frames that are read one window at a time."""
    model = predictor.model
    T, L = model.num_segments, model.frames_per_segment
    with open_stream(path, image_tmpl="img_{:05d}.jpg") as stream:
        times = np.array([frame.time for frame in stream])
        end = stream.end
    transform = predictor.protocol.dataset(model, [], "", "pyav").transform
    logits = []
    start = 0.0
    with open_reader(path, image_tmpl="img_{:05d}.jpg") as reader:
        while not logits or start + window / 2 <= end + 1e-6:
            targets = start + (np.arange(T) + 0.5) * window / T
            middle = np.searchsorted(times, targets + 1e-6, side="right") - 1
            indices = frame_indices(np.maximum(0, middle - (L - 1) // 2), L, len(times))
            wanted, picks = np.unique(indices, return_inverse=True)
            frames = transform.scale(reader.get(wanted))
            views = transform.crops(frames, torch.from_numpy(picks.reshape(T, L)))
            with torch.inference_mode():
                logits.append(model(views).mean(0).numpy())
            start = len(logits) * step
    return np.stack(logits)


@pytest.mark.parametrize(
    "name, module, options",
    [
        ("variable.mp4", "tsn", {}),
        ("variable.mp4", "tsn", {"crops": 3, "full_res": True}),
        ("variable.mp4", "tsm", {"crops": 10}),
        ("variable.mp4", "tdn", {}),
        ("constant.mp4", "tam", {}),
        ("constant.mp4", "tin", {}),
        ("no_index.avi", "tsn", {}),
        ("no_index.avi", "tdn", {}),
    ],
)
def test_windows_equal_naive_ones(tmp_path, name, module, options):
    rng = np.random.default_rng(0)
    path = tmp_path / name
    if name == "variable.mp4":
        pts = np.cumsum(rng.integers(200, 4000, 90)).tolist()
        encode(path, textured_frames(90), pts=pts, bframes=0)
    else:
        encode(path, textured_frames(90), codec="libx264" if ".mp4" in name else "mpeg4")
    predictor = Predictor(checkpoint(tmp_path, module), "cpu", **options)
    windows = list(predictor.windows(path, 0.8, 0.3, batch_size=3))
    expected = naive_logits(predictor, path, 0.8, 0.3)
    found = np.stack([window.logits for window in windows])
    assert found.shape == expected.shape
    assert np.abs(found - expected).max() < 1e-5 * np.abs(expected).max()
    for window in windows:
        assert window.probabilities.sum() == pytest.approx(1)
        assert window.picture.shape == 2 * (predictor.protocol.crop_size,) + (3,)


@pytest.mark.parametrize("module", ["tsn", "tsm"])
def test_windows_of_a_network_that_scores_each_segment(tmp_path, module):
    encode(tmp_path / "v.mp4", textured_frames(30))
    logits = {}
    for consensus in ("avg", "identity"):
        model = randomize_norms(small_model(module, input_size=32, consensus=consensus))
        windows = Predictor(model, "cpu").windows(tmp_path / "v.mp4", 0.5)
        logits[consensus] = [window.logits for window in windows]
    assert np.allclose(logits["avg"], logits["identity"], rtol=1e-5)


def test_segments_of_a_tsn_are_computed_once(tmp_path):
    encode(tmp_path / "v.mp4", textured_frames(300))
    predictor = Predictor(small_model("tsn", num_segments=8, input_size=32), "cpu")
    computed = []
    plain = predictor.model.segment_features
    predictor.model.segment_features = lambda pixels: computed.append(len(pixels)) or plain(pixels)
    windows = list(predictor.windows(tmp_path / "v.mp4", 64 / 30, 16 / 30))
    assert len(windows) > 14
    assert sum(computed) <= 300 / 8 + 1


def test_a_long_video_is_decoded_once(tmp_path, monkeypatch):
    encode(tmp_path / "v.mp4", textured_frames(90))
    decoded = []
    plain = VideoStream.__iter__

    def counted_frames(stream):
        for frame in plain(stream):
            decoded.append(frame.index)
            yield frame

    monkeypatch.setattr(VideoStream, "__iter__", counted_frames)
    list(Predictor(checkpoint(tmp_path, "tdn"), "cpu").windows(tmp_path / "v.mp4", 1.0, 0.1))
    assert decoded == list(range(90))


def test_a_video_shorter_than_a_window_is_one_window(root, tmp_path):
    predictor = Predictor(checkpoint(tmp_path), "cpu")
    windows = list(predictor.windows(root / "v0.mp4", 60))
    assert len(windows) == 1 and windows[0].end == pytest.approx(10 / 30, abs=0.01)
    assert np.allclose(windows[0].logits, predictor(root / "v0.mp4").logits, rtol=1e-5)


def test_timeline_names_what_is_seen_when(tmp_path):
    """A network that separates bright from dark."""
    model = small_model("tsn", num_class=2, input_size=32)
    for parameter in model.backbone.parameters():
        torch.nn.init.constant_(parameter, 1e-2)
    frames = np.zeros((120, 64, 64, 3), np.uint8)
    frames[45:90] = 250
    encode(tmp_path / "v.mp4", frames)
    predictor = Predictor(model, "cpu", class_names=["dark", "bright"])
    windows = list(predictor.windows(tmp_path / "v.mp4", 0.5, 0.1))
    clips = torch.from_numpy(frames[[0, 60]][:, :32, :32]).permute(0, 3, 1, 2)
    clips = clips[:, None].expand(-1, 4, -1, -1, -1)
    level = model.features(clips).mean((1, 2)).tolist()
    with torch.no_grad():
        model.head.weight[0] = 0
        model.head.weight[1] = 40 / (level[1] - level[0]) / 512
        model.head.bias[1] = -40 * (level[0] + level[1]) / 2 / (level[1] - level[0])
    spans = list(predictor.timeline(tmp_path / "v.mp4", 0.5, 0.1))
    assert [span.name for span in spans] == ["dark", "bright", "dark"]
    assert spans[0].start == 0 and spans[-1].end == pytest.approx(4.0, abs=0.01)
    for span, end in zip(spans, (1.5, 3.0), strict=False):
        assert span.end == pytest.approx(end, abs=0.15)
        assert span.probability > 0.8
    assert len(windows) > 30


def test_timeline_of_what_is_no_video_raises(tmp_path):
    predictor = Predictor(checkpoint(tmp_path), "cpu")
    for path in (tmp_path / "gone.mp4", "bad\udcff.mp4", tmp_path):
        with pytest.raises(UnreadableVideo):
            list(predictor.timeline(path))
    with pytest.raises(UserError):
        list(predictor.timeline(tmp_path / "v.mp4", window=0))


MEMORY = """
import sys
from fractions import Fraction
import av, numpy as np
sys.path.insert(0, "tests")
from helpers.models import small_model
from ops.data.readers.base import UnreadableVideo
from ops.data.readers.open import open_reader
from ops.data.readers.stream import VideoStream, open_stream
from ops.data.sampling import frame_indices
from ops.predict import Predictor

def resident():
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmRSS")) / 1024

predictor = Predictor(small_model("tsm", num_segments=2, input_size=32), "cpu")
first = last = 0
for window in predictor.windows(sys.argv[1], 4.0, 3.0, batch_size=8):
    last = window.end
    if window.index == 100:
        first = resident()
print(first, resident(), last)
"""


@pytest.mark.slow
def test_memory_does_not_grow_with_the_length_of_a_video(tmp_path):
    path = tmp_path / "two_hours.mp4"
    small = textured_frames(40, 32, 32)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=2, options={"preset": "ultrafast"})
        stream.width, stream.height, stream.pix_fmt = 32, 32, "yuv420p"
        for index in range(2 * 2 * 3600):
            frame = av.VideoFrame.from_ndarray(small[index % 40], format="rgb24")
            frame.pts, frame.time_base = index, Fraction(1, 2)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    program = tmp_path / "program.py"
    program.write_text(MEMORY)
    run = subprocess.run(
        [sys.executable, program, path],
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[1],
        env={**os.environ, "PYTHONPATH": ".", "OMP_NUM_THREADS": "1"},
    )
    assert run.returncode == 0, run.stderr
    first, final, last = map(float, run.stdout.split())
    assert last == pytest.approx(7200, abs=2)
    assert final - first < 40, f"{first} -> {final} MB"
