"""The flags of ``pkl_to_results.py``."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from ops.cli.types import boolean, positive_float, positive_int
from ops.scores.source import is_npz


def results_arguments(description: str, argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the flags of ``pkl_to_results.py``. ``sources``: those given either way; ``score_weights``: one for each."""
    parser = argparse.ArgumentParser(
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = parser.add_argument
    add(
        "sources",
        nargs="*",
        metavar="SOURCE",
        help="directories of score files, .npz files of scores",
    )
    add(
        "--output_dir",
        metavar="DIR",
        help="the first directory, in place of SOURCE (default: none)",
    )
    add(
        "--output_dir1",
        metavar="DIR",
        help="the second directory, with --multi_segments (default: none)",
    )
    add(
        "--multi_segments",
        nargs="?",
        const=True,
        default=False,
        type=boolean,
        metavar="true|false",
        help="ensemble --output_dir with --output_dir1 (default: false)",
    )
    add(
        "--num_clips",
        type=positive_int,
        metavar="K",
        help="use clips 0 to K-1 (default: all that are there)",
    )
    add(
        "--test_crops",
        type=positive_int,
        metavar="M",
        help="use crops 0 to M-1 (default: all that are there)",
    )
    add(
        "--score_weights",
        nargs="+",
        type=positive_float,
        metavar="W",
        help="weight of each source in the fusion (default: 1 for each)",
    )
    add(
        "--average",
        choices=("logits", "softmax"),
        help="what is averaged over the views of a source: logits or each "
        "view's softmax (default: as its scores.json says; without it softmax for directories, logits for .npz)",
    )
    add(
        "--crop_agg",
        choices=("mean", "max"),
        help="crops of a clip or frame: their mean or, class by class, their maximum "
        "(default: mean; max with --frame_agg window, as TSN has it)",
    )
    add(
        "--frame_agg",
        default="mean",
        metavar="mean|topk:K|window",
        help="clips or frames of a video: their mean, class "
        "by class the mean of the best K, or of the best sliding windows (default: mean)",
    )
    add(
        "--softmax",
        action="store_true",
        help="softmax of the averaged logits of each source before the fusion, as in TSM "
        "(default: off)",
    )
    add(
        "--report",
        metavar="DIR",
        help="write results.json, per_class.csv, predictions.csv, confusion.csv, confusion.png "
        "and report.html into this folder (default: none)",
    )
    add(
        "--csv_file",
        metavar="FILE",
        help="write the predictions as a submission: id;five labels for somethingv2, else "
        "id;class name (default: none)",
    )
    add(
        "--dataset",
        metavar="NAME",
        help="data set of the submission (default: that of scores.json)",
    )
    add(
        "--class_names",
        metavar="FILE",
        help="class names, one a line, in label order (default: those of scores.json)",
    )
    add(
        "--per_view",
        action="store_true",
        help="print the accuracy of each clip and crop too (default: off)",
    )
    args = parser.parse_args(argv)
    if args.multi_segments != (args.output_dir1 is not None):
        parser.error("--multi_segments and --output_dir1 go together")
    if bool(args.sources) == bool(args.output_dir):
        parser.error("give either SOURCE or --output_dir")
    args.sources += [directory for directory in (args.output_dir, args.output_dir1) if directory]
    args.sources = [_with_npz(source) for source in args.sources]
    args.score_weights = args.score_weights or [1.0] * len(args.sources)
    if len(args.score_weights) != len(args.sources):
        parser.error(f"--score_weights: {len(args.score_weights)} for {len(args.sources)} sources")
    if all(map(is_npz, args.sources)) and (args.num_clips or args.test_crops or args.per_view):
        parser.error("--num_clips, --test_crops and --per_view are for directories of score files")
    if (not (args.csv_file or args.report) and args.class_names) or (
        args.dataset and not args.csv_file
    ):
        parser.error("--dataset is for --csv_file, --class_names for it and --report")
    return args


def _with_npz(source: str) -> str:
    """The file that ``--save_scores NAME`` wrote, if only ``NAME.npz`` exists."""
    named = f"{source}.npz"
    return named if not Path(source).exists() and Path(named).is_file() else source
