"""The page of tools/live.py: what it is told about a network, and what becomes of its reports."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from lib.live.page_report import PageReport, largest_difference
from lib.live.server import Page
from ops.data.class_names import class_name
from ops.streaming import LiveStream, Smoother
from ops.utils.text import counted

VIDEO_ADDRESS = "/video"
STEP_ADDRESS = "/step.onnx"


def make_page(
    network: Any,
    new_stream: Callable[[], LiveStream],
    description: str,
    say: Callable[[str], None],
    *,
    video: Path | None = None,
    step: Path | None = None,
) -> Page:
    """The page of a network.

    Args:
        network: a TSN, or a network of ``ops.export.load_exported``.
        new_stream: makes a stream of it for each page.
        description: of the network, a few words.
        say: called with a line about each report of a page.
        video: a file that the page offers to play; None: none.
        step: file of an exported step, which the page runs itself; None: frames are sent to the
            streams.
    """
    stream = new_stream()
    names = [class_name(stream.class_names, label) for label in range(network.num_class)]
    rate = _sampled_rate(stream, network)
    settings = {
        "description": description,
        "class_names": names,
        "size": stream.size,
        "share": network.input_size / network.scale_size,
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


def _sampled_rate(stream: LiveStream, network: Any) -> float | None:
    """Frames per second that the page is to send; None: all that it has.

    A step of several frames needs those before the sampled one.
    """
    if stream.steps and network.frames_per_segment > 1:
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
