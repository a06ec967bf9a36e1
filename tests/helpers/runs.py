"""Compare what two trainings have learned."""

import json
import re

import torch

# Values of the log that depend on the speed of the machine.
TIMES = re.compile("train_.*(seconds|_share|_per_second)")
# Entries of a checkpoint that may differ: the recipe contains the output folder, and the metrics
# contain times.
_COMPARED_APART = {"metrics", "recipe"}


def assert_same_training(out, expected_out):
    """The last checkpoints and ``log.jsonl`` of two runs are equal, bit for bit, but for times.

    Args:
        out: output folder of a run.
        expected_out: that of a run with the same recipe.
    """
    last, records, metrics = _state_of(out)
    expected, expected_records, expected_metrics = _state_of(expected_out)
    for key in expected.keys() - _COMPARED_APART:
        assert is_same(last[key], expected[key]), key
    assert records == expected_records
    assert metrics == expected_metrics


def _state_of(out):
    """The last checkpoint of a run, the records of its log and the last metrics, without times."""
    last = torch.load(out / "last.pth", weights_only=True)
    lines = (out / "log.jsonl").read_text().splitlines()
    records = [_without_times(json.loads(line)) for line in lines]
    return last, records, _without_times(last["metrics"])


def _without_times(values):
    return {key: value for key, value in values.items() if not TIMES.fullmatch(key)}


def is_same(a, b):
    """Whether two values of a checkpoint are equal, tensors bit for bit."""
    if isinstance(a, torch.Tensor):
        return torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(is_same(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(is_same, a, b))
    return a == b
