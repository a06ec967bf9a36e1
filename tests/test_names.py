import json

import pytest
import torch
from helpers.launch import call, refused
from helpers.models import saved

from ops.checkpoints import export_state_dict, load_model, manifest, tune
from ops.checkpoints.layouts import from_ours
from ops.checkpoints.names import find_entry, nearest_names, resolve_weights
from ops.data.class_names import read_class_names
from ops.data.label_orders import FOLDER
from ops.models import TSN
from ops.utils.errors import UserError
from ops.utils.files import sha256


@pytest.fixture
def pretrained(tmp_path, monkeypatch):
    """An empty folder in place of ``pretrained/``."""
    folder = tmp_path / "pretrained"
    folder.mkdir()
    monkeypatch.setattr(manifest, "FOLDER", folder)
    monkeypatch.setattr(manifest, "RECORDS", folder / "sha256.json")
    return folder


def save_file_of(entry, folder, num_segments=8, arch=None):
    """A file with new weights in place of the published one."""
    torch.manual_seed(0)
    model = TSN(
        entry["num_class"], num_segments, module=entry["module"], arch=arch or entry["arch"]
    )
    if entry["layout"] == "mmaction2":
        state = from_ours(model.state_dict(), "mmaction2")
    else:
        state = export_state_dict(model, entry["layout"])
    return saved(folder, {"state_dict": state}, entry["file"])


def test_a_name_is_the_file_of_its_entry(pretrained):
    path = save_file_of(find_entry("tdn_r50_16f_sthv1"), pretrained, num_segments=16)
    assert resolve_weights("tdn_r50_16f_sthv1") == path
    model = load_model("tdn_r50_16f_sthv1", quiet=True)
    assert model.num_segments == 16 and model.published["id"] == "tdn_r50_16f_sthv1"
    assert model.class_names == read_class_names(FOLDER / "something_sorted.txt")
    assert "assumed" not in model.report


def test_fine_tuning_from_a_name_takes_over_the_head(pretrained):
    save_file_of(find_entry("tdn_r50_8f_k400"), pretrained)
    with torch.device("meta"):
        model = TSN(400, 8, module="tdn")
    tuned = tune(model, "tdn_r50_8f_k400", dataset="kinetics", class_names=None, dry_run=True)
    assert tuned.head_kept and "tdn_r50_8f_k400" in tuned.report


def test_a_file_or_folder_of_this_name_takes_precedence(pretrained, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    own = saved(tmp_path, {}, "tsm_r50_8f_k400")
    assert resolve_weights("tsm_r50_8f_k400").absolute() == own
    own.unlink()
    own.mkdir()
    best = saved(own, {}, "best.pth")
    assert resolve_weights("tsm_r50_8f_k400").absolute() == best


@pytest.mark.parametrize("path", ["missing.pth", "runs/missing", "pretrained/tsm_r50_8f_k400.pth"])
def test_a_missing_path_is_left_to_the_reader(path):
    assert str(resolve_weights(path)) == path


def test_a_name_that_is_not_downloaded_yet(pretrained):
    with pytest.raises(UserError, match=r"python tools/weights\.py get tsm_r50_8f_k400$"):
        load_model("tsm_r50_8f_k400")
    with pytest.raises(UserError) as error:
        load_model("tam_r50_8f_sthv1")
    assert "https://github.com/liu-zhy/temporal-adaptive-module" in str(error.value)
    assert str(pretrained / "tam_r50_8f_sthv1.pth.tar") in str(error.value)
    assert list(pretrained.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("tsm_r50_8f_k40", "tsm_r50_8f_k400"),
        ("tsm-k400-r50-8f", "tsm_r50_8f_k400"),
        ("tsm_resnet50_8f_kinetics", "tsm_r50_8f_k400"),
        ("tdn_r101_16_somethingv2", "tdn_r101_16f_sthv2"),
        ("mmaction2_tsm_r50_8f_sthv1", "mmaction2_0x_tsm_r50_8f_sthv1"),
    ],
)
def test_an_unknown_name_suggests_the_nearest(name, nearest):
    with pytest.raises(UserError, match=rf"^{name}: .*\b{nearest}\b"):
        resolve_weights(name)


def test_nothing_is_suggested_for_a_name_that_resembles_none():
    assert nearest_names("bananas", ["tsm_r50_8f_k400"]) == []
    with pytest.raises(UserError, match=r"^bananas: .*weights\.py list"):
        resolve_weights("bananas")


def test_a_file_that_cannot_be_loaded_has_a_reason():
    with pytest.raises(UserError, match="3D convolutions"):
        resolve_weights("mmaction2_slowonly_r50_8x8x1_256e_imagenet_kinetics400_rgb")


def test_a_file_with_the_name_of_an_entry_but_another_hash_is_refused(pretrained):
    entry = find_entry("mmaction2_tsm_r50_8f_sthv2")
    path = save_file_of(entry, pretrained)
    for source in (path, entry["id"]):
        with pytest.raises(UserError, match=rf"{entry['sha256']}; .*weights\.py get {entry['id']}"):
            load_model(source)
    copy = path.rename(pretrained / "mine.pth")
    assert load_model(copy, quiet=True).published is None


def test_a_file_that_changed_since_it_was_recorded_is_refused(pretrained):
    entry = find_entry("tdn_r50_8f_sthv1")
    path = save_file_of(entry, pretrained)
    record = {path.name: {"id": entry["id"], "sha256": sha256(path)}}
    manifest.RECORDS.write_text(json.dumps(record))
    assert load_model(path, quiet=True).published == entry
    path.write_bytes(path.read_bytes() + b" ")
    with pytest.raises(UserError, match=record[path.name]["sha256"]):
        load_model(path)


def test_a_file_of_another_network_than_its_entry_is_refused(pretrained):
    save_file_of(find_entry("tdn_r101_8f_sthv2"), pretrained, arch="resnet50")
    with pytest.raises(UserError, match=r"tdn_r101_8f_sthv2.*resnet101"):
        load_model("tdn_r101_8f_sthv2")


def test_commands_take_names(pretrained, tmp_path, capsys):
    save_file_of(find_entry("tdn_r50_8f_sthv1"), pretrained)
    assert call("convert_checkpoint", "tdn_r50_8f_sthv1", tmp_path / "mine.pth") == 0
    assert load_model(tmp_path / "mine.pth", quiet=True).class_names[0] == (
        "Approaching something with your camera"
    )
    error = refused(capsys, "convert_checkpoint", "tsm_r50_8f_k400", tmp_path / "b.pth")
    assert "tools/weights.py get tsm_r50_8f_k400" in error
    error = refused(capsys, "test_models_center_crop", "something", "--weights", "tsm_r50_8f_k400")
    assert "tools/weights.py get tsm_r50_8f_k400" in error
    error = refused(capsys, "main", "something", "RGB", "--tune_from", "tsm_r50_8f_k400")
    assert "tools/weights.py get tsm_r50_8f_k400" in error


def test_what_is_computed_differently_is_reported(pretrained, monkeypatch):
    entry = {**find_entry("tdn_r50_8f_sthv1"), "caveat": "its colors are inverted"}
    monkeypatch.setattr(manifest, "read_manifest", lambda: [entry])
    path = save_file_of(entry, pretrained)
    assert "its colors are inverted" in load_model(path, quiet=True).report
