"""Predict a camera, a stream or a file while it runs, and report what is seen.

    python tools/live.py --weights best.pth --source 0
    python tools/live.py --weights best.pth --source rtsp://camera/1 --jsonl events.jsonl
    python tools/live.py --weights best.pth --source walk.mp4 --record seen.mp4
    python tools/live.py --weights best.pth --source walk.mp4 --realtime
    python tools/live.py --weights best.pth --page

A causal network (a TSM trained with --shift_direction past, a TSN) runs frame by frame: it takes
--fps frames of a second. Any other network predicts the last --window seconds every --step seconds.

What is seen is smoothed in time: a class begins when its probability is at least --on for --hold
seconds, and ends when it falls below --off. Each event is printed when it begins and when it ends;
--jsonl writes the same as JSON lines: type (begin, end), name, label, start, end, probability, and
the time of day (clock) for cameras.

Cameras hand over their latest frame, so that results never fall behind. A camera that is lost is
opened again until it is back. Files are read as fast as they can be predicted, or at their own pace
with --realtime. A window shows the picture where there is a display: Q ends, F fills the screen.

--page serves a page on this machine instead, for its browser: the page has the camera, or a video,
and sends frames to this program, and nowhere else. --in_browser runs an exported step in the page.

Ctrl-C ends the program; all files are complete. Exit status: 0; 2 after an error; 130 if a file was
interrupted.
"""

import argparse
import re
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from lib.arguments import (
    add_class_names_flag,
    add_device_flags,
    add_fuse_bn_flag,
    add_multi_label_flag,
    add_weights_flags,
    add_window_flags,
    command_parser,
)
from ops.cli.types import non_negative_float, positive_float, probability
from ops.utils.errors import UserError, run_cli

LARGEST_PORT = 65535


def main() -> None:
    args = parser().parse_args()
    check_page_flags(args)
    # --help needs nothing of what follows. The source is checked before torch is imported, which
    # takes seconds, and a window opens before PyAV is imported (lib.live.display).
    if args.page:
        from lib.live.page import serve_page

        sys.exit(serve_page(args))
    from lib.live.display import open_window
    from lib.live.sources import find_source
    from lib.messages import note

    source = find_source(args.source, args.camera_size)
    window = None
    if not args.no_window:
        window = open_window(note)
    from lib.live.command import run_live

    sys.exit(run_live(args, source, window))


# What is for the page only, and what has no effect there.
PAGE_FLAGS = ("port", "video", "in_browser")
CAPTURE_FLAGS = ("source", "camera_size", "realtime", "record", "jsonl", "no_window")


def check_page_flags(args: argparse.Namespace) -> None:
    """Refuse flags that have no effect with --page, or without it."""
    if not args.page and args.source is None:
        raise UserError("give --source, or --page for the camera of a browser")
    names = CAPTURE_FLAGS if args.page else PAGE_FLAGS
    for name in names:
        value = getattr(args, name)
        if value is None or value is False:
            continue
        if args.page:
            raise UserError(f"--{name}: not with --page, where the browser has the camera")
        raise UserError(f"--{name} is for --page; give --page too")


def parser() -> argparse.ArgumentParser:
    top = command_parser(__doc__)
    add_source(top.add_argument_group("source"))
    add_model(top.add_argument_group("model"))
    add_sampling(top.add_argument_group("sampling"))
    add_smoothing(top.add_argument_group("smoothing"))
    add_output(top.add_argument_group("output"))
    add_page(top.add_argument_group("page in the browser"))
    add_machine(top.add_argument_group("machine"))
    return top


def add_source(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--source",
        metavar="SOURCE",
        help="number of a camera, a device (/dev/video2), an address (rtsp://...), or a video file",
    )
    group.add_argument(
        "--camera_size",
        type=camera_size,
        metavar="WxH",
        help="size of the camera's pictures, 640x480 (default: the camera's own)",
    )
    group.add_argument(
        "--realtime", action="store_true", help="play a file at its own pace, as a camera"
    )


def add_model(group: argparse._ArgumentGroup) -> None:
    add_weights_flags(group)
    add_class_names_flag(group)
    add_multi_label_flag(group)


def add_sampling(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--fps",
        type=positive_float,
        metavar="N",
        help="frames per second that the network sees (default: 12; for windows, all)",
    )
    add_window_flags(group)


def add_smoothing(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--tau",
        type=non_negative_float,
        metavar="SECONDS",
        help="time constant of the mean of the logits (default: 0.4)",
    )
    group.add_argument(
        "--on",
        type=probability,
        metavar="P",
        help="probability at which a class begins (default: 0.25)",
    )
    group.add_argument(
        "--off",
        type=probability,
        metavar="P",
        help="probability below which it ends, at most --on (default: 0.15)",
    )
    group.add_argument(
        "--hold",
        type=non_negative_float,
        metavar="SECONDS",
        help="how long it must be seen before it begins (default: 0.2)",
    )
    group.add_argument(
        "--idle",
        nargs="*",
        metavar="NAME",
        help="classes that are no event (default: those of Jester, where the network has them)",
    )
    group.add_argument(
        "--rule",
        choices=("mean", "demo"),
        default="mean",
        help="mean: as above; demo: the rule of TSM's online demo (default: mean)",
    )


def add_output(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--record",
        metavar="FILE",
        help="also write the video with the classes on it: .mp4, .mov or .mkv",
    )
    group.add_argument(
        "--jsonl", metavar="FILE", help="also write events as JSON lines; - for standard output"
    )
    group.add_argument(
        "--no_window", action="store_true", help="show no picture on the screen, text only"
    )


def add_page(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--page", action="store_true", help="serve a page on 127.0.0.1 for the browser's camera"
    )
    group.add_argument(
        "--port", type=port, metavar="N", help="of the page; 0: any free one (default: 8000)"
    )
    group.add_argument("--video", metavar="FILE", help="a video that the page offers to play")
    group.add_argument(
        "--in_browser",
        action="store_true",
        help="run the network in the page: --weights is an ONNX file of export.py --stream",
    )


def add_machine(group: argparse._ArgumentGroup) -> None:
    add_device_flags(group)
    add_fuse_bn_flag(group)


def port(text: str) -> int:
    """A number of a TCP port."""
    if not re.fullmatch("[0-9]{1,5}", text) or int(text) > LARGEST_PORT:
        raise argparse.ArgumentTypeError(f"{text!r} is not a port; give 0 to {LARGEST_PORT}")
    return int(text)


def camera_size(text: str) -> str:
    """The size of a camera's pictures, ``640x480``."""
    if not re.fullmatch("[1-9][0-9]{1,4}x[1-9][0-9]{1,4}", text):
        raise argparse.ArgumentTypeError(f"{text!r} is not a size; give WIDTHxHEIGHT (640x480)")
    return text


if __name__ == "__main__":
    run_cli(main)
