"""What the values of flags may be: argparse shows the text of an error beside the flag."""

import argparse


def positive(text):
    """A flag's whole number from 1."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{value} is not a positive number")
    return value


def count(text):
    """A flag's whole number from 0."""
    value = int(text)
    if value < 0:
        raise argparse.ArgumentTypeError(f"{value} is negative")
    return value


def share(text):
    """A flag's number in [0, 1)."""
    value = float(text)
    if not 0 <= value < 1:
        raise argparse.ArgumentTypeError(f"{value} is not in [0, 1)")
    return value


def rate(text):
    """A flag's number above 0."""
    value = float(text)
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{value} is not a positive number")
    return value


def zero_or_more(text):
    """A flag's number from 0."""
    value = float(text)
    if not 0 <= value < float("inf"):
        raise argparse.ArgumentTypeError(f"{value} is negative")
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


def truth(text):
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
