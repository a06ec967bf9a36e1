import shlex

import pytest
from helpers.launch import ROOT

from lib.weights.model_zoo import model_zoo, scoring_command
from ops.checkpoints.manifest import read_manifest, read_unsupported
from ops.cli import test_args

ENTRIES = read_manifest()
DEFAULT_CROPS = {"test_models_center_crop.py": 1, "test_models_three_crops.py": 3}


@pytest.fixture(scope="module")
def page():
    return model_zoo()


def test_the_page_is_up_to_date(page):
    text = (ROOT / "docs" / "model_zoo.md").read_text(encoding="utf-8")
    assert text == page, "run python tools/results_table.py"


def test_every_file_is_listed_with_its_accuracies(page):
    for entry in ENTRIES:
        lines = [line for line in page.splitlines() if line.startswith(f"| `{entry['id']}` |")]
        assert len(lines) == max(1, len(entry["expected"])), entry["id"]
        for line, result in zip(lines, entry["expected"], strict=False):
            assert str(result["top1"] or result["mAP"]) in line
        assert all(f"get {entry['id']}`" in line or entry["page"] in line for line in lines)
    for entry in read_unsupported():
        assert f"`{entry['id']}`" in page and entry["reason"] in page


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry["id"])
def test_the_command_has_the_published_protocol(entry):
    for result in entry["expected"]:
        python, script, *words = shlex.split(scoring_command(entry, result))
        assert python == "python" and (ROOT / script).is_file()
        assert words.count(entry["id"]) == 1
        words[words.index(entry["id"])] = "weights.pth"
        args = test_args.testing_arguments(script, DEFAULT_CROPS[script], words)
        (model,) = args.models
        assert args.dataset == entry["dataset"]
        assert model.test_crops == (result["crops"] or DEFAULT_CROPS[script])
        assert (model.test_segments or entry["T"]) == (result["frames"] or entry["T"])
        assert model.test_sampling == result["sampling"]
        assert args.full_res == (result["size"] == 256)
        if result["clips"] and result["sampling"] not in ("center", "twice"):
            assert args.clips == result["clips"]
