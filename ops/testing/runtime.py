"""The network of a test in onnxruntime (``--runtime``)."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from ops.data.clips import Failure, TestDataset
from ops.export.description import Description
from ops.export.graph import check_packages, export_onnx, prepare
from ops.export.int8 import CALIBRATION_CLIPS, quantize
from ops.export.network import ExportedNetwork, load_exported
from ops.models import TSN
from ops.testing import INT8, TORCH
from ops.utils.errors import UserError


def check_runtime(args, device) -> None:
    """Check that the flags of a test fit its runtime, and that its packages are installed.

    Args:
        args: the flags of the test scripts.
        device: of the test.

    Raises:
        UserError: they do not.
    """
    if args.runtime == TORCH:
        return
    conflicts = {
        f"--amp {args.amp}": args.amp != "none",
        "--compile": args.compile,
        "--save_scores": args.save_scores,
        f"--device {device}": device.type != "cpu",
    }
    for flag, is_given in conflicts.items():
        if is_given:
            raise UserError(
                f"--runtime {args.runtime} runs on CPUs, without --amp, --compile and "
                f"--save_scores; leave out {flag}, or use --runtime {TORCH}"
            )
    check_packages()


def exported_network(
    model: TSN, dataset: TestDataset, runtime: str, fuse_bn: bool
) -> ExportedNetwork:
    """Export a network for the crops of a test, and load it in onnxruntime.

    Args:
        model: the network, which stays as it is.
        dataset: of the test. For int8, the ranges of the activations are those of some of its
            videos, whose labels are not used.
        runtime: "onnxruntime" or "onnxruntime-int8".
        fuse_bn: fold the BatchNorms into the convs first; done for int8 in any case.

    Raises:
        UserError: the network cannot be exported, or no video can be read for int8.
    """
    precision = "int8" if runtime == INT8 else "fp32"
    transform = dataset.transform
    description = Description.of(
        model,
        input_size=transform.crop_size,
        scale_size=transform.scale_size or transform.crop_size,
        precision=precision,
    )
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "network.onnx")
        export_onnx(prepare(model, precision, fuse_bn), path, description)
        if precision == "int8":
            quantized = Path(folder, "int8.onnx")
            quantize(path, quantized, _calibration_clips(dataset), description)
            path = quantized
        return load_exported(path)


def _calibration_clips(dataset: TestDataset) -> Iterator[np.ndarray]:
    """The first view of videos spread over the list, uint8 ``[1, T, L*C, S, S]`` each."""
    count = min(CALIBRATION_CLIPS, len(dataset))
    read = 0
    for index in np.linspace(0, len(dataset) - 1, count).astype(int):
        item = dataset[0, int(index)]
        if not isinstance(item, Failure):
            read += 1
            yield dataset.transform.crops(item.frames, item.picks[0])[:1].numpy()
    if not read:
        raise UserError(
            f"{dataset.video_list.path}: none of {count} videos can be read to find the ranges of "
            "the activations for int8"
        )
