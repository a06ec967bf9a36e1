"""The table of decoders, and what opens a path."""

import subprocess
import sys

import numpy as np
import pytest
from helpers.launch import ROOT

from ops.data.readers import open as opening
from ops.data.readers.base import Reader
from ops.data.readers.open import open_reader


class GrayReader(Reader):
    """Ten gray frames, whatever the file."""

    def __len__(self):
        return 10

    def decode(self, indices):
        return np.full((len(indices), 4, 6, 3), 128, np.uint8)

    def close(self):
        pass


def test_a_new_decoder_is_one_entry(tmp_path, monkeypatch):
    def open_gray(path, opener=None):
        return GrayReader(path)

    monkeypatch.setitem(opening.DECODERS, "gray", open_gray)
    with open_reader(tmp_path / "v.mp4", image_tmpl="", decoder="gray") as reader:
        assert reader.get([9, 0, 0]).shape == (3, 4, 6, 3)


@pytest.mark.parametrize("module", ["datasets", "dataset_files", "sampling", "readers.open"])
def test_modules_that_the_commands_import_are_light(module):
    """So that ``--help`` is fast, and decord need not be installed."""
    code = f"import sys, ops.data.{module}; print(*sys.modules)"
    run = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    assert run.returncode == 0, run.stderr
    assert {"torch", "av", "decord", "torchcodec"}.isdisjoint(run.stdout.split())
