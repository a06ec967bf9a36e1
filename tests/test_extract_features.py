import json
import os
import signal
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.datasets import make_root
from helpers.launch import call, refused, start_tool, wait_until
from helpers.models import randomize_norms, small_model
from helpers.videos import encode, textured_frames

from ops.checkpoints import save_checkpoint
from ops.data.readers.open import open_reader
from ops.data.sampling import center_offsets, frame_indices
from ops.predict import Predictor

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tools"))


def checkpoint(folder, module="tsn", **options):
    path = folder / f"{module}.pth"
    save_checkpoint(path, randomize_norms(small_model(module, input_size=32, **options)))
    return path


def extract(*args):
    return call("extract_features", *args, "--device", "cpu")


def naive(weights, path, window, step, count, **options):
    """``model.features`` of the clip of each window, read one window at a time."""
    predictor = Predictor(weights, "cpu", sampling="center", **options)
    model = predictor.model
    transform = predictor.protocol.dataset(model, [], "", "pyav").transform
    T, L = model.num_segments, model.frames_per_segment
    rows = []
    with open_reader(path, image_tmpl="img_{:05d}.jpg") as reader:
        for number in range(count):
            middle = np.minimum(number * step + center_offsets(window, T, 1), len(reader) - 1)
            first = np.maximum(0, middle - (L - 1) // 2)
            indices = frame_indices(first, L, len(reader))
            wanted, picks = np.unique(indices, return_inverse=True)
            views = transform.crops(
                transform.scale(reader.get(wanted)), torch.from_numpy(picks.reshape(T, L))
            )
            with torch.inference_mode():
                rows.append(model.features(views).mean(0).numpy())
    return np.stack(rows)


@pytest.mark.parametrize("module", ["tsn", "tsm", "tdn"])
def test_features_equal_those_of_the_model(tmp_path, module):
    encode(tmp_path / "v.mp4", textured_frames(60))
    weights = checkpoint(tmp_path, module)
    flags = ["--window", "16f", "--step", "8f", "--crops", 3]
    assert extract(tmp_path / "v.mp4", tmp_path / "out", "--weights", weights, *flags) == 0
    found = np.load(tmp_path / "out" / "v.npy")
    assert found.dtype == np.float32 and found.shape == (7, 4, 512)
    expected = naive(weights, tmp_path / "v.mp4", 16, 8, 7, crops=3)
    assert np.abs(found - expected).max() < 1e-5 * np.abs(expected).max()
    index = json.loads((tmp_path / "out" / "index.json").read_text())
    entry = index["videos"]["v.npy"]
    assert entry["starts"] == [8 * number for number in range(7)]
    assert entry["times"][0] == pytest.approx(8 / 30, abs=0.04)
    assert index["settings"]["unit"] == "frames"


def test_pooling_dtype_and_seconds(tmp_path):
    encode(tmp_path / "v.mp4", textured_frames(60))
    weights = checkpoint(tmp_path)
    video = tmp_path / "v.mp4"
    assert extract(video, tmp_path / "a", "--weights", weights, "--window", "0.5") == 0
    flags = ["--window", "0.5s", "--pool", "time", "--dtype", "float16"]
    assert extract(video, tmp_path / "b", "--weights", weights, *flags) == 0
    plain = np.load(tmp_path / "a" / "v.npy")
    pooled = np.load(tmp_path / "b" / "v.npy")
    assert plain.shape == (4, 4, 512) and pooled.shape == (4, 512)
    assert pooled.dtype == np.float16
    assert np.array_equal(pooled, plain.mean(1).astype(np.float16))


def test_a_folder_keeps_its_structure_and_a_bad_video_is_named(tmp_path, capsys):
    (tmp_path / "videos" / "class a").mkdir(parents=True)
    make_root(tmp_path / "videos" / "class a")
    (tmp_path / "videos" / "bad.mp4").write_bytes(b"nonsense")
    weights = checkpoint(tmp_path)
    flags = ["--weights", weights, "--window", "8f"]
    assert extract(tmp_path / "videos", tmp_path / "out", *flags) == 1
    text = "".join(capsys.readouterr())
    assert "bad.mp4" in text and "1 video could not be read" in text
    files = sorted(str(path.relative_to(tmp_path / "out")) for path in tmp_path.rglob("*.npy"))
    assert files == ["class a/frames.npy", *(f"class a/v{i}.npy" for i in range(6))]


def test_resumes_and_refuses_other_settings(tmp_path, capsys):
    root = make_root(tmp_path)
    weights = checkpoint(tmp_path)
    flags = ["--weights", weights, "--window", "8f"]
    assert extract(root, tmp_path / "out", *flags) == 0
    times = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").glob("*.npy")}
    removed = tmp_path / "out" / "v2.npy"
    before = removed.read_bytes()
    removed.unlink()
    assert extract(root, tmp_path / "out", *flags) == 0
    assert removed.read_bytes() == before
    for path, time in times.items():
        assert (path.stat().st_mtime_ns == time) == (path != removed)
    refused(capsys, "extract_features", root, tmp_path / "out", *flags[:3], "16f")
    assert extract(root, tmp_path / "out", *flags) == 0


def test_invalid_arguments_raise(tmp_path, capsys):
    encode(tmp_path / "v.mp4", textured_frames(5))
    encode(tmp_path / "v.mkv", textured_frames(5))
    weights = checkpoint(tmp_path)
    for flags in (
        [tmp_path / "v.mp4", tmp_path / "out", "--window", "8f", "--step", "0.5"],
        [tmp_path, tmp_path / "out"],
    ):
        refused(capsys, "extract_features", *flags, "--weights", weights)
    for window in ("0f", "-1", "x", "1.5f", "nan"):
        flags = ["--weights", weights, f"--window={window}"]
        assert extract(tmp_path / "v.mp4", tmp_path / "out", *flags) == 2


@pytest.mark.slow
def test_an_interrupted_run_leaves_whole_files(tmp_path):
    root = make_root(tmp_path)
    for number in range(200):
        (root / f"copy{number}.mp4").write_bytes((root / "v5.mp4").read_bytes())
    weights = checkpoint(tmp_path)
    out = tmp_path / "out"
    tool = start_tool(
        "extract_features", root, out, "--weights", weights, "--window", "4f", "--step", "1f",
        "--device", "cpu", env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    wait_until(lambda: len(list(out.glob("copy*.npy"))) > 3, seconds=120)
    tool.send_signal(signal.SIGINT)
    tool.communicate(timeout=60)
    assert tool.returncode == 130
    videos = json.loads((out / "index.json").read_text())["videos"]
    assert 0 < len(videos) < 207
    for name, entry in videos.items():
        assert len(np.load(out / name)) == len(entry["times"])
