"""Static int8 quantization of an ONNX file by onnxruntime."""

import contextlib
import logging
import os
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from ops.export.description import Description
from ops.export.graph import CLIP, FRAME, check_packages, state_name
from ops.export.network import ExportedStep, load_exported

CALIBRATION_CLIPS = 128  # fewer leave out values that rare clips reach


def quantize(
    path: str | os.PathLike,
    out: str | os.PathLike,
    clips: Iterable[np.ndarray],
    description: Description,
) -> None:
    """Write an ONNX file with int8 convs and classifier.

    Activations are quantized to uint8 by the smallest and largest value of the calibration clips,
    weights to int8 per channel (QDQ format). Other operators stay float32.

    Args:
        path: file of `export_onnx`, in float32.
        out: file to write.
        clips: calibration clips of videos like those to be classified, uint8
            ``[B, T, L*C, S, S]``.
        description: to be stored in the new file.

    Raises:
        UserError: packages are missing.
    """
    check_packages()
    import onnx
    from onnxruntime.quantization import QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    with tempfile.TemporaryDirectory() as folder, _without_advice():
        prepared = os.path.join(folder, "prepared.onnx")
        quantized = os.path.join(folder, "quantized.onnx")
        quant_pre_process(os.fspath(path), prepared, skip_symbolic_shape=True)
        quantize_static(
            prepared,
            quantized,
            _reader(_feeds(path, clips)),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            op_types_to_quantize=["Conv", "Gemm"],
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
        )
        model = onnx.load(quantized)
    del model.metadata_props[:]
    onnx.helper.set_model_props(model, description.to_texts())
    Path(out).write_bytes(model.SerializeToString())


def _reader(feeds: Iterator[dict[str, np.ndarray]]):
    """A CalibrationDataReader, a class that exists only where onnxruntime is installed."""
    from onnxruntime.quantization import CalibrationDataReader

    class Reader(CalibrationDataReader):
        def get_next(self):
            return next(feeds, None)

    return Reader()


def _feeds(path: str | os.PathLike, clips: Iterable[np.ndarray]) -> Iterator[dict[str, np.ndarray]]:
    """The inputs of the graph for calibration clips; those of a step include its states."""
    network = load_exported(path)
    for clip in clips:
        if not isinstance(network, ExportedStep):
            yield {CLIP: clip}
            continue
        state = network.initial_state(clip[:, 0])
        for number in range(clip.shape[1]):
            frame = clip[:, number]
            yield {FRAME: frame, **_named(state)}
            _, state = network(frame, state)


def _named(state: tuple[np.ndarray, ...]) -> dict[str, np.ndarray]:
    return {state_name(number): part for number, part in enumerate(state)}


@contextlib.contextmanager
def _without_advice() -> Iterator[None]:
    """Silence the quantizer's advice to pre-process the model, which has been done."""
    root = logging.getLogger()
    level = root.level
    root.setLevel(logging.ERROR)
    try:
        yield
    finally:
        root.setLevel(level)
