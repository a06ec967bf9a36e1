from pathlib import Path
from urllib.error import URLError

import pytest
import torch
import torchvision
from helpers.datasets import make_motion
from helpers.launch import call

from ops.backbones import BACKBONES, build_backbone, pretrained
from ops.checkpoints import load_model
from ops.models import TSN
from ops.utils.errors import UserError

FOLDER = pretrained.FOLDER
FILES = {
    "resnet18": "resnet18-f37072fd.pth",
    "resnet34": "resnet34-b627a593.pth",
    "resnet50": "resnet50-0676ba61.pth",
    "resnet101": "resnet101-63fe2227.pth",
    "resnet152": "resnet152-394f9c45.pth",
    "resnext50_32x4d": "resnext50_32x4d-7cdf4587.pth",
    "resnext101_32x8d": "resnext101_32x8d-8ba56ff5.pth",
    "resnext101_64x4d": "resnext101_64x4d-173b62eb.pth",
    "wide_resnet50_2": "wide_resnet50_2-95faca4d.pth",
    "wide_resnet101_2": "wide_resnet101_2-32ee1156.pth",
    "mobilenetv2": "mobilenet_v2-b0353104.pth",
}


@pytest.fixture(autouse=True)
def offline(tmp_path, monkeypatch):
    """An empty pretrained folder and cache, no network; returns the list of requested addresses."""
    asked = []

    def refuse(url, *args, **kwargs):
        asked.append(url)
        raise URLError("Name or service not known")

    (tmp_path / "pretrained").mkdir()
    monkeypatch.setattr(pretrained, "FOLDER", tmp_path / "pretrained")
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))
    monkeypatch.setattr(torch.hub, "download_url_to_file", refuse)
    return asked


def imagenet(arch="resnet18", seed=5):
    torch.manual_seed(seed)
    state = torchvision.models.get_model(arch).state_dict()
    for key, value in state.items():
        if "running" in key:
            value.uniform_(0.5, 1.5)
    return state


def assert_backbone_is(model, state):
    backbone = model.backbone.state_dict()
    for key, value in state.items():
        if not key.startswith("fc."):
            assert torch.equal(backbone[key], value), key
    assert model.head.weight.shape[0] == model.num_class and model.head.weight.abs().max() < 0.01


def test_the_folder_is_the_projects():
    assert Path(__file__).resolve().parents[1] / "pretrained" == FOLDER


@pytest.mark.parametrize("arch", FILES)
def test_file_names_are_torchvisions(offline, arch):
    """Without a network the message says which file goes where."""
    with pytest.raises(UserError) as error, torch.device("meta"):
        TSN(3, arch=arch, pretrain="imagenet")
    message = str(error.value)
    assert "\n" not in message and "--pretrain imagenet" in message and "--pretrain none" in message
    assert f"{FILES[arch]} could not be downloaded" in message
    assert f"https://download.pytorch.org/models/{FILES[arch]}" in message
    assert f"{pretrained.FOLDER}/" in message and "Name or service not known" in message
    assert f"{torch.hub.get_dir()}/checkpoints/" in message
    assert offline == [f"https://download.pytorch.org/models/{FILES[arch]}"]


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("module", ["tsn", "tdn"])
def test_a_file_in_the_folder_is_used(offline, module, legacy):
    state = imagenet()
    if legacy:  # as torchvision's older files: no counters either
        state = {
            key: value for key, value in state.items() if not key.endswith("num_batches_tracked")
        }
    torch.save(
        state, pretrained.FOLDER / FILES["resnet18"], _use_new_zipfile_serialization=not legacy
    )
    model = TSN(3, arch="resnet18", module=module, pretrain="imagenet")
    assert_backbone_is(model, state)
    assert offline == []


def test_a_file_in_torchs_cache_is_used(tmp_path, offline):
    state = imagenet()
    cache = tmp_path / "hub" / "checkpoints"
    cache.mkdir(parents=True)
    torch.save(state, cache / FILES["resnet18"])
    assert_backbone_is(TSN(3, arch="resnet18", pretrain="imagenet"), state)
    assert offline == []


def test_a_state_dict(offline):
    state = imagenet()
    assert_backbone_is(TSN(3, arch="resnet18", pretrain=state), state)
    assert offline == []


def test_the_difference_stem_takes_over_the_pretrained_weights():
    """As in the original: trunk, second first stage, and the conv of the differences."""
    state = imagenet()
    torch.save(state, pretrained.FOLDER / FILES["resnet18"])
    stem = TSN(3, arch="resnet18", module="tdn", pretrain="imagenet").backbone.stem
    for channel in range(12):
        torch.testing.assert_close(
            stem.conv.weight[:, channel], state["conv1.weight"].mean(1), rtol=1e-6, atol=1e-8
        )
    for key, value in stem.stage.state_dict().items():
        assert torch.equal(value, state[f"layer1.{key}"]), key


@pytest.mark.parametrize(
    ("arch", "other"),
    [
        ("resnet18", "resnet34"),
        ("resnet34", "resnet18"),
        ("resnet18", "resnet50"),
    ],
)
def test_weights_of_another_network(arch, other):
    with pytest.raises(UserError, match=rf"--pretrain: .* {arch} "):
        TSN(3, arch=arch, pretrain=imagenet(other))


def test_incomplete_weights():
    ours = {"head.weight": torch.zeros(3, 512), "backbone.conv1.weight": torch.zeros(64, 3, 7, 7)}
    partial = {key: value for key, value in imagenet().items() if "layer4" not in key}
    for state in (ours, partial):
        with pytest.raises(UserError, match=r"--pretrain: .* resnet18 "):
            TSN(3, arch="resnet18", pretrain=state)


def test_a_broken_download_in_the_folder_is_named():
    path = pretrained.FOLDER / FILES["resnet18"]
    torch.save(imagenet(), path)
    path.write_bytes(path.read_bytes()[:100_000])
    with pytest.raises(UserError, match=rf"{FILES['resnet18']}: not a PyTorch checkpoint"):
        TSN(3, arch="resnet18", pretrain="imagenet")


def test_nothing_is_asked_for_without_pretraining(offline):
    TSN(3, arch="resnet18", module="tdn", pretrain="none")
    assert offline == []


def test_every_backbone_says_where_its_weights_come_from():
    assert set(FILES) == {arch for arch, entry in BACKBONES.items() if entry.torchvision_name}
    with (
        pytest.raises(UserError, match=r"torchvision has no BNInception; .* --pretrain FILE"),
        torch.device("meta"),
    ):
        TSN(3, arch="BNInception", pretrain="imagenet")


def test_mobilenet_weights_of_torchvision(offline):
    torch.manual_seed(2)
    state = torchvision.models.mobilenet_v2().state_dict()
    torch.save(state, pretrained.FOLDER / FILES["mobilenetv2"])
    backbone = TSN(3, arch="mobilenetv2", pretrain="imagenet").backbone.state_dict()
    assert all(
        torch.equal(backbone[key], value)
        for key, value in state.items()
        if not key.startswith("classifier.")
    )


@pytest.mark.parametrize(("modality", "channels"), [("Flow", 10), ("RGBDiff", 15)])
def test_a_network_of_another_modality_starts_from_the_mean_over_rgb(modality, channels):
    """Not rescaled by 3 / channels, as in TSN."""
    state = imagenet()
    torch.save(state, pretrained.FOLDER / FILES["resnet18"])
    model = TSN(3, arch="resnet18", modality=modality, pretrain="imagenet")
    weight = model.backbone.conv1.weight
    assert weight.shape == (64, channels, 7, 7)
    for channel in range(channels):
        torch.testing.assert_close(
            weight[:, channel], state["conv1.weight"].mean(1), rtol=1e-6, atol=1e-8
        )
    # A file that was trained on that modality is taken as it is.
    state["conv1.weight"] = torch.randn(64, channels, 7, 7)
    model = TSN(3, arch="resnet18", modality=modality, pretrain=state)
    assert torch.equal(model.backbone.conv1.weight, state["conv1.weight"])


def test_bninception_files_of_old_torch():
    """BatchNorms of shape [1, C], no counters, and a classifier of 1000."""
    torch.manual_seed(4)
    state = build_backbone("BNInception").state_dict()
    old = {"fc.weight": torch.zeros(1000, 1024), "fc.bias": torch.zeros(1000)}
    for key, value in state.items():
        if "num_batches" not in key:
            old[key] = value[None] if "_bn." in key else value
    backbone = TSN(3, arch="BNInception", pretrain=old).backbone.state_dict()
    assert all(torch.equal(backbone[key], value) for key, value in state.items())


@pytest.mark.slow
def test_main_starts_from_a_file(tmp_path):
    """With a tiny learning rate the weights of the file are those of the checkpoint."""
    data = make_motion(tmp_path / "motion")
    state = imagenet()
    path = tmp_path / "my weights.pth"
    torch.save({"state_dict": {f"module.{key}": value for key, value in state.items()}}, path)
    out = tmp_path / "out"
    flags = ["--module", "tsn", "--arch", "resnet18", "--pretrain", path, "--num_segments", 2]
    flags += ["--input_size", 32, "--batch-size", 4, "-j", 0, "--epochs", 1, "--lr", "1e-30"]
    flags += ["--device", "cpu", "--partial_bn", "--output_dir", out]
    assert call("main", "motion", "RGB", *data, *flags) == 0
    model = load_model(out / "best.pth", quiet=True)
    assert torch.equal(model.backbone.layer4[1].conv2.weight, state["layer4.1.conv2.weight"])
    assert torch.equal(model.backbone.layer1[0].bn1.weight, state["layer1.0.bn1.weight"])
