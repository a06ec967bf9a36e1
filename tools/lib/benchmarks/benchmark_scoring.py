"""``benchmark.py score``: whole tests, by the original's loop and by ours, with loaders."""

import random
import sys
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from lib.benchmarks import baselines_loop, baselines_model
from lib.benchmarks import benchmark_targets as targets
from lib.benchmarks.benchmark_data import make_video
from lib.benchmarks.benchmark_epoch import ROOT, run_program
from lib.benchmarks.benchmark_views import original_indices
from lib.measure import compare, machine, table
from ops.backbones.pixels import usual_scale_size
from ops.checkpoints import load_model
from ops.data.clips import TestDataset
from ops.data.lists import read_list
from ops.data.loader import ShardSampler, make_loader
from ops.data.transforms import crop_offsets_test, scaled_size
from ops.distributed import World, choose_device
from ops.export.graph import check_packages
from ops.inference import score_videos
from ops.models import fuse_batch_norm
from ops.temporal import MODULES
from ops.testing import INT8, ONNXRUNTIME, TORCH
from ops.testing.runtime import exported_network
from ops.utils.errors import UserError

CLASSES = 400
SEGMENTS = 8
WIDTH, HEIGHT = 340, 256  # of the generated videos
# Largest difference of float32 logits, relative to the largest logit. They differ by more than
# rounding since PIL and torchvision round some pixels of a scaled frame otherwise, by 1 of 255.
SAME = 1e-3


class Protocol(NamedTuple):
    """The views of a video."""

    clips: int
    crops: int
    full_size: bool

    @property
    def name(self):
        views = self.clips * self.crops
        return "1 view" if views == 1 else f"{views} views"


class Test(NamedTuple):
    """A test that was run: its wall-clock seconds, and logits ``[videos, views, classes]``."""

    seconds: float
    logits: np.ndarray


PROTOCOLS = {"1": Protocol(1, 1, False), "30": Protocol(10, 3, True)}
# How ours runs: --amp. The BatchNorms are folded.
WAYS = {"fp32": "none", "bf16": "bf16"}


def score(args):
    """Print the time of whole tests of each module."""
    args.device = choose_device(None if args.device == "auto" else args.device).type
    if args.original:
        original_test(args, *args.original)
        return
    choose_exported(args)
    print(machine("torch", "torchvision", "av", "decord", "pillow"))
    print(
        f"whole tests of videos of {args.frames} frames, {WIDTH}x{HEIGHT}: wall-clock seconds with "
        f"{args.workers} data-loading workers, {args.arch}, {SEGMENTS} segments, --fuse_bn, "
        f"{args.device}; Prec@1 with the classes that the original predicts as labels\n"
    )
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for module in args.modules:
            for views in args.views:
                rows += measure(args, module, views, Path(folder))
    table(("", "videos", "s/video", "ratio", "target", "", "logits differ", "Prec@1"), rows)


def choose_exported(args):
    """Resolve ``args.onnxruntime``, the modules that also run in onnxruntime, in place.

    Raises:
        UserError: modules are named, and onnxruntime is not installed.
    """
    if args.onnxruntime:
        check_packages()
    if args.onnxruntime is not None:
        return
    args.onnxruntime = []
    if args.device != "cpu":
        return
    try:
        check_packages()
    except UserError as error:
        print(f"without onnxruntime: {error}")
    else:
        args.onnxruntime = ["tsm"]


def measure(args, module, views, folder):
    """The rows of a module: every way scores the videos once, in random order."""
    protocol = PROTOCOLS[views]
    videos = args.videos if protocol.clips == 1 else args.long_videos
    dataset = make_dataset(args, module, protocol, folder, videos)
    state = original_network(args, module).state_dict()
    ways = {"original": partial(run_original, args, module, views, folder)}
    for name, amp in WAYS.items():
        ways[f"ours, {name}"] = our_test(args, state, dataset, amp)
    if protocol.clips == 1 and module in args.onnxruntime:
        for runtime in (ONNXRUNTIME, INT8):
            ways[f"ours, {runtime}"] = our_test(args, state, dataset, "none", runtime)
    order = list(ways)
    random.Random(0).shuffle(order)
    tested = {name: ways[name]() for name in order}
    original = tested["original"]
    is_standard = targets.is_standard(args)
    rows = []
    for name in ways:
        test = tested[name]
        target = targets.SCORE.get(name.removeprefix("ours, ")) if is_standard else None
        cells = compare(original.seconds, test.seconds, target)
        own = compare_logits(module, name, test.logits, original.logits)
        title = f"{module}, {protocol.name}, {name}"
        rows.append((title, str(videos), f"{test.seconds / videos:.2f}", *cells, *own))
    return rows


def compare_logits(module, name, logits, expected):
    """The difference of logits from those of the original, and the Prec@1, as cells of a table.

    Raises:
        UserError: float32 logits differ.
    """
    difference = np.abs(logits - expected).max() / np.abs(expected).max()
    if name in ("ours, fp32", f"ours, {ONNXRUNTIME}") and difference > SAME:
        raise UserError(f"{module}: logits differ from the original's by {difference:.1e}")
    labels = expected.mean(1).argmax(1)
    right = (logits.mean(1).argmax(1) == labels).mean()
    return f"{difference:.0e}", f"{right:.0%}"


def make_dataset(args, module, protocol, folder, videos):
    """The test dataset of a list of generated videos."""
    lines = []
    for number in range(videos):
        video = folder / f"{number}.mp4"
        if not video.exists():
            make_video(video, args.frames, seed=number)
        lines.append(f"{video} 0\n")
    path = folder / "list.txt"
    path.write_text("".join(lines))
    size = usual_scale_size(args.size)
    return TestDataset(
        read_list(path, num_class=CLASSES),
        num_segments=SEGMENTS,
        frames_per_segment=MODULES[module].frames_per_segment,
        image_tmpl="",
        scale_size=size,
        crop_size=size if protocol.full_size else args.size,
        crops=protocol.crops,
        sampling="center" if protocol.clips == 1 else "dense",
        clips=range(protocol.clips),
        num_clips=protocol.clips,
    )


def original_network(args, module):
    """The network of the original, the same in every process."""
    torch.manual_seed(0)
    network = baselines_model.original(module, args.arch, CLASSES, SEGMENTS)
    torch.nn.init.normal_(network.new_fc.weight)
    channels = SEGMENTS * MODULES[module].frames_per_segment * 3
    with torch.no_grad():
        # In training mode: running statistics other than those of a new network.
        network(torch.randn(1, channels, args.size, args.size))
    return network


def run_original(args, module, views, folder):
    """The :class:`Test` of the original, in a process of its own as its script."""
    out = folder / "original.npz"
    command = [sys.executable, ROOT / "tools" / "benchmark.py", "score"]
    for name in ("arch", "frames", "size", "workers", "threads", "device", "videos", "long_videos"):
        command += [f"--{name}", getattr(args, name)]
    command += ["--original", module, views, folder, out]
    with run_program(command, args.threads) as lines:
        for _ in lines:
            pass
    with np.load(out) as result:
        return Test(float(result["seconds"]), result["logits"])


def original_test(args, module, views, folder, out):
    """Score all videos as the original does; saves the seconds and the logits."""
    protocol = PROTOCOLS[views]
    videos = args.videos if protocol.clips == 1 else args.long_videos
    dataset = make_dataset(args, module, protocol, Path(folder), videos)
    network = original_network(args, module).eval().to(args.device)
    transform = dataset.transform
    width, height = scaled_size(WIDTH, HEIGHT, transform.scale_size)
    offsets = crop_offsets_test(width, height, transform.crop_size, protocol.crops)
    places = [(x, y) for x, y, _ in offsets]
    records = list(dataset.video_list)
    passes = []
    for clip in range(protocol.clips):
        indices = [original_indices(dataset, record, args.frames, clip) for record in records]
        passes.append(
            baselines_loop.OriginalTestSet(
                [record.path for record in records],
                indices,
                places,
                transform.scale_size,
                transform.crop_size,
            )
        )
    started = time.perf_counter()
    logits = baselines_loop.test_videos(network, passes, args.workers, args.device)
    np.savez(out, seconds=time.perf_counter() - started, logits=logits)


def our_test(args, state, dataset, amp, runtime=TORCH):
    """A function that scores all videos as the test scripts do; returns a :class:`Test`."""
    model = load_model(state, SEGMENTS, quiet=True)
    if runtime == TORCH:
        device = torch.device(args.device)
        model = fuse_batch_norm(model).to_channels_last().to(device)
    else:
        device = torch.device("cpu")
        model = exported_network(model, dataset, runtime, fuse_bn=True)
    world = World(0, 1, device)

    def run():
        started = time.perf_counter()
        with make_loader(
            dataset,
            ShardSampler(len(dataset)),
            None,
            workers=args.workers,
            pin_memory=world.device.type == "cuda",
        ) as loader:
            scored = score_videos(model, loader, world, amp=amp, batch_size=1, desc="")
        return Test(time.perf_counter() - started, scored.logits)

    return run
