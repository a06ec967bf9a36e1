"""Turn the score files of a test into accuracies.

One directory, one view a video, or ten clips of three crops each:
    python pkl_to_results.py --num_clips 1 --test_crops 1 --output_dir DIR
    python pkl_to_results.py --num_clips 10 --test_crops 3 --output_dir DIR

Two networks, as the (8+16)-frame rows of TDN:
    python pkl_to_results.py --num_clips 1 --test_crops 3 --output_dir DIR8 --multi_segments --output_dir1 DIR16

Any number of directories, weighted, with whatever grid of {clip}_crop{crop}.pkl files each holds:
    python pkl_to_results.py DIR [DIR ...] --score_weights 1 1.5

Each view's softmax is averaged over the views of a directory, then over the directories.
"""

import argparse
import math
from collections.abc import Sequence

import numpy as np

from ops.errors import UserError, run_front
from ops.metrics import mean_class_accuracy, topk_accuracy
from ops.scores import (
    check_same_videos,
    find_views,
    load_views,
    protocol_line,
    read_protocol,
    view_sum,
    weighted_mean,
)


def main(argv: Sequence[str] | None = None) -> None:
    args = parse_arguments(argv)
    runs, first = [], None
    for directory, weight in zip(args.directories, args.score_weights, strict=True):
        scores, labels, line = directory_scores(directory, args)
        first = first or (directory, scores.shape, labels)
        check_same_videos(first, (directory, scores.shape, labels))
        runs.append(scores)
        print(line if len(args.directories) == 1 else f"{directory} (weight {weight:g}): {line}")
    scores = weighted_mean(runs, args.score_weights)
    top1, top5 = topk_accuracy(scores, first[2], (1, 5))
    print(f"Mean class accuracy {mean_class_accuracy(scores, first[2]):.02f}%")
    print("-----Evaluation is finished------")
    print(f"Overall Prec@1 {top1:.02f}% Prec@5 {top5:.02f}%")


def directory_scores(directory: str, args: argparse.Namespace) -> tuple[np.ndarray, np.ndarray, str]:
    """Mean of the views float64 ``[V, classes]``, labels int64 ``[V]``, and the line that names the protocol."""
    clips, crops = find_views(directory, args.num_clips, args.test_crops)
    total, labels = 0.0, None
    if args.per_view:
        print(f"{directory}\nclip  crop  Prec@1  Prec@5")
    for view, (logits, labels) in enumerate(load_views(directory, clips, crops)):
        total = total + view_sum([logits], softmax=not args.logits)
        if args.per_view:
            top1, top5 = topk_accuracy(logits, labels, (1, 5))
            print(f"{view // crops:4d}  {view % crops:4d}  {top1:6.2f}  {top5:6.2f}")
    protocol = read_protocol(directory)
    if protocol and len(labels) not in (protocol["videos"], protocol["listed"]):
        raise UserError(
            f"{directory}: protocol.json is of {protocol['videos']}/{protocol['listed']} videos, the score files of "
            f"{len(labels)}: they are not of the same test"
        )
    line = protocol_line(protocol, clips, crops, len(labels), softmax=not args.logits)
    return total / (clips * crops), labels, line


def parse_arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    """``directories``: those given either way; ``score_weights``: one for each."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    add = parser.add_argument
    add("directories", nargs="*", metavar="DIR", help="directories of score files")
    add("--output_dir", metavar="DIR", help="the first directory, in place of DIR (default: none)")
    add("--output_dir1", metavar="DIR", help="the second directory, with --multi_segments (default: none)")
    add(
        "--multi_segments",
        nargs="?",
        const=True,
        default=False,
        type=truth,
        metavar="true|false",
        help="ensemble --output_dir with --output_dir1 (default: false)",
    )
    add("--num_clips", type=positive_int, metavar="K", help="use clips 0 to K-1 (default: all that are there)")
    add("--test_crops", type=positive_int, metavar="M", help="use crops 0 to M-1 (default: all that are there)")
    add(
        "--score_weights",
        nargs="+",
        type=positive_float,
        metavar="W",
        help="weight of each directory in the ensemble (default: 1 for each)",
    )
    add("--logits", action="store_true", help="average logits, without softmax (default: off)")
    add("--per_view", action="store_true", help="print the accuracy of each clip and crop too (default: off)")
    args = parser.parse_args(argv)
    if args.multi_segments != (args.output_dir1 is not None):
        parser.error("--multi_segments and --output_dir1 go together")
    if bool(args.directories) == bool(args.output_dir):
        parser.error("give either DIR or --output_dir")
    args.directories += [directory for directory in (args.output_dir, args.output_dir1) if directory]
    args.score_weights = args.score_weights or [1.0] * len(args.directories)
    if len(args.score_weights) != len(args.directories):
        parser.error(f"--score_weights: {len(args.score_weights)} for {len(args.directories)} directories")
    return args


def truth(text: str) -> bool:
    if text.lower() not in ("true", "false"):
        raise argparse.ArgumentTypeError(f"{text!r} is neither true nor false")
    return text.lower() == "true"


def positive_int(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number above 0")
    return int(text)


def positive_float(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number above 0")
    return value


if __name__ == "__main__":
    run_front(main)
