"""What the values of flags may be: argparse shows the text of an error beside the flag."""

import argparse

# Beyond these a value is a typing error, or ends in memory that no machine has.
MAX_WORKERS = 512
MAX_SEGMENTS = 1024
MIXING_RANGE = (1e-3, 1e6)  # outside of it NumPy's Beta distribution gives NaN or a constant
MAX_SEED = 2**63 - 1


def positive_int(text):
    """A flag's whole number from 1."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{value} is not a positive number")
    return value


def non_negative_int(text):
    """A flag's whole number from 0."""
    value = int(text)
    if value < 0:
        raise argparse.ArgumentTypeError(f"{value} is negative")
    return value


def workers(text):
    """A flag's number of data-loading workers."""
    return _at_most(non_negative_int(text), MAX_WORKERS, "data-loading workers per process")


def segments(text):
    """A flag's number of segments."""
    return _at_most(positive_int(text), MAX_SEGMENTS, "segments")


def seed(text):
    """A flag's seed, of 63 bits."""
    return _at_most(non_negative_int(text), MAX_SEED, "is too large for a seed")


def _at_most(value, limit, what):
    if value > limit:
        raise argparse.ArgumentTypeError(f"{value} {what}; at most {limit}")
    return value


def mixing(text):
    """A flag's parameter of a symmetric Beta distribution, or 0."""
    value = non_negative_float(text)
    low, high = MIXING_RANGE
    if value and not low <= value <= high:
        raise argparse.ArgumentTypeError(f"{value} is neither 0 nor in [{low:g}, {high:g}]")
    return value


def fraction(text):
    """A flag's number in [0, 1)."""
    value = float(text)
    if not 0 <= value < 1:
        raise argparse.ArgumentTypeError(f"{value} is not in [0, 1)")
    return value


def positive_float(text):
    """A flag's number above 0."""
    value = float(text)
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{value} is not a positive number")
    return value


def non_negative_float(text):
    """A flag's number from 0."""
    value = float(text)
    if not 0 <= value < float("inf"):
        raise argparse.ArgumentTypeError(f"{value} is not a finite number from 0")
    return value


def tsm_schedule(text):
    """TSM's name of a schedule, as ours."""
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
    """A flag's true or false."""
    if text.lower() not in ("true", "false"):
        raise argparse.ArgumentTypeError(f"{text!r} is neither true nor false")
    return text.lower() == "true"


def interval(text):
    """Steps as a whole number, or minutes as "15m": steps, or seconds as a negative number, None for 0."""
    number = text[:-1] if text.endswith("m") else text
    if not number.isdecimal():
        raise argparse.ArgumentTypeError(
            f"{text!r} is neither steps, such as 500, nor minutes, such as 15m"
        )
    return (-60 * int(number) if text.endswith("m") else int(number)) or None
