"""Measure speed, memory and size beside the way the originals do it, in one run.

    python tools/benchmark.py data       training clips from a video file and from a folder of frames
    python tools/benchmark.py model      forward passes, and with --train training steps
    python tools/benchmark.py views      30 views of a test, from video file to scores
    python tools/benchmark.py flops      parameters and multiply-adds beside the papers' numbers
    python tools/benchmark.py worker     memory of the loader's processes over epochs

In each round the original's way and ours run once each, in random order. A time is the median over rounds, a ratio is
the original's time over ours, and a bar is the ratio that this project holds itself to. On the CPU a time is that of
this process with all its threads, on a GPU it is time on the clock. tools/lib/baselines_data.py and baselines_model.py say what
the original's way is.
"""

import argparse
import multiprocessing
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch

from lib import baselines_model
from lib.benchmark_data import data, make_video, training_set
from lib.benchmark_model import flops, model
from lib.benchmark_views import views
from lib.measure import machine, table
from ops.cli.types import positive_int
from ops.data.loader import TrainSampler, make_loader
from ops.temporal import MODULES
from ops.utils.errors import UserError, run_cli


def main():
    args = parser().parse_args()
    torch.set_num_threads(args.threads)
    args.run(args)


def parser():
    top = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    verbs = top.add_subparsers(required=True, metavar="VERB")

    def verb(run, purpose):
        made = verbs.add_parser(
            run.__name__,
            help=purpose,
            description=purpose,
            allow_abbrev=False,
            formatter_class=argparse.ArgumentDefaultsHelpFormatter,
        )
        made.set_defaults(run=run, threads=1)
        return made

    one = verb(
        data,
        "CPU time of a training clip, from file to tensor: 8 x 5 frames (TDN) and 8 single ones (TSN)",
    )
    one.add_argument(
        "--video", metavar="FILE", help="video to read instead of one made of sample pictures"
    )
    one.add_argument(
        "--frames",
        type=positive_int,
        default=300,
        metavar="N",
        help="length of the made video, 30 frames/s",
    )
    one.add_argument(
        "--rounds",
        type=positive_int,
        default=11,
        metavar="N",
        help="rounds after the one that warms up",
    )
    one.add_argument(
        "--clips",
        type=positive_int,
        default=4,
        metavar="N",
        help="clips made in a row, each another",
    )
    one = verb(
        model, "time of inference or of a training step, and the memory that is kept for backward"
    )
    one.add_argument(
        "--modules",
        nargs="+",
        choices=tuple(MODULES),
        default=list(MODULES),
        help="temporal modules; training also times tsn beside tsm, tam and tin, and the shift alone",
    )
    one.add_argument(
        "--arch", choices=tuple(baselines_model.BLOCKS), default="resnet50", help="backbone"
    )
    one.add_argument(
        "--segments", type=positive_int, default=8, metavar="T", help="segments of a clip"
    )
    one.add_argument(
        "--size", type=positive_int, default=224, metavar="PIXELS", help="side of a frame"
    )
    one.add_argument("--batch", type=positive_int, default=2, metavar="B", help="clips of a batch")
    one.add_argument(
        "--train",
        action="store_true",
        help="forward and backward of a training step, not inference",
    )
    one.add_argument(
        "--compile", action="store_true", help="torch.compile, too: minutes at its first call"
    )
    one.add_argument(
        "--rounds",
        type=positive_int,
        default=7,
        metavar="N",
        help="rounds after the one that warms up",
    )
    one.add_argument(
        "--threads", type=positive_int, default=1, metavar="N", help="threads on the CPU"
    )
    one.add_argument(
        "--device",
        choices=("cpu", "cuda"),
        default="cuda" if torch.cuda.is_available() else "cpu",
        help="where the models run",
    )
    one = verb(views, "30 views of a video: CPU time of the data, time of a whole test, memory")
    one.add_argument(
        "--frames",
        type=positive_int,
        default=300,
        metavar="N",
        help="length of the made video, 30 frames/s",
    )
    one.add_argument(
        "--rounds",
        type=positive_int,
        default=5,
        metavar="N",
        help="rounds after the one that warms up",
    )
    one.add_argument(
        "--videos", type=positive_int, default=20, metavar="N", help="videos of the whole test"
    )
    one.add_argument(
        "--threads", type=positive_int, default=2, metavar="N", help="threads of the networks"
    )
    one.add_argument(
        "--peak", nargs=4, help=argparse.SUPPRESS
    )  # a process of its own, for its memory
    verb(flops, "parameters and multiply-adds of a view beside the papers' numbers")
    one = verb(worker, "memory of the loader's processes after each epoch: it must not grow")
    one.add_argument("--epochs", type=positive_int, default=8, metavar="N", help="epochs")
    one.add_argument(
        "--clips", type=positive_int, default=64, metavar="N", help="clips of an epoch"
    )
    one.add_argument(
        "--frames",
        type=positive_int,
        default=300,
        metavar="N",
        help="length of the made video, 30 frames/s",
    )
    one.add_argument(
        "--lines", type=positive_int, default=100_000, metavar="N", help="lines of the list"
    )
    one.add_argument(
        "--workers", type=positive_int, default=2, metavar="N", help="processes of the loader"
    )
    return top


def worker(args):
    if not Path("/proc/self/smaps_rollup").exists():
        raise UserError(
            "the memory of a process is read from /proc/PID/smaps_rollup, which this system has not"
        )
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        dataset = training_set(
            folder / "list.txt", str(make_video(folder / "made.mp4", args.frames)), 5, args.lines
        )
        # One of so many ranks that its share is an epoch of --clips, of other lines each time.
        sampler = TrainSampler(len(dataset), 4, world_size=max(1, args.lines // max(4, args.clips)))
        loader = make_loader(dataset, sampler, 4, workers=args.workers)
        rows = []
        for epoch in range(args.epochs):
            sampler.set_epoch(epoch)
            clips = sum(len(batch.labels) for batch in loader)
            memory = [read_memory(process.pid) for process in multiprocessing.active_children()]
            rows.append(
                (
                    f"epoch {epoch + 1}",
                    str(clips),
                    *(f"{kib / 1024:.0f}" for pair in memory for kib in pair),
                )
            )
    print(machine("torch", "av"))
    print(
        f"MiB of each loader process after each epoch: resident, and the part that it alone holds; a list of "
        f"{args.lines} lines\n"
    )
    titles = [
        f"{number} {kind}"
        for number in range(1, args.workers + 1)
        for kind in ("resident", "private")
    ]
    table(("", "clips", *titles), rows)


def read_memory(pid):
    """Resident and private memory of a process, KiB."""
    fields = {}
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]:
        name, value, *_ = line.split()
        fields[name] = int(value)
    return fields["Rss:"], fields["Private_Clean:"] + fields["Private_Dirty:"]


if __name__ == "__main__":
    run_cli(main)
