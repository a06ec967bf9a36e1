"""Predict the classes of videos.

    python tools/predict.py dance.mp4 --weights best.pth
    python tools/predict.py videos/ more.mp4 list.txt frames/clip_7 --weights best.pth \\
        --json out.jsonl --csv out.csv
    find videos -name '*.mp4' | python tools/predict.py - --weights best.pth
    python tools/predict.py long.mp4 --weights best.pth --timeline --window 2.5 --step 0.5 \\
        --srt long.srt --jsonl long.jsonl --html long.html --video long_labelled.mp4

Inputs are video files, folders of frames, folders that are searched for both, lists (.txt, .csv,
.tsv, .lst, .list) with one path per line, glob patterns in quotes, and - for a list on standard
input. A name that begins with a dash is given after --, or as ./-name.mp4.

The scores are those of the test scripts for the same video, bit for bit. Without flags the protocol
is the published one with the fewest views, or that of the test scripts for the training's dataset.

--json writes one object per video, in order: path, top (name, label, probability), probabilities,
logits (mean over the views), protocol, seconds, error. - writes it to standard output.

--timeline predicts windows of a long video, which is decoded once, in bounded memory. A span of a
class begins where its probability reaches --enter and continues while it is at least --stay. Its
JSON lines have path, start, end (seconds), name, label, probability, error.

--weights may be an ONNX file of tools/export.py, too.

Exit status: 0; 1 if some videos could not be read, which are named; 2 after an error. Ctrl-C keeps
what was written.
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from lib.arguments import (
    add_class_names_flag,
    add_device_flags,
    add_fuse_bn_flag,
    add_multi_label_flag,
    add_weights_flags,
    add_window_flags,
    command_parser,
)
from ops.cli.types import CROPS, positive_float, positive_int, probability, workers
from ops.data.readers.open import DECODERS
from ops.data.sampling import samplings_for_tests
from ops.scores.aggregation import AVERAGES
from ops.utils.errors import UserError, run_cli
from ops.utils.machine import default_workers


def main() -> None:
    flags = parser()
    args = flags.parse_intermixed_args()
    check_timeline_flags(args, flags)
    # Imported here because --help does not need torch.
    if args.timeline:
        from lib.predicting.timeline_command import write_timelines

        sys.exit(write_timelines(args))
    from lib.predicting.predict_command import predict_videos

    sys.exit(predict_videos(args))


def check_timeline_flags(args: argparse.Namespace, flags: argparse.ArgumentParser) -> None:
    """Refuse flags that have no effect with --timeline, or without it.

    Args:
        args: the arguments.
        flags: the parser, which has their defaults.
    """
    unused = VIDEO_FLAGS if args.timeline else TIMELINE_FLAGS
    for name in unused:
        if getattr(args, name) == flags.get_default(name):
            continue
        if args.timeline:
            raise UserError(f"--{name} has no effect on the windows of --timeline; leave it out")
        raise UserError(f"--{name} is for --timeline; give --timeline too")


def parser() -> argparse.ArgumentParser:
    top = command_parser(__doc__)
    top.add_argument("videos", nargs="+", metavar="VIDEO", help="videos, folders, lists, or -")
    add_model(top.add_argument_group("model"))
    add_protocol(top.add_argument_group("protocol"))
    add_output(top.add_argument_group("output"))
    add_timeline(top.add_argument_group("timeline of a long video"))
    add_machine(top.add_argument_group("machine"))
    return top


def add_model(group: argparse._ArgumentGroup) -> None:
    add_weights_flags(group)
    add_class_names_flag(group)
    add_multi_label_flag(group)


def add_protocol(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--clips", type=positive_int, metavar="N", help="clips of a video")
    group.add_argument("--crops", "--test_crops", type=int, choices=CROPS, help="crops of a frame")
    group.add_argument(
        "--test_sampling",
        choices=tuple(samplings_for_tests()),
        help="sampling rule, as in the test scripts",
    )
    group.add_argument(
        "--full_res", action="store_true", help="crops as large as the scaled short side (256)"
    )
    group.add_argument(
        "--scale_size", type=positive_int, metavar="PIXELS", help="short side of a scaled frame"
    )
    group.add_argument("--crop_size", type=positive_int, metavar="PIXELS", help="side of a crop")
    group.add_argument("--average", choices=AVERAGES, help="what is averaged over the views")
    group.add_argument(
        "--image_tmpl",
        metavar="TMPL",
        help="file names in a folder of frames (default: inferred from the files)",
    )


def add_output(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "-k",
        "--topk",
        type=positive_int,
        default=5,
        metavar="K",
        help="number of classes of a video (default: 5)",
    )
    group.add_argument(
        "--threshold",
        type=probability,
        default=0.0,
        metavar="P",
        help="only classes of at least this probability, for multi-label networks (default: 0)",
    )
    group.add_argument("--json", "--jsonl", metavar="FILE", help="also write JSON lines")
    group.add_argument("--csv", metavar="FILE", help="also write a table, one line per class")
    group.add_argument("--quiet", action="store_true", help="do not print the classes")


# Flags that are for predictions of whole videos, and flags that are for timelines.
VIDEO_FLAGS = ("clips", "test_sampling", "topk", "threshold", "decoder")
TIMELINE_FLAGS = ("window", "step", "enter", "stay", "fps", "srt", "vtt", "html", "video")


def add_timeline(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--timeline", action="store_true", help="predict overlapping windows of each video"
    )
    add_window_flags(group)
    group.add_argument(
        "--enter",
        type=probability,
        metavar="P",
        help="probability at which a span of a class begins (default: 0.5)",
    )
    group.add_argument(
        "--stay",
        type=probability,
        metavar="P",
        help="probability above which it continues, at most --enter (default: 0.3)",
    )
    group.add_argument(
        "--fps",
        type=positive_float,
        metavar="N",
        help="frames per second of a folder of frames (default: 25)",
    )
    group.add_argument("--srt", metavar="FILE", help="also write SubRip subtitles")
    group.add_argument("--vtt", metavar="FILE", help="also write WebVTT subtitles")
    group.add_argument("--html", metavar="FILE", help="also write a page with thumbnails")
    group.add_argument(
        "--video",
        metavar="FILE",
        help="also write the video with the classes on it: .mp4, .mov or .mkv",
    )


def add_machine(group: argparse._ArgumentGroup) -> None:
    add_device_flags(group)
    add_fuse_bn_flag(group)
    group.add_argument(
        "--batch_size",
        "-b",
        type=positive_int,
        default=1,
        metavar="N",
        help="clips that go through the network at once; more than 1 changes bits (default: 1)",
    )
    group.add_argument(
        "--decoder", choices=tuple(DECODERS), default="pyav", help="library that decodes videos"
    )
    group.add_argument(
        "-j",
        "--workers",
        type=workers,
        default=default_workers(),
        metavar="N",
        help="data-loading workers; 0 decodes in this process (default: one per core, at most 8)",
    )


if __name__ == "__main__":
    run_cli(main)
