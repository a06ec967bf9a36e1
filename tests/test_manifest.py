"""The manifest of published weight files, and the files that are known by their hash."""

import csv
import json
import re
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import torch
from helpers.launch import ROOT
from helpers.models import saved, small_model

from ops.backbones import BACKBONES
from ops.backbones.modalities import MODALITIES
from ops.checkpoints import export_state_dict, load_model, manifest, tune
from ops.checkpoints.file_names import spec_of_name
from ops.checkpoints.layouts import LAYOUTS
from ops.checkpoints.manifest import (
    entry_of_hash,
    published_entry,
    published_sampling,
    published_spec,
    read_manifest,
    read_unsupported,
)
from ops.data.class_names import read_class_names
from ops.data.datasets import KNOWN
from ops.data.label_orders import FOLDER
from ops.data.sampling import samplings_for_tests
from ops.models import TSN
from ops.temporal import MODULES
from ops.utils.errors import UserError
from ops.utils.files import sha256

ENTRIES = read_manifest()
FIELDS = [
    "id",
    "system",
    "file",
    "url",
    "sha256",
    "page",
    "take",
    "layout",
    "module",
    "arch",
    "modality",
    "T",
    "options",
    "dataset",
    "num_class",
    "class_names",
    "multi_label",
    "published",
    "caveat",
    "expected",
]
RESULT_FIELDS = ["frames", "clips", "crops", "size", "sampling", "top1", "top5", "mAP", "source"]
PUBLISHERS = {
    "tsm": "mit-han-lab/temporal-shift-module",
    "tdn": "MCG-NJU/TDN",
    "tam": "liu-zhy/temporal-adaptive-module",
    "mmaction2-1.x": "open-mmlab/mmaction2",
    "mmaction2-0.x": "open-mmlab/mmaction2",
}
PREFIXES = {"mmaction2-1.x": "mmaction2_", "mmaction2-0.x": "mmaction2_0x_"}
SHORT_NAMES = {
    "resnet18": "r18",
    "resnet50": "r50",
    "resnet101": "r101",
    "kinetics": "k400",
    "kinetics600": "k600",
    "kinetics700": "k700",
    "something": "sthv1",
    "somethingv2": "sthv2",
}
# The convention of torch.hub.load_state_dict_from_url(check_hash=True).
HASH_IN_NAME = re.compile(r"-([0-9a-f]{8,})\.pth$")


def entry_of(name):
    return next(entry for entry in ENTRIES if entry["id"] == name)


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry["id"])
def test_fields_of_an_entry(entry):
    assert list(entry) == FIELDS
    assert entry["published"] == PUBLISHERS[entry["system"]]
    assert entry["layout"] in LAYOUTS and entry["module"] in LAYOUTS[entry["layout"]].modules
    assert entry["arch"] in BACKBONES and entry["modality"] in MODALITIES
    assert entry["T"] is None or entry["T"] in (3, 5, 6, 8, 16)
    assert set(entry["options"]) <= {*MODULES[entry["module"]].options, "non_local", "dense"}
    assert entry["caveat"] is None or entry["caveat"] == entry["caveat"].strip()


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry["id"])
def test_a_name_can_be_guessed_from_its_entry(entry):
    """SYSTEM_MODULE_ARCH_Tf_DATASET, and what distinguishes it from others."""
    words = [entry["module"], SHORT_NAMES.get(entry["arch"], entry["arch"])]
    if entry["T"]:
        words.append(f"{entry['T']}f")
    words.append(SHORT_NAMES.get(entry["dataset"], entry["dataset"]))
    assert entry["id"].startswith(PREFIXES.get(entry["system"], "") + "_".join(words))
    assert ("flow" in entry["id"].split("_")) == (entry["modality"] == "Flow")
    assert ("nl" in entry["id"].split("_")) == bool(entry["options"].get("non_local"))
    assert ("dense" in entry["id"].split("_")) == bool(entry["options"].get("dense")) or (
        entry["system"] == "tam"  # where all Kinetics files are
    )
    assert re.fullmatch(r"[a-z0-9_]+", entry["id"])


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry["id"])
def test_where_a_file_is(entry):
    """An address, or a page and what to take there. A published hash is that of the file's name."""
    assert urlsplit(entry["page"]).scheme == "https"
    assert bool(entry["url"]) != bool(entry["take"])
    for url in entry["url"]:
        assert urlsplit(url).scheme == "https" and url.endswith("/" + entry["file"])
    assert Path(entry["file"]).name == entry["file"]
    digits = HASH_IN_NAME.search(entry["file"])
    if entry["system"].startswith("mmaction2") and entry["url"]:
        assert entry["sha256"] == entry["file"].removesuffix(".pth")[-8:]
    else:
        assert entry["sha256"] is None and digits is None


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry["id"])
def test_classes_of_an_entry(entry):
    if entry["dataset"] in KNOWN:
        assert entry["num_class"] == KNOWN[entry["dataset"]].num_class
    if entry["class_names"] is None:
        assert "class names" in entry["caveat"]
        assert entry["dataset"] == "minikinetics" or entry["dataset"].startswith("hvu_")
    else:
        read_class_names(FOLDER / entry["class_names"], entry["num_class"])
    assert entry["multi_label"] == (entry["dataset"].startswith(("hvu_", "mmit")))


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry["id"])
def test_published_results_of_an_entry(entry):
    for result in entry["expected"]:
        assert list(result) == RESULT_FIELDS
        if entry["multi_label"]:
            assert 30 < result["mAP"] < 100 and result["top1"] is None
        else:
            assert 15 < result["top1"] < (result["top5"] or 100) <= 100 and result["mAP"] is None
        assert result["frames"] in (None, 8, 16, 25) and result["clips"] in (None, 1, 2, 10)
        assert result["crops"] in (None, 1, 3, 10) and result["size"] in (None, 224, 256)
        assert result["sampling"] is None or result["sampling"] in samplings_for_tests()
        source = re.fullmatch(
            r"(TSM|TDN|TAM|MMAction2 [01].x) (README|metafile)(, \w+)?", result["source"]
        )
        assert source and source[1].lower().replace(" ", "-") == entry["system"]


def test_every_network_can_be_built():
    specs = []
    for entry in ENTRIES:
        spec = {"num_segments": 8, **published_spec(entry)}
        del spec["dataset"]
        if spec not in specs:
            specs.append(spec)
    for spec in specs:
        with torch.device("meta"):
            model = TSN(**spec)
        assert model.head.out_features == spec["num_class"]


def test_names_and_files_are_unique():
    names = [entry["id"] for entry in ENTRIES + read_unsupported()]
    assert len(set(names)) == len(names)
    files = [entry["file"] for entry in ENTRIES]
    assert len(set(files)) == len(files)


def test_files_that_cannot_be_loaded_have_a_reason():
    for entry in read_unsupported():
        assert list(entry) == ["id", "url", "sha256", "published", "reason"]
        assert entry["reason"] and all(url.startswith("https://") for url in entry["url"])


SPEC = Path(__file__).resolve().parents[2] / "shared" / "spec"


@pytest.mark.skipif(not SPEC.is_dir(), reason="needs ../shared/spec")
@pytest.mark.parametrize("table", ["weight_files_tsm.csv", "weight_files_mmaction2.csv"])
def test_every_published_file_is_listed(table):
    listed = {url for entry in ENTRIES + read_unsupported() for url in entry["url"]}
    with (SPEC / table).open(encoding="utf-8") as file:
        published = {row["url"].lstrip("(") for row in csv.DictReader(file)}
    assert published <= listed


def test_datasets_whose_classes_have_several_orders():
    orders = {(entry["dataset"], entry["class_names"]) for entry in ENTRIES}
    for dataset in ("something", "jester"):
        assert {name for of, name in orders if of == dataset} == {
            f"{dataset}_sorted.txt",
            f"{dataset}_official.txt",
        }


@pytest.mark.parametrize(
    "entry",
    [entry for entry in ENTRIES if spec_of_name(entry["file"])],
    ids=lambda entry: entry["file"],
)
def test_facts_in_the_names_of_files_agree_with_their_entries(entry):
    facts = spec_of_name(entry["file"])
    for fact in ("module", "arch", "dataset"):
        assert facts[fact] == entry[fact]
    assert facts.get("num_segments") == entry["T"]
    assert facts.get("modality", "RGB") == entry["modality"]
    for option, value in entry["options"].items():
        assert facts.get(option, value) == value


@pytest.mark.parametrize(
    ("name", "frames", "crops", "clips", "top1", "top5"),
    [
        ("tsm_r50_8f_k400_dense", 8, 3, 10, 74.1, None),
        ("tsm_r101_8f_sthv1", 8, 1, 1, 46.9, None),
        ("tdn_r50_16f_sthv1", 16, 1, 1, 53.9, None),
        ("tdn_r101_16f_k400", 16, 3, 10, 78.5, None),
        ("tam_r50_8f_sthv2", 8, 3, 2, 62.7, 88.0),
        ("mmaction2_tsm_r50_16f_k400", 16, 10, 1, 75.12, 91.55),
        ("mmaction2_tin_r50_8f_sthv2", 8, 1, 1, 54.78, 82.18),
    ],
)
def test_numbers_of_the_readmes(name, frames, crops, clips, top1, top5):
    result = entry_of(name)["expected"][0]
    protocol = (result["frames"], result["crops"], result["clips"])
    assert protocol == (frames, crops, clips)
    assert (result["top1"], result["top5"]) == (top1, top5)


def test_scripts_expect_the_same_numbers():
    """The comment of a recipe names each number of the entry of its network and dataset."""
    checked = 0
    for entry in ENTRIES:
        if entry["system"] not in ("tsm", "tdn", "tam") or entry["module"] == "tsn":
            continue
        # tsm_r50_8f_k400_nl_dense is scripts/tsm/k400_r50_nl_8f_dense.toml
        module, arch, frames, dataset, *rest = entry["id"].split("_")
        variants = [word for word in rest if word != "dense"]
        sampling = ["dense"] if entry["options"].get("dense") else []
        name = "_".join([dataset, arch, *variants, frames, *sampling])
        recipe = ROOT / "scripts" / module / f"{name}.toml"
        if not recipe.exists():
            continue
        lines = recipe.read_text().splitlines()
        comment = " ".join(line for line in lines if line.startswith("#"))
        for result in entry["expected"]:
            assert f"{result['top1']} %" in comment, entry["id"]
            checked += 1
    assert checked >= 25


@pytest.fixture
def records(tmp_path, monkeypatch):
    path = tmp_path / "sha256.json"
    monkeypatch.setattr(manifest, "RECORDS", path)
    return path


def record(records, path, entry):
    records.write_text(json.dumps({path.name: {"id": entry, "sha256": sha256(path)}}))


def test_a_file_that_is_not_recorded(tmp_path, records):
    path = saved(tmp_path, {"state_dict": export_state_dict(small_model("tsm"), "tsm")})
    assert published_entry(path) is None
    report = load_model(path, quiet=True).report
    assert "assumed num_segments 8" in report and "recorded" not in report


def test_what_is_recorded_is_known_under_any_name(tmp_path, records):
    """T, the shift and the dataset of a file whose name has been changed."""
    torch.manual_seed(0)
    state = export_state_dict(small_model("tsm", num_class=400), "tsm")
    path = saved(tmp_path, {"state_dict": state}, "old.pth")
    entry = entry_of("tsm_r50_16f_k400")
    assert entry["T"] == 16
    record(records, path, "tsm_r50_16f_k400")
    renamed = path.rename(tmp_path / "new.pth")
    assert published_entry(renamed) == entry
    with pytest.raises(UserError) as error:  # the record is of a ResNet-50
        load_model(renamed, quiet=True)
    assert "tsm_r50_16f_k400" in str(error.value) and "arch resnet50" in str(error.value)


@pytest.fixture
def recorded(tmp_path, records):
    """A ResNet-50 with the layout of a released file, recorded."""
    torch.manual_seed(0)
    model = TSN(400, 16, module="tsm").eval()
    path = saved(tmp_path, {"state_dict": export_state_dict(model, "tsm")}, "renamed.pth")
    record(records, path, "tsm_r50_16f_k400")
    return path


def test_a_recorded_file_needs_no_name(recorded):
    loaded = load_model(recorded, quiet=True)
    assert loaded.num_segments == 16 and loaded.published["id"] == "tsm_r50_16f_k400"
    assert "published as tsm_r50_16f_k400" in loaded.report
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
    assert published_sampling(entry_of("tsm_r50_8f_k400")) == "center"
    assert published_sampling(entry_of("tsm_r50_8f_k400_dense")) == "dense"
    for entry in read_manifest():
        if len({result["sampling"] for result in entry["expected"]}) > 1:
            assert published_sampling(entry) is None


def test_files_are_known_by_the_published_digits_of_their_hash():
    entry = entry_of("mmaction2_tsm_r50_8f_k400")
    digest = entry["sha256"].ljust(64, "0")
    assert entry_of_hash(digest, {}) == entry
    assert entry_of_hash("0" + digest[:-1], {}) is None
    record = {"a.pth": {"id": "tdn_r50_8f_sthv1", "sha256": digest}}
    assert entry_of_hash(digest, record)["id"] == "tdn_r50_8f_sthv1"


def test_a_file_that_would_compute_something_else_is_known_by_its_hash(tmp_path, monkeypatch):
    """The weights of dot-product non-local blocks load into embedded Gaussian ones."""
    path = saved(tmp_path, {"state_dict": export_state_dict(small_model("tsm"), "tsm")})
    unsupported = {**read_unsupported()[0], "sha256": sha256(path)[:8]}
    monkeypatch.setattr(manifest, "read_unsupported", lambda: [unsupported])
    with pytest.raises(UserError, match=unsupported["id"]):
        load_model(path)


def test_an_entry_with_another_number_of_classes_is_refused(tmp_path, records):
    path = saved(tmp_path, {"state_dict": export_state_dict(TSN(174, 8, module="tdn"), "tdn")})
    record(records, path, "tdn_r50_8f_k400")
    with pytest.raises(UserError, match=r"tdn_r50_8f_k400.* num_class 400.* num_class 174"):
        load_model(path)


def test_a_new_head_has_no_class_names(recorded):
    assert len(load_model(recorded, quiet=True).class_names) == 400
    assert load_model(recorded, num_class=5, quiet=True).class_names is None
