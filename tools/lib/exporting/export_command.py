"""What tools/export.py does after its arguments are parsed."""

import argparse
import dataclasses
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from lib.exporting.export_check import Pair, compare_list, exported_network, thinned, views_of
from lib.predicting.predict_inputs import is_list_name
from ops.backbones.pixels import usual_scale_size
from ops.checkpoints.names import resolve_weights
from ops.data.lists import VideoList, check_files, read_list
from ops.data.preflight import missing_error
from ops.export.description import Description
from ops.export.graph import (
    DEFAULT_OPSET,
    check_packages,
    export_onnx,
    export_torch,
    prepare,
)
from ops.export.int8 import CALIBRATION_CLIPS, quantize
from ops.export.network import is_exported
from ops.export.parity import (
    Parity,
    check_parity,
    moving_batches,
    noise_batches,
    video_batches,
)
from ops.predict import Predictor
from ops.streaming import StreamingTSN
from ops.utils.errors import UserError
from ops.utils.files import atomic_write, sha256
from ops.utils.text import counted

MAX_INT8_VIDEOS = 256  # of the list of --int8 that are compared without --check


def export(args: argparse.Namespace) -> None:
    """Write the file that the flags describe, once its scores are those of the checkpoint.

    Raises:
        UserError: it cannot be exported, or its scores differ.
    """
    if args.to == "onnx":
        check_packages()
    predictor = load(args)
    print(predictor.model.report)
    description = describe_export(args, predictor)
    # Read before the minutes of the export, as they may have errors.
    videos = read_videos(args, predictor)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, args.out.name)
        network = prepare(predictor.model, description.precision, args.fuse_bn)
        if args.stream:
            network = StreamingTSN(network)
        print(f"exporting a {description.kind} network, {_words(description)}")
        write(args, network, path, description, _calibration_clips(predictor, videos))
        pair = Pair(predictor.model, exported_network(path, network, description), description)
        check(args, predictor, pair, videos)
        with atomic_write(args.out) as file:
            file.write(path.read_bytes())
    print(f"{args.out}: {os.path.getsize(args.out) / 1e6:.1f} MB")


def load(args: argparse.Namespace) -> Predictor:
    """The network of the flags, in float32 on the CPU, with the protocol of its predictions.

    Raises:
        UserError: the weights cannot be loaded, or are exported already.
    """
    if is_exported(args.weights):
        raise UserError(f"--weights {args.weights}: is exported already; give the checkpoint")
    scale_size = None
    if args.input_size:
        scale_size = usual_scale_size(args.input_size)
    predictor = Predictor(
        args.weights,
        "cpu",
        num_segments=args.num_segments,
        weights_key=args.weights_key,
        class_names=args.class_names,
        scale_size=scale_size,
        crop_size=args.input_size,
        image_tmpl=args.image_tmpl,
        channels_last=False,
        module=args.module,
    )
    predictor.model.float()
    return predictor


def describe_export(args: argparse.Namespace, predictor: Predictor) -> Description:
    """What the file will contain beside its graph."""
    model = predictor.model
    protocol = predictor.protocol
    precision = "fp32"
    if args.fp16:
        precision = "fp16"
    if args.int8:
        precision = "int8"
    source = resolve_weights(args.weights)
    return Description.of(
        model,
        kind="step" if args.stream else "clip",
        input_size=protocol.crop_size,
        scale_size=protocol.scale_size,
        sampling=protocol.sampling,
        clips=protocol.num_clips,
        crops=protocol.crops,
        average=protocol.average,
        multi_label=predictor.multi_label,
        class_names=predictor.class_names,
        precision=precision,
        source=source.name,
        source_sha256=sha256(source),
    )


def _words(description: Description) -> str:
    size = description.input_size
    segments = counted(description.num_segments, "segment")
    return f"{segments} of {size} x {size}, {description.precision}"


def write(args, network, path, description, calibration):
    """Write the file of the flags, unchecked.

    Args:
        args: of the command.
        network: as `export_onnx` takes it.
        path: file to write.
        description: of the file.
        calibration: iterator of clips for --int8.
    """
    if args.to == "torch":
        export_torch(network, path, description)
        return
    opset = DEFAULT_OPSET if args.opset is None else args.opset
    if not args.int8:
        export_onnx(network, path, description, opset)
        return
    unquantized = path.with_suffix(".fp32.onnx")
    export_onnx(network, unquantized, dataclasses.replace(description, precision="fp32"), opset)
    quantize(unquantized, path, calibration, description)


class Videos(NamedTuple):
    """The videos of the flags.

    Attributes:
        calibration: list of --int8, or None.
        checked: list whose accuracy is printed, or None.
        clips: of the single video of --check, uint8 ``[views, T, L*C, S, S]``, or None.
    """

    calibration: VideoList | None
    checked: VideoList | None
    clips: torch.Tensor | None


def read_videos(args: argparse.Namespace, predictor: Predictor) -> Videos:
    """Read the lists, and the video, of the flags.

    Raises:
        UserError: one cannot be read.
    """
    calibration = None
    if args.int8:
        calibration = _read_list(args.int8, args.root_path, predictor)
    if args.check is None:
        checked = calibration
        if checked is not None:
            checked = thinned(checked, MAX_INT8_VIDEOS)
        return Videos(calibration, checked, None)
    if is_list_name(args.check):
        return Videos(calibration, _read_list(args.check, args.root_path, predictor), None)
    return Videos(calibration, None, views_of(predictor, args.check, args.check))


def _read_list(path: str, root_path: str, predictor: Predictor) -> VideoList:
    videos = read_list(
        path,
        root_path=root_path,
        num_class=predictor.model.num_class,
        multi_label=predictor.multi_label,
    )
    if missing := check_files(videos):
        raise missing_error(videos, missing)
    return videos


def _calibration_clips(predictor: Predictor, videos: Videos) -> Iterator[np.ndarray]:
    """One clip of some of the videos of --int8, uint8 ``[1, T, L*C, S, S]``."""
    for record in thinned(videos.calibration, CALIBRATION_CLIPS):
        place = f"{videos.calibration.path}:{record.line}: {record.id}"
        yield views_of(predictor, record.path, place)[:1].numpy()


def check(args: argparse.Namespace, predictor: Predictor, pair: Pair, videos: Videos) -> None:
    """Compare the file with the checkpoint, and print the differences.

    Raises:
        UserError: the scores differ by more than the precision allows.
    """
    shape = pair.clip_shape
    synthetic = Parity(pair.precision)
    for batches in (noise_batches(shape), moving_batches(shape)):
        synthetic.merge(check_parity(pair.network, pair.exported, batches, pair.precision))
    print(f"noise and generated pictures: {synthetic}")
    if not args.int8:
        # What int8 gives for pictures unlike its calibration videos is no measure of it.
        _judge(synthetic, args)
    if videos.clips is not None:
        batches = video_batches(videos.clips)
        real = check_parity(pair.network, pair.exported, batches, pair.precision)
        print(f"{args.check}: {real}")
        _judge(real, args)
    if videos.checked is not None:
        found = compare_list(predictor, pair, videos.checked)
        count = counted(len(videos.checked), "video")
        print(f"{videos.checked.path}: {found.parity}")
        print(f"{count}, {predictor.description}")
        print(f"  checkpoint: {found.expected}")
        print(f"  exported:   {found.exported}")
        _judge(found.parity, args)


def _judge(parity: Parity, args: argparse.Namespace) -> None:
    """Raise UserError unless the scores are the same, or are allowed to differ."""
    if parity.is_good:
        return
    if args.force:
        print("warning: the predictions of the file differ; kept because of --force")
        return
    fix = "this network cannot be exported"
    if parity.precision == "fp16":
        fix = "export it without --fp16"
    if parity.precision == "int8":
        fix = "use --fp16 or no --int8, or keep the file with --force"
    raise UserError(f"{args.out}: not written, as its scores differ: {parity}; {fix}")
