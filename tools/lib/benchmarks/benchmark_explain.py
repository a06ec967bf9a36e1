"""``benchmark.py explain``: an explanation of a clip beside the forward pass alone, on the CPU."""

import torch

from lib.benchmarks.benchmark_targets import EXPLAIN
from lib.measure import interleave, machine, table
from ops.explain import grad_cam
from ops.models import TSN


def explain_clips(args):
    """Print the time of an explanation as a multiple of that of a prediction."""
    print(machine("torch"))
    print(f"one clip of {args.segments} segments, {args.arch}, {args.rounds} rounds")
    rows = []
    for module in args.modules:
        for size in args.sizes:
            rows.append(_row(module, size, args))
    table(("explain", "stage", "prediction ms", "explanation ms", "ratio", "target", ""), rows)


def _row(module, size, args):
    torch.manual_seed(0)
    model = TSN(400, args.segments, arch=args.arch, module=module).eval().to_channels_last()
    shape = (args.segments, model.frame_channels, size, size)
    clip = torch.randint(256, shape, dtype=torch.uint8)
    stage = grad_cam(model, clip, 0).stage

    def predict(_):
        with torch.inference_mode():
            model(clip[None])

    cases = {"predict": predict, "explain": lambda _: grad_cam(model, clip, 0)}
    times = interleave(cases, args.rounds)
    ratio = times["explain"] / times["predict"]
    verdict = "ok" if ratio <= EXPLAIN else "above"
    cells = [f"{times[name]:.1f}" for name in cases]
    return (
        f"{module} {size}",
        str(stage),
        *cells,
        f"{ratio:.2f}",
        f"<= {EXPLAIN:.2f}",
        verdict,
    )
