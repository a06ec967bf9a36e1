from pathlib import Path
from urllib.error import URLError

import pytest
import torch
import torchvision

from ops import pretrained
from ops.backbones import ARCHS
from ops.errors import UserError
from ops.models import TSN

FOLDER = pretrained.FOLDER
FILES = {"resnet18": "resnet18-f37072fd.pth", "resnet34": "resnet34-b627a593.pth", "resnet50": "resnet50-0676ba61.pth",
         "resnet101": "resnet101-63fe2227.pth", "resnet152": "resnet152-394f9c45.pth"}


@pytest.fixture(autouse=True)
def offline(tmp_path, monkeypatch):
    """An empty pretrained folder, an empty cache, and no network. Returns the list of the addresses asked for."""
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


@pytest.mark.parametrize("arch", ARCHS)
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
        state = {key: value for key, value in state.items() if not key.endswith("num_batches_tracked")}
    torch.save(state, pretrained.FOLDER / FILES["resnet18"], _use_new_zipfile_serialization=not legacy)
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


def test_a_path_of_weights(tmp_path, offline):
    state = imagenet()
    path = tmp_path / "my weights.pth"
    torch.save({"state_dict": {f"module.{key}": value for key, value in state.items()}}, path)
    assert_backbone_is(TSN(3, arch="resnet18", pretrain=str(path)), state)
    assert offline == []


def test_the_difference_stem_takes_over_the_pretrained_weights():
    """All three places of the original: trunk, second first stage, and the conv of the differences."""
    state = imagenet()
    torch.save(state, pretrained.FOLDER / FILES["resnet18"])
    stem = TSN(3, arch="resnet18", module="tdn", pretrain="imagenet").backbone.stem
    for channel in range(12):
        torch.testing.assert_close(stem.conv.weight[:, channel], state["conv1.weight"].mean(1), rtol=1e-6, atol=1e-8)
    for key, value in stem.stage.state_dict().items():
        assert torch.equal(value, state[f"layer1.{key}"]), key


@pytest.mark.parametrize(("arch", "other"), [
    ("resnet18", "resnet34"), ("resnet34", "resnet18"), ("resnet18", "resnet50"),
])
def test_weights_of_another_network(tmp_path, arch, other):
    path = tmp_path / "weights.pth"
    torch.save(imagenet(other), path)
    with pytest.raises(UserError, match=rf"--pretrain .*weights.pth: these are not the weights of a {arch}"):
        TSN(3, arch=arch, pretrain=str(path))


def test_files_that_hold_no_such_weights(tmp_path):
    with pytest.raises(UserError, match=r"nothing.pth: no such checkpoint file"):
        TSN(3, arch="resnet18", pretrain=str(tmp_path / "nothing.pth"))
    ours = tmp_path / "ours.pth"
    torch.save(TSN(3, arch="resnet18").state_dict(), ours)
    with pytest.raises(UserError, match="these are not the weights of a resnet18"):
        TSN(3, arch="resnet18", pretrain=str(ours))
    partial = tmp_path / "partial.pth"
    torch.save({key: value for key, value in imagenet().items() if "layer4" not in key}, partial)
    with pytest.raises(UserError, match="these are not the weights of a resnet18"):
        TSN(3, arch="resnet18", pretrain=str(partial))


def test_a_broken_download_in_the_folder_is_named():
    path = pretrained.FOLDER / FILES["resnet18"]
    torch.save(imagenet(), path)
    path.write_bytes(path.read_bytes()[:100_000])
    with pytest.raises(UserError, match=rf"{FILES['resnet18']}: not a readable checkpoint"):
        TSN(3, arch="resnet18", pretrain="imagenet")


def test_nothing_is_asked_for_without_pretraining(offline):
    TSN(3, arch="resnet18", module="tdn", pretrain="none")
    assert offline == []
