"""The page of tools/live.py --page: its settings of a network, and its report."""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lib.live.command import build_stream, load_network
from lib.live.page_report import PageReport, largest_difference
from lib.live.server import VENDOR, Page, PageServer
from lib.messages import note
from ops.checkpoints import describe
from ops.data.class_names import class_name
from ops.streaming import LiveStream, Smoother
from ops.utils.errors import UserError
from ops.utils.files import check_regular
from ops.utils.signals import StopRequest
from ops.utils.text import counted

DEFAULT_PORT = 8000
VIDEO_ADDRESS = "/video"
STEP_ADDRESS = "/step.onnx"
PICTURE_CHANNELS = 3  # of the frames that the page makes for a network that it runs itself


def serve_page(args: argparse.Namespace) -> int:
    """Serve the page that the flags describe until Ctrl-C; returns the exit status."""
    video = Path(args.video) if args.video else None
    if video:
        _check_video(video)
    network = load_network(args)

    def new_stream() -> LiveStream:
        return build_stream(args, network, background=True)

    step = None
    if args.in_browser:
        check_runs_in_browser(network.model, new_stream(), args.weights)
        _check_runtime()
        step = Path(args.weights)
    page = make_page(network.model, new_stream, note, video=video, step=step)
    port = DEFAULT_PORT if args.port is None else args.port
    with PageServer(page, port) as server, StopRequest() as stop:
        note(f"page: {server.url} (Ctrl-C ends)")
        server.serve(lambda: stop.number)
    return 0


def make_page(
    model: Any,
    new_stream: Callable[[], LiveStream],
    say: Callable[[str], None],
    *,
    video: Path | None = None,
    step: Path | None = None,
) -> Page:
    """The page of a network.

    Args:
        model: a TSN, or a network of ``ops.export.load_exported``.
        new_stream: makes a stream of it for each page.
        say: called with a line about each report of a page.
        video: a file that the page offers to play; None: none.
        step: file of an exported step, which the page runs itself; None: frames are sent to the
            streams.
    """
    stream = new_stream()
    names = [class_name(stream.class_names, label) for label in range(model.num_class)]
    rate = _sampled_rate(stream, model)
    settings = {
        "description": f"{describe(model.spec)}, {stream.description}",
        "class_names": names,
        "size": stream.size,
        "share": model.input_size / model.scale_size,
        "rate": rate,
        "steps": stream.steps,
        "smoothing": _smoothing(stream),
        "video": video.name if video else None,
        "step": STEP_ADDRESS if step else None,
    }
    stream.close()

    def report(content: dict[str, Any]) -> None:
        parsed = PageReport.parse(content)
        line = parsed.describe(names)
        if parsed.check is not None:
            difference = largest_difference(parsed.check, new_stream(), stream.size, rate)
            line += (
                f"; scores of {counted(len(parsed.check), 'computed frame')} differ from Python's "
                f"by at most {difference:.1e} of the largest"
            )
        say(line)

    files = {}
    if video:
        files[VIDEO_ADDRESS] = video
    if step:
        files[STEP_ADDRESS] = step
    return Page(stream.size, settings, None if step else new_stream, files, report)


def check_runs_in_browser(model: Any, stream: LiveStream, name: str) -> None:
    """Check that the page can run a network itself, and smooth its scores.

    Args:
        model: the network.
        stream: of it.
        name: of its file, for messages.

    Raises:
        UserError: it cannot.
    """
    if getattr(model, "kind", None) != "step":
        raise UserError(
            f"--in_browser: {name} is not an exported step; python tools/export.py --weights "
            "CHECKPOINT --to onnx --stream --out step.onnx makes one"
        )
    if model.frame_channels != PICTURE_CHANNELS:
        raise UserError(
            f"--in_browser: {name} takes {model.frame_channels} channels, the page makes single "
            "pictures; leave --in_browser out"
        )
    if not isinstance(stream.rule, Smoother):
        raise UserError("--in_browser: the page has no --rule demo; leave one of them out")


def _check_runtime() -> None:
    if not VENDOR.is_dir():
        raise UserError(
            "--in_browser: onnxruntime-web is missing; bash tools/web/get_runtime.sh gets it"
        )


def _check_video(video: Path) -> None:
    try:
        check_regular(video)
    except OSError as error:
        raise UserError(f"--video {video}: {error.strerror}") from None


def _sampled_rate(stream: LiveStream, model: Any) -> float | None:
    """Frames per second that the page is to send; None: all that it has.

    A step of several frames needs those before the sampled one.
    """
    if stream.steps and model.frames_per_segment > 1:
        return None
    return stream.fps


def _smoothing(stream: LiveStream) -> dict[str, Any] | None:
    """The settings of the rule for ``tools/web/smoother.mjs``, which has one rule only."""
    rule = stream.rule
    if not isinstance(rule, Smoother):
        return None
    return {
        "tau": rule.tau,
        "on": rule.on,
        "off": rule.off,
        "hold": rule.hold,
        "idle": list(rule.idle),
        "multi_label": rule.multi_label,
    }
