"""``benchmark.py worker``: the memory of data-loading workers over epochs."""

import multiprocessing
import tempfile
from pathlib import Path

from lib.benchmarks.benchmark_data import make_video, training_set
from lib.measure import machine, table
from ops.data.loader import TrainSampler, make_loader
from ops.utils.errors import UserError

BATCH = 4
FRAMES_PER_SEGMENT = 5


def worker(args):
    """Print the memory of each worker after each epoch."""
    if not Path("/proc/self/smaps_rollup").exists():
        raise UserError("this system has no /proc/PID/smaps_rollup with the memory of a process")
    with tempfile.TemporaryDirectory() as folder:
        rows = measure_epochs(args, Path(folder))
    print(machine("torch", "av"))
    print(
        "MiB of each data-loading worker after each epoch: resident, and the private part of it; "
        f"a list of {args.lines} lines\n"
    )
    titles = []
    for number in range(1, args.workers + 1):
        titles += [f"{number} resident", f"{number} private"]
    table(("", "clips", *titles), rows)


def measure_epochs(args, folder):
    """The rows of the table: epoch, clips, and the memory of each worker."""
    video = make_video(folder / "made.mp4", args.frames)
    dataset = training_set(folder / "list.txt", str(video), FRAMES_PER_SEGMENT, args.lines)
    # As one rank of so many that an epoch has --clips clips, of other lines each time.
    world_size = max(1, args.lines // max(BATCH, args.clips))
    sampler = TrainSampler(len(dataset), BATCH, world_size=world_size)
    others = multiprocessing.active_children()
    loader = make_loader(dataset, sampler, BATCH, workers=args.workers)
    rows = []
    for epoch in range(args.epochs):
        sampler.set_epoch(epoch)
        clips = sum(len(batch.labels) for batch in loader)
        row = [f"epoch {epoch + 1}", str(clips)]
        for process in multiprocessing.active_children():
            if process in others:
                continue
            row += [f"{kib / 1024:.0f}" for kib in read_memory(process.pid)]
        rows.append(row)
    return rows


def read_memory(pid):
    """Resident and private memory of a process, KiB."""
    fields = {}
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]:
        name, value, *_ = line.split()
        fields[name] = int(value)
    return fields["Rss:"], fields["Private_Clean:"] + fields["Private_Dirty:"]
