"""Types of flags. Argparse prints the text of their errors beside the flag."""

import argparse

from ops.training.batch_size import AUTO
from ops.training.freeze import parse_parts
from ops.training.run_dir import SaveInterval

AMP = ("none", "bf16", "fp16")  # values of --amp
CROPS = (1, 3, 5, 10)  # values of --test_crops: TEST_CROPS of ops.data.transforms without torch
# Larger values are typing errors, or need memory that no machine has.
MAX_WORKERS = 512
MAX_SEGMENTS = 1024
# Outside of it NumPy's Beta distribution gives NaN or a constant.
MIXING_RANGE = (1e-3, 1e6)
MAX_SEED = 2**63 - 1


def _whole_number(text):
    try:
        return int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number") from None


def _number(text):
    try:
        return float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number") from None


def positive_int(text):
    """A whole number from 1."""
    value = _whole_number(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{value} is not a positive number")
    return value


def batch_size(text):
    """A number of videos, or ``auto``."""
    if text == AUTO:
        return text
    return positive_int(text)


def non_negative_int(text):
    """A whole number from 0."""
    value = _whole_number(text)
    if value < 0:
        raise argparse.ArgumentTypeError(f"{value} is negative")
    return value


def workers(text):
    """A number of data-loading workers."""
    return _at_most(non_negative_int(text), MAX_WORKERS, "data-loading workers per process")


def segments(text):
    """A number of segments."""
    return _at_most(positive_int(text), MAX_SEGMENTS, "segments")


def seed(text):
    """A seed of 63 bits."""
    return _at_most(non_negative_int(text), MAX_SEED, "is too large for a seed")


def _at_most(value, limit, what):
    if value > limit:
        raise argparse.ArgumentTypeError(f"{value} {what}; at most {limit}")
    return value


def mixing(text):
    """The parameter of a symmetric Beta distribution, or 0 for none."""
    value = non_negative_float(text)
    low, high = MIXING_RANGE
    if value and not low <= value <= high:
        raise argparse.ArgumentTypeError(f"{value} is neither 0 nor in [{low:g}, {high:g}]")
    return value


def fraction(text):
    """A number in [0, 1)."""
    value = _number(text)
    if not 0 <= value < 1:
        raise argparse.ArgumentTypeError(f"{value} is not in [0, 1)")
    return value


def probability(text):
    """A number in [0, 1]."""
    value = _number(text)
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"{value} is not in [0, 1]")
    return value


def positive_fraction(text):
    """A number in (0, 1]."""
    value = _number(text)
    if not 0 < value <= 1:
        raise argparse.ArgumentTypeError(f"{value} is not in (0, 1]")
    return value


def positive_float(text):
    """A number above 0."""
    value = _number(text)
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{value} is not a positive number")
    return value


def non_negative_float(text):
    """A number from 0."""
    value = _number(text)
    if not 0 <= value < float("inf"):
        raise argparse.ArgumentTypeError(f"{value} is not a finite number from 0")
    return value


def tsm_schedule(text):
    """TSM's name of a schedule, as that of this project."""
    names = {"step": "step", "cos": "cosine-epoch"}
    if text not in names:
        raise argparse.ArgumentTypeError(f"{text!r} is neither step nor cos")
    return names[text]


def is_bce(text):
    """TIN's name of a loss, as whether a video can have several labels."""
    if text not in ("nll", "bce"):
        raise argparse.ArgumentTypeError(f"{text!r} is neither nll nor bce")
    return text == "bce"


def boolean(text):
    """``true`` or ``false``."""
    if text.lower() not in ("true", "false"):
        raise argparse.ArgumentTypeError(f"{text!r} is neither true nor false")
    return text.lower() == "true"


def save_interval(text):
    """A flag's interval of saves, which stays text: see ``ops.training.run_dir.SaveInterval``."""
    try:
        SaveInterval.parse(text)
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"{text!r} is neither steps, such as 500, nor minutes, such as 15m"
        ) from None
    return text


def frozen_parts(text):
    """Parts of a network, which stay text: see ``ops.training.freeze.parse_parts``."""
    try:
        parse_parts(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    return text
