import hashlib
import json

import pytest
import torch
from helpers.file_server import file_server
from helpers.launch import call, refused
from helpers.models import saved

from ops.checkpoints import export_state_dict, manifest, save_checkpoint
from ops.checkpoints.manifest import read_manifest
from ops.models import TSN
from ops.utils.files import sha256

ROWS = read_manifest()


def row_of(name):
    return next(row for row in ROWS if row["id"] == name)


# No small network fits an entry, so those of the tables are built on the meta device, with zeros.


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
        printed.count("tsn_r50_5f_k400 ") == 3
        and "8 x 10 x 1" in printed
        and "69.9" in printed
        and "TSM README" in printed
    )
    assert (
        "published by mit-han-lab/temporal-shift-module" in printed and "resnet101" not in printed
    )
    assert len({len(line) for line in printed.splitlines() if "TSM README" in line}) == 1  # aligned
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
            ["tsm_r50_8f_k400"],
        ),
        (
            "TSM_kinetics_RGB_resnet50_shift8_blockres_avg_segment8_e100_dense.pth",
            "tsm",
            400,
            TSM,
            ["tsm_r50_8f_k400_dense"],
        ),
        (
            "any.pth",
            "tsm",
            400,
            TSM,
            ["tsm_r50_16f_k400", "tsm_r50_8f_k400", "tsm_r50_8f_k400_dense"],
        ),
        (
            "TSM_somethingv2_RGB_resnet50_shift8_blockres_avg_segment16_e45.pth",
            "tsm",
            174,
            TSM,
            ["tsm_r50_16f_sthv2"],
        ),
        ("nl.pth", "tsm", 400, {**TSM, "non_local": True}, ["tsm_r50_8f_k400_nl_dense"]),
        ("flow.pth", "tsm", 400, {**TSM, "modality": "Flow"}, ["tsm_r50_8f_k400_flow"]),
        (
            "r101.pth",
            "tsm",
            174,
            {**TSM, "arch": "resnet101"},
            ["tsm_r101_8f_sthv1", "tsm_r101_8f_sthv2"],
        ),
        ("tsn.pth", "tsm", 400, {"module": "tsn"}, ["tsn_r50_5f_k400"]),
        (
            "mobile.pth",
            "mobilenetv2",
            27,
            {"module": "tsn", "arch": "mobilenetv2"},
            ["tsm_mobilenetv2_jester_online"],
        ),
        ("tdn.pth", "tdn", 400, {"module": "tdn"}, ["tdn_r50_16f_k400", "tdn_r50_8f_k400"]),
        (
            "tam.pth",
            "tam",
            174,
            {"module": "tam"},
            ["tam_r50_8f_sthv1", "tam_r50_8f_sthv2"],
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
    assert ("fits " + (ids[0] if len(ids) == 1 else f"{len(ids)} entries")) in printed


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
    ).startswith("error: 4 of 4 files")
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
    assert "has the name of tsm_r50_8f_k400" in capsys.readouterr().out


@pytest.mark.slow
def test_a_recorded_file_is_known_by_its_hash(tmp_path, capsys):
    records = tmp_path / "sha256.json"
    path = released(tmp_path, "tdn.pth", "tdn", 174, module="tdn")
    assert weights("check", path, "--records", records) == 0
    assert found(capsys)[1] == [
        "tdn_r50_16f_sthv1",
        "tdn_r50_16f_sthv2",
        "tdn_r50_8f_sthv1",
        "tdn_r50_8f_sthv2",
    ]
    assert weights("record", path, "tdn_r50_8f_sthv2", "--records", records) == 0
    assert json.loads(records.read_text())["tdn.pth"] == {
        "id": "tdn_r50_8f_sthv2",
        "sha256": sha256(path),
    }
    copy = path.with_name("renamed.pth")
    copy.write_bytes(path.read_bytes())
    capsys.readouterr()
    for known in (path, copy):
        assert weights("check", known, "--records", records) == 0
        printed = capsys.readouterr().out
        assert (
            "is tdn_r50_8f_sthv2, by its sha256" in printed
            and "64.0" in printed
            and "tdn-sthv1" not in printed
        )


@pytest.mark.slow
def test_a_changed_file_is_not_what_was_recorded(tmp_path, capsys):
    records = tmp_path / "sha256.json"
    path = released(tmp_path, "tdn.pth", "tdn", 174, module="tdn")
    assert weights("record", path, "tdn_r50_8f_sthv1", "--records", records) == 0
    released(tmp_path, "tdn.pth", "tsm", 400, **TSM)
    assert weights("check", path, "--records", records) == 2
    assert (
        "NOT the file of this name that was recorded as tdn_r50_8f_sthv1" in capsys.readouterr().out
    )
    path.write_bytes(path.read_bytes()[:5000])  # a truncated file is reported as changed, too
    assert weights("check", path, "--records", records) == 2
    printed = capsys.readouterr().out
    assert "NOT the file of this name" in printed and "not a PyTorch checkpoint" in printed
    released(tmp_path, "tdn.pth", "tsm", 400, **TSM)
    before = records.read_text()
    assert "recorded for tdn.pth (tdn_r50_8f_sthv1" in refused(
        capsys, "weights", "record", path, "tsm_r50_8f_k400", "--records", records
    )
    assert records.read_text() == before
    assert weights("record", path, "tsm_r50_8f_k400", "--records", records, "--force") == 0
    assert json.loads(records.read_text())["tdn.pth"]["id"] == "tsm_r50_8f_k400"


@pytest.mark.slow
def test_record_refuses(tmp_path, capsys):
    records = tmp_path / "sha256.json"
    path = released(tmp_path, "tdn.pth", "tdn", 174, module="tdn")

    def record(*args):
        return refused(capsys, "weights", "record", path, *args)

    assert "nothing-8f: no such entry" in record("nothing-8f", "--records", records)
    assert "tdn.pth: is not tdn_r50_8f_k400" in record("tdn_r50_8f_k400", "--records", records)
    dangling = tmp_path / "dangling.json"
    dangling.symlink_to(tmp_path / "missing" / "sha256.json")
    assert "cannot be written" in record("tdn_r50_8f_sthv1", "--records", dangling)
    for text in ("{", "[]", '{"tdn.pth": "abc"}'):
        records.write_text(text)
        assert "sha256.json: not a file that tools/weights.py wrote" in record(
            "tdn_r50_8f_sthv1", "--records", records
        )
        assert records.read_text() == text


@pytest.fixture
def published(tmp_path, monkeypatch):
    """A server of one file, and a manifest of three entries in place of the project's."""
    with file_server(b"weights") as served:
        digest = hashlib.sha256(b"weights").hexdigest()
        entries = [
            {**row_of("tsm_r50_8f_k400"), "url": [served.url], "sha256": digest[:8]},
            {**row_of("tsm_r50_8f_sthv1"), "url": [f"{served.url}2"], "sha256": None},
            row_of("tdn_r50_8f_sthv1"),
        ]
        path = tmp_path / "manifest.json"
        path.write_text(json.dumps({"files": entries, "unsupported": []}))
        monkeypatch.setattr(manifest, "MANIFEST", path)
        monkeypatch.setattr(manifest, "FOLDER", tmp_path / "pretrained")
        yield served


def test_get(published, tmp_path, capsys):
    path = tmp_path / "pretrained" / row_of("tsm_r50_8f_k400")["file"]
    for outcome in ("downloaded", "exists"):
        assert weights("get", "tsm_r50_8f_k400") == 0
        assert f"tsm_r50_8f_k400: {path} ({outcome})" in capsys.readouterr().out
    assert path.read_bytes() == b"weights" and len(published.requests) == 1


def test_get_all(published, tmp_path, capsys):
    assert weights("get", "--all", "--system", "tsm") == 0
    assert len(published.requests) == 2
    files = {row_of(name)["file"] for name in ("tsm_r50_8f_k400", "tsm_r50_8f_sthv1")}
    assert {path.name for path in (tmp_path / "pretrained").iterdir()} == files | {"sha256.json"}
    error = refused(capsys, "weights", "get", "--all", "--dataset", "something")
    assert "2 files" in error and "1 have to be downloaded by hand" in error


def test_a_file_of_a_shared_drive_is_explained(published, tmp_path, capsys):
    assert weights("get", "tdn_r50_8f_sthv1") == 2
    printed = capsys.readouterr().out
    entry = row_of("tdn_r50_8f_sthv1")
    target = tmp_path / "pretrained" / entry["file"]
    assert entry["page"] in printed and entry["take"] in printed and str(target) in printed
    target.parent.mkdir()
    target.write_bytes(b"put there by hand")
    assert weights("get", "tdn_r50_8f_sthv1") == 0


def test_get_goes_through_all_files_before_it_fails(published, capsys):
    published.status = 404
    assert weights("get", "tsm_r50_8f_k400", "tsm_r50_8f_sthv1") == 2
    printed = capsys.readouterr()
    assert printed.out.count("404") == 2 and "2 could not be downloaded" in printed.err


@pytest.mark.parametrize(
    "flags",
    [[], ["tsm_r50_8f_k400", "--all"], ["--system", "tsm"], ["tsm_r50_8f_k400", "--system", "tsm"]],
)
def test_get_needs_names_or_all(flags, capsys):
    assert "--all" in refused(capsys, "weights", "get", *flags)


def test_get_suggests_the_nearest_name(published, capsys):
    error = refused(capsys, "weights", "get", "tsm_r50_8f_k400", "tsm_r50_8f_k40")
    assert "tsm_r50_8f_k40:" in error and "tsm_r50_8f_k400" in error
    assert published.requests == []


def test_a_wrong_hash_is_reported_and_not_recorded(tmp_path, capsys):
    entry = row_of("mmaction2_tsm_r50_8f_k400")
    path = saved(tmp_path, {"state_dict": export_state_dict(TSN(400, 8, module="tsm"), "tsm")})
    path = path.rename(tmp_path / entry["file"])
    records = tmp_path / "sha256.json"
    assert weights("check", path, "--records", records) == 2
    assert f"not {entry['sha256']}" in capsys.readouterr().out
    error = refused(capsys, "weights", "record", path, entry["id"], "--records", records)
    assert f"not {entry['sha256']}" in error and not records.exists()


def test_check_takes_names(published, tmp_path, capsys):
    entry = row_of("tdn_r50_8f_sthv1")
    folder = tmp_path / "pretrained"
    folder.mkdir()
    released(folder, entry["file"], "tdn", 174, module="tdn")
    assert weights("check", entry["id"], "--records", tmp_path / "sha256.json") == 0
    assert f"fits {entry['id']}" in capsys.readouterr().out
