"""``benchmark.py export``: networks in onnxruntime beside torch, and one step beside a clip."""

import dataclasses
import tempfile
from pathlib import Path

import torch

from lib.benchmarks.benchmark_targets import EXPORT, EXPORT_STANDARD
from lib.measure import interleave, machine, table
from ops.export.description import Description
from ops.export.graph import export_onnx, prepare
from ops.export.int8 import quantize
from ops.export.network import load_exported
from ops.export.parity import moving_batches
from ops.models import TSN
from ops.streaming import StreamingTSN

CLASSES = 400


def export(args):
    """Print the CPU time of clips and steps, and the size of int8 files."""
    print(machine("torch", "onnx", "onnxruntime"))
    print(
        f"causal tsm, 1 clip of {args.segments} frames of {args.size} x {args.size}, "
        f"{args.rounds} rounds"
    )
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for arch in args.archs:
            rows += _rows(args, arch, Path(folder))
    table(("export", "measured", "target", ""), rows)


def _rows(args, arch, folder):
    """The rows of one backbone."""
    torch.manual_seed(0)
    model = TSN(
        CLASSES,
        args.segments,
        arch=arch,
        module="tsm",
        shift_direction="past",
        input_size=args.size,
    ).eval()
    clip = next(iter(moving_batches((args.segments, 3, args.size, args.size))))
    files = _write(model, arch, folder)
    networks = {name: load_exported(path) for name, path in files.items()}
    step = networks["step"]
    _, state = step(clip[:, 0])

    def eager(_):
        with torch.inference_mode():
            model(clip)

    cases = {
        "torch": eager,
        "clip": lambda _: networks["clip"](clip),
        "int8": lambda _: networks["int8"](clip),
        "step": lambda _: step(clip[:, 0], state),
    }
    times = interleave(cases, args.rounds)
    targets = {}
    if (args.segments, args.size) == EXPORT_STANDARD:
        targets = EXPORT.get(arch, {})
    size = files["int8"].stat().st_size / files["clip"].stat().st_size
    return [
        _row(arch, "torch, ms", times["torch"]),
        _row(arch, "onnxruntime, ms", times["clip"]),
        _at_least(arch, "torch / onnxruntime", times["torch"] / times["clip"], targets),
        _at_most(arch, "step in onnxruntime, ms", times["step"], targets),
        _at_least(arch, "clip / step", times["clip"] / times["step"], targets),
        _at_least(arch, "onnxruntime / int8", times["clip"] / times["int8"], targets),
        _at_most(arch, "int8 file / fp32 file", size, targets),
    ]


def _write(model, arch, folder):
    """The files of a network: name -> path."""
    files = {name: folder / f"{arch}_{name}.onnx" for name in ("clip", "step", "int8")}
    description = Description.of(model)
    export_onnx(prepare(model, "fp32", fuse_bn=False), files["clip"], description)
    stream = StreamingTSN(prepare(model, "fp32", fuse_bn=False))
    export_onnx(stream, files["step"], Description.of(model, kind="step"))
    unquantized = folder / f"{arch}_folded.onnx"
    export_onnx(prepare(model, "int8", fuse_bn=True), unquantized, description)
    clips = moving_batches((model.num_segments, 3, model.input_size, model.input_size))
    quantize(
        unquantized,
        files["int8"],
        [batch.numpy() for batch in clips],
        dataclasses.replace(description, precision="int8"),
    )
    return files


def _row(arch, name, value):
    return (f"{arch}: {name}", f"{value:.2f}", "", "")


def _at_least(arch, name, value, targets):
    target = targets.get(name)
    if target is None:
        return _row(arch, name, value)
    verdict = "ok" if value >= target else "missed"
    return (f"{arch}: {name}", f"{value:.2f}", f">= {target:g}", verdict)


def _at_most(arch, name, value, targets):
    target = targets.get(name)
    if target is None:
        return _row(arch, name, value)
    verdict = "ok" if value <= target else "missed"
    return (f"{arch}: {name}", f"{value:.2f}", f"<= {target:g}", verdict)
