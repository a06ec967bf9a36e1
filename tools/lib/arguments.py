"""What the argument parsers of the commands in tools/ share.

It imports nothing that takes time, so that --help answers at once.
"""

import argparse
import os
import re
from pathlib import Path

from ops.cli.flags import SuggestingParser
from ops.cli.types import AMP, positive_float, segments
from ops.utils.errors import UserError

SIZE = re.compile(r"(0|[1-9][0-9]{1,4})|([1-9][0-9]{1,4})x([1-9][0-9]{1,4})")


def command_parser(description: str) -> argparse.ArgumentParser:
    """An argument parser for a command.

    Its ``--help`` prints the description as it is written. Flags cannot be abbreviated: a typing
    error must not select another flag, but one is suggested.

    Args:
        description: docstring of the command.
    """
    return SuggestingParser(
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )


def add_video_flags(parser: argparse.ArgumentParser, result: str) -> None:
    """Add the arguments that select videos.

    Args:
        parser: to be used with ``parse_intermixed_args``, since SRC can be left out.
        result: what OUT will contain, for ``--help``.
    """
    parser.add_argument(
        "src",
        nargs="?",
        type=Path,
        metavar="SRC",
        help="folder of videos, searched with all folders in it, or one video",
    )
    parser.add_argument(
        "out", type=Path, metavar="OUT", help=f"folder for the {result}; created if missing"
    )
    parser.add_argument(
        "--list",
        metavar="FILE",
        help="take the videos of a list, in the format of main.py, instead of SRC",
    )
    parser.add_argument(
        "--root_path",
        default="",
        metavar="DIR",
        help="folder that the paths of the list are relative to (default: the current folder)",
    )
    parser.add_argument(
        "-j",
        "--processes",
        type=int,
        default=os.cpu_count() or 1,
        metavar="N",
        help="number of processes (default: one per core)",
    )


def add_weights_flags(group: argparse._ActionsContainer) -> None:
    """Add the flags that choose a network: weights, and what they do not contain."""
    group.add_argument(
        "--weights",
        required=True,
        metavar="FILE",
        help="checkpoint of this project or a published one, its name, or the folder of a run",
    )
    group.add_argument(
        "--weights_key", metavar="NAME", help="which of several sets of weights, state_dict_ema"
    )
    group.add_argument(
        "--module", metavar="NAME", help="temporal module, where the weights do not contain it"
    )
    group.add_argument(
        "--num_segments",
        "--test_segments",
        type=segments,
        metavar="T",
        help="segments of a clip (default: those of the checkpoint)",
    )


def add_class_names_flag(group: argparse._ActionsContainer) -> None:
    """Add the flag of a file of class names, which take the place of those of the weights."""
    group.add_argument(
        "--class_names",
        metavar="FILE",
        help="class names, one per line, in label order (default: those of the checkpoint)",
    )


def add_multi_label_flag(group: argparse._ActionsContainer) -> None:
    """Add the flag of several classes at once: True, False, or None as in the weights."""
    group.add_argument(
        "--multi_label",
        action=argparse.BooleanOptionalAction,
        help="several classes at once: sigmoid (default: as the checkpoint was trained)",
    )


def add_window_flags(group: argparse._ActionsContainer) -> None:
    """Add the flags of windows over a long video; None where they are not given.

    The defaults are those of ``ops/data/windows.py``.
    """
    group.add_argument(
        "--window",
        type=positive_float,
        metavar="SECONDS",
        help="length of a window (default: 2.5)",
    )
    group.add_argument(
        "--step",
        type=positive_float,
        metavar="SECONDS",
        help="from the start of a window to that of the next one (default: 0.5)",
    )


def add_fuse_bn_flag(group: argparse._ActionsContainer) -> None:
    """Add the flag that folds BatchNorms for predictions."""
    group.add_argument(
        "--fuse_bn", action="store_true", help="fold BatchNorms into the convs; faster, other bits"
    )


def add_device_flag(group: argparse._ActionsContainer) -> None:
    """Add the flag of the device."""
    group.add_argument(
        "--device", metavar="NAME", help="cpu, cuda, cuda:1, mps (default: the GPU if there is one)"
    )


def add_device_flags(group: argparse._ActionsContainer) -> None:
    """Add the flags of the device and of mixed precision."""
    add_device_flag(group)
    group.add_argument(
        "--amp",
        choices=AMP,
        default="none",
        help="mixed precision; faster, other bits (default: none)",
    )


def check_output_file(path: Path) -> None:
    """Check, before any work, that a file can be written.

    Raises:
        UserError: it cannot.
    """
    if not path.parent.is_dir():
        raise UserError(f"--out {path}: there is no folder {path.parent}; create it")
    if path.is_dir():
        raise UserError(f"--out {path}: is a folder; give the name of a file")
    if not os.access(path.parent, os.W_OK):
        raise UserError(f"--out {path}: no permission to write into {path.parent}")


def parse_size(text: str) -> str:
    """A size of a flag, as ``lib.videos.video_frames.scaled`` takes it: "0", "256", "340x256"."""
    if not SIZE.fullmatch(text):
        raise argparse.ArgumentTypeError(
            f"{text!r} is not a size; give the short side (256), WIDTHxHEIGHT (340x256) or 0"
        )
    return text
