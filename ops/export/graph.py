"""Write a network as an ONNX or torch.export file, for any number of clips at a time.

The exported graph takes uint8 pixels and contains the normalization. The dynamo exporter is used:
the older tracer would silently write files that take the traced number of clips only.
"""

import copy
import importlib.util
import json
import os
import warnings
from pathlib import Path

import torch
from torch import nn

from ops.checkpoints import describe
from ops.export.description import DESCRIPTION, Description
from ops.models import TSN, fuse_batch_norm
from ops.utils.errors import UserError
from ops.utils.text import printable

MIN_OPSET = 18  # the exporter cannot write older ones
MAX_OPSET = 25
DEFAULT_OPSET = 20
MAX_BYTES = 2_000_000_000  # of one ONNX file: protobuf's limit of 2 GiB, less the graph
EXAMPLE_BATCH = 2  # torch.export would take 1 for a constant
CLIP = "clip"
FRAME = "frame"
SCORES = "scores"
_PACKAGES = ("onnx", "onnxscript", "onnxruntime")


def state_name(number: int) -> str:
    """The graph's input with the state of a temporal module."""
    return f"state_{number}"


def new_state_name(number: int) -> str:
    """The graph's output with the state of a temporal module after the frame."""
    return f"new_state_{number}"


class ClipGraph(nn.Module):
    """What is exported of a clip network: uint8 clip to float32 scores.

    Args:
        network: a TSN in eval mode.
    """

    def __init__(self, network: TSN) -> None:
        super().__init__()
        self.network = network

    def forward(self, clip: torch.Tensor) -> torch.Tensor:
        """uint8 ``[B, T, L*C, S, S]`` to float32 ``[B, num_class]``."""
        return self.network(clip).float()


class StepGraph(nn.Module):
    """What is exported of a network that runs frame by frame.

    The state is float32 outside of the graph, also of a network in half precision.

    Args:
        stream: an ``ops.streaming.StreamingTSN``.
    """

    def __init__(self, stream: nn.Module) -> None:
        super().__init__()
        self.stream = stream

    def forward(self, frame: torch.Tensor, *state: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """uint8 ``[B, L*C, S, S]`` and the state to float32 ``[B, num_class]`` and the next."""
        dtype = self.stream.network.mean.dtype
        scores, new_state = self.stream(frame, tuple(part.to(dtype) for part in state))
        return scores.float(), *[part.float() for part in new_state]


def check_packages() -> None:
    """Check that the packages are installed that write and run ONNX files.

    Raises:
        UserError: one is missing.
    """
    for package in _PACKAGES:
        if importlib.util.find_spec(package) is None:
            raise UserError(
                f"{package} is not installed; pip install -r tools/requirements.txt installs what "
                "an ONNX export needs"
            )


def prepare(model: TSN, precision: str, fuse_bn: bool) -> TSN:
    """A copy of a network in the precision of the file.

    Args:
        model: a TSN, which stays as it is.
        precision: "fp32", "fp16" or "int8".
        fuse_bn: fold BatchNorms into the convs. Done for fp16 and int8 in any case: running
            variances do not fit half precision, and int8 quantizes convs only.

    Returns:
        The copy, in eval mode on the CPU.
    """
    network = copy.deepcopy(model).cpu().float().eval()
    if fuse_bn or precision != "fp32":
        fuse_batch_norm(network)
    if precision == "fp16":
        network.half()
    return network


def export_onnx(
    network: nn.Module,
    path: str | os.PathLike,
    description: Description,
    opset: int = DEFAULT_OPSET,
) -> None:
    """Write an ONNX file.

    Its inputs are ``clip``, or ``frame`` and ``state_0``, ``state_1``, ...; its outputs are
    ``scores``, and ``new_state_0``, ... of a step.

    Args:
        network: a TSN in eval mode, or a ``StreamingTSN`` for a description of kind "step".
        path: file to write; not atomically, as it is checked before it gets its final name.
        description: stored in the file.
        opset: version of the ONNX operators.

    Raises:
        UserError: packages are missing, the opset is not supported, the file would be larger than
            2 GB, or the network cannot be exported.
    """
    check_packages()
    if not MIN_OPSET <= opset <= MAX_OPSET:
        raise UserError(f"--opset {opset}: give one from {MIN_OPSET} to {MAX_OPSET}")
    _check_size(network)
    graph, example, names, dynamic_shapes = _problem(network, description, "batch")
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            program = torch.onnx.export(
                graph,
                example,
                dynamo=True,
                dynamic_shapes=dynamic_shapes,
                opset_version=opset,
                input_names=names[0],
                output_names=names[1],
                external_data=False,
                verbose=False,
            )
        except Exception as error:
            raise _refusal(description, error) from error
    program.model.metadata_props.update(description.to_texts())
    Path(path).write_bytes(program.model_proto.SerializeToString())


def export_torch(network: nn.Module, path: str | os.PathLike, description: Description) -> None:
    """Write a ``torch.export`` file (``.pt2``), which ``torch.export.load`` reads.

    Args:
        network, path, description: as of `export_onnx`.

    Raises:
        UserError: the network cannot be exported.
    """
    graph, example, _, dynamic_shapes = _problem(network, description, torch.export.Dim("batch"))
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            program = torch.export.export(graph, example, dynamic_shapes=dynamic_shapes)
        except Exception as error:
            raise _refusal(description, error) from error
        with open(path, "wb") as file:
            texts = json.dumps(description.to_texts(), ensure_ascii=False)
            torch.export.save(program, file, extra_files={DESCRIPTION: texts})


def _problem(network, description, batch):
    """What both exporters are given.

    Args:
        network, description: as of `export_onnx`.
        batch: the dimension of the batch, a name or a ``torch.export.Dim``.

    Returns:
        (graph, example arguments, (input names, output names), dynamic shapes).
    """
    size = description.input_size
    frame = torch.zeros(EXAMPLE_BATCH, description.frame_channels, size, size, dtype=torch.uint8)
    if description.kind == "clip":
        clip = frame.unsqueeze(1).repeat(1, description.num_segments, 1, 1, 1)
        return ClipGraph(network), (clip,), ([CLIP], [SCORES]), ({0: batch},)
    state = tuple(part.float() for part in network.initial_state(frame))
    inputs = [FRAME]
    outputs = [SCORES]
    for number in range(len(state)):
        inputs.append(state_name(number))
        outputs.append(new_state_name(number))
    dynamic_shapes = {"frame": {0: batch}}
    if state:  # that of a plain TSN is empty
        dynamic_shapes["state"] = tuple({0: batch} for _ in state)
    return StepGraph(network), (frame, *state), (inputs, outputs), dynamic_shapes


def _check_size(network):
    """Raise UserError if the weights do not fit into one ONNX file."""
    weights = [*network.parameters(), *network.buffers()]
    size = sum(weight.numel() * weight.element_size() for weight in weights)
    if size > MAX_BYTES:
        raise UserError(
            f"its weights have {size / 1e9:.1f} GB, and an ONNX file holds at most 2 GB; use "
            "--fp16, or --to torch"
        )


def _refusal(description, error):
    """The UserError for an exception of an exporter, whose first cause explains it."""
    cause = error
    while cause.__cause__ is not None:
        cause = cause.__cause__
    lines = [line.strip() for line in str(cause).splitlines() if line.strip()]
    reason = printable(lines[0]) if lines else type(cause).__name__
    return UserError(f"{describe(description.model)} cannot be exported: {reason}")
