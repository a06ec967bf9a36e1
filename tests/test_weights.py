import importlib
import json

import pytest
import torch
from helpers.launch import ROOT, call, refused
from helpers.models import saved

from ops.backbones import BACKBONES
from ops.backbones.modalities import MODALITIES
from ops.checkpoints import export_state_dict, save_checkpoint
from ops.checkpoints.identify import facts_of_name
from ops.checkpoints.layouts import LAYOUTS
from ops.data.class_names import read_class_names
from ops.data.datasets import KNOWN
from ops.data.label_orders import FOLDER
from ops.data.sampling import samplings_for_tests
from ops.models import TSN
from ops.temporal import MODULES

tool = importlib.import_module("weights")

ROWS = tool.read_manifest()
FIELDS = [
    "id",
    "system",
    "file",
    "layout",
    "module",
    "arch",
    "modality",
    "T",
    "dataset",
    "num_class",
    "class_names",
    "options",
    "published",
    "sha256",
    "caveat",
    "expected",
]
TEST_FIELDS = ["frames", "clips", "crops", "size", "sampling", "top1", "top5", "source"]
SYSTEMS = {
    "tsm": "mit-han-lab/temporal-shift-module",
    "tdn": "MCG-NJU/TDN",
    "tam": "liu-zhy/temporal-adaptive-module",
    "mmaction2-1.x": "open-mmlab/mmaction2",
    "mmaction2-0.x": "open-mmlab/mmaction2",
}


def row_of(name):
    return next(row for row in ROWS if row["id"] == name)


# The manifest.


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row["id"])
def test_row_of_the_manifest(row):
    assert list(row) == FIELDS
    assert row["published"] == SYSTEMS[row["system"]] and row["id"].startswith(row["system"] + "-")
    assert row["layout"] in LAYOUTS and row["module"] in MODULES and row["modality"] in MODALITIES
    assert row["module"] in LAYOUTS[row["layout"]].modules
    assert row["arch"] is None or row["arch"] in BACKBONES
    assert row["num_class"] == KNOWN[row["dataset"]].num_class
    read_class_names(FOLDER / row["class_names"], row["num_class"])
    assert row["T"] is None or row["T"] in (3, 5, 8, 16)
    assert set(row["options"]) <= {*MODULES[row["module"]].options, "non_local", "dense"}
    assert row["sha256"] is None  # nobody publishes one
    assert row["caveat"] is None or row["caveat"] == row["caveat"].strip()
    for test in row["expected"]:
        assert list(test) == TEST_FIELDS
        assert 30 < test["top1"] < (test["top5"] or 100) <= 100
        assert test["frames"] in (None, 3, 5, 8, 16, 25) and test["clips"] in (None, 1, 2, 10)
        assert test["crops"] in (None, 1, 3, 10) and test["size"] in (None, 224, 256)
        assert test["sampling"] is None or test["sampling"] in samplings_for_tests()
        assert test["source"].split(" README")[0] in (
            "TSM",
            "TDN",
            "TAM",
            "MMAction2 1.x",
            "MMAction2 0.x",
        )


def test_rows_of_one_dataset_in_several_orders():
    orders = {(row["dataset"], row["class_names"]) for row in ROWS}
    assert {name for dataset, name in orders if dataset == "something"} == {
        "something_sorted.txt",
        "something_official.txt",
    }
    assert {name for dataset, name in orders if dataset == "jester"} == {
        "jester_sorted.txt",
        "jester_official.txt",
    }


def test_no_row_comes_twice():
    assert len({row["id"] for row in ROWS}) == len(ROWS)
    files = [row["file"] for row in ROWS if row["file"]]
    assert len(set(files)) == len(files)


@pytest.mark.parametrize("row", [row for row in ROWS if row["file"]], ids=lambda row: row["file"])
def test_known_file_names_tell_what_their_rows_say(row):
    facts = facts_of_name(row["file"])
    assert (
        facts["module"] == row["module"]
        and facts["arch"] == row["arch"]
        and facts["dataset"] == row["dataset"]
    )
    assert facts.get("num_segments") == row["T"] and facts.get("modality", "RGB") == row["modality"]
    for option, value in row["options"].items():
        assert facts.get(option, value) == value


@pytest.mark.parametrize(
    ("name", "frames", "crops", "clips", "top1", "top5"),
    [
        ("tsm-k400-r50-8f-dense", 8, 3, 10, 74.1, None),
        ("tsm-sthv1-r101-8f", 8, 1, 1, 46.9, None),
        ("tdn-sthv1-r50-16f", 16, 1, 1, 53.9, None),
        ("tdn-k400-r101-16f", 16, 3, 10, 78.5, None),
        ("tam-sthv2-r50-8f", 8, 3, 2, 62.7, 88.0),
        ("mmaction2-1.x-tsm-k400-r50-16f", 16, 10, 1, 75.12, 91.55),
        ("mmaction2-1.x-tin-sthv2-r50-8f", 8, 1, 1, 54.78, 82.18),
    ],
)
def test_numbers_of_the_papers_readmes(name, frames, crops, clips, top1, top5):
    test = row_of(name)["expected"][0]
    assert (test["frames"], test["crops"], test["clips"], test["top1"], test["top5"]) == (
        frames,
        crops,
        clips,
        top1,
        top5,
    )


def test_scripts_expect_the_same_numbers():
    """The comment of a row script names each number of its row in the manifest."""
    checked = 0
    for row in ROWS:
        system, _, rest = row["id"].partition("-")
        if row["id"].startswith("tsm-k400-tsn"):
            system, rest = (
                "tsn",
                f"k400_{row['arch'].replace('resnet', 'r')}_8f"
                + "_dense" * row["options"]["dense"],
            )
        script = ROOT / "scripts" / system / (rest.replace("-", "_") + ".sh")
        if script.exists():
            comment = " ".join(
                line for line in script.read_text().splitlines() if line.startswith("#")
            )
            for test in row["expected"]:
                assert f"{test['top1']} %" in comment, row["id"]
                checked += 1
    assert checked >= 25


# The front. Files of small archs fit no row, so the tables' architectures are built on the meta device, with zeros.


def released(tmp_path, name, layout, num_class=400, **options):
    with torch.device("meta"):
        state = export_state_dict(TSN(num_class, 8, **options), layout)
    zeros = torch.zeros(
        max(value.numel() for value in state.values())
    )  # all weights are parts of it
    state = {key: zeros[: value.numel()].view(value.shape) for key, value in state.items()}
    return saved(tmp_path, {"state_dict": state}, name)


def weights(*args):
    return call("weights", *args)


def found(capsys):
    """What is printed, and the ids that its table shows."""
    printed = capsys.readouterr().out
    return printed, sorted(
        {row["id"] for row in ROWS} & {line.split(" ")[0] for line in printed.splitlines()}
    )


def test_list(capsys):
    assert weights("list") == 0
    assert found(capsys)[1] == sorted(row["id"] for row in ROWS)
    assert weights("list", "--system", "tsm", "--dataset", "kinetics", "--module", "tsn") == 0
    printed = capsys.readouterr().out
    assert (
        printed.count("tsm-k400-tsn-r50 ") == 2
        and "8 x 10 x 1" in printed
        and "69.9" in printed
        and "TSM README" in printed
    )
    assert (
        "published by mit-han-lab/temporal-shift-module" in printed and "resnet101" not in printed
    )
    assert len({len(line) for line in printed.splitlines() if "README" in line}) == 1  # aligned
    assert "leave a flag out" in refused(
        capsys, "weights", "list", "--system", "tdn", "--dataset", "jester"
    )
    assert weights("list", "--system", "onyx") == 2


TSM = {"module": "tsm", "arch": "resnet50"}


@pytest.mark.parametrize(
    ("name", "layout", "num_class", "options", "ids"),
    [
        (
            "TSM_kinetics_RGB_resnet50_shift8_blockres_avg_segment8_e50.pth",
            "tsm",
            400,
            TSM,
            ["tsm-k400-r50-8f"],
        ),
        (
            "TSM_kinetics_RGB_resnet50_shift8_blockres_avg_segment8_e100_dense.pth",
            "tsm",
            400,
            TSM,
            ["tsm-k400-r50-8f-dense"],
        ),
        (
            "any.pth",
            "tsm",
            400,
            TSM,
            ["tsm-k400-r50-16f", "tsm-k400-r50-8f", "tsm-k400-r50-8f-dense"],
        ),
        (
            "TSM_somethingv2_RGB_resnet50_shift8_blockres_avg_segment16_e45.pth",
            "tsm",
            174,
            TSM,
            ["tsm-sthv2-r50-16f"],
        ),
        ("nl.pth", "tsm", 400, {**TSM, "non_local": True}, ["tsm-k400-r50-nl-8f-dense"]),
        ("flow.pth", "tsm", 400, {**TSM, "modality": "Flow"}, ["tsm-k400-r50-flow-8f"]),
        (
            "r101.pth",
            "tsm",
            174,
            {**TSM, "arch": "resnet101"},
            ["tsm-sthv1-r101-8f", "tsm-sthv2-r101-8f"],
        ),
        ("tsn.pth", "tsm", 400, {"module": "tsn"}, ["tsm-k400-tsn-r50", "tsm-k400-tsn-r50-dense"]),
        (
            "mobile.pth",
            "mobilenetv2",
            27,
            {"module": "tsn", "arch": "mobilenetv2"},
            ["tsm-jester-mobilenetv2-online"],
        ),
        ("tdn.pth", "tdn", 400, {"module": "tdn"}, ["tdn-k400-r50-16f", "tdn-k400-r50-8f"]),
        (
            "tam.pth",
            "tam",
            174,
            {"module": "tam"},
            ["tam-sthv1-r50-8f", "tam-sthv2-r50-8f"],
        ),  # T is in its shapes
    ],
)
def test_check_lists_what_a_file_can_be(name, layout, num_class, options, ids, tmp_path, capsys):
    path = released(tmp_path, name, layout, num_class, **options)
    assert weights("check", path, "--records", tmp_path / "sha256.json") == 0
    printed, listed = found(capsys)
    assert listed == ids
    module = options["module"]
    if layout == "mobilenetv2":  # whose keys show no shift
        module = "module not in the file,"
    assert f"{path}: layout: {layout}, {module} {options.get('arch', 'resnet50')}, " in printed
    assert ("fits " + (ids[0] if len(ids) == 1 else f"{len(ids)} rows")) in printed


def test_what_fits_no_row(tmp_path, capsys):
    strange = released(tmp_path, "strange.pth", "tsm", 400, module="tsm", arch="resnet18")
    ours = tmp_path / "ours.pth"
    save_checkpoint(ours, TSN(5, 4, arch="resnet18"))
    torn = tmp_path / "torn.pth"
    torn.write_bytes(strange.read_bytes()[:5000])
    gaussian = released(tmp_path, "gaussian.pth", "tsm", 400, module="tsm", arch="resnet18")
    torch.save(
        {
            **torch.load(gaussian)["state_dict"],
            "module.base_model.layer2.0.nl.g.0.bias": torch.zeros(4),
        },
        gaussian,
    )
    records = tmp_path / "sha256.json"
    assert weights("check", gaussian, "--records", records) == 2
    assert "1 weights unexpected" in capsys.readouterr().out
    assert refused(
        capsys, "weights", "check", strange, ours, torn, tmp_path / "none.pth", "--records", records
    ).startswith("error: 4 of 4 files could not be told")
    assert weights("check", strange, ours, torn, "--records", records) == 2
    printed = capsys.readouterr().out
    assert (
        "fits no published file\n" in printed
        and "fits no published file: a checkpoint of this project" in printed
    )
    assert f"{torn}: not a PyTorch checkpoint" in printed


def test_a_name_that_its_weights_do_not_bear_out(tmp_path, capsys):
    path = released(
        tmp_path,
        "TSM_kinetics_RGB_resnet50_shift8_blockres_avg_segment8_e50.pth",
        "tsm",
        174,
        **TSM,
    )
    assert weights("check", path, "--records", tmp_path / "sha256.json") == 2
    assert "has the name of tsm-k400-r50-8f, but does not hold it" in capsys.readouterr().out


@pytest.mark.slow
def test_a_recorded_file_is_known_by_its_hash(tmp_path, capsys):
    records = tmp_path / "sha256.json"
    path = released(tmp_path, "tdn.pth", "tdn", 174, module="tdn")
    assert weights("check", path, "--records", records) == 0
    assert found(capsys)[1] == [
        "tdn-sthv1-r50-16f",
        "tdn-sthv1-r50-8f",
        "tdn-sthv2-r50-16f",
        "tdn-sthv2-r50-8f",
    ]
    assert weights("record", path, "tdn-sthv2-r50-8f", "--records", records) == 0
    assert json.loads(records.read_text())["tdn.pth"] == {
        "id": "tdn-sthv2-r50-8f",
        "sha256": tool.sha256(path),
    }
    copy = path.with_name("renamed.pth")
    copy.write_bytes(path.read_bytes())
    capsys.readouterr()
    for known in (path, copy):
        assert weights("check", known, "--records", records) == 0
        printed = capsys.readouterr().out
        assert (
            "is tdn-sthv2-r50-8f, by its sha256" in printed
            and "64.0" in printed
            and "tdn-sthv1" not in printed
        )


@pytest.mark.slow
def test_a_changed_file_is_not_what_was_recorded(tmp_path, capsys):
    records = tmp_path / "sha256.json"
    path = released(tmp_path, "tdn.pth", "tdn", 174, module="tdn")
    assert weights("record", path, "tdn-sthv1-r50-8f", "--records", records) == 0
    released(tmp_path, "tdn.pth", "tsm", 400, **TSM)
    assert weights("check", path, "--records", records) == 2
    assert (
        "NOT the file of this name that was recorded as tdn-sthv1-r50-8f" in capsys.readouterr().out
    )
    path.write_bytes(path.read_bytes()[:5000])  # a torn file is told as changed, too
    assert weights("check", path, "--records", records) == 2
    printed = capsys.readouterr().out
    assert "NOT the file of this name" in printed and "not a PyTorch checkpoint" in printed
    released(tmp_path, "tdn.pth", "tsm", 400, **TSM)
    before = records.read_text()
    assert "another file or row is recorded for tdn.pth (tdn-sthv1-r50-8f" in refused(
        capsys, "weights", "record", path, "tsm-k400-r50-8f", "--records", records
    )
    assert records.read_text() == before
    assert weights("record", path, "tsm-k400-r50-8f", "--records", records, "--force") == 0
    assert json.loads(records.read_text())["tdn.pth"]["id"] == "tsm-k400-r50-8f"


@pytest.mark.slow
def test_record_refuses(tmp_path, capsys):
    records = tmp_path / "sha256.json"
    path = released(tmp_path, "tdn.pth", "tdn", 174, module="tdn")

    def record(*args):
        return refused(capsys, "weights", "record", path, *args)

    assert "nothing-8f: no such row" in record("nothing-8f", "--records", records)
    assert "tdn.pth: is not tdn-k400-r50-8f, by what its weights" in record(
        "tdn-k400-r50-8f", "--records", records
    )
    assert "cannot be written" in record(
        "tdn-sthv1-r50-8f", "--records", tmp_path / "none" / "sha256.json"
    )
    for text in ("{", "[]", '{"tdn.pth": "abc"}'):
        records.write_text(text)
        assert "sha256.json: not a file that record wrote" in record(
            "tdn-sthv1-r50-8f", "--records", records
        )
        assert records.read_text() == text


def test_mmaction2_rows_that_would_mislead_say_so():
    assert "it loads, but" in row_of("mmaction2-1.x-tsm-k400-r50-nl-dot-8f")["caveat"]
    dot, seen = (
        row_of("mmaction2-1.x-tsm-k400-r50-nl-dot-8f"),
        tool.Seen(
            "mmaction2",
            {
                "arch": "resnet50",
                "module": "tsm",
                "num_class": 400,
                "modality": "RGB",
                "non_local": True,
            },
            None,
            None,
        ),
    )
    assert tool.fits(dot, seen)  # its keys are those of the embedded Gaussian
    assert not tool.fits(row_of("mmaction2-1.x-tsm-k400-r50-8f"), seen)
