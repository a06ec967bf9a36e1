"""``benchmark.py loader``: what a data-loading worker does, and what a second one adds."""

import contextlib
import resource
import tempfile
import time
from pathlib import Path
from statistics import median
from unittest import mock

from lib.benchmarks import benchmark_targets as targets
from lib.benchmarks.benchmark_data import make_video, training_set
from lib.measure import machine, table
from ops.data import clips, transforms
from ops.data.loader import TrainSampler, make_loader
from ops.data.readers.open import open_reader

# Frames per segment, and the name of the input.
INPUTS = {"TSN, 8 x 1 frames": 1, "TDN, 8 x 5 frames": 5}


def loader(args):
    """Print videos per second by workers, and the share of time outside decoding and resizing."""
    print(machine("torch", "torchvision", "av"))
    print(
        f"training clips of a video of {args.frames} frames, 340x256, batches of {args.batch}, "
        f"{args.clips} clips, {args.rounds} rounds; CPU time of all processes, without that of "
        "starting the workers\n"
    )
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        video = make_video(Path(folder) / "made.mp4", args.frames)
        for name, length in INPUTS.items():
            dataset = training_set(Path(folder) / "list.txt", str(video), length, args.clips)
            rows.append(row_of(args, name, dataset))
    titles = ("videos/s -j 1", "videos/s -j 2", "gain", "CPU ms/video", "decode, resize ms")
    table(("", *titles, "spent elsewhere", "goal", ""), rows)


def row_of(args, name, dataset):
    """The measured cells of an input."""
    speeds = {1: [], 2: []}
    cpu, work = [], []
    for number in range(args.rounds):
        for workers in speeds:
            speed, milliseconds = run_epoch(dataset, args.batch, workers, number)
            speeds[workers].append(speed)
            if workers == 1:
                cpu.append(milliseconds)
        work.append(decode_and_resize(dataset, number))
    one, two = median(speeds[1]), median(speeds[2])
    total, useful = median(cpu), median(work)
    elsewhere = max(0.0, 1 - useful / total)
    verdict = "ok" if elsewhere <= targets.LOADER_SHARE else "above"
    return (
        name,
        f"{one:.1f}",
        f"{two:.1f}",
        f"x {two / one:.2f}",
        f"{total:.1f}",
        f"{useful:.1f}",
        f"{elsewhere:.1%}",
        f"<= {targets.LOADER_SHARE:.0%}",
        verdict,
    )


def run_epoch(dataset, batch, workers, epoch):
    """One epoch of a loader.

    Returns:
        videos per second of wall-clock time, and milliseconds of CPU time per video of this
        process and the workers, without their start and end.
    """
    started_children = _cpu_of_children()
    with make_loader(dataset, TrainSampler(batch, batch), batch, workers=workers) as small:
        for _ in small:
            pass
    # What an epoch of one batch costs beside its clips: starting and ending the workers.
    start_and_batch = _cpu_of_children() - started_children
    sampler = TrainSampler(len(dataset), batch)
    sampler.set_epoch(epoch)
    before = _cpu_of_children()
    own = time.process_time()
    with make_loader(dataset, sampler, batch, workers=workers) as large:
        videos = 0
        began = None
        for items in large:
            if began is None:
                began = time.perf_counter()
                continue
            videos += len(items.labels)
        seconds = time.perf_counter() - began
    own = time.process_time() - own
    cpu = _cpu_of_children() - before - start_and_batch + own
    return videos / seconds, 1000 * cpu / videos


def _cpu_of_children():
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def decode_and_resize(dataset, epoch):
    """Milliseconds of CPU time per video inside the reader and the resizing."""
    spent = [0.0]

    @contextlib.contextmanager
    def counted():
        began = time.process_time()
        try:
            yield
        finally:
            spent[0] += time.process_time() - began

    resize = transforms.resize

    def timed_resize(*args):
        with counted():
            return resize(*args)

    @contextlib.contextmanager
    def timed_reader(*args, **kwargs):
        with counted():
            reader = open_reader(*args, **kwargs)
        get = reader.get

        def timed_get(indices):
            with counted():
                return get(indices)

        reader.get = timed_get
        with reader:
            yield reader

    with (
        mock.patch.object(transforms, "resize", timed_resize),
        mock.patch.object(clips, "open_reader", timed_reader),
    ):
        for index in range(len(dataset)):
            dataset[epoch, index]
    return 1000 * spent[0] / len(dataset)
