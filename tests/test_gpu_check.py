import json
import subprocess

import pytest
import torch
from helpers.launch import ROOT, refused

from lib.benchmarks import gpu_check

XML = """<?xml version="1.0"?>
<testsuites><testsuite tests="4">
<testcase name="a"/>
<testcase name="b"><failure message="m">text</failure></testcase>
<testcase name="c"><error message="m">text</error></testcase>
<testcase name="d"><skipped message="no GPU"/></testcase>
</testsuite></testsuites>
"""


def test_counts_of_tests(tmp_path):
    path = tmp_path / "tests.xml"
    assert gpu_check.count_tests(path) == {}
    path.write_text(XML)
    assert gpu_check.count_tests(path) == {"passed": 1, "failed": 2, "skipped": 1}


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu(tmp_path, capsys):
    assert "--device cpu" in refused(capsys, "gpu_check", "--out", tmp_path)


def test_report_of_parts_that_pass_fail_and_do_not_end(tmp_path, capsys, monkeypatch):
    parts = [
        gpu_check.Part("good", ["-c", "print('a | b')"]),
        gpu_check.Part("bad", ["-c", "raise SystemExit(3)"]),
        gpu_check.Part("slow", ["-c", "import time; time.sleep(60)"]),
        gpu_check.Part("late", ["-c", "print(1)"]),
    ]
    monkeypatch.setattr(gpu_check, "all_parts", lambda device, folder: parts)
    error = refused(capsys, "gpu_check", "--device", "cpu", "--out", tmp_path, "--minutes", 2 / 60)
    assert "bad, slow, late" in error
    report = json.loads((tmp_path / "report.json").read_text())
    results = [part["result"] for part in report["parts"]]
    assert results == ["passed", "failed", "out of time", "left out"]
    page = (tmp_path / "report.md").read_text()
    assert "| good | passed |" in page and "a | b" in page and "torch" in page


@pytest.mark.slow
def test_the_script_runs_the_tests_and_the_benchmarks(tmp_path):
    script = ROOT / "scripts" / "gpu_check.sh"
    command = ["bash", script, tmp_path / "out", "--device", "cpu", "--minutes", "9"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    tests, inference, training = report["parts"]
    assert tests["counts"]["passed"] > 10 and tests["counts"]["failed"] == 0
    for part in (inference, training):
        header, rows = part["tables"][0]
        assert header[0] == "tsm" and rows[0][0] == "original"
    assert "| original | " in (tmp_path / "out" / "report.md").read_text()
