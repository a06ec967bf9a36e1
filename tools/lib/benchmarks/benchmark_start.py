"""``benchmark.py start``: from the command to the first step of a training with long lists."""

import os
import sys
import tempfile
from pathlib import Path
from statistics import median

from lib.benchmarks import benchmark_targets as targets
from lib.benchmarks.benchmark_data import make_video
from lib.benchmarks.benchmark_epoch import ROOT, time_to
from lib.measure import machine, table

FOLDERS = 400  # the videos of a large dataset lie in as many folders as it has classes
CLASSES = 8
FRAMES = 30
FIRST_STEP = "epoch 1 [1/"  # of the log


def start(args):
    """Print the time to the first line about a step, with a short and with a long list."""
    print(machine("torch", "torchvision", "av"))
    print(
        f"main.py from the command to the end of the first step, a small network, {args.workers} "
        f"data-loading workers, {args.rounds} rounds; both lists are of that length and all videos "
        "exist\n"
    )
    with tempfile.TemporaryDirectory(dir=args.folder) as folder:
        folder = Path(folder)
        make_links(folder, args.lines)
        rows = []
        for lines in (CLASSES, args.lines):
            lists = write_lists(folder, lines)
            command = training_command(args, folder, lists)
            seconds = median(time_to(command, FIRST_STEP) for _ in range(args.rounds))
            cells = ("", "")
            if lines == args.lines:
                verdict = "ok" if seconds <= targets.START_SECONDS else "above"
                cells = (f"<= {targets.START_SECONDS:g} s", verdict)
            rows.append((f"lists of {lines} lines", f"{seconds:.2f} s", *cells))
    table(("", "first step", "goal", ""), rows)


def make_links(folder, count):
    """A video under so many names."""
    video = make_video(folder / "made.mp4", FRAMES)
    for number in range(FOLDERS):
        (folder / str(number)).mkdir()
    for number in range(count):
        name = folder / _name(number)
        try:
            os.link(video, name)
        except OSError:  # file systems allow different numbers of names of a file
            video = make_video(folder / f"made{number}.mp4", FRAMES)
            os.link(video, name)


def _name(number):
    return f"{number % FOLDERS}/{number}.mp4"


def write_lists(folder, lines):
    """Write a training and a validation list of the same videos; returns their paths."""
    paths = []
    for name in ("train", "val"):
        path = folder / f"{name}.txt"
        path.write_text("".join(f"{_name(i)} {i % CLASSES}\n" for i in range(lines)))
        paths.append(path)
    return paths


def training_command(args, folder, lists):
    """The command of main.py."""
    train, val = lists
    flags = {
        "--root_path": folder,
        "--train_list": train,
        "--val_list": val,
        "--num_class": CLASSES,
        "--flip": "none",
        "--module": "tsm",
        "--arch": "resnet18",
        "--pretrain": "none",
        "--num_segments": 2,
        "--input_size": 32,
        "--batch-size": CLASSES,
        "--lr": 0.01,
        "--epochs": 1,
        "--print-freq": 1,
        "--lr_scheduler": "cosine",
        "--workers": args.workers,
        "--device": "cpu",
        "--output_dir": folder / "run",
    }
    command = [sys.executable, ROOT / "main.py", "benchmark", "RGB", "--overwrite"]
    for flag, value in flags.items():
        command += [flag, value]
    return command
