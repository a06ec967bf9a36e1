"""Turn the scores of tests into accuracies; fuse networks, clips and crops.

One directory, one view a video, or ten clips of three crops each:
    python pkl_to_results.py --num_clips 1 --test_crops 1 --output_dir DIR
    python pkl_to_results.py --num_clips 10 --test_crops 3 --output_dir DIR

Two networks, as the (8+16)-frame rows of TDN:
    python pkl_to_results.py --num_clips 1 --test_crops 3 --output_dir DIR8 --multi_segments --output_dir1 DIR16

Any number of sources, each a directory of {clip}_crop{crop}.pkl files or an .npz file (TSN's --save_scores), weighted:
    python pkl_to_results.py rgb.npz flow.npz --score_weights 1 1.5

The views of a source are put together first, crops and then clips or frames, and then the sources. Videos are joined by
their ids where all sources have them, else by their order.
"""

import argparse
import math
import sys
from collections.abc import Sequence

from ops.data.datasets import read_class_names
from ops.errors import run_front
from ops.fusion import Rule, Source, check_scales, fuse, is_npz, join, load_source, need_ids, to_probabilities
from ops.metrics import Accuracies, accuracies, topk_accuracy
from ops.submission import write_submission


def main(argv: Sequence[str] | None = None) -> None:
    args = parse_arguments(argv)
    rule = Rule(args.average, args.crop_agg, args.frame_agg)
    class_names = read_class_names(args.class_names) if args.class_names else None
    sources = []
    for name, weight in zip(args.sources, args.score_weights, strict=True):
        if args.per_view and not is_npz(name):
            print(f"{name}\nclip  crop  Prec@1  Prec@5")
        sources.append(load_source(name, rule, args.num_clips, args.test_crops, print_view if args.per_view else None))
        line = sources[-1].line
        print(line if len(args.sources) == 1 else f"{name} (weight {weight:g}): {line}")
    sources = to_probabilities(join(sources)) if args.softmax else join(sources)
    if warning := check_scales(sources):
        print(f"warning: {warning}", file=sys.stderr)
    scores, labels = fuse(sources, args.score_weights), sources[0].labels
    result = accuracies(scores, labels)
    if len(sources) > 1:
        print_table(sources, args.score_weights, "fusion of softmaxes" if args.softmax else "fusion", result)
    if args.csv_file:
        dataset = args.dataset or next((source.dataset for source in sources if source.dataset), None)
        write_submission(args.csv_file, need_ids(sources), scores, class_names=class_names, dataset=dataset)
    print(f"Mean class accuracy {result.mean_class:.02f}%")
    print("-----Evaluation is finished------")
    print(f"Overall Prec@1 {result.top1:.02f}% Prec@5 {result.top5:.02f}%")


def print_view(clip, crop, logits, labels) -> None:
    top1, top5 = topk_accuracy(logits, labels, (1, 5))
    print(f"{clip:4d}  {crop:4d}  {top1:6.2f}  {top5:6.2f}")


def print_table(sources: Sequence[Source], weights: Sequence[float], fusion: str, fused: Accuracies) -> None:
    rows = [(source.name, f"{weight:g}", accuracies(source.scores, source.labels))
            for source, weight in zip(sources, weights, strict=True)]
    rows.append((fusion, "", fused))
    width = max(len(name) for name, _, _ in rows)
    print(f"{'source':{width}}  weight  Prec@1  Prec@5  mean class")
    for name, weight, (top1, top5, mean_class) in rows:
        print(f"{name:{width}}  {weight:>6}  {top1:6.2f}  {top5:6.2f}  {mean_class:10.2f}")


def parse_arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    """``sources``: those given either way; ``score_weights``: one for each."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    add = parser.add_argument
    add("sources", nargs="*", metavar="SOURCE", help="directories of score files, .npz files of scores")
    add("--output_dir", metavar="DIR", help="the first directory, in place of SOURCE (default: none)")
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
        help="weight of each source in the fusion (default: 1 for each)",
    )
    add("--average", choices=("logits", "softmax"), help="what is averaged over the views of a source: logits or each "
        "view's softmax (default: as its protocol.json says; without it softmax for directories, logits for .npz)")
    add("--crop_agg", choices=("mean", "max"), help="crops of a clip or frame: their mean or, class by class, their maximum "
        "(default: mean; max with --frame_agg window, as TSN has it)")
    add("--frame_agg", default="mean", metavar="mean|topk:K|window", help="clips or frames of a video: their mean, class "
        "by class the mean of the best K, or of the best sliding windows (default: mean)")
    add("--softmax", action="store_true", help="softmax of the averaged logits of each source before the fusion, as in TSM "
        "(default: off)")
    add("--csv_file", metavar="FILE", help="write the predictions as a submission: id;five labels for somethingv2, else "
        "id;class name (default: none)")
    add("--dataset", metavar="NAME", help="data set of the submission (default: that of protocol.json)")
    add("--class_names", metavar="FILE", help="class names of the submission, one a line, in label order (default: none)")
    add("--per_view", action="store_true", help="print the accuracy of each clip and crop too (default: off)")
    args = parser.parse_args(argv)
    if args.multi_segments != (args.output_dir1 is not None):
        parser.error("--multi_segments and --output_dir1 go together")
    if bool(args.sources) == bool(args.output_dir):
        parser.error("give either SOURCE or --output_dir")
    args.sources += [directory for directory in (args.output_dir, args.output_dir1) if directory]
    args.score_weights = args.score_weights or [1.0] * len(args.sources)
    if len(args.score_weights) != len(args.sources):
        parser.error(f"--score_weights: {len(args.score_weights)} for {len(args.sources)} sources")
    if all(map(is_npz, args.sources)) and (args.num_clips or args.test_crops or args.per_view):
        parser.error("--num_clips, --test_crops and --per_view are for directories of score files")
    if not args.csv_file and (args.dataset or args.class_names):
        parser.error("--dataset and --class_names are for --csv_file")
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
