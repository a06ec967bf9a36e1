"""Measure speed, memory and size beside the originals, in one run.

In each round the original and ours run once each, in random order. A time is the median over the
rounds, a ratio is the original's time over ours, and a target is the ratio that this project holds
itself to. On the CPU a time is that of the process with all its threads, on a GPU it is wall-clock
time. tools/lib/benchmarks/baselines_*.py describe the originals.

    python tools/benchmark.py data
    python tools/benchmark.py model --modules tdn --train
"""

import argparse
import importlib
import sys
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from lib.benchmarks.benchmark_targets import ARCHS, MODULES, PARTS, SOURCES
from ops.cli.types import positive_int
from ops.utils.errors import run_cli


@dataclass(frozen=True)
class Benchmark:
    """A benchmark.

    Its function as ``module:name``, its help, a function that adds its flags, and whether it
    measures in its own process.

    The module is imported after parsing: torch takes seconds.

    Attributes:
        keeps_memory: whether the process keeps freed memory as main.py and the test scripts do on a
            CPU. The originals do not: it is off where only their part of a time depends on it.
    """

    run: str
    help: str
    add_flags: callable
    measures: bool = True
    keeps_memory: bool = True

    def __call__(self, args):
        module, name = self.run.split(":")
        getattr(importlib.import_module(module), name)(args)


class DefaultsFormatter(argparse.ArgumentDefaultsHelpFormatter):
    """Adds the defaults to ``--help``, where there are any."""

    def _get_help_string(self, action):
        if action.default is None or action.default is False:
            return action.help
        return super()._get_help_string(action)


def add_count(parser, name, default, help, metavar="N"):
    """A flag with a number from 1."""
    parser.add_argument(name, type=positive_int, default=default, metavar=metavar, help=help)


def add_device_flag(parser):
    parser.add_argument(
        "--device",
        choices=("auto", "cpu", "cuda"),
        default="auto",
        help="device of the networks; auto: a GPU if there is one",
    )


def add_data_flags(parser):
    parser.add_argument("--video", metavar="FILE", help="video to read (default: a generated one)")
    add_count(parser, "--frames", 300, "frames of the generated video, 30 per second")
    add_count(parser, "--rounds", 11, "rounds after a warm-up round")
    add_count(parser, "--clips", 4, "clips per round, each at another position")


def add_model_flags(parser):
    parser.add_argument(
        "--modules",
        nargs="+",
        choices=MODULES,
        default=list(MODULES),
        help="temporal modules; training also times tsn beside tsm, tam and tin, and the shift",
    )
    parser.add_argument("--arch", choices=ARCHS, default="resnet50", help="backbone")
    add_count(parser, "--segments", 8, "segments per clip", metavar="T")
    add_count(parser, "--size", 224, "side of a frame", metavar="PIXELS")
    add_count(parser, "--batch", 2, "clips per batch", metavar="B")
    parser.add_argument(
        "--train", action="store_true", help="forward and backward of a training step"
    )
    parser.add_argument(
        "--compile", action="store_true", help="also torch.compile, which takes minutes"
    )
    add_count(parser, "--rounds", 7, "rounds after a warm-up round")
    add_count(parser, "--threads", 1, "threads on the CPU")
    add_device_flag(parser)


def add_views_flags(parser):
    add_count(parser, "--frames", 300, "frames of the generated video, 30 per second")
    add_count(parser, "--rounds", 5, "rounds after a warm-up round")
    add_count(parser, "--videos", 20, "videos of the whole test")
    add_count(parser, "--threads", 2, "threads of the networks")
    # What the process whose memory is measured is given.
    parser.add_argument("--peak", nargs=4, help=argparse.SUPPRESS)


def add_worker_flags(parser):
    add_count(parser, "--epochs", 8, "epochs")
    add_count(parser, "--clips", 64, "clips per epoch")
    add_count(parser, "--frames", 300, "frames of the generated video, 30 per second")
    add_count(parser, "--lines", 100_000, "lines of the list")
    add_count(parser, "--workers", 2, "data-loading workers")


def add_predict_flags(parser):
    parser.add_argument("--arch", choices=("resnet18", *ARCHS), default="resnet50", help="backbone")
    add_count(parser, "--clips", 16, "clips of 10 seconds")
    add_count(parser, "--seconds", 60, "length of the video of the timeline")
    add_count(parser, "--minutes", 10, "length of the video whose memory is measured")
    add_count(parser, "--rounds", 3, "rounds after a warm-up round")
    add_count(parser, "--threads", 1, "threads on the CPU")
    add_count(parser, "--workers", 1, "data-loading workers")
    add_device_flag(parser)
    # What the process whose memory is measured is given.
    parser.add_argument("--peak", nargs=2, help=argparse.SUPPRESS)


def add_export_flags(parser):
    parser.add_argument(
        "--archs",
        nargs="+",
        choices=("resnet18", "resnet50", "mobilenetv2"),
        default=["resnet50", "mobilenetv2"],
        help="backbones",
    )
    add_count(parser, "--segments", 8, "frames per clip", metavar="T")
    add_count(parser, "--size", 224, "side of a frame", metavar="PIXELS")
    add_count(parser, "--rounds", 11, "rounds after a warm-up round")
    add_count(parser, "--threads", 1, "threads on the CPU")


def add_explain_flags(parser):
    parser.add_argument(
        "--modules", nargs="+", choices=MODULES, default=list(MODULES), help="temporal modules"
    )
    parser.add_argument("--arch", choices=("resnet18", *ARCHS), default="resnet50", help="backbone")
    parser.add_argument(
        "--sizes",
        nargs="+",
        type=positive_int,
        default=[224, 112],
        metavar="PIXELS",
        help="sides of a frame",
    )
    add_count(parser, "--segments", 8, "segments of the clip", metavar="T")
    add_count(parser, "--rounds", 7, "rounds after a warm-up round")
    add_count(parser, "--threads", 1, "threads on the CPU")


def add_epoch_flags(parser):
    parser.add_argument(
        "--modules",
        nargs="+",
        choices=MODULES,
        default=["tsm", "tdn"],
        help="temporal modules",
    )
    parser.add_argument(
        "--sources",
        nargs="+",
        choices=SOURCES,
        help="read video files, frame folders, or one after the other (default: what the original "
        "reads, videos for tdn and folders for the other modules)",
    )
    add_count(parser, "--videos", 64, "training videos; an eighth of them is validated")
    add_count(parser, "--batch", 8, "clips per batch", metavar="B")
    add_count(parser, "--rounds", 1, "rounds, in each of which every program runs once")
    add_loop_flags(parser)
    # What the process that runs the original is given.
    parser.add_argument("--original", nargs=3, help=argparse.SUPPRESS)


def add_loop_flags(parser):
    """The flags of benchmarks that run a network and a loader together."""
    parser.add_argument("--arch", choices=("resnet18", *ARCHS), default="resnet50", help="backbone")
    add_count(parser, "--frames", 300, "frames of each generated video, 30 per second")
    add_count(parser, "--size", 224, "side of a frame", metavar="PIXELS")
    add_count(parser, "--workers", 2, "data-loading workers")
    add_count(parser, "--threads", 2, "threads of the networks")
    add_device_flag(parser)


def add_score_flags(parser):
    parser.add_argument(
        "--modules",
        nargs="+",
        choices=MODULES,
        default=["tsm", "tdn", "tam", "tin"],
        help="temporal modules",
    )
    parser.add_argument(
        "--views", nargs="+", choices=("1", "30"), default=["1", "30"], help="views of each video"
    )
    parser.add_argument(
        "--onnxruntime",
        nargs="*",
        choices=MODULES,
        help="of these modules also --runtime onnxruntime and onnxruntime-int8, with 1 view, "
        "without the time of the export (default: tsm, on a CPU and where it is installed)",
    )
    add_count(parser, "--videos", 16, "videos of tests with 1 view")
    add_count(parser, "--long_videos", 1, "videos of tests with 30 views")
    add_loop_flags(parser)
    # What the process that runs the original is given.
    parser.add_argument("--original", nargs=4, help=argparse.SUPPRESS)


def add_loader_flags(parser):
    add_count(parser, "--frames", 300, "frames of the generated video, 30 per second")
    add_count(parser, "--clips", 64, "clips per epoch")
    add_count(parser, "--batch", 8, "clips per batch", metavar="B")
    add_count(parser, "--rounds", 3, "rounds")


def add_start_flags(parser):
    add_count(parser, "--lines", 300_000, "lines of each list")
    add_count(parser, "--workers", 2, "data-loading workers")
    add_count(parser, "--rounds", 3, "rounds")
    parser.add_argument("--folder", metavar="DIR", help="where to make the videos (default: /tmp)")


def add_all_flags(parser):
    parser.add_argument("--out", default="runs/benchmark", metavar="DIR", help="folder of the JSON")
    parser.add_argument(
        "--parts",
        nargs="+",
        choices=tuple(PARTS),
        help="what to measure (default: a set of about 25 minutes on two cores)",
    )
    parser.add_argument(
        "--resume", action="store_true", help="keep the parts that are in the folder already"
    )
    parser.add_argument(
        "--write_docs",
        action="store_true",
        help="also write docs/performance.json and the tables of docs/performance.md",
    )
    add_device_flag(parser)


def add_page_flags(parser):
    parser.add_argument("--check", action="store_true", help="write nothing, only compare")


# A new benchmark is a function in tools/lib/benchmarks/ and an entry here.
BENCHMARKS = {
    "data": Benchmark(
        "lib.benchmarks.benchmark_data:data",
        "CPU time of a training clip, from file to tensor, with 8 x 5 frames (TDN) and 8 x 1 (TSN)",
        add_data_flags,
        keeps_memory=False,
    ),
    "model": Benchmark(
        "lib.benchmarks.benchmark_model:model",
        "time of inference or of a training step, and the memory kept for the backward pass",
        add_model_flags,
    ),
    "views": Benchmark(
        "lib.benchmarks.benchmark_views:views",
        "30 views of a video: CPU time of the data, time of a whole test, memory",
        add_views_flags,
    ),
    "predict": Benchmark(
        "lib.benchmarks.benchmark_predict:predict",
        "predictions beside the network alone; a timeline beside naive windows; start, memory",
        add_predict_flags,
    ),
    "export": Benchmark(
        "lib.benchmarks.benchmark_export:export",
        "onnxruntime beside torch; int8; one step of a stream beside a clip (CPU)",
        add_export_flags,
    ),
    "explain": Benchmark(
        "lib.benchmarks.benchmark_explain:explain_clips",
        "an explanation of a clip (Grad-CAM) beside its prediction",
        add_explain_flags,
    ),
    "flops": Benchmark(
        "lib.benchmarks.benchmark_model:flops",
        "parameters and multiply-adds of a view beside the numbers of the papers",
        lambda parser: None,
    ),
    "epoch": Benchmark(
        "lib.benchmarks.benchmark_epoch:epoch",
        "a whole epoch of main.py beside the original's training loop, on the same videos",
        add_epoch_flags,
    ),
    "score": Benchmark(
        "lib.benchmarks.benchmark_scoring:score",
        "whole tests of 1 and 30 views beside the original's loop",
        add_score_flags,
    ),
    "loader": Benchmark(
        "lib.benchmarks.benchmark_loader:loader",
        "videos per second with one and two workers, and the time outside decoding and resizing",
        add_loader_flags,
    ),
    "start": Benchmark(
        "lib.benchmarks.benchmark_start:start",
        "from the command to the first step of a training with long lists",
        add_start_flags,
    ),
    "all": Benchmark(
        "lib.benchmarks.benchmark_all:run_all",
        "the benchmarks of docs/performance.md, and whether each reaches its goal",
        add_all_flags,
        measures=False,
    ),
    "page": Benchmark(
        "lib.benchmarks.benchmark_all:page",
        "write the tables of docs/performance.md from docs/performance.json",
        add_page_flags,
        measures=False,
    ),
    "worker": Benchmark(
        "lib.benchmarks.benchmark_worker:worker",
        "memory of the data-loading workers after each epoch, which must not grow",
        add_worker_flags,
    ),
}


def parse_args():
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    commands = parser.add_subparsers(required=True, metavar="BENCHMARK")
    for name, benchmark in BENCHMARKS.items():
        command = commands.add_parser(
            name,
            help=benchmark.help,
            description=benchmark.help,
            allow_abbrev=False,
            formatter_class=DefaultsFormatter,
        )
        command.set_defaults(benchmark=benchmark, threads=1)
        if benchmark.measures:
            command.add_argument("--json", metavar="FILE", help="also write the tables to a file")
        benchmark.add_flags(command)
    return parser.parse_args()


def _without_json(arguments):
    """Arguments without ``--json FILE``, as the page names them."""
    place = arguments.index("--json")
    return arguments[:place] + arguments[place + 2 :]


def main():
    args = parse_args()
    import torch

    from lib.benchmarks.performance_page import cores_in_use, is_busy, save_part
    from lib.measure import recording
    from ops.utils.machine import keep_freed_memory

    torch.set_num_threads(args.threads)
    is_original = getattr(args, "original", None) is not None
    is_peak = getattr(args, "peak", None) is not None
    if args.benchmark.keeps_memory and not is_original:
        keep_freed_memory()
    if is_original or is_peak or not args.benchmark.measures:
        args.benchmark(args)
        return
    load = cores_in_use()
    if is_busy(load):
        print(f"warning: other programs use {load:.1f} cores of this machine", file=sys.stderr)
    with recording() as tables:
        args.benchmark(args)
    if args.json:
        save_part(args.json, _without_json(sys.argv[1:]), load, tables)


if __name__ == "__main__":
    run_cli(main)
