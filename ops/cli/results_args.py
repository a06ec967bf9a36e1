"""The flags of ``pkl_to_results.py``."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from ops.cli.flags import Effect, FlagParser
from ops.cli.types import boolean, positive_float, positive_int
from ops.scores.aggregation import AVERAGES
from ops.scores.source import is_npz


def results_parser(description: str) -> FlagParser:
    """The parser of ``pkl_to_results.py``.

    Args:
        description: first lines of ``--help``.
    """
    parser = FlagParser(description)
    parser.add_flag(
        "sources",
        effect=Effect.EXTENT,
        nargs="*",
        metavar="SOURCE",
        help="directories of score files, .npz files of scores",
    )
    group = parser.group("sources")
    group.add_flag(
        "--output_dir",
        effect=Effect.EXTENT,
        metavar="DIR",
        help="the first directory, in place of SOURCE (default: none)",
    )
    group.add_flag(
        "--output_dir1",
        effect=Effect.EXTENT,
        metavar="DIR",
        help="the second directory, with --multi_segments (default: none)",
    )
    group.add_flag(
        "--multi_segments",
        effect=Effect.EXTENT,
        nargs="?",
        const=True,
        default=False,
        type=boolean,
        metavar="true|false",
        help="ensemble --output_dir with --output_dir1 (default: false)",
    )
    group.add_flag(
        "--num_clips",
        effect=Effect.EXTENT,
        type=positive_int,
        metavar="K",
        help="use clips 0 to K-1 (default: all that exist)",
    )
    group.add_flag(
        "--test_crops",
        effect=Effect.EXTENT,
        type=positive_int,
        metavar="M",
        help="use crops 0 to M-1 (default: all that exist)",
    )
    _add_fusion(parser)
    _add_output(parser)
    return parser


def _add_fusion(parser: FlagParser) -> None:
    group = parser.group("fusion")
    group.add_flag(
        "--score_weights",
        effect=Effect.RESULT,
        nargs="+",
        type=positive_float,
        metavar="W",
        help="weight of each source in the fusion (default: 1 for each)",
    )
    group.add_flag(
        "--average",
        effect=Effect.RESULT,
        choices=AVERAGES,
        help="what is averaged over the views of a source: logits or each view's softmax (default: "
        "that of its scores.json; without it softmax for directories, logits for .npz)",
    )
    group.add_flag(
        "--crop_agg",
        effect=Effect.RESULT,
        choices=("mean", "max"),
        help="crops of a clip or frame: their mean or, class by class, their maximum (default: "
        "mean; max with --frame_agg window, as in TSN)",
    )
    group.add_flag(
        "--frame_agg",
        effect=Effect.RESULT,
        default="mean",
        metavar="mean|topk:K|window",
        help="clips or frames of a video: their mean or, class by class, the mean of the best K, "
        "or of the best sliding windows (default: mean)",
    )
    group.add_flag(
        "--softmax",
        effect=Effect.RESULT,
        action="store_true",
        help="apply softmax to the averaged logits of each source before the fusion, as in TSM "
        "(default: off)",
    )


def _add_output(parser: FlagParser) -> None:
    group = parser.group("output")
    group.add_flag(
        "--report",
        effect=Effect.NONE,
        metavar="DIR",
        help="write results.json, per_class.csv, predictions.csv, confusion.csv, confusion.png "
        "and report.html into this folder (default: none)",
    )
    group.add_flag(
        "--explain",
        effect=Effect.NONE,
        action="store_true",
        help="with --report: show which places of which frames the network bases its most "
        "confident mistakes on (Grad-CAM); needs the weights and the videos of the test "
        "(default: off)",
    )
    group.add_flag(
        "--csv_file",
        effect=Effect.NONE,
        metavar="FILE",
        help="write the predictions as a submission: id;five labels for somethingv2, else "
        "id;class name (default: none)",
    )
    group.add_flag(
        "--dataset",
        effect=Effect.NONE,
        metavar="NAME",
        help="dataset of the submission (default: that of scores.json)",
    )
    group.add_flag(
        "--class_names",
        effect=Effect.NONE,
        metavar="FILE",
        help="class names, one per line, in label order (default: those of scores.json)",
    )
    group.add_flag(
        "--per_view",
        effect=Effect.NONE,
        action="store_true",
        help="also print the accuracy of each clip and crop (default: off)",
    )


def results_arguments(description: str, argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the flags of ``pkl_to_results.py``.

    Args:
        description: first lines of ``--help``.
        argv: the command line after the program's name; None takes that of this process.

    Returns:
        the arguments. ``sources`` are those given in either form, and ``score_weights`` has one
        weight for each.
    """
    parser = results_parser(description)
    args = parser.parse_args(argv)
    if args.multi_segments != (args.output_dir1 is not None):
        parser.error("--multi_segments and --output_dir1 must be given together")
    if bool(args.sources) == bool(args.output_dir):
        parser.error("give either SOURCE or --output_dir")
    args.sources += [directory for directory in (args.output_dir, args.output_dir1) if directory]
    args.sources = [_with_npz(source) for source in args.sources]
    args.score_weights = args.score_weights or [1.0] * len(args.sources)
    if len(args.score_weights) != len(args.sources):
        parser.error(f"--score_weights: {len(args.score_weights)} for {len(args.sources)} sources")
    if all(map(is_npz, args.sources)) and (args.num_clips or args.test_crops or args.per_view):
        parser.error("--num_clips, --test_crops and --per_view are for directories of score files")
    if args.dataset and not args.csv_file:
        parser.error("--dataset needs --csv_file")
    if args.explain and not args.report:
        parser.error("--explain needs --report")
    if args.explain and len(args.sources) > 1:
        parser.error("--explain is for one source: a fusion is not the result of one network")
    if args.class_names and not (args.csv_file or args.report):
        parser.error("--class_names needs --csv_file or --report")
    return args


def _with_npz(source: str) -> str:
    """The file that ``--save_scores NAME`` wrote, if only ``NAME.npz`` exists."""
    named = f"{source}.npz"
    return named if not Path(source).exists() and Path(named).is_file() else source
