import json

import pytest
import torch
from helpers.models import saved, small_model

from ops.checkpoints import export_state_dict, load_model, manifest, tune
from ops.checkpoints.manifest import published_entry, published_sampling, read_manifest
from ops.models import TSN
from ops.utils.errors import UserError
from ops.utils.files import sha256


@pytest.fixture
def records(tmp_path, monkeypatch):
    path = tmp_path / "sha256.json"
    monkeypatch.setattr(manifest, "RECORDS", path)
    return path


def record(records, path, entry):
    records.write_text(json.dumps({path.name: {"id": entry, "sha256": sha256(path)}}))


def entry_of(entry):
    return next(one for one in read_manifest() if one["id"] == entry)


def test_a_file_that_nobody_has_recorded(tmp_path, records):
    path = saved(tmp_path, {"state_dict": export_state_dict(small_model("tsm"), "tsm")})
    assert published_entry(path) is None
    report = load_model(path, quiet=True).report
    assert "assumed num_segments 8" in report and "recorded" not in report


def test_what_is_recorded_is_known_under_any_name(tmp_path, records):
    """T, the shift and the dataset of a file whose name has been changed."""
    torch.manual_seed(0)
    state = export_state_dict(small_model("tsm", num_class=400), "tsm")
    path = saved(tmp_path, {"state_dict": state}, "old.pth")
    entry = entry_of("tsm-k400-r50-16f")
    assert entry["T"] == 16
    record(records, path, "tsm-k400-r50-16f")
    renamed = path.rename(tmp_path / "new.pth")
    assert published_entry(renamed) == entry
    with pytest.raises(UserError) as error:  # the record is of a ResNet-50
        load_model(renamed, quiet=True)
    assert "tsm-k400-r50-16f" in str(error.value) and "arch resnet50" in str(error.value)


@pytest.fixture
def recorded(tmp_path, records):
    """A ResNet-50 with the layout of a released file, recorded."""
    torch.manual_seed(0)
    model = TSN(400, 16, module="tsm").eval()
    path = saved(tmp_path, {"state_dict": export_state_dict(model, "tsm")}, "renamed.pth")
    record(records, path, "tsm-k400-r50-16f")
    return path


def test_a_recorded_file_needs_no_name(recorded):
    loaded = load_model(recorded, quiet=True)
    assert loaded.num_segments == 16 and loaded.published["id"] == "tsm-k400-r50-16f"
    assert "recorded as tsm-k400-r50-16f" in loaded.report
    assert "num_segments" not in loaded.report.partition("assumed")[2]


def test_the_head_of_a_recorded_file_is_kept_for_its_dataset(recorded):
    with torch.device("meta"):
        model = TSN(400, 16, module="tsm")
    common = {"class_names": None, "dry_run": True}
    assert tune(model, recorded, dataset="kinetics", **common).head_kept
    assert not tune(model, recorded, dataset="other", **common).head_kept


def test_damaged_records_are_named(tmp_path, records):
    records.write_text('{"a.pth": 3}')
    path = saved(tmp_path, {"state_dict": export_state_dict(small_model("tsm"), "tsm")})
    with pytest.raises(UserError, match=r"sha256\.json"):
        load_model(path, quiet=True)


def test_published_samplings():
    assert published_sampling(entry_of("tsm-k400-r50-8f")) == "center"
    assert published_sampling(entry_of("tsm-k400-tsn-r50-dense")) == "dense"
    for entry in read_manifest():
        if len({result["sampling"] for result in entry["expected"]}) > 1:
            assert published_sampling(entry) is None
