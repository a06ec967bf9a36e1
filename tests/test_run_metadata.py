import json
import re

import torch

from ops.training import run_metadata
from ops.training.run_metadata import current_options


def test_settings_are_written_with_versions_and_commit(tmp_path):
    run_metadata.write_settings(tmp_path / "new" / "run", lr=0.1, epochs=2)
    settings = json.loads((tmp_path / "new" / "run" / "args.json").read_text())
    assert (
        settings["lr"] == 0.1
        and settings["epochs"] == 2
        and torch.__version__.startswith(settings["versions"]["torch"])
    )
    assert {"python", "cuda", "torchvision", "av", "numpy"} <= settings["versions"].keys()
    assert settings["git"] is None or re.fullmatch(r"[0-9a-f]{40}\+?", settings["git"])


def test_outside_of_git_and_without_git(monkeypatch, tmp_path):
    monkeypatch.setattr(run_metadata, "__file__", str(tmp_path / "ops" / "run_facts.py"))
    assert run_metadata.commit() is None  # no such folder
    (tmp_path / "ops").mkdir()
    assert run_metadata.commit() is None
    monkeypatch.setenv("PATH", str(tmp_path))
    assert run_metadata.commit() is None


def test_digest_depends_on_names_and_order():
    assert run_metadata.digest([]) is None and run_metadata.digest(None) is None
    assert len({run_metadata.digest(names) for names in (["a", "b"], ["b", "a"], ["ab"])}) == 3


def test_options_of_runs_before_the_flip_flag():
    assert current_options({"no_flip": True}, "names")["flip"] == "none"
    assert current_options({"no_flip": True}, "none")["flip"] == "none"
    # Such a run mirrored clips, by a rule that it does not say.
    assert current_options({"no_flip": False}, "pairs")["flip"] == "pairs"
    assert current_options({"no_flip": False}, "none")["flip"] != "none"
    assert current_options({"flip": "pairs", "lr": 1}, "none") == {"flip": "pairs", "lr": 1}
    assert current_options({"lr": 1}, "none") == {"lr": 1}


def test_the_window_of_dense_runs_before_its_stride_was_written():
    """Every module sampled a window of 64 frames then."""
    dense = {"sampling": "dense", "num_segments": 8}
    assert current_options(dense, None)["dense_stride"] == 8
    assert current_options({**dense, "dense_stride": 2}, None)["dense_stride"] == 2
    assert "dense_stride" not in current_options({**dense, "sampling": "uniform"}, None)
