"""What tools/live.py does after its arguments are parsed."""

import argparse
import contextlib
import os
from pathlib import Path
from typing import Any, NamedTuple

from lib.live.display import Window
from lib.live.output import EventWriter, Recorder
from lib.live.session import Session
from lib.live.sources import FILE, Source, SourceError
from lib.messages import note
from lib.pictures.annotated_video import check_format
from lib.predicting.predict_output import STDOUT, open_lines
from ops.data.readers.base import UnreadableVideo
from ops.data.windows import DEFAULT_STEP, DEFAULT_WINDOW
from ops.export.network import ExportedNetwork, is_exported, load_exported
from ops.predict import Predictor
from ops.streaming import DemoRule, LiveStream, Smoother
from ops.streaming.smoothing import (
    DEMO_IGNORED_NAMES,
    HOLD,
    IDLE_NAMES,
    OFF,
    ON,
    TAU,
    SmoothingRule,
    labels_of,
)
from ops.utils.errors import INTERRUPTED_STATUS, UserError
from ops.utils.signals import StopRequest


class Network(NamedTuple):
    """What the flags of the network name.

    Attributes:
        model: a TSN on its device, or an exported network.
        class_names: in label order, or None.
        multi_label: whether several classes can be there at once.
    """

    model: Any
    class_names: list[str] | None
    multi_label: bool


def run_live(args: argparse.Namespace, source: Source, window: Window | None) -> int:
    """Predict a source as the flags say, and show it in a window; returns the exit status."""
    try:
        return _run(args, source, window)
    except SourceError as error:
        raise UserError(f"--source {source.name}: {error}") from None
    except UnreadableVideo as error:
        raise UserError(f"--source {source.name}: {error.reason}") from None


def _run(args: argparse.Namespace, source: Source, window: Window | None) -> int:
    is_file = source.kind == FILE
    if args.realtime and not is_file:
        raise UserError("--realtime is for files; cameras and addresses always are in real time")
    if args.record:
        _check_record(args.record, source)
    in_real_time = args.realtime or not is_file
    network = load_network(args)
    stream = build_stream(args, network, background=in_real_time)
    note(stream.description)
    with contextlib.ExitStack() as files:
        stop = files.enter_context(StopRequest())
        events = EventWriter(
            files.enter_context(open_lines(args.jsonl)),
            text=args.jsonl != STDOUT,
            has_names=stream.class_names is not None,
            has_clock=not is_file,
        )
        recorder = files.enter_context(Recorder(args.record))
        session = files.enter_context(Session(stream, events, recorder, window))
        if in_real_time:
            keep = network.model.frames_per_segment
            session.follow(source, lambda: stop.number, keep=keep, paced=is_file)
        else:
            session.read(source, lambda: stop.number)
    note(session.speed.summary())
    if is_file and stop.number:
        return INTERRUPTED_STATUS
    return 0


def load_network(args: argparse.Namespace) -> Network:
    """The network that the flags name; prints what was loaded."""
    weights = args.weights
    if is_exported(weights):
        weights = load_exported(weights)
    predictor = Predictor(
        weights,
        args.device,
        num_segments=args.num_segments,
        weights_key=args.weights_key,
        class_names=args.class_names,
        multi_label=args.multi_label,
        clips=1,
        crops=1,
        amp=args.amp,
        fuse_bn=args.fuse_bn,
        module=args.module,
    )
    model = predictor.model
    if isinstance(weights, ExportedNetwork):
        model = weights  # the predictor's one needs clips
    note(getattr(model, "report", ""))
    if predictor.class_names is None:
        note(
            "the checkpoint has no class names: label numbers are printed; "
            "give names with --class_names FILE"
        )
    return Network(model, predictor.class_names, predictor.multi_label)


def build_stream(args: argparse.Namespace, network: Network, *, background: bool) -> LiveStream:
    """The stream that the flags describe.

    Args:
        args: with the flags of sampling and smoothing.
        network: as `load_network` returns it.
        background: as of `LiveStream`.

    Raises:
        UserError: flags without an effect on this network.
    """
    stream = LiveStream(
        network.model,
        network.class_names,
        rule=build_rule(args, network),
        fps=args.fps,
        window=args.window or DEFAULT_WINDOW,
        step=args.step or DEFAULT_STEP,
        amp=args.amp,
        background=background,
    )
    for name in ("window", "step"):
        if stream.steps and getattr(args, name) is not None:
            raise UserError(f"--{name}: this network runs frame by frame and has no windows")
    return stream


def build_rule(args: argparse.Namespace, network: Network) -> SmoothingRule:
    """The rule of smoothing that the flags describe."""
    idle = labels_of(network.class_names, IDLE_NAMES)
    if args.idle is not None:
        idle = [_label_of(network.class_names, name) for name in args.idle]
    settings = {"tau": TAU, "on": ON, "off": OFF, "hold": HOLD}
    given = {name: getattr(args, name) for name in settings if getattr(args, name) is not None}
    if args.rule == "demo":
        if given:
            raise UserError(f"--{next(iter(given))}: --rule demo has no such setting")
        ignored = labels_of(network.class_names, DEMO_IGNORED_NAMES)
        return DemoRule(idle=idle, ignored=ignored, multi_label=network.multi_label)
    settings["off"] = min(OFF, given.get("on", ON))
    settings.update(given)
    return Smoother(idle=idle, multi_label=network.multi_label, **settings)


def _label_of(class_names: list[str] | None, name: str) -> int:
    labels = labels_of(class_names, [name])
    if not labels:
        raise UserError(f"--idle {name}: the network has no class of this name")
    return labels[0]


def _check_record(path: str, source: Source) -> None:
    """Refuse a file for the video that cannot be written, before anything is captured."""
    check_format(path, "--record")
    folder = Path(path).resolve().parent
    if not folder.is_dir():
        raise UserError(f"--record {path}: the folder {folder} does not exist")
    if source.kind == FILE and os.path.exists(path) and os.path.samefile(path, source.path):
        raise UserError(f"--record {path}: the source itself; give another name")
