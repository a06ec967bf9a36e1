"""What tools/predict.py --timeline does."""

import argparse
import contextlib
import os
from collections.abc import Iterable, Iterator
from dataclasses import replace

from tqdm import tqdm

from lib.messages import note
from lib.pictures.annotated_video import check_format, write_annotated
from lib.predicting.predict_command import build_predictor, describe
from lib.predicting.predict_inputs import find_inputs
from lib.predicting.predict_output import STDOUT, open_lines
from lib.predicting.timeline_output import SpanWriter, write_srt, write_vtt
from ops.data.readers.base import UnreadableVideo
from ops.data.windows import DEFAULT_STEP, DEFAULT_WINDOW
from ops.predict import WINDOW_BATCH, Predictor, WindowScores
from ops.report.timeline import Entry, thumbnail, write_timeline
from ops.scores.spans import ENTER, STAY, Span
from ops.utils.errors import UserError
from ops.utils.text import counted

_FILES_OF_ONE_VIDEO = ("srt", "vtt", "html", "video")


def write_timelines(args: argparse.Namespace) -> int:
    """Write the timelines of the videos that the flags name; returns the exit status."""
    if args.video:
        check_format(args.video)
    predictor = build_predictor(args)
    describe(predictor)
    videos = find_inputs(args.videos, predictor.model.modality)
    if len(videos) > 1:
        for name in _FILES_OF_ONE_VIDEO:
            if getattr(args, name):
                raise UserError(f"--{name}: the timeline of one video, not of {len(videos)}")
    failed = 0
    with contextlib.ExitStack() as files:
        writer = SpanWriter(
            files.enter_context(open_lines(args.json)),
            files.enter_context(open_lines(args.csv)),
            text=not args.quiet and STDOUT not in (args.json, args.csv),
        )
        for path in videos:
            writer.begin(path)
            try:
                _write_timeline(args, predictor, path, writer)
            except UnreadableVideo as error:
                failed += 1
                writer.fail(path, error.reason)
    if failed:
        note(f"{counted(failed, 'video')} of {len(videos)} could not be read")
    return int(failed > 0)


def _write_timeline(
    args: argparse.Namespace, predictor: Predictor, path: str, writer: SpanWriter
) -> None:
    """The timeline of one video, and the files that are made of it."""
    progress = _Progress(path)
    window = args.window or DEFAULT_WINDOW
    step = args.step or DEFAULT_STEP
    windows = predictor.windows(
        path, window, step, fps=args.fps, batch_size=max(args.batch_size, WINDOW_BATCH)
    )
    enter = ENTER if args.enter is None else args.enter
    stay = min(STAY, enter) if args.stay is None else args.stay
    spans = []
    pictures = []
    for span in predictor.spans(progress.watch(windows), enter, stay):
        progress.hide()
        writer.write(path, span, predictor.class_names is not None)
        pictures.append(thumbnail(span.picture) if args.html else None)
        spans.append(replace(span, picture=None))
    if predictor.damaged:
        parts = counted(predictor.damaged, "damaged part")
        note(f"warning: {path}: {parts} could not be decoded; the frames there are left out")
    order = sorted(range(len(spans)), key=lambda number: spans[number].start)
    spans, pictures = [spans[i] for i in order], [pictures[i] for i in order]
    if args.srt:
        write_srt(args.srt, spans)
    if args.vtt:
        write_vtt(args.vtt, spans)
    if args.html:
        entries = [
            Entry(span.start, span.end, span.name, span.probability, picture)
            for span, picture in zip(spans, pictures, strict=True)
        ]
        protocol = f"windows of {window:g} s every {step:g} s, {predictor.description}"
        write_timeline(args.html, os.path.basename(path), protocol, progress.end, entries)
    if args.video:
        _annotate(args, predictor, path, spans)


def _annotate(args: argparse.Namespace, predictor: Predictor, path: str, spans: list[Span]) -> None:
    if os.path.exists(args.video) and os.path.samefile(args.video, path):
        raise UserError(f"--video {args.video}: the video itself; give another name")
    with predictor.stream(path, args.fps) as stream:
        write_annotated(args.video, stream, spans)


class _Progress:
    """A bar that counts the seconds of a video that were scored."""

    def __init__(self, path: str) -> None:
        self.end = 0.0
        self._bar = tqdm(desc=os.path.basename(path), unit=" s of video", disable=None, leave=False)

    def watch(self, windows: Iterable[WindowScores]) -> Iterator[WindowScores]:
        with contextlib.closing(self._bar):
            for window in windows:
                self._bar.update(round(window.end - self.end, 2))
                self.end = window.end
                yield window

    def hide(self) -> None:
        """Clear the bar before a line of text is printed."""
        self._bar.clear()
