"""``benchmark.py views``: 30 views of a video, from file to scores, by the original and by ours."""

import copy
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from lib.benchmarks import baselines_data, baselines_model
from lib.benchmarks import benchmark_targets as targets
from lib.benchmarks.benchmark_data import make_video, other_decoders
from lib.measure import compare, interleave, machine, table
from ops.checkpoints import load_model
from ops.data.clips import TestDataset
from ops.data.lists import read_list
from ops.data.loader import ShardSampler, make_loader
from ops.data.sampling import SAMPLINGS, ClipSpec, frame_indices
from ops.data.transforms import crop_offsets_test, scaled_size
from ops.distributed import World
from ops.inference import score_views
from ops.models import TSN, fuse_batch_norm
from ops.utils.errors import UserError

CLIPS, CROPS, SIZE = 10, 3, 256
MAX_DIFFERENCE = 1  # of 255 levels
WORLD = World(0, 1, torch.device("cpu"))


class Protocol(NamedTuple):
    """How a network tests Kinetics."""

    frames_per_segment: int
    sampling: str


TDN = Protocol(5, "random")
TSM = Protocol(1, "dense")
PROTOCOLS = {"TDN, 8 x 5 frames": TDN, "TSM, 8 frames": TSM}


class Way(NamedTuple):
    """How ours tests."""

    fuse_bn: bool
    amp: str


WAYS = {
    "ours": Way(False, "none"),
    "ours, --fuse_bn": Way(True, "none"),
    "ours, --fuse_bn --amp bf16": Way(True, "bf16"),
}


def views(args):
    """Print the time of the data, the time of a whole test, and the memory of a process."""
    if args.peak:
        print(peak(*args.peak))
        return
    with tempfile.TemporaryDirectory() as folder:
        video = make_video(Path(folder) / "made.mp4", args.frames)
        print(machine("torch", "torchvision", "av", "decord", "torchcodec", "pillow"))
        print(
            f"{CLIPS} clips x {CROPS} crops of {SIZE} of a video of {args.frames} frames, 340x256\n"
        )
        data_side(args, video)
        whole_test(args, video)
        memory(video)


def dataset_of(video, protocol, videos=1, clips=None, size=None):
    """The dataset of a list that has the same video several times."""
    clips, size = clips or CLIPS, size or SIZE
    path = video.with_suffix(".txt")
    path.write_text(f"{video}\t0\n" * videos)
    return TestDataset(
        read_list(path, num_class=1),
        num_segments=8,
        frames_per_segment=protocol.frames_per_segment,
        image_tmpl="",
        scale_size=size,
        crop_size=size,
        crops=CROPS,
        sampling=protocol.sampling,
        clips=range(clips),
        num_clips=clips,
    )


def original_views(dataset, video, frames, clip):
    """The three crops of one clip, as the original makes them, float32.

    It opens the video, decodes frame by frame, and scales and crops with PIL.
    """
    indices = original_indices(dataset, dataset.video_list[0], frames, clip)
    places = [(x, y) for x, y, _ in crop_offsets_test(*scaled_size(340, 256, SIZE), SIZE, CROPS)]
    return baselines_data.crops(
        baselines_data.images_of_video(str(video), indices), places, SIZE, SIZE
    )


def original_indices(dataset, record, frames, clip):
    """The 0-based frames of a clip of a video, in the order of its places."""
    spec = ClipSpec(
        frames,
        dataset.num_segments,
        dataset.frames_per_segment,
        index=clip,
        count=dataset.num_clips,
        seed=dataset.seed,
        video=record.id,
    )
    offsets = SAMPLINGS[dataset.sampling].test(spec)
    return frame_indices(offsets, dataset.frames_per_segment, frames).flatten()


def data_side(args, video):
    """Print the CPU time in which the views of a video are read."""
    cases, details = {}, {}
    decoders = other_decoders(video)
    for name, protocol in PROTOCOLS.items():
        dataset = dataset_of(video, protocol)
        item = dataset[0, 0]
        difference = view_difference(dataset, video, args.frames, item)
        if difference > MAX_DIFFERENCE:
            raise UserError(f"the views differ: a pixel by {difference} of 255 levels")
        details[name] = (len(item.frames), difference)
        for side, case in reading_cases(dataset, video, args.frames, item).items():
            cases[name, side] = case
        for decoder in decoders:
            cases[name, decoder] = reading_with(dataset, decoder)
    times = interleave(cases, args.rounds)
    print(
        f"data side, CPU time of one video, {args.rounds} rounds; "
        "cutting the crops belongs to the device, here this CPU\n"
    )
    rows = []
    for name, (frames, difference) in details.items():
        sides = ("original", *decoders, "read", "cut")
        seconds = [f"{times[name, side] / 1000:.3f}" for side in sides]
        cells = compare(times[name, "original"], times[name, "read"], targets.VIEWS[name])
        rows.append((name, str(frames), *seconds, f"{difference} of 255", *cells))
    decoder_titles = (f"--decoder {decoder} s" for decoder in decoders)
    titles = ("frames", "original s", *decoder_titles, "ours s", "cutting s", "pixel difference")
    table(("", *titles, "ratio", "target", ""), rows)


def view_difference(dataset, video, frames, item):
    """The largest difference of a pixel in the first and the last clip, of 255 levels."""
    worst = 0
    for clip in (0, CLIPS - 1):
        original = original_views(dataset, video, frames, clip)
        ours = dataset.transform.crops(item.frames, item.picks[clip])
        for theirs, mine in zip(original, ours, strict=True):
            difference = baselines_data.pixels(theirs).int() - mine.flatten(0, 1).int()
            worst = max(worst, difference.abs().max().item())
    return worst


def reading_cases(dataset, video, frames, item):
    """Functions of a round: the views of the original, our reading, and our cutting."""

    def original(_):
        for clip in range(CLIPS):
            original_views(dataset, video, frames, clip)

    def read(_):
        dataset[0, 0]

    def cut(_):
        for picks in item.picks:
            dataset.transform.crops(item.frames, picks)

    return {"original": original, "read": read, "cut": cut}


def reading_with(dataset, decoder):
    """A function of a round: our reading with another decoder."""
    other = copy.copy(dataset)
    other.decoder = decoder
    return lambda _: other[0, 0]


def whole_test(args, video):
    """Print the time of TSM-R18 on ``args.videos`` videos, each in all ways in random order."""
    dataset = dataset_of(video, TSM)
    torch.manual_seed(0)
    network = baselines_model.original("tsm", "resnet18", num_class=400).eval()
    torch.nn.init.normal_(network.new_fc.weight)

    @torch.inference_mode()
    def original():
        views = (original_views(dataset, video, args.frames, clip) for clip in range(CLIPS))
        return torch.cat([network(clip) for clip in views]).numpy()

    ways = {"original": original}
    for name, way in WAYS.items():
        ways[name] = our_test(dataset, network.state_dict(), way)
    reference = original()
    differences = {}
    for name, run in ways.items():
        differences[name] = np.abs(run() - reference).max() / np.abs(reference).max()
    seconds = time_videos(ways, args.videos)
    print(f"\nwhole test of TSM-R18, {args.videos} videos, wall-clock time, one process\n")
    rows = []
    for name, total in seconds.items():
        cells = compare(seconds["original"], total, targets.WHOLE_TEST.get(name))
        rows.append((name, f"{total / args.videos:.2f}", f"{differences[name]:.0e}", *cells))
    table(("", "s/video", "difference", "ratio", "target", ""), rows)


def our_test(dataset, state, way):
    """A function that returns the scores of the first video."""
    model = load_model(state, 8, quiet=True).to_channels_last()
    if way.fuse_bn:
        model = fuse_batch_norm(model)

    def run():
        scores = []

        def keep(_, logits):
            scores.append(logits)

        loader = make_loader(dataset, ShardSampler(1), None, workers=0)
        score_views(model, loader, WORLD, keep, print, amp=way.amp)
        return scores[0]

    return run


def time_videos(ways, videos):
    """Wall-clock seconds of each way, all of them once per video in random order."""
    seconds = dict.fromkeys(ways, 0.0)
    shuffle = random.Random(0).shuffle
    for _ in range(videos):
        order = list(ways)
        shuffle(order)
        for name in order:
            started = time.perf_counter()
            ways[name]()
            seconds[name] += time.perf_counter() - started
    return seconds


def memory(video):
    """Print the largest memory of a new process that tests few and many videos."""
    few, many = (measure_peak(video, videos) for videos in (1, 4))
    frames = dataset_of(video, TDN)[0, 0].frames
    print(
        f"\nlargest memory of a process, TDN-R18: {few} MiB after 1 video, {many} MiB after 4; "
        f"a video in flight is {len(frames)} frames, {frames.nbytes / 2**20:.0f} MiB, "
        "and -j workers hold two each"
    )


def measure_peak(video, videos):
    """MiB of a new process."""
    program = Path(__file__).parents[2] / "benchmark.py"
    command = [sys.executable, program, "views", "--peak", video, videos, CLIPS, SIZE]
    run = subprocess.run(map(str, command), check=True, capture_output=True, text=True)
    return int(run.stdout)


def peak(video, videos, clips, size):
    """MiB of this process after it has tested so many videos."""
    import resource  # not on Windows

    dataset = dataset_of(Path(video), TDN, int(videos), int(clips), int(size))
    model = TSN(400, 8, arch="resnet18", module="tdn").eval().to_channels_last()
    loader = make_loader(dataset, ShardSampler(len(dataset)), None, workers=0)
    score_views(model, loader, WORLD, lambda *_: None, print)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
