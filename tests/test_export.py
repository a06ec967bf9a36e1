"""Exported networks: their files, onnxruntime, tools/export.py, and predictions with them."""

import dataclasses
import json
import sys

import numpy as np
import pytest
import torch
from helpers.datasets import make_root
from helpers.launch import call, refused
from helpers.models import pixels, randomize_norms, small_model

from lib.exporting.export_check import thinned
from ops.backbones.mobilenet_v2 import MobileNetV2
from ops.checkpoints import save_checkpoint
from ops.data.lists import VideoList
from ops.export import Description, check_parity, export_onnx, export_torch, load_exported, quantize
from ops.export.graph import prepare
from ops.export.network import run_steps
from ops.export.parity import LIMITS, Parity, moving_batches, noise_batches, video_batches
from ops.models import TSN
from ops.predict import Predictor
from ops.streaming import StreamingTSN
from ops.utils.errors import UserError

pytest.importorskip("onnxruntime", reason="tools/requirements.txt is not installed")
onnx = pytest.importorskip("onnx", reason="tools/requirements.txt is not installed")

SIZE = 32
NAMES = ["running", "jumping", "Größe", "don't know", 'a "quoted" class']


def network(module="tsn", **options):
    """A small network whose scores differ between clips and classes."""
    model = randomize_norms(small_model(module, input_size=SIZE, **options))
    torch.nn.init.normal_(model.head.weight)
    return model


def shallow(module, **options):
    """A network with few blocks per stage, whose export takes half as long."""
    model = network(module, **options)
    backbone = model.backbone
    if isinstance(backbone, MobileNetV2):
        repeated = {block for stage in backbone.stages() for block in stage[1:]}
        kept = [block for block in backbone.features if block not in repeated]
        backbone.features = torch.nn.Sequential(*kept)
        return model
    for name in ("layer1", "layer2", "layer3", "layer4"):
        setattr(backbone, name, getattr(backbone, name)[:1])
    return model


def describe(model, kind="clip", precision="fp32", **changes):
    names = {"class_names": NAMES, **changes}
    return Description.of(model, kind=kind, precision=precision, **names)


def clip_shape(model):
    return (model.num_segments, model.frame_channels, SIZE, SIZE)


def saved_onnx(folder, model, kind="clip", precision="fp32", **options):
    """The path of an ONNX file of a network."""
    prepared = prepare(model, precision, fuse_bn=False)
    if kind == "step":
        prepared = StreamingTSN(prepared)
    path = folder / f"{kind}_{precision}.onnx"
    export_onnx(prepared, path, describe(model, kind, precision), **options)
    return path


def assert_same(model, exported, precision="fp32"):
    parity = check_parity(model, exported, noise_batches(clip_shape(model)), precision)
    assert parity.clips == 11
    assert parity.is_good, str(parity)


@pytest.fixture(scope="module")
def online(tmp_path_factory):
    """A causal TSM, its ONNX file of single frames, and the file's network."""
    model = shallow("tsm", shift_direction="past")
    path = saved_onnx(tmp_path_factory.mktemp("online"), model, "step")
    return model, path, load_exported(path)


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    """A folder with videos, a list, a checkpoint, and the ONNX file that the command wrote."""
    folder = tmp_path_factory.mktemp("work")
    (folder / "videos").mkdir()
    make_root(folder / "videos")
    (folder / "folder.onnx").mkdir()
    (folder / "list.txt").write_text("".join(f"v{i}.mp4 {i}\n" for i in range(5)))
    save_checkpoint(folder / "best.pth", network(), class_names=NAMES)
    status = run_export(folder, "--check", folder / "list.txt", "--root_path", folder / "videos")
    assert status == 0
    return folder


def run_export(folder, *flags, out="best.onnx"):
    return call("export", "--weights", folder / "best.pth", "--out", folder / out, *flags)


# Files and their networks


def test_a_step_from_a_file_is_the_step_of_the_network(online):
    model, _, step = online
    stream = StreamingTSN(model)
    parity = check_parity(
        lambda clip: run_steps(stream, clip),
        lambda clip: run_steps(step, clip),
        noise_batches(clip_shape(model)),
    )
    assert parity.clips == 11 * model.num_segments
    assert parity.is_good, str(parity)
    frame = pixels(model, 3)[:, 0]
    expected = stream.initial_state(frame)
    assert [part.shape for part in step.initial_state(frame)] == [part.shape for part in expected]
    assert_same(model, step.as_clip())


def test_state_matters_and_arrays_give_arrays(online):
    model, _, step = online
    frames = pixels(model, 2).numpy()
    scores, state = step(frames[:, 0])
    assert isinstance(scores, np.ndarray) and scores.dtype == np.float32
    following, _ = step(frames[:, 1], state)
    fresh, _ = step(frames[:, 1])
    assert not np.allclose(following, fresh)
    as_tensors, _ = step(torch.from_numpy(frames[:, 1]), tuple(map(torch.from_numpy, state)))
    assert torch.equal(as_tensors, torch.from_numpy(following))


def test_inputs_of_another_shape_or_type_are_refused(online):
    model, _, step = online
    clip = pixels(model, 1)
    with pytest.raises(ValueError, match="uint8"):
        step(clip[:, 0].float())
    with pytest.raises(ValueError, match=r"\[B, 3, 32, 32\]"):
        step(clip[:, 0, :, :16])
    with pytest.raises(ValueError, match="state"):
        step(clip[:, 0], step.initial_state(clip[:, 0])[:1])
    scores = step.as_clip()(clip)
    assert torch.equal(step.as_clip()(clip.flatten(1, 2)), scores)
    with pytest.raises(UserError, match="features"):
        step.features(clip)


def test_int8_quantizes_and_stays_close(online, tmp_path):
    model, path, _ = online
    clips = [batch.numpy() for batch in moving_batches(clip_shape(model))]
    out = tmp_path / "int8.onnx"
    quantize(path, out, clips, describe(model, "step", "int8"))
    assert out.stat().st_size < 0.35 * path.stat().st_size
    step = load_exported(out)
    assert step.description.precision == "int8"
    stream = StreamingTSN(model)
    for clip in moving_batches(clip_shape(model)):
        expected = run_steps(stream, clip)
        found = run_steps(step, clip)
        assert 0 < (found - expected).abs().max() < 0.2 * expected.abs().max()


def test_metadata_survive_and_are_plain_for_other_languages(online):
    model, path, step = online
    description = describe(model, "step")
    assert step.description == description
    assert step.class_names == NAMES
    metadata = {entry.key: entry.value for entry in onnx.load(path).metadata_props}
    assert json.loads(metadata["class_names"]) == NAMES
    assert (metadata["kind"], metadata["num_segments"], metadata["sampling"]) == (
        "step",
        "4",
        "center",
    )


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"version": "2"}, "version"),
        ({"kind": "video"}, "kind"),
        ({"crops": "0"}, "crops"),
        ({"sampling": "best"}, "sampling"),
        ({"class_names": '["one"]'}, "5"),
        ({"num_class": "[" * 100_000}, "num_class"),
        ({"model": "{}"}, "model"),
        ({"model": '{"module": "tsm", "num_segments": 8}'}, "model"),
        ({"model": '{"module": ["tsm"]}'}, "model"),
        ({"average": None}, "average"),
    ],
)
def test_damaged_metadata_are_refused(changes, message):
    texts = describe(network()).to_texts()
    for key, value in changes.items():
        texts.pop(key)
        if value is not None:
            texts[key] = value
    with pytest.raises(UserError, match=message) as error:
        Description.from_texts(texts, "x.onnx")
    assert str(error.value).startswith("x.onnx: ")


def test_files_that_are_no_exported_networks_are_refused(online, tmp_path):
    _, path, _ = online
    with pytest.raises(UserError, match=r"no_such\.onnx"):
        load_exported(tmp_path / "no_such.onnx")
    damaged = tmp_path / "damaged.onnx"
    damaged.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(UserError, match=r"damaged.onnx: onnxruntime") as error:
        load_exported(damaged)
    assert "\n" not in str(error.value)
    graph = onnx.load(path)
    texts = {entry.key: entry.value for entry in graph.metadata_props}
    for name, changes in {
        "foreign.onnx": None,
        "other_size.onnx": {"input_size": "64"},
        "other_kind.onnx": {"kind": "clip"},
        "other_classes.onnx": {"num_class": "7", "class_names": "null"},
    }.items():
        del graph.metadata_props[:]
        if changes is not None:
            onnx.helper.set_model_props(graph, {**texts, **changes})
        onnx.save(graph, tmp_path / name)
        with pytest.raises(UserError, match=name):
            load_exported(tmp_path / name)


def test_opsets_and_sizes_that_do_not_exist_are_refused(tmp_path):
    model = network()
    for opset in (17, 99):
        with pytest.raises(UserError, match=f"--opset {opset}"):
            export_onnx(model, tmp_path / "x.onnx", describe(model), opset)
    with torch.device("meta"):
        large = TSN(1_000_000, 8, arch="resnet18")
    with pytest.raises(UserError, match="2 GB"):
        export_onnx(large, tmp_path / "x.onnx", describe(large))
    assert list(tmp_path.iterdir()) == []


def test_a_network_that_branches_on_values_is_refused_in_one_line(tmp_path):
    class Branch(torch.nn.Module):
        def forward(self, x):
            if x.max() > 0:
                return x
            return 2 * x

    model = network()
    model.backbone.layer1[0].before_conv1 = Branch()
    with pytest.raises(UserError, match=r"tsn resnet18.* cannot be exported") as error:
        export_torch(model, tmp_path / "x.pt2", describe(model))
    assert "\n" not in str(error.value)


def test_without_onnxruntime_there_is_one_line(online, monkeypatch):
    _, path, _ = online
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(UserError, match="pip install onnxruntime"):
        load_exported(path)


def test_without_a_package_the_command_prints_one_line(work, capsys, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    arguments = ("--weights", work / "best.pth", "--out", work / "x.onnx")
    assert "pip install -r tools/requirements.txt" in refused(capsys, "export", *arguments)


@pytest.mark.parametrize("labels", [list(range(10)), [(number, 10) for number in range(10)]])
def test_long_lists_are_thinned_evenly(labels):
    videos = VideoList("l.txt", "root", list("abcdefghij"), [-1, 7] * 5, labels, range(1, 11), 11)
    thin = thinned(videos, 4)
    assert [record.id for record in thin] == ["a", "c", "f", "h"]
    assert list(thin) == [videos[number] for number in (0, 2, 5, 7)]
    assert thinned(videos, 10) is videos


def test_parity_counts_differences_and_changed_classes():
    parity = Parity("fp32")
    parity.add(torch.tensor([[1.0, 2.0], [4.0, 3.0]]), torch.tensor([[1.0, 2.0], [2.0, 3.0]]))
    assert parity.difference == 2 / 4
    assert (parity.same, parity.clips, parity.agreement, parity.is_good) == (1, 2, 0.5, False)
    exact = Parity("fp32")
    exact.add(torch.ones(2, 3), torch.ones(2, 3))
    assert exact.is_good
    exact.add(torch.ones(2, 3), torch.full((2, 3), float("nan")))
    assert exact.difference == float("inf") and not exact.is_good
    with pytest.raises(UserError, match="scores"):
        exact.add(torch.ones(2, 3), torch.ones(1, 3))


@pytest.mark.parametrize(
    "batches",
    [noise_batches, moving_batches, lambda shape: video_batches(next(noise_batches(shape)))],
)
def test_checked_batches_have_different_clips(batches):
    found = list(batches((4, 3, 40, 40)))
    assert [batch.shape for batch in found] == [(size, 4, 3, 40, 40) for size in (1, 2, 3, 5)]
    largest = found[-1].flatten(1)
    assert len({tuple(clip.tolist()) for clip in largest}) == 5
    assert all(batch.dtype == torch.uint8 for batch in found)


# The command


def test_predictions_of_the_file_are_those_of_the_checkpoint(work, tmp_path):
    rows = {}
    for weights in ("best.pth", "best.onnx"):
        out = tmp_path / f"{weights}.jsonl"
        videos = [work / "videos" / "v0.mp4", work / "videos" / "frames"]
        flags = ["--weights", work / weights, "--json", out, "--crops", 3, "-j", 0]
        assert call("predict", *videos, *flags, "--device", "cpu") == 0
        rows[weights] = [json.loads(line) for line in out.read_text().splitlines()]
    for expected, found in zip(rows["best.pth"], rows["best.onnx"], strict=True):
        assert found["error"] is None
        assert found["protocol"] == expected["protocol"]
        assert [one["name"] for one in found["top"]] == [one["name"] for one in expected["top"]]
        np.testing.assert_allclose(found["logits"], expected["logits"], rtol=1e-4, atol=1e-4)


def test_timelines_run_from_the_file(work):
    video = work / "videos" / "v5.mp4"
    expected, found = (
        [window.logits for window in Predictor(work / name, "cpu").windows(video, 0.4, 0.2)]
        for name in ("best.pth", "best.onnx")
    )
    assert len(found) > 1
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


def test_views_are_the_clips_of_the_network(work):
    predictor = Predictor(work / "best.pth", "cpu", clips=2, crops=3, sampling="uniform")
    views = predictor.views(work / "videos" / "v0.mp4")
    assert views.dtype == torch.uint8 and views.shape == (6, 4, 3, SIZE, SIZE)
    with torch.inference_mode():
        scores = torch.cat([predictor.model(view[None]) for view in views])
    torch.testing.assert_close(
        scores.numpy(), predictor(work / "videos" / "v0.mp4").views, rtol=1e-5, atol=1e-5
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"amp": "bf16"}, "--amp"),
        ({"fuse_bn": True}, "--fuse_bn"),
        ({"num_segments": 8}, "--num_segments"),
        ({"module": "tsm"}, "--module"),
        ({"crop_size": 28}, "--input_size 28"),
        ({"full_res": True}, "--input_size 36"),
        ({"device": "cuda"}, "--device cuda"),
        ({"class_names": ["one"]}, "1 class name"),
    ],
)
def test_what_the_file_has_fixed_cannot_be_changed(work, options, message):
    with pytest.raises(UserError, match=message):
        Predictor(work / "best.onnx", **options)


@pytest.mark.slow
def test_list_shows_both_accuracies(work, capsys):
    flags = ("--check", work / "list.txt", "--root_path", work / "videos")
    assert run_export(work, "--to", "torch", *flags, out="best.pt2") == 0
    lines = capsys.readouterr().out.splitlines()
    accuracies = [line.partition(":")[2].strip() for line in lines if "Prec@1" in line]
    assert len(accuracies) == 2 and accuracies[0] == accuracies[1]
    graph = torch.export.load(work / "best.pt2").module()
    clip = noise_clip()
    torch.testing.assert_close(
        graph(clip), load_exported(work / "best.onnx")(clip), rtol=1e-4, atol=1e-4
    )
    with pytest.raises(UserError, match=r"best.pt2.*torch.export.load"):
        Predictor(work / "best.pt2")


def noise_clip():
    *_, largest = noise_batches((4, 3, SIZE, SIZE))
    return largest


def test_a_file_with_other_scores_is_not_written(work, capsys, monkeypatch):
    def wrong(model, precision, fuse_bn):
        copy = prepare(model, precision, fuse_bn)
        copy.head.bias.data[0] += 0.1 * copy.head.weight.abs().max()
        return copy

    monkeypatch.setattr("lib.exporting.export_command.prepare", wrong)
    (work / "wrong.pt2").write_text("the file of an earlier export")
    arguments = ("--weights", work / "best.pth", "--to", "torch", "--out", work / "wrong.pt2")
    line = refused(capsys, "export", *arguments)
    assert "wrong.pt2" in line and "not written" in line
    assert (work / "wrong.pt2").read_text() == "the file of an earlier export"


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--out", "x.pth"], ".onnx"),
        (["--to", "torch", "--out", "x.onnx"], ".pt2"),
        (["--out", "no_such_folder/x.onnx"], "no_such_folder"),
        (["--out", "folder.onnx"], "folder.onnx"),
        (["--fp16", "--int8", "list.txt"], "--fp16 and --int8"),
        (["--to", "torch", "--out", "x.pt2", "--int8", "list.txt"], "--int8"),
        (["--to", "torch", "--out", "x.pt2", "--opset", "20"], "--opset"),
        (["--opset", "17"], "--opset 17"),
        (["--force"], "--int8 LIST"),
        (["--root_path", "videos"], "--check"),
        (["--weights", "best.onnx"], "exported already"),
        (["--int8", "no_such_list.txt"], "no_such_list.txt"),
        (["--check", "no_such_list.txt"], "no_such_list.txt"),
        (["--check", "list.txt"], "correct the list or --root_path"),
        (["--check", "no_such_video.mp4"], "no_such_video.mp4"),
        (["--input_size", "16", "--weights", "best.pth", "--opset", "99"], "--opset 99"),
    ],
)
def test_invalid_flags_are_refused(work, capsys, monkeypatch, flags, words):
    monkeypatch.chdir(work)
    before = sorted(work.iterdir())
    given = {"--weights": "best.pth", "--out": "x.onnx"}
    defaults = [
        text for flag, value in given.items() if flag not in flags for text in (flag, value)
    ]
    assert words in refused(capsys, "export", *defaults, *flags)
    assert sorted(work.iterdir()) == before


def test_a_network_that_sees_later_frames_is_not_streamed(tmp_path, capsys):
    save_checkpoint(tmp_path / "both.pth", network("tsm"))
    arguments = ("--weights", tmp_path / "both.pth", "--stream", "--out", tmp_path / "x.onnx")
    assert "--shift_direction" in refused(capsys, "export", *arguments)
    assert not (tmp_path / "x.onnx").exists()


@pytest.mark.parametrize("flag", ["--to", "--int8"])
def test_flags_without_a_value_are_refused(capsys, flag):
    assert call("export", "--weights", "x.pth", "--out", "x.onnx", flag) == 2
    assert flag in capsys.readouterr().err


# Every module and backbone, in every precision


@pytest.mark.slow
@pytest.mark.parametrize(
    ("module", "options"),
    [
        ("tsm", {"non_local": True, "temporal_pool": True, "shift_place": "block"}),
        ("tsm", {"arch": "mobilenetv2"}),
        ("tam", {}),
        ("tin", {}),
        ("tdn", {}),
    ],
)
def test_every_module_takes_any_batch(tmp_path, module, options):
    model = shallow(module, **options)
    assert_same(model, load_exported(saved_onnx(tmp_path, model)))


@pytest.mark.slow
def test_bn_inception_of_differences_takes_any_batch(tmp_path):
    model = network("tsn", arch="BNInception", modality="RGBDiff")
    assert_same(model, load_exported(saved_onnx(tmp_path, model)))


@pytest.mark.slow
def test_torch_export_of_folded_half_precision(tmp_path):
    model = shallow("tdn")
    export_torch(prepare(model, "fp16", fuse_bn=True), tmp_path / "x.pt2", describe(model))
    assert_same(model, torch.export.load(tmp_path / "x.pt2").module(), "fp16")


@pytest.mark.slow
def test_half_precision_takes_uint8_and_gives_float32(tmp_path):
    model = shallow("tsm", shift_direction="past")
    path = saved_onnx(tmp_path, model, "step", "fp16", opset=18)
    step = load_exported(path)
    assert_same(model, step.as_clip(), "fp16")
    inputs = {node.name: node.type for node in step.session.get_inputs()}
    assert inputs["frame"] == "tensor(uint8)" and inputs["state_0"] == "tensor(float)"
    assert step.session.get_outputs()[0].type == "tensor(float)"
    assert path.stat().st_size < 0.6 * 4 * sum(value.numel() for value in model.parameters())


@pytest.mark.slow
def test_int8_of_the_command_prints_accuracies_and_can_be_forced(work, capsys, monkeypatch):
    monkeypatch.setitem(LIMITS, "int8", 1e-9)  # no int8 file is as close
    flags = ("--int8", work / "list.txt", "--root_path", work / "videos", "--force")
    assert run_export(work, *flags, out="int8.onnx") == 0
    printed = capsys.readouterr().out
    assert printed.count("Prec@1") == 2 and "--force" in printed
    assert load_exported(work / "int8.onnx").description.precision == "int8"


def test_descriptions_are_plain_values():
    description = describe(network(), class_names=None, clips=2)
    assert Description.from_texts(description.to_texts(), "x") == description
    assert (
        dataclasses.replace(description, modality="Flow", frames_per_segment=5).frame_channels == 10
    )
