import re
import subprocess
import sys
from pathlib import Path

import benchmark
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from helpers import golden_fill
from helpers.launch import launch

from lib import measure
from lib.benchmarks import (
    baselines_data,
    baselines_loop,
    baselines_model,
    baselines_temporal,
    benchmark_all,
    benchmark_data,
    benchmark_epoch,
    benchmark_model,
    benchmark_targets,
    benchmark_views,
    performance_page,
)
from ops.checkpoints import load_model
from ops.utils.errors import UserError

TOOLS = Path(benchmark.__file__).parent


@pytest.fixture(autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A made video, its frames, and their number and size."""
    folder = tmp_path_factory.mktemp("made")
    video = benchmark_data.make_video(folder / "made.mp4", 40)
    return video, folder / "frames", benchmark_data.extract(video, folder / "frames")


def run(monkeypatch, capsys, *args):
    """The lines that ``benchmark.py args`` prints."""
    monkeypatch.setattr(sys, "argv", ["benchmark.py", *map(str, args)])
    benchmark.main()
    return capsys.readouterr().out.splitlines()


# The original's models.


@pytest.mark.slow
@pytest.mark.parametrize(
    "file",
    [
        "tdn_resnet50_8f.npz",
        "tsn_resnet50_8f.npz",
        "tsm_resnet50_8f.npz",
        "tam_resnet50_8f.npz",
        "tin_resnet50_8f.npz",
    ],
)
def test_models_have_the_names_and_the_numbers_of_the_originals(file):
    golden, config, state = golden_fill.load(file)
    model = baselines_model.original(file[:3], num_class=int(config["classes"])).double().eval()
    model.load_state_dict(
        {
            key.removeprefix("module.").replace("base_model.fc.", "new_fc."): value
            for key, value in state.items()
        }
    )
    with torch.no_grad():
        logits = model(golden_fill.clip("input", tuple(golden["input_shape"])))
    assert golden_fill.difference(logits, golden["logits"]) < 1e-12


def apart(value, expected):
    """Largest difference relative to the largest expected value."""
    return ((value - expected).abs().max() / expected.abs().max()).item()


def pair(module, dtype, channels_last):
    """The original and ours with the same weights, after one clip in training mode, and a clip."""
    torch.manual_seed(0)
    original = baselines_model.original(module, num_class=5, num_segments=3, dropout=0).to(dtype)
    with torch.no_grad():
        for name, value in original.named_parameters():
            if name.endswith("shift.conv.weight"):
                value.add_(torch.randn_like(value), alpha=0.3)
    clip = torch.randn(2, 3 * (15 if module == "tdn" else 3), 64, 64, dtype=dtype)
    original(clip)
    ours = load_model(original.state_dict(), 3, quiet=True, dropout=0.0)
    return original, ours.to_channels_last() if channels_last else ours, clip


# In float32 with the running statistics, as those of so small a batch amplify rounding. An
# activation that rounding turns on or off moves a gradient by about a percent.
@pytest.mark.slow
@pytest.mark.parametrize(
    ("module", "dtype", "channels_last", "training", "tolerance"),
    [
        ("tsn", torch.float64, False, True, 1e-9),
        ("tsm", torch.float64, True, True, 1e-9),
        ("tdn", torch.float64, False, True, 1e-9),
        ("tdn", torch.float32, True, False, 0.03),
    ],
)
def test_forward_and_backward_of_ours_are_the_originals(
    module, dtype, channels_last, training, tolerance
):
    original, ours, clip = pair(module, dtype, channels_last)
    names = {"conv1": "conv1", "layer1_bak" if module == "tdn" else "layer1": "layer1"}
    if module == "tdn":
        names |= {
            "conv1_5.0": "stem.conv",
            "layer2_bak.1.shift.conv": "layer2.1.before_conv2.temporal",
            "layer3_bak.0.mse.conv3": "layer3.0.before_conv2.expand",
        }
    gradients = []
    for network in (original, ours):
        logits = network.train(training)(clip)
        F.cross_entropy(logits, torch.tensor([1, 3])).backward()
        gradients.append((logits, {name: p.grad for name, p in network.named_parameters()}))
    (expected, theirs), (logits, mine) = gradients
    assert apart(logits, expected) < min(tolerance, 1e-5)
    for their_name, name in names.items():
        key = f"{their_name}{'.0.conv1' if name == 'layer1' else ''}.weight"
        if module == "tsm" and name == "layer1":
            key = "layer1.0.conv1.net.weight"
        gradient = mine[f"backbone.{name}{'.0.conv1' if name == 'layer1' else ''}.weight"]
        assert apart(gradient, theirs[f"base_model.{key}"]) < tolerance, key


def test_channels_last_bf16_stays_near_the_original():
    original, ours, clip = pair("tdn", torch.float32, True)
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        logits = ours.eval()(clip)
    with torch.inference_mode():
        assert apart(logits.float(), original.eval()(clip)) < 0.05


# The original's data.


@pytest.mark.slow
@pytest.mark.parametrize("frames_per_segment", [1, 5])
@pytest.mark.parametrize("source", ["video", "folder"])
def test_both_ways_make_the_same_clip(made, tmp_path, source, frames_per_segment):
    video, folder, (frames, height, width) = made
    line = f"{folder}\t{frames}" if source == "folder" else str(video)
    dataset = benchmark_data.training_set(tmp_path / "list.txt", line, frames_per_segment)
    original, ours = benchmark_data.clip_makers(dataset, frames, height, width)
    assert original(0).dtype == torch.float32 and original(0).shape == (
        8 * frames_per_segment * 3,
        224,
        224,
    )
    assert ours(0).dtype == torch.uint8 and ours(0).shape == (8, frames_per_segment * 3, 224, 224)
    assert benchmark_data.largest_difference(original, ours) <= 2
    if source == "video":
        for decoder in benchmark_data.other_decoders(video):
            assert torch.equal(benchmark_data.with_decoder(dataset, decoder)(0), ours(0))
    assert benchmark_data.largest_difference(original, lambda epoch: ours(epoch).flip(-1)) > 2
    assert benchmark_data.largest_difference(original, lambda epoch: ours(epoch + 1)) > 2


def test_the_made_video_is_like_real_ones(made):
    video, folder, (frames, height, width) = made
    assert (frames, height, width) == (40, 256, 340)
    assert video.stat().st_size / frames < 6000
    assert 20_000 < np.mean([file.stat().st_size for file in folder.iterdir()]) < 40_000


def test_pixels_undoes_the_normalization():
    image = torch.arange(256, dtype=torch.uint8).repeat(6, 1).reshape(6, 16, 16)
    mean, std = (
        torch.tensor(values * 2).reshape(6, 1, 1)
        for values in (baselines_data.MEAN, baselines_data.STD)
    )
    assert torch.equal(baselines_data.pixels((image / 255 - mean) / std), image)


@pytest.mark.parametrize("source", ["video", "folder"])
def test_the_original_reads_lists_of_both_kinds(made, source):
    video, folder, (frames, _, _) = made
    line = f"{folder} {frames} 3" if source == "folder" else f"{video} 3"
    for training in (True, False):
        dataset = baselines_loop.OriginalTrainSet(
            [line], 8, 1, benchmark_data.TEMPLATE, crop_size=64, training=training
        )
        clip, label = dataset[0]
        assert (clip.dtype, clip.shape, label) == (torch.float32, (24, 64, 64), 3)
    # Without chance: the middle of the picture, at the middle of each eighth of the video.
    indices = [i * (frames // 8) + frames // 16 for i in range(8)]
    images = baselines_data.images_of_video(str(video), indices)
    pixels = baselines_data.pixels(clip).int()
    expected = baselines_data.crops(images, [(16, 4)], 73, 64)[0]
    limit = 2 if source == "video" else 60  # JPEG
    assert (pixels - baselines_data.pixels(expected).int()).abs().max() <= limit


def test_accuracy_of_the_original_counts_the_best_classes():
    output = torch.tensor([[0.0, 1, 2, 3, 4, 5], [5.0, 4, 3, 2, 1, 0], [0.0, 1, 2, 3, 4, 5]])
    top1, top5 = baselines_loop.accuracy(output, torch.tensor([5, 4, 0]))
    assert (top1.item(), top5.item()) == pytest.approx((100 / 3, 200 / 3))


# Measuring.


def test_interleave_takes_medians_and_warms_up(monkeypatch):
    now, calls = [0.0], {"a": [], "b": []}
    durations = {"a": iter([99, 1, 2, 9]), "b": iter([99, 4, 4, 4])}

    def case(name):
        def step(number):
            calls[name].append(number)
            now[0] += next(durations[name]) / 1000

        return step

    monkeypatch.setattr(measure.time, "process_time", lambda: now[0])
    times = measure.interleave({"a": case("a"), "b": case("b")}, 3)
    assert times == pytest.approx({"a": 2, "b": 4})
    assert calls == {"a": [-1, 0, 1, 2], "b": [-1, 0, 1, 2]}


def test_ratios_are_compared_with_targets():
    assert measure.compare(4.0, 2.0, 2.0) == ("2.00", ">= 2.00", "ok")
    assert measure.compare(1.994, 1.0, 2.0) == ("1.99", ">= 2.00", "below")
    assert measure.compare(1.5, 1.0, None) == ("1.50", "", "")


def test_shares_are_compared_with_targets():
    assert benchmark_model.compare_share(1.08, 1.08) == ("x 1.08", "<= 1.08", "ok")
    assert benchmark_model.compare_share(1.2, 1.08) == ("x 1.20", "<= 1.08", "above")
    assert benchmark_model.compare_share(1.2, None) == ("x 1.20", "", "")


def test_targets_name_what_is_measured():
    assert tuple(baselines_model.BLOCKS) == benchmark_targets.ARCHS
    assert set(benchmark_targets.MODULES) == {"tsn", "tdn", *baselines_temporal.INSERTIONS}
    assert benchmark_targets.VIEWS.keys() == benchmark_views.PROTOCOLS.keys()
    assert benchmark_targets.WHOLE_TEST.keys() <= benchmark_views.WAYS.keys()
    for ways in (*benchmark_targets.MODEL.values(), benchmark_targets.TSN_SHARE_WAYS):
        assert set(ways) <= benchmark_model.WAYS.keys()


def test_table_aligns_and_drops_empty_columns(capsys):
    measure.table(
        ("", "ms", "dropped", "target"), [("first", "1.0", "", ""), ("b", "10.0", "", ">= 2")]
    )
    assert capsys.readouterr().out.splitlines() == [
        "         ms  target",
        "first   1.0",
        "b      10.0    >= 2",
    ]


def test_tables_are_recorded_as_printed():
    with measure.recording() as outer:
        measure.table(("", "ms"), [("a", "1")])
        with measure.recording() as inner:
            measure.table(("", "empty", "s"), [("b", "", "2")])
    measure.table(("", "ms"), [("c", "3")])
    assert inner == [(["", "s"], [["b", "2"]])]
    assert outer == [(["", "ms"], [["a", "1"]]), *inner]


def test_compiling_pays_off_where_a_step_is_faster():
    assert benchmark_model.describe_compiling(30, 200.0, 100.0) == ("30", "300 steps")
    assert benchmark_model.describe_compiling(30, 100.0, 100.0) == ("30", "never")


def test_machine_names_versions():
    assert measure.machine("torch").endswith(f"torch {torch.__version__.split('+')[0]}")


def test_bytes_for_backward_counts_each_memory_once_and_no_weights():
    network = torch.nn.Sequential(torch.nn.Linear(10, 20), torch.nn.ReLU(), torch.nn.Linear(20, 3))
    clip = torch.zeros(7, 10)

    def step(_):
        hidden = network(clip)
        (hidden * hidden).sum().backward()

    # the clip, the output of ReLU (kept by ReLU and by the second layer), and the product's factor
    assert benchmark_model.bytes_for_backward(network, step) == 4 * (7 * 10 + 7 * 20 + 7 * 3)


# The commands.


@pytest.mark.slow
def test_data(monkeypatch, capsys, made):
    lines = run(monkeypatch, capsys, "data", "--video", made[0], "--rounds", 1, "--clips", 1)
    assert "40 frames, 340x256" in lines[1]
    assert [line[:12] for line in lines[-4:]] == [
        "video, 8 x 5",
        "video, 8 x 1",
        "frame folder",
        "frame folder",
    ]
    assert all(line.endswith(("ok", "below")) for line in lines[-4:])


@pytest.mark.slow
def test_data_stops_if_the_clips_differ(monkeypatch, capsys, made):
    monkeypatch.setattr(benchmark_data.baselines_data, "MEAN", (0.6, 0.6, 0.6))
    monkeypatch.setattr(
        benchmark_data.baselines_data, "pixels", lambda clip: (clip * 0).to(torch.uint8)
    )
    with pytest.raises(UserError, match="the clips differ"):
        run(monkeypatch, capsys, "data", "--video", made[0], "--rounds", 1, "--clips", 1)


def test_data_names_a_video_it_cannot_read(monkeypatch, capsys, tmp_path):
    (tmp_path / "text.mp4").write_text("not a video")
    with pytest.raises(UserError, match=r"--video .*text\.mp4: "):
        run(monkeypatch, capsys, "data", "--video", tmp_path / "text.mp4")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_model_names_a_missing_gpu(monkeypatch, capsys):
    with pytest.raises(UserError, match="--device cuda"):
        run(monkeypatch, capsys, "model", "--device", "cuda")


TINY = ("--rounds", 1, "--size", 64, "--segments", 2)


@pytest.mark.slow
def test_model(monkeypatch, capsys):
    flags = ("--device", "cpu", "--modules", "tsn", "tin", "--batch", 1)
    lines = run(monkeypatch, capsys, "model", *flags, *TINY)
    text = "\n".join(lines)
    assert "inference of 1 clip(s) of 2 segments at 64x64, resnet50, cpu" in text
    names = [line.split("  ")[0] for line in lines if line]
    ways = [name for name in benchmark_model.WAYS if "compiled" not in name]
    assert names[2:] == ["tsn", "original", *ways, "tin", "original", *ways]
    assert "target" not in text  # targets are for the standard network


@pytest.mark.slow
def test_model_training_shows_memory(monkeypatch, capsys):
    lines = run(monkeypatch, capsys, "model", "--train", "--modules", "tdn", "--batch", 1, *TINY)
    assert lines[3].endswith("MB for backward") and "folded" not in "\n".join(lines)
    memory = {line.split("  ")[0]: int(line.split()[-1]) for line in lines[4:]}
    assert memory["channels-last fp32"] < memory["original"]


@pytest.mark.slow
def test_training_tsm_is_measured_beside_tsn_and_the_shift_alone(monkeypatch, capsys):
    lines = run(monkeypatch, capsys, "model", "--train", "--modules", "tsm", "--batch", 1, *TINY)
    assert lines[3].endswith("TSN's time") and all(" x " in line for line in lines[4:8])
    assert lines[-3].startswith("temporal shift, forward and backward")
    assert [line.split()[0] for line in lines[-2:]] == ["NCHW", "channels-last"]
    for line in lines[-2:]:
        assert float(line.split()[3]) > 1  # faster than three slices


@pytest.mark.slow
def test_model_stops_if_the_logits_differ(monkeypatch, capsys):
    fold = benchmark_model.fuse_batch_norm
    monkeypatch.setattr(
        benchmark_model,
        "fuse_batch_norm",
        lambda network: fold(network).head.weight.data.mul_(1.001),
    )
    with pytest.raises(UserError, match="tsn, channels-last fp32, folded BN: logits differ"):
        run(monkeypatch, capsys, "model", "--modules", "tsn", *TINY)


@pytest.mark.slow
def test_views(monkeypatch, capsys):
    """Two clips of small pictures."""
    for name, value in {"CLIPS": 2, "SIZE": 64}.items():
        monkeypatch.setattr(benchmark_views, name, value)
    lines = run(monkeypatch, capsys, "views", "--frames", 40, "--rounds", 1, "--videos", 1)
    text = "\n".join(lines)
    assert all(
        name in text
        for name in (*benchmark_views.PROTOCOLS, *benchmark_views.WAYS, "2 clips x 3 crops of 64")
    )
    few, many = map(
        int,
        re.search("TDN-R18: ([0-9]+) MiB after 1 video, ([0-9]+) MiB after 4", lines[-1]).groups(),
    )
    assert few > 100 and many - few < 100
    differences = {
        line.split("  ")[0]: float(line.split()[-2]) for line in lines if line.startswith("ours")
    }
    assert differences["ours"] < 1e-5 > differences["ours, --fuse_bn"]


@pytest.mark.slow
def test_flops(monkeypatch, capsys):
    rows = [line.split() for line in run(monkeypatch, capsys, "flops")[-6:]]
    assert [row[:1] + row[2:3] for row in rows] == [
        [module, T] for module in ("tsn", "tsm", "tdn") for T in ("8", "16")
    ]
    counts = [[float(cell) for cell in row[4:]] for row in rows]
    for ours, original, paper, *_ in counts:
        assert ours == original == pytest.approx(paper, rel=0.02)
    assert counts[0][3:] == [24.33, 24.33, 24.3] and counts[4][3:] == [24.85, 24.88]


def test_worker(monkeypatch, capsys):
    sizes = ("--epochs", 2, "--clips", 4, "--frames", 40, "--lines", 50, "--workers", 1)
    lines = run(monkeypatch, capsys, "worker", *sizes)
    assert [line.split()[:3] for line in lines[-2:]] == [["epoch", "1", "4"], ["epoch", "2", "4"]]
    resident, private = map(int, lines[-1].split()[3:])
    assert resident > private > 0


def test_explain(monkeypatch, capsys):
    small = ("--arch", "resnet18", "--modules", "tsm", "--sizes", 48, "--segments", 2)
    lines = run(monkeypatch, capsys, "explain", *small, "--rounds", 1)
    name, size, stage, *numbers = lines[-1].split()
    assert (name, size, stage) == ("tsm", "48", "2")
    assert float(numbers[1]) / float(numbers[0]) == pytest.approx(float(numbers[2]), rel=0.1)


def test_runs_from_anywhere_and_refuses_unknown_flags(tmp_path):
    done = subprocess.run(
        [sys.executable, TOOLS / "benchmark.py", "flops", "--x"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2 and "unrecognized arguments: --x" in done.stderr


@pytest.mark.slow
def test_predict(tmp_path):
    small = ["--arch", "resnet18", "--clips", 1, "--seconds", 4, "--minutes", 1, "--rounds", 1]
    run = launch("tools/benchmark.py", "predict", *small, "--device", "cpu", timeout=600)
    assert run.returncode == 0, run.stderr
    rows = run.stdout.splitlines()
    assert len(rows) == 8, run.stdout
    (difference,) = [row for row in rows if "difference" in row]
    (growth,) = [row for row in rows if "memory" in row]
    assert difference.endswith("ok") and growth.endswith("ok"), run.stdout


@pytest.mark.slow
def test_export(monkeypatch, capsys):
    pytest.importorskip("onnxruntime", reason="tools/requirements.txt is not installed")
    small = ("--archs", "resnet18", "--segments", 2, "--size", 32, "--rounds", 1)
    lines = run(monkeypatch, capsys, "export", *small)
    rows = {name.strip(): value for name, value in (line.rsplit("  ", 1) for line in lines[-7:])}
    assert float(rows["resnet18: clip / step"]) > 1
    assert float(rows["resnet18: int8 file / fp32 file"]) < 0.35


SMALL = ("--arch", "resnet18", "--frames", 30, "--size", 32, "--device", "cpu")
ONE_CORE = ("--workers", 1, "--threads", 1)


@pytest.mark.slow
def test_epoch(monkeypatch, capsys):
    few = ("--videos", 4, "--batch", 2, "--modules", "tsm", "--sources", "videos")
    rows = run(monkeypatch, capsys, "epoch", *few, *SMALL, *ONE_CORE)[-3:]
    names = [row.split("  ")[0] for row in rows]
    assert names == [f"tsm, videos, {way}" for way in ("original", "ours, fp32", "ours, bf16")]
    assert all(float(row.split()[-3]) > 0 for row in rows)


def test_every_module_has_the_source_of_its_original():
    sources = benchmark_epoch.ORIGINAL_SOURCES
    assert set(sources) == set(benchmark_targets.MODULES)
    assert set(sources.values()) <= set(benchmark_targets.SOURCES)


def test_a_program_that_fails_is_named():
    command = [sys.executable, "-c", "raise SystemExit('no disk')"]
    with pytest.raises(UserError, match="no disk"):
        benchmark_epoch.time_between(command, "first", "last", threads=1)
    with pytest.raises(UserError, match="did not print 'text'"):
        benchmark_epoch.time_to([sys.executable, "-c", "print('other')"], "text")
    waits = "import time; print('text', flush=True); time.sleep(600)"
    assert benchmark_epoch.time_to([sys.executable, "-c", waits], "text") < 300


@pytest.mark.slow
@pytest.mark.parametrize("views", [1, 30])
def test_score(monkeypatch, capsys, views):
    few = ("--modules", "tsm", "--views", views, "--videos", 1, "--onnxruntime")
    rows = run(monkeypatch, capsys, "score", *few, *SMALL, *ONE_CORE)[-3:]
    assert [row.split("  ")[0].split(", ", 2)[2] for row in rows] == [
        "original",
        "ours, fp32",
        "ours, bf16",
    ]
    fp32, bf16 = (float(row.split()[-2]) for row in rows[1:])
    assert fp32 < 1e-3 < bf16 < 0.05


def test_loader(monkeypatch, capsys):
    few = ("--frames", 30, "--clips", 8, "--batch", 2, "--rounds", 1)
    rows = run(monkeypatch, capsys, "loader", *few)[-2:]
    for row in rows:
        total, useful = map(float, row.split()[-6:-4])
        assert 0 < useful < total


@pytest.mark.slow
def test_start(monkeypatch, capsys):
    rows = run(monkeypatch, capsys, "start", "--lines", 16, "--rounds", 1, "--workers", 1)[-2:]
    assert [row.split()[:4] for row in rows] == [["lists", "of", n, "lines"] for n in ("8", "16")]
    assert rows[1].endswith(("ok", "above"))


@pytest.mark.slow
def test_all_runs_the_other_parts_if_one_fails(monkeypatch, capsys, tmp_path):
    parts = {
        "flops": benchmark_targets.PARTS["flops"],
        "wrong": benchmark_targets.Part(("flops", "--x"), False, True),
    }
    monkeypatch.setattr(benchmark_all, "PARTS", parts)
    monkeypatch.setattr(benchmark, "PARTS", parts)
    with pytest.raises(UserError, match=r"wrong: failed.*--parts wrong"):
        run(monkeypatch, capsys, "all", "--out", tmp_path)
    part = performance_page.load_part(tmp_path / "flops.json")
    assert part.command == "flops" and len(part.tables[0].rows) == 6
    assert capsys.readouterr().out.count("1 part in") == 1
    lines = run(monkeypatch, capsys, "all", "--out", tmp_path, "--resume", "--parts", "flops")
    assert "measured before" in lines[0]
