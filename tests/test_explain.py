"""ops/explain.py and tools/explain.py."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from helpers.datasets import make_flow, make_motion
from helpers.launch import call, refused
from helpers.models import pixels, randomize_norms, small_model
from helpers.videos import encode, textured_frames
from PIL import Image
from torch import nn

from lib.measure import interleave
from ops.backbones import BACKBONES
from ops.checkpoints import save_checkpoint
from ops.data.clips import TestDataset
from ops.data.lists import read_list
from ops.data.readers.pyav import PyAVReader
from ops.explain import explain, grad_cam, middle_of_segments, pictures_of
from ops.models import TSN
from ops.report.evidence import overlay
from ops.temporal import MODULES

T = 4
BATCH = 8
NETWORKS = {
    **{module: {"module": module} for module in MODULES},
    "mobilenetv2": {"module": "tsm", "arch": "mobilenetv2"},
    "BNInception": {"module": "tsm", "arch": "BNInception", "shift_place": "block"},
    "flow": {"module": "tsn", "modality": "Flow"},
    "differences": {"module": "tsm", "modality": "RGBDiff"},
    "temporal_pool": {"module": "tsm", "temporal_pool": True},
    "non_local": {"module": "tsm", "non_local": True},
    "identity": {"module": "tsm", "consensus": "identity"},
}
BOTTLENECKS = {
    "tdn-50": {"module": "tdn", "arch": "resnet50"},
    "tin-x50": {"module": "tin", "arch": "resnext50_32x4d"},
}


def network(**options):
    """A small network whose scores differ much between classes."""
    model = randomize_norms(small_model(**options))
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        model.head.weight.normal_(0, 0.1, generator=generator)
    return model


def clip_of(model, size=48):
    return pixels(model, 1, size)[0]


def by_definition(model, clip, label, receiver):
    """Section 3 of the paper for the map that a module receives, by plain autograd."""
    kept = []
    handle = receiver.register_forward_pre_hook(lambda _, inputs: kept.append(inputs[0]))
    scores = model(clip[None])[0]
    handle.remove()
    if scores.dim() == 2:
        scores = scores.mean(0)
    (gradients,) = torch.autograd.grad(scores[label], kept[0])
    cells = (gradients.mean((2, 3), keepdim=True) * kept[0]).sum(1).relu()
    return (cells / cells.max().clamp_min(1e-12)).detach()


def check_grad_cam(model):
    """The maps of the default stage and of the last one are those of the definition."""
    clip = clip_of(model)
    label = int(model(clip[None])[0].reshape(-1, 5).mean(0).argmax())
    found = grad_cam(model, clip, label)
    assert found.cells.shape[0] == model.scored_segments
    assert found.cells.max() == 1 and found.cells.min() >= 0
    receivers = [stage[0] for stage in model.backbone.stages()[1:]]
    expected = by_definition(model, clip, label, receivers[found.stage - 1])
    torch.testing.assert_close(found.cells, expected, rtol=1e-4, atol=1e-5)
    # Of the last map no gradient is computed: CAM.
    last = grad_cam(model, clip, label, len(receivers) + 1)
    expected = by_definition(model, clip, label, model.backbone.avgpool)
    torch.testing.assert_close(last.cells, expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(found.logits, last.logits)
    assert explain(model, clip, label).shape == (model.scored_segments, 48, 48)
    assert pictures_of(model, clip).shape == (model.scored_segments, 48, 48, 3)


@pytest.mark.parametrize("name", NETWORKS)
def test_maps_are_grad_cam_of_every_network(name):
    check_grad_cam(network(**NETWORKS[name]))


@pytest.mark.slow
@pytest.mark.parametrize("name", BOTTLENECKS)
def test_maps_are_grad_cam_with_bottlenecks(name):
    check_grad_cam(network(**BOTTLENECKS[name]))


def test_every_backbone_has_what_explain_needs():
    for arch in BACKBONES:
        with torch.device("meta"):
            backbone = TSN(3, 2, arch=arch).backbone
        assert isinstance(backbone.avgpool, nn.AdaptiveAvgPool2d)
        assert len(backbone.stages()) > 1


@pytest.mark.parametrize(
    ("size", "stage", "cells"), [(16, 1, 4), (48, 2, 6), (96, 3, 6), (192, 4, 6)]
)
def test_the_default_map_is_the_last_with_six_cells(size, stage, cells):
    model = network(module="tsn", num_segments=1)
    found = grad_cam(model, clip_of(model, size), 0)
    assert (found.stage, found.cells.shape) == (stage, (1, cells, cells))


def test_maps_change_with_the_class():
    model = network(module="tdn")
    clip = clip_of(model)
    maps = torch.stack([explain(model, clip, label).flatten() for label in range(5)])
    similar = torch.corrcoef(maps)
    assert similar.fill_diagonal_(0).max() < 0.9


@pytest.mark.parametrize("size", [48, 192])
def test_a_constant_clip_has_a_flat_map(size):
    model = network(module="tsn")
    for layer in model.modules():
        if isinstance(layer, nn.Conv2d):
            layer.padding_mode = (
                "replicate"  # zeros at the border would be a structure of their own
            )
    clip = torch.full((T, 3, size, size), 90, dtype=torch.uint8)
    label = int(model(clip[None]).argmax())
    maps = explain(model, clip, label)
    torch.testing.assert_close(maps, torch.ones_like(maps), rtol=0, atol=1e-3)
    assert grad_cam(model, clip, label).shares.tolist() == pytest.approx([1 / T] * T, abs=1e-4)


def test_a_frame_without_evidence_stays_dark():
    model = network(module="tsn")
    clip = clip_of(model)
    found = grad_cam(model, clip)
    assert found.label == int(found.logits.argmax())
    # Normalized over the clip: only one frame reaches 1.
    assert (found.cells.amax((1, 2)) == 1).sum() == 1
    assert found.shares.sum().item() == pytest.approx(1)


def test_no_evidence_gives_zeros():
    model = network(module="tsn")
    with torch.no_grad():
        model.head.weight[3] = -1  # features are not negative
    found = grad_cam(model, clip_of(model, 192), 3)
    assert not found.cells.any() and not found.shares.any()
    assert not found.maps(10, 10).any()


@pytest.mark.parametrize("size", [48, 192])
def test_the_model_stays_as_it_was(size):
    model = network(module="tdn")
    clip = clip_of(model, size)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    with torch.inference_mode():
        in_inference = explain(model, clip, 1)
        assert not torch.is_grad_enabled()
    assert torch.is_grad_enabled()
    torch.testing.assert_close(in_inference, explain(model, clip, 1))
    assert not in_inference.requires_grad
    for parameter in model.parameters():
        assert parameter.grad is None and parameter.requires_grad
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    with torch.no_grad():
        assert not model(clip[None]).requires_grad  # a hook that is left would record


def test_pictures_are_the_middle_frames():
    model = network(module="tdn")
    clip = clip_of(model)
    assert torch.equal(pictures_of(model, clip), clip[:, 6:9].permute(0, 2, 3, 1))
    numbers = np.arange(T * 5).reshape(T, 5)
    assert middle_of_segments(model, numbers).tolist() == [2, 7, 12, 17]
    pooled = network(module="tsm", temporal_pool=True)
    assert torch.equal(pictures_of(pooled, clip[:, :3]), clip[::2, :3].permute(0, 2, 3, 1))


def test_flow_is_drawn_as_the_amount_of_motion():
    model = network(module="tsn", modality="Flow")
    clip = torch.full((T, 10, 8, 8), 128, dtype=torch.uint8)
    clip[1, 4:6, 0, 0] = 100
    pictures = pictures_of(model, clip)
    assert pictures[1, 0, 0].tolist() == [255] * 3
    assert pictures.sum() == 3 * 255


@pytest.mark.parametrize(
    ("changes", "part"),
    [
        ({"label": 5}, "5 classes"),
        ({"stage": 5}, "1 to 4"),
        ({"clip": torch.zeros(3, 3, 48, 48)}, r"\[4, 3, H, W\]"),
    ],
)
def test_invalid_arguments_raise(changes, part):
    model = network(module="tsn")
    arguments = {"clip": clip_of(model), "label": 0, "stage": None, **changes}
    with pytest.raises(ValueError, match=part):
        explain(model, **arguments)
    with pytest.raises(ValueError, match="eval mode"):
        explain(model.train(), clip_of(model), 0)


def test_evidence_is_drawn_in_color_over_gray():
    pictures = np.full((1, 2, 2, 3), (200, 100, 50), np.uint8)
    maps = np.array([[[0, 0.5], [0.9, 1]]], np.float32)
    drawn = overlay(pictures, maps)
    assert drawn.shape == pictures.shape and drawn.dtype == np.uint8
    assert len(set(drawn[0, 0, 0].tolist())) == 1  # gray where there is no evidence
    brightness = drawn.reshape(4, 3).astype(int) @ [299, 587, 114]
    assert brightness.tolist() == sorted(brightness.tolist())
    assert np.ptp(drawn[0, 1, 1].astype(int)) > 80


@pytest.mark.slow
@pytest.mark.parametrize(("size", "limit"), [(224, 1.2), (96, 1.5)])
def test_an_explanation_costs_at_most_half_a_prediction_more(size, limit):
    model = small_model("tdn").to_channels_last()
    clip = clip_of(model, size)

    def predict(_):
        with torch.inference_mode():
            model(clip[None])

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    times = interleave({"predict": predict, "explain": lambda _: explain(model, clip, 0)}, 7)
    torch.set_num_threads(threads)
    assert times["explain"] < limit * times["predict"]


@pytest.mark.slow
def test_masking_the_evidence_lowers_the_score(tmp_path):
    """More than masking another quarter of the clip of the same shape: means over 32 videos."""
    clips, labels = motion_clips(tmp_path, videos=32)
    model = fitted(small_model("tdn", num_class=8, input_size=32, dropout=0.0), clips, labels)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        scores = model(clips)
    assert (scores.argmax(1) == labels).float().mean() > 0.9
    lost_by_evidence, lost_by_chance = [], []
    for clip, score, label in zip(clips, scores, labels.tolist(), strict=True):
        maps = explain(model, clip, label)
        masks = [maps > maps.quantile(0.75)]
        for _ in range(4):
            shifts = [int(torch.randint(1, n, (), generator=generator)) for n in maps.shape]
            masks.append(masks[0].roll(shifts, (0, 1, 2)))
        evidence, *elsewhere = (score - scores_without(model, clip, masks))[:, label]
        lost_by_evidence.append(evidence)
        lost_by_chance += elsewhere
    assert torch.stack(lost_by_evidence).mean() > 1.1 * torch.stack(lost_by_chance).mean() > 0


def motion_clips(folder, videos):
    """Clips uint8 ``[videos, 4, 15, 32, 32]`` of the motion dataset, and their labels."""
    make_motion(folder, videos=videos)
    listed = read_list(str(folder / "train.txt"), root_path=str(folder), num_class=8)
    dataset = TestDataset(
        listed,
        num_segments=T,
        frames_per_segment=5,
        image_tmpl="",
        scale_size=32,
        crop_size=32,
    )
    items = [dataset[0, index] for index in range(videos)]
    clips = [dataset.transform.crops(item.frames, item.picks[0])[0] for item in items]
    return torch.stack(clips), torch.tensor(listed.labels)


def fitted(model, clips, labels, epochs=12, rate=1e-3):
    """The model after it was trained on some clips."""
    optimizer = torch.optim.Adam(model.train().to_channels_last().parameters(), fused=True)
    steps = epochs * len(clips) // BATCH
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, steps)
    generator = torch.Generator().manual_seed(0)
    for _ in range(epochs):
        for batch in torch.randperm(len(clips), generator=generator).split(BATCH):
            loss = F.cross_entropy(model(clips[batch]), labels[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    return model.eval()


def scores_without(model, clip, masks):
    """Scores ``[masks, classes]`` of a clip, gray where each of the masks ``[T, H, W]`` is true."""
    with torch.no_grad():
        return model(torch.stack([clip.masked_fill(mask[:, None], 128) for mask in masks]))


# tools/explain.py


NAMES = ["Moving up", "Moving down", "Zooming in", "Zooming out", "Standing"]


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "tdn.pth"
    save_checkpoint(path, network(module="tdn", input_size=48), class_names=NAMES)
    return path


@pytest.fixture(scope="module")
def video(tmp_path_factory):
    return encode(tmp_path_factory.mktemp("videos") / "clip.mp4", textured_frames(30))


def test_a_sheet_is_written(weights, video, tmp_path, capsys):
    out = tmp_path / "cam.png"
    assert call("explain", video, "--weights", weights, "--out", out) == 0
    printed = capsys.readouterr().out
    assert any(name in printed for name in NAMES)
    assert str(out) in printed
    shares = [float(line.split()[0]) for line in printed.splitlines() if "%  frame" in line]
    assert len(shares) == T and sum(shares) == pytest.approx(100, abs=0.5)
    with Image.open(out) as sheet:
        assert sheet.width > 4 * 200
        colors = np.asarray(sheet.convert("RGB"))
    assert np.ptp(colors, axis=2).max() > 100  # it has the colors of evidence


def test_an_animation_has_the_frames_of_the_video(weights, video, tmp_path, capsys):
    out = tmp_path / "cam.mp4"
    assert call("explain", video, "--weights", weights, "--class", "zooming IN", "--out", out) == 0
    assert "Zooming in" in capsys.readouterr().out
    with PyAVReader(out) as reader:
        assert len(reader) == 30
        first, last = reader.get([0, 29]).astype(int)
    assert np.abs(first - last).max() > 100


def test_a_class_is_given_by_name_or_label(weights, video, tmp_path, capsys):
    out = tmp_path / "cam.png"
    for wanted in ("Zooming out", "3"):
        assert call("explain", video, "--weights", weights, "--class", wanted, "--out", out) == 0
        assert "Zooming out" in capsys.readouterr().out
    line = refused(capsys, "explain", video, "--weights", weights, "--class", "Moving upp")
    assert "--class" in line and "'Moving up'" in line
    line = refused(capsys, "explain", video, "--weights", weights, "--class", "17")
    assert "0 to 4" in line


def test_bad_input_is_one_line(weights, video, tmp_path, capsys):
    line = refused(capsys, "explain", tmp_path / "none.mp4", "--weights", weights)
    assert "none.mp4" in line
    line = refused(capsys, "explain", video, "--weights", weights, "--out", "cam.gif")
    assert "--out cam.gif" in line and ".png" in line
    line = refused(capsys, "explain", video, "--weights", weights, "--stage", "9")
    assert "--stage 9" in line and "1 to 4" in line
    out = tmp_path / "no" / "cam.mp4"
    assert "--out" in refused(capsys, "explain", video, "--weights", weights, "--out", out)


def test_the_best_of_several_clips_is_explained(video, tmp_path, capsys):
    path = tmp_path / "tam.pth"
    model = network(module="tsm", input_size=48)
    save_checkpoint(path, model, class_names=NAMES, recipe={"sampling": "dense"})
    out = tmp_path / "cam.png"
    assert call("explain", video, "--weights", path, "--out", out) == 0
    assert "of 10" in capsys.readouterr().out


def test_flow_is_explained(tmp_path, capsys):
    make_flow(tmp_path, [("v", 0)])
    path = tmp_path / "flow.pth"
    save_checkpoint(path, network(module="tsn", modality="Flow", input_size=32))
    for name in ("cam.png", "cam.mp4"):
        assert call("explain", tmp_path / "v", "--weights", path, "--out", tmp_path / name) == 0
    assert "label " in capsys.readouterr().out
