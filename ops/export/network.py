"""Networks that run from an ONNX file, in onnxruntime on the CPU. ::

    network = load_exported("best.onnx")
    scores = network(clip)  # uint8 [B, T, L*C, S, S], as a TSN takes them

    step = load_exported("online.onnx")
    scores, state = step(frame, state)  # as a StreamingTSN

They have the attributes that a TSN has for predictions, so that ``Predictor``, tests and live
streams run either.
"""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ops.checkpoints import describe
from ops.export.description import Description
from ops.export.graph import CLIP, FRAME, SCORES, new_state_name, state_name
from ops.utils.errors import UserError
from ops.utils.files import check_regular

SUFFIX = ".onnx"
TORCH_SUFFIX = ".pt2"
_PROVIDERS = ["CPUExecutionProvider"]

# A caller's array, and what it gets back.
Array = np.ndarray | torch.Tensor


def is_exported(source: object) -> bool:
    """Whether something that names weights is an exported network or the path of one.

    Raises:
        UserError: it is the path of a torch.export file.
    """
    if isinstance(source, ExportedNetwork):
        return True
    if not isinstance(source, str | os.PathLike):
        return False
    suffix = Path(source).suffix.lower()
    if suffix == TORCH_SUFFIX:
        # torch.export.load unpickles: a stranger's file could run any code.
        raise UserError(
            f"{source}: torch.export files are loaded by torch.export.load in your own program "
            "only; here give the checkpoint, or an ONNX file"
        )
    return suffix == SUFFIX


def load_exported(path: str | os.PathLike) -> "ExportedClip | ExportedStep":
    """A network of an ONNX file that ``export_onnx`` wrote.

    It computes with as many threads as torch (``torch.set_num_threads``).

    Args:
        path: the file.

    Raises:
        UserError: onnxruntime is not installed, or the file is not such a network.
    """
    try:
        import onnxruntime
    except ImportError:
        raise UserError(
            f"{path}: onnxruntime is not installed; pip install onnxruntime, or give the checkpoint"
        ) from None
    name = os.fspath(path)
    try:
        check_regular(path)
    except OSError as error:
        raise UserError(f"{name}: cannot be read ({error.strerror})") from None
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 3  # errors: warnings are about the graph, which a user cannot fix
    try:
        session = onnxruntime.InferenceSession(name, options, providers=_PROVIDERS)
    except Exception as error:  # its exceptions have no common class but this one
        reason = str(error).strip().splitlines()[0]
        raise UserError(
            f"{name}: onnxruntime {onnxruntime.__version__} cannot load it ({reason})"
        ) from None
    description = Description.from_texts(session.get_modelmeta().custom_metadata_map, name)
    if description.kind == "clip":
        return ExportedClip(session, description, name)
    return ExportedStep(session, description, name)


class ExportedNetwork:
    """What exported networks have in common.

    Attributes:
        session: the ``onnxruntime.InferenceSession``.
        description: of the file.
        kind: "clip" or "step".
        spec: arguments of the TSN that was exported.
        num_class, num_segments, frames_per_segment, frame_channels, modality, input_size,
            scale_size, class_names, average, published, report, is_framewise: as of a TSN that
            ``load_model`` returns.
    """

    def __init__(self, session: Any, description: Description, name: str) -> None:
        self.session = session
        self.description = description
        self.name = name
        self.kind = description.kind
        self.spec = description.model
        self.num_class = description.num_class
        self.num_segments = description.num_segments
        self.frames_per_segment = description.frames_per_segment
        self.frame_channels = description.frame_channels
        self.modality = description.modality
        self.input_size = description.input_size
        self.scale_size = description.scale_size
        self.class_names = description.class_names
        self.average = description.average
        self.published = None
        # Its segments cannot be computed on their own.
        self.is_framewise = False
        self.report = f"{name}: {description.kind} network, {describe(self.spec)}, onnxruntime"
        if description.precision != "fp32":
            self.report += f", {description.precision}"

    def eval(self) -> "ExportedNetwork":
        """The network, which has no other mode."""
        return self

    def features(self, clip: Array) -> Array:
        """Not in the file.

        Raises:
            UserError: always.
        """
        raise UserError(f"{self.name}: has class scores only; give the checkpoint for features")

    def _check_graph(self, inputs: dict[str, tuple[int, ...]]) -> None:
        """Raise UserError unless the graph takes what its metadata describe.

        Args:
            inputs: name -> shape without the batch, of the inputs that are pixels.
        """
        found = {node.name: tuple(node.shape[1:]) for node in self.session.get_inputs()}
        scores = self.session.get_outputs()[0]
        is_same = all(found.get(name) == shape for name, shape in inputs.items())
        if not is_same or scores.name != SCORES or tuple(scores.shape[1:]) != (self.num_class,):
            raise UserError(f"{self.name}: its graph does not fit its metadata; export it again")


class ExportedClip(ExportedNetwork):
    """A network of clips, called as a TSN."""

    def __init__(self, session: Any, description: Description, name: str) -> None:
        super().__init__(session, description, name)
        self._shape = _clip_shape(description)
        self._check_graph({CLIP: self._shape})

    def __call__(self, clip: Array) -> Array:
        """Class scores (logits) of a batch of clips.

        Args:
            clip: uint8 ``[B, T, L*C, S, S]`` or ``[B, T*L*C, S, S]``, a tensor on any device or an
                array.

        Returns:
            float32 ``[B, num_class]``, on the CPU.

        Raises:
            ValueError: a clip of another shape or type.
        """
        pixels = _pixels(clip, self._shape)
        (scores,) = self.session.run([SCORES], {CLIP: pixels})
        return _like(clip, scores)

    def as_clip(self) -> "ExportedClip":
        """The network."""
        return self


class ExportedStep(ExportedNetwork):
    """A network of single frames, called as a ``StreamingTSN``."""

    def __init__(self, session: Any, description: Description, name: str) -> None:
        super().__init__(session, description, name)
        size = description.input_size
        self._shape = (description.frame_channels, size, size)
        self._check_graph({FRAME: self._shape})
        shapes = {node.name: tuple(node.shape[1:]) for node in session.get_inputs()}
        count = len(shapes) - 1
        self._inputs = [state_name(number) for number in range(count)]
        self._outputs = [SCORES, *(new_state_name(number) for number in range(count))]
        written = [node.name for node in session.get_outputs()]
        if sorted(written) != sorted(self._outputs) or not shapes.keys() >= set(self._inputs):
            raise UserError(f"{name}: its graph does not fit its metadata; export it again")
        self.state_shapes = [shapes[name] for name in self._inputs]

    def __call__(
        self, frame: Array, state: Sequence[Array] | None = None
    ) -> tuple[Array, tuple[Array, ...]]:
        """Class scores (logits) of the next frame of B videos.

        Args:
            frame: uint8 ``[B, L*C, S, S]``, a tensor on any device or an array.
            state: what the step before returned; None for the first frame.

        Returns:
            Scores, float32 ``[B, num_class]``, and the state for the next step, on the CPU.

        Raises:
            ValueError: a frame of another shape or type, or a state of another network.
        """
        pixels = _pixels(frame, self._shape)
        if state is None:
            state = self._zeros(len(pixels))
        if len(state) != len(self._inputs):
            raise ValueError(f"a state of this network has {len(self._inputs)} arrays")
        feeds = {FRAME: pixels}
        for name, part in zip(self._inputs, state, strict=True):
            feeds[name] = _to_numpy(part)
        scores, *new_state = self.session.run(self._outputs, feeds)
        return _like(frame, scores), tuple(_like(frame, part) for part in new_state)

    def initial_state(self, frame: Array) -> tuple[Array, ...]:
        """The state before the first frame, zeros.

        Args:
            frame: any batch of frames, ``[B, L*C, S, S]``.
        """
        return tuple(_like(frame, part) for part in self._zeros(len(frame)))

    def _zeros(self, batch: int) -> list[np.ndarray]:
        return [np.zeros((batch, *shape), np.float32) for shape in self.state_shapes]

    def as_step(self) -> "ExportedStep":
        """The network."""
        return self

    def as_clip(self) -> "SteppedClip":
        """A network of clips that steps over their segments."""
        return SteppedClip(self.session, self.description, self.name)


class SteppedClip(ExportedNetwork):
    """A network of single frames, called as a TSN: the mean of the scores of the T steps."""

    def __init__(self, session: Any, description: Description, name: str) -> None:
        super().__init__(session, description, name)
        self._step = ExportedStep(session, description, name)
        self._shape = _clip_shape(description)

    def __call__(self, clip: Array) -> Array:
        """As `ExportedClip.__call__`."""
        pixels = _pixels(clip, self._shape)
        return _like(clip, run_steps(self._step, pixels).mean(1))

    def as_step(self) -> ExportedStep:
        """The network of single frames."""
        return self._step

    def as_clip(self) -> "SteppedClip":
        """The network."""
        return self


def run_steps(step: Any, clip: Array) -> Array:
    """The scores of each step over a clip, from the first frame on.

    Args:
        step: an `ExportedStep` or a ``StreamingTSN``.
        clip: uint8 ``[B, T, L*C, S, S]``.

    Returns:
        Floating point ``[B, T, num_class]``.
    """
    state = None
    scores = []
    for number in range(clip.shape[1]):
        of_frame, state = step(clip[:, number], state)
        scores.append(of_frame)
    if isinstance(clip, torch.Tensor):
        return torch.stack(scores, 1)
    return np.stack(scores, 1)


def _clip_shape(description: Description) -> tuple[int, ...]:
    size = description.input_size
    return (description.num_segments, description.frame_channels, size, size)


def _pixels(array: Array, shape: tuple[int, ...]) -> np.ndarray:
    """A batch of the shape that a graph takes, also from one that is flattened over time."""
    pixels = _to_numpy(array)
    if pixels.dtype != np.uint8:
        raise ValueError(f"an exported network takes uint8 pixels, not {pixels.dtype}")
    flat = (shape[0] * shape[1], *shape[2:])
    if pixels.shape[1:] not in (shape, flat):
        raise ValueError(f"this network takes [B, {str(list(shape))[1:]}, not {list(pixels.shape)}")
    return np.ascontiguousarray(pixels.reshape(-1, *shape))


def _to_numpy(array: Array) -> np.ndarray:
    if isinstance(array, torch.Tensor):
        return array.detach().cpu().numpy()
    return np.asarray(array)


def _like(given: Array, values: np.ndarray) -> Array:
    """Values in the form of what a caller gave: a tensor for a tensor, else an array."""
    if isinstance(given, torch.Tensor):
        return torch.from_numpy(values)
    return values
