"""What tools/predict.py does after its arguments are parsed."""

import argparse
import contextlib
import time

from tqdm import tqdm

from lib.messages import note
from lib.predicting.predict_inputs import find_inputs
from lib.predicting.predict_output import STDOUT, PredictionWriter, open_lines
from ops.predict import Predictor
from ops.utils.text import counted

_DATA_BOUND = 0.5  # share of the time spent waiting above which data, not the model, is the limit


def build_predictor(args: argparse.Namespace) -> Predictor:
    """The predictor that the flags describe."""
    return Predictor(
        args.weights,
        args.device,
        num_segments=args.num_segments,
        weights_key=args.weights_key,
        class_names=args.class_names,
        multi_label=args.multi_label,
        clips=args.clips,
        crops=args.crops,
        sampling=args.test_sampling,
        full_res=args.full_res,
        scale_size=args.scale_size,
        crop_size=args.crop_size,
        average=args.average,
        image_tmpl=args.image_tmpl,
        decoder=args.decoder,
        amp=args.amp,
        fuse_bn=args.fuse_bn,
        batch_size=args.batch_size,
        module=args.module,
    )


def describe(predictor: Predictor) -> None:
    """Print what was loaded, and how videos are scored, to standard error."""
    note(getattr(predictor.model, "report", ""))
    note(f"protocol: {predictor.description}")
    if predictor.class_names is None:
        note(
            "the checkpoint has no class names: label numbers are printed; "
            "give names with --class_names FILE"
        )


def predict_videos(args: argparse.Namespace) -> int:
    """Predict the videos that the flags name; returns the exit status."""
    predictor = build_predictor(args)
    describe(predictor)
    videos = find_inputs(args.videos, predictor.model.modality)
    failed = 0
    start = time.perf_counter()
    with contextlib.ExitStack() as files:
        writer = PredictionWriter(
            args.topk,
            args.threshold,
            json=files.enter_context(open_lines(args.json)),
            table=files.enter_context(open_lines(args.csv)),
            text=not args.quiet and STDOUT not in (args.json, args.csv),
        )
        bar = tqdm(total=len(videos), desc="predicting", unit="video", disable=None, leave=False)
        files.enter_context(contextlib.closing(bar))
        # One video is decoded here: to start a worker would take longer.
        workers = args.workers if len(videos) > 1 else 0
        for result in predictor.many(videos, workers=workers):
            bar.clear()
            writer.write(result)
            failed += result.error is not None
            share = predictor.waited / (time.perf_counter() - start)
            bound = "data" if share > _DATA_BOUND else "model"
            bar.set_postfix_str(f"bound by {bound}, {share:.0%} waiting", refresh=False)
            bar.update()
    seconds = time.perf_counter() - start
    if len(videos) > 1 or failed:
        note(_summary(len(videos), failed, seconds, predictor.waited))
    return int(failed > 0)


def _summary(videos: int, failed: int, seconds: float, waited: float) -> str:
    share = waited / seconds
    bound = "data" if share > _DATA_BOUND else "the model"
    text = f"{counted(videos, 'video')} in {seconds:.1f} s, bound by {bound} ({share:.0%} waiting)"
    if failed:
        text += f"; {counted(failed, 'video')} could not be read"
    return text
