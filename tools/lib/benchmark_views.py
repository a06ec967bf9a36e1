"""``benchmark.py views``: 30 views of a video, from file to scores, the original's way and ours."""

import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from lib import baselines_data, baselines_model
from lib.benchmark_data import make_video
from lib.measure import interleave, judged, machine, table
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
WORLD = World(0, 1, torch.device("cpu"))
# How TDN and TSM test Kinetics: frames of a segment, sampling, bar of the data side.
PROTOCOLS = {"TDN, 8 x 5 frames": (5, "random", 25.0), "TSM, 8 frames": (1, "dense", 25.0)}
BAR = 3.0  # of a whole test of TSM, by the last of these ways: whether BatchNorms are folded, mixed precision
WAYS = {
    "ours": (False, "none"),
    "ours, --fuse_bn": (True, "none"),
    "ours, --fuse_bn --amp bf16": (True, "bf16"),
}


def views(args):
    if args.peak:
        print(peak(*args.peak))
        return
    with tempfile.TemporaryDirectory() as folder:
        video = make_video(Path(folder) / "made.mp4", args.frames)
        print(machine("torch", "torchvision", "av", "decord", "pillow"))
        print(
            f"{CLIPS} clips x {CROPS} crops of {SIZE} of a video of {args.frames} frames, 340x256\n"
        )
        data_side(args, video)
        whole_test(args, video)
        memory(args, video)


def dataset_of(video, frames_per_segment, sampling, videos=1, clips=None, size=None):
    """The data set of a list that has the same video several times."""
    clips, size = clips or CLIPS, size or SIZE
    path = video.with_suffix(".txt")
    path.write_text(f"{video}\t0\n" * videos)
    return TestDataset(
        read_list(path, num_class=1),
        num_segments=8,
        frames_per_segment=frames_per_segment,
        image_tmpl="",
        scale_size=size,
        crop_size=size,
        crops=CROPS,
        sampling=sampling,
        clips=range(clips),
        num_clips=clips,
    )


def original_views(dataset, video, frames, clip):
    """The three crops of one clip as the original makes them: open, decode frame by frame, scale and crop with PIL, float32."""
    spec = ClipSpec(
        frames,
        8,
        dataset.frames_per_segment,
        index=clip,
        count=CLIPS,
        seed=dataset.seed,
        video=dataset.video_list[0].id,
    )
    offsets = SAMPLINGS[dataset.sampling].test(spec)
    indices = frame_indices(offsets, dataset.frames_per_segment, frames).flatten()
    places = [(x, y) for x, y, _ in crop_offsets_test(*scaled_size(340, 256, SIZE), SIZE, CROPS)]
    return baselines_data.crops(
        baselines_data.images_of_video(str(video), indices), places, SIZE, SIZE
    )


def data_side(args, video):
    cases, ours = {}, {}
    for name, (length, sampling, _) in PROTOCOLS.items():
        dataset = dataset_of(video, length, sampling)
        item = dataset[0, 0]
        worst = max(
            (baselines_data.pixels(view).int() - mine.flatten(0, 1).int()).abs().max().item()
            for clip in (0, CLIPS - 1)
            for view, mine in zip(
                original_views(dataset, video, args.frames, clip),
                dataset.transform.crops(item.frames, item.picks[clip]),
                strict=True,
            )
        )
        if worst > 1:
            raise UserError(
                f"the two ways do not make the same views: a pixel differs by {worst} of 255 levels"
            )
        ours[name] = len(item.frames), worst
        cases[name, "original"] = lambda _, dataset=dataset: [
            original_views(dataset, video, args.frames, clip) for clip in range(CLIPS)
        ]
        cases[name, "read"] = lambda _, dataset=dataset: dataset[0, 0]
        cases[name, "cut"] = lambda _, dataset=dataset, item=item: [
            dataset.transform.crops(item.frames, picks) for picks in item.picks
        ]
    times = interleave(cases, args.rounds)
    print(
        f"data side, CPU time of one video, {args.rounds} rounds; cutting the crops belongs to the device, here this CPU\n"
    )
    table(
        ("", "frames", "original s", "ours s", "cutting s", "pixel difference", "ratio", "bar", ""),
        [
            (
                name,
                str(ours[name][0]),
                *(f"{times[name, side] / 1000:.3f}" for side in ("original", "read", "cut")),
                f"{ours[name][1]} of 255",
                *judged(times[name, "original"] / times[name, "read"], bar),
            )
            for name, (*_, bar) in PROTOCOLS.items()
        ],
    )


def whole_test(args, video):
    """TSM-R18 on ``args.videos`` videos, each by all ways in random order."""
    dataset = dataset_of(video, *PROTOCOLS["TSM, 8 frames"][:2])
    torch.manual_seed(0)
    network = baselines_model.original("tsm", "resnet18", num_class=400).eval()
    torch.nn.init.normal_(network.new_fc.weight)

    @torch.inference_mode()
    def original():
        return torch.cat(
            [network(original_views(dataset, video, args.frames, clip)) for clip in range(CLIPS)]
        ).numpy()

    def ours(fold, amp):
        model = load_model(network.state_dict(), 8, quiet=True).to_channels_last()
        model = fuse_batch_norm(model) if fold else model

        def way():
            scores = []
            loader = make_loader(dataset, ShardSampler(1), None, workers=0)
            score_views(
                model, loader, WORLD, lambda _, logits: scores.append(logits), print, amp=amp
            )
            return scores[0]

        return way

    ways = {"original": original, **{name: ours(*options) for name, options in WAYS.items()}}
    reference = original()
    differences = {
        name: np.abs(way() - reference).max() / np.abs(reference).max()
        for name, way in ways.items()
    }
    seconds = dict.fromkeys(ways, 0.0)
    shuffle = random.Random(0).shuffle
    for _ in range(args.videos):
        order = list(ways)
        shuffle(order)
        for name in order:
            started = time.perf_counter()
            ways[name]()
            seconds[name] += time.perf_counter() - started
    print(f"\nwhole test of TSM-R18, {args.videos} videos, time on the clock, one process\n")
    table(
        ("", "s/video", "difference", "ratio", "bar", ""),
        [
            (
                name,
                f"{total / args.videos:.2f}",
                f"{differences[name]:.0e}",
                *judged(seconds["original"] / total, BAR if name == list(WAYS)[-1] else None),
            )
            for name, total in seconds.items()
        ],
    )


def memory(args, video):
    """Largest memory of a process of its own that tests few and many videos."""
    command = [sys.executable, Path(__file__).parents[1] / "benchmark.py", "views", "--peak", video]
    few, many = (
        int(
            subprocess.run(
                [*map(str, (*command, videos, CLIPS, SIZE))],
                check=True,
                capture_output=True,
                text=True,
            ).stdout
        )
        for videos in (1, 4)
    )
    frames = dataset_of(video, *PROTOCOLS["TDN, 8 x 5 frames"][:2])[0, 0].frames
    print(
        f"\nlargest memory of a process, TDN-R18: {few} MiB after 1 video, {many} MiB after 4; a video on its way is "
        f"{len(frames)} frames, {frames.nbytes / 2**20:.0f} MiB, and -j workers hold two each"
    )


def peak(video, videos, clips, size):
    """MiB of this process after it has tested so many videos."""
    import resource  # not on Windows

    dataset = dataset_of(
        Path(video), *PROTOCOLS["TDN, 8 x 5 frames"][:2], int(videos), int(clips), int(size)
    )
    model = TSN(400, 8, arch="resnet18", module="tdn").eval().to_channels_last()
    loader = make_loader(dataset, ShardSampler(len(dataset)), None, workers=0)
    score_views(model, loader, WORLD, lambda *_: None, print)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
