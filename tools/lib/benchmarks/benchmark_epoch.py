"""``benchmark.py epoch``: a whole epoch of ``main.py`` beside the original's training loop."""

import contextlib
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import NamedTuple

import torch

from lib.benchmarks import baselines_loop, baselines_model
from lib.benchmarks import benchmark_targets as targets
from lib.benchmarks.benchmark_data import TEMPLATE, extract, make_video
from lib.measure import compare, machine, table
from ops.distributed import choose_device
from ops.temporal import MODULES
from ops.utils.errors import UserError

ROOT = Path(__file__).resolve().parents[3]
CLASSES = 8
DISTINCT = 8  # videos that differ; the others are links to them
# What the originals read. Most read frame folders only; on videos, their loop gets TDN's reader.
ORIGINAL_SOURCES = {
    "tsn": "folders",
    "tsm": "folders",
    "tam": "folders",
    "tin": "folders",
    "tdn": "videos",
}
SOURCE_NAMES = {"videos": "videos", "folders": "frame folders"}  # in the table
WAYS = {"fp32": "none", "bf16": "bf16"}
# Lines that main.py and original_epoch print before the first batch and after the validation.
OUR_LINES = ("; writing to ", "validation, ")
ORIGINAL_LINES = ("original: start", "original: end")


class Lists(NamedTuple):
    """The list files of a source."""

    train: Path
    val: Path


def epoch(args):
    """Print the wall-clock time of an epoch with its validation, by the original and by ours."""
    args.device = choose_device(None if args.device == "auto" else args.device).type
    if args.original:
        original_epoch(args, *args.original)
        return
    print(machine("torch", "torchvision", "av", "decord", "simplejpeg", "pillow"))
    print(
        f"one epoch of {args.videos} videos of {args.frames} frames, 340x256, and a validation of "
        f"{validation_videos(args)}: wall-clock seconds from the start of the data-loading "
        f"workers, {args.workers} of them; {args.arch}, 8 segments at {args.size}x{args.size}, "
        f"batches of {args.batch}, {args.device}\n"
    )
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        lists = make_lists(args, Path(folder))
        for module in args.modules:
            for source in args.sources or [ORIGINAL_SOURCES[module]]:
                rows += measure(args, module, source, lists[source], Path(folder))
    table(("", "seconds", "videos/s", "ratio", "target", ""), rows)


def validation_videos(args):
    """Number of videos of the validation."""
    return max(1, args.videos // 8)


def make_lists(args, folder):
    """Write the videos, their frames, and lists of both.

    Returns:
        source -> :class:`Lists`.
    """
    videos = [
        make_video(folder / f"{number}.mp4", args.frames, seed=number)
        for number in range(min(DISTINCT, args.videos))
    ]
    lines = {source: [] for source in targets.SOURCES}
    for number in range(args.videos):
        original = number % len(videos)
        video = folder / f"link{number}.mp4"
        video.symlink_to(videos[original])
        lines["videos"].append(f"{video} {number % CLASSES}")
        frames = folder / f"frames{number}"
        if number == original:
            extract(videos[original], frames)
        else:
            frames.symlink_to(folder / f"frames{original}")
        lines["folders"].append(f"{frames} {args.frames} {number % CLASSES}")
    lists = {}
    for source, texts in lines.items():
        lists[source] = Lists(folder / f"{source}_train.txt", folder / f"{source}_val.txt")
        lists[source].train.write_text("\n".join(texts) + "\n")
        lists[source].val.write_text("\n".join(texts[: validation_videos(args)]) + "\n")
    return lists


def measure(args, module, source, lists, folder):
    """The rows of one module on one source."""
    cases = {"original": (original_command(args, module, lists), ORIGINAL_LINES)}
    for way, amp in WAYS.items():
        command = our_command(args, module, lists, amp, folder / "run")
        cases[f"ours, {way}"] = (command, OUR_LINES)
    seconds = {name: [] for name in cases}
    shuffle = random.Random(0).shuffle
    order = list(cases)
    for _ in range(args.rounds):
        shuffle(order)
        for name in order:
            command, lines = cases[name]
            seconds[name].append(time_between(command, *lines, threads=args.threads))
    times = {name: median(values) for name, values in seconds.items()}
    rows = []
    for name, value in times.items():
        target = None
        if targets.is_standard(args):
            target = targets.EPOCH.get((module, name.removeprefix("ours, ")))
        cells = compare(times["original"], value, target)
        title = f"{module}, {SOURCE_NAMES[source]}, {name}"
        rows.append((title, f"{value:.1f}", f"{args.videos / value:.2f}", *cells))
    return rows


def our_command(args, module, lists, amp, out):
    """The command of main.py."""
    flags = {
        "--module": module,
        "--arch": args.arch,
        "--train_list": lists.train,
        "--val_list": lists.val,
        "--num_class": CLASSES,
        "--image_tmpl": TEMPLATE,
        "--flip": "none",
        "--pretrain": "none",
        "--num_segments": 8,
        "--input_size": args.size,
        "--batch-size": args.batch,
        "--lr": baselines_loop.LEARNING_RATE,
        "--lr_scheduler": "cosine",
        "--gd": baselines_loop.GRADIENT_NORM,
        "--epochs": 1,
        "--amp": amp,
        "--workers": args.workers,
        "--device": args.device,
        "--output_dir": out,
    }
    command = [sys.executable, ROOT / "main.py", "benchmark", "RGB", "--overwrite"]
    for flag, value in flags.items():
        command += [flag, value]
    return command


def original_command(args, module, lists):
    """The command that runs :func:`original_epoch` in a process of its own."""
    command = [sys.executable, ROOT / "tools" / "benchmark.py", "epoch", "--arch", args.arch]
    for name in ("size", "batch", "workers", "threads", "device"):
        command += [f"--{name}", getattr(args, name)]
    return [*command, "--original", module, lists.train, lists.val]


def original_epoch(args, module, train_list, val_list):
    """Train and validate as the original does."""
    torch.manual_seed(0)
    model = baselines_model.original(module, args.arch, CLASSES).to(args.device)
    loaders = []
    for path, training in ((train_list, True), (val_list, False)):
        dataset = baselines_loop.OriginalTrainSet(
            Path(path).read_text().splitlines(),
            8,
            MODULES[module].frames_per_segment,
            TEMPLATE,
            crop_size=args.size,
            training=training,
        )
        loaders.append(baselines_loop.make_loader(dataset, args.batch, args.workers, training))
    print(ORIGINAL_LINES[0], flush=True)
    baselines_loop.train_epoch(model, loaders[0], args.device)
    baselines_loop.validate(model, loaders[1], args.device)
    print(ORIGINAL_LINES[1], flush=True)


def time_between(command, first, last, threads):
    """Seconds between two lines that a command prints.

    Args:
        command: program and arguments.
        first: text in the first line.
        last: text in the last line.
        threads: of its network.

    Raises:
        UserError: the command fails, or does not print the lines.
    """
    started = ended = None
    with run_program(command, threads) as lines:
        for line in lines:
            if started is None and first in line:
                started = time.perf_counter()
            if last in line:
                ended = time.perf_counter()
    if started is None or ended is None:
        raise UserError(f"{' '.join(map(str, command))}: did not print {first!r} and {last!r}")
    return ended - started


def time_to(command, text, threads=1):
    """Seconds from the start of a command to a line with a text, at which the command is ended.

    Raises:
        UserError: the command fails, or does not print such a line.
    """
    began = time.perf_counter()
    with run_program(command, threads) as lines:
        for line in lines:
            if text in line:
                return time.perf_counter() - began
    raise UserError(f"{' '.join(map(str, command))}: did not print {text!r}")


@contextlib.contextmanager
def run_program(command, threads):
    """Context of the lines that a command prints, as they come. Its end ends the command.

    Args:
        command: program and arguments.
        threads: of its network.

    Raises:
        UserError: the command fails; the message contains its last line.
    """
    env = {**os.environ, "OMP_NUM_THREADS": str(threads), "PYTHONUNBUFFERED": "1"}
    command = [str(word) for word in command]
    last = "no output"
    is_read = False

    def lines(stream):
        nonlocal last, is_read
        for line in stream:
            last = line.strip()
            yield line
        is_read = True

    with subprocess.Popen(
        command, env=env, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    ) as process:
        yield lines(process.stdout)
        if not is_read:
            process.terminate()
    if is_read and process.returncode:
        raise UserError(f"{' '.join(command)}: {last}")
