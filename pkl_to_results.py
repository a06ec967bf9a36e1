"""Turn the scores of tests into accuracies; fuse networks, clips and crops.

One directory, one view per video, or ten clips of three crops each:
    python pkl_to_results.py --num_clips 1 --test_crops 1 --output_dir DIR
    python pkl_to_results.py --num_clips 10 --test_crops 3 --output_dir DIR

Two networks, such as the (8+16)-frame ensembles of TDN:
    python pkl_to_results.py --num_clips 1 --test_crops 3 --output_dir DIR8 \\
        --multi_segments --output_dir1 DIR16

Any number of sources with weights, each a directory of {clip}_crop{crop}.pkl files or an .npz file
(TSN's --save_scores):
    python pkl_to_results.py rgb.npz flow.npz --score_weights 1 1.5

The views of each source are aggregated first, crops and then clips or frames; then the sources are
fused. Videos are matched by their ids if all sources contain them, else by their order. --report
writes tables and an HTML page; with --explain, its most confident mistakes show their evidence.
"""

import argparse
import sys
from collections.abc import Sequence

import numpy as np

from ops.cli.results_args import results_arguments
from ops.data.class_names import read_class_names
from ops.report import TestResult, write_report
from ops.scores import metrics
from ops.scores.fusion import any_failed, check_scales, fuse, join, need_ids, to_probabilities
from ops.scores.source import AccuracyByView, Aggregation, ScoreSource, is_npz, load_source
from ops.scores.submission import write_submission
from ops.utils.errors import run_cli


def main(argv: Sequence[str] | None = None) -> None:
    args = results_arguments(__doc__, argv)
    class_names = None
    if args.class_names:
        class_names = read_class_names(args.class_names)
    sources, accuracies = load_sources(args)
    sources = join(sources)
    if args.softmax:
        sources = to_probabilities(sources)
    warn(check_scales(sources))
    scores = fuse(sources, args.score_weights)
    result = metrics.evaluate(scores, sources[0].labels, any_failed(sources))
    if len(sources) > 1:
        fusion = "fusion of softmaxes" if args.softmax else "fusion"
        print_table(sources, args.score_weights, fusion, result)
    described = [source.metadata for source in sources if source.metadata]
    for metadata in described:
        class_names = class_names or metadata.class_names
    if args.csv_file:
        dataset = args.dataset
        if dataset is None and described:
            dataset = described[0].protocol["dataset"]
        warning = write_submission(
            args.csv_file,
            need_ids(sources),
            scores,
            class_names=class_names,
            dataset=dataset,
            failed=any_failed(sources),
        )
        warn(warning)
    if args.report:
        report(args, sources, accuracies, scores, class_names)
    print(*metrics.result_lines(result), sep="\n")


def load_sources(args: argparse.Namespace) -> tuple[list[ScoreSource], list[AccuracyByView]]:
    """Read each source and print its protocol; with --per_view print the accuracy of each view."""
    aggregation = Aggregation(args.average, args.crop_agg, args.frame_agg)
    clips = range(args.num_clips) if args.num_clips else None
    sources, accuracies = [], []
    for name, weight in zip(args.sources, args.score_weights, strict=True):
        if args.per_view and not is_npz(name):
            print(f"{name}\nclip  crop  Prec@1  Prec@5")
        accuracy = AccuracyByView()

        def on_view(clip, crop, scores, labels, accuracy=accuracy):
            if args.per_view:
                print_view(clip, crop, scores, labels)
            if args.report:
                accuracy(clip, crop, scores, labels)

        source = load_source(name, aggregation, clips, args.test_crops, on_view)
        if len(args.sources) > 1:
            print(f"{name} (weight {weight:g}): {source.protocol_line}")
        else:
            print(source.protocol_line)
        sources.append(source)
        accuracies.append(accuracy)
    return sources, accuracies


def report(
    args: argparse.Namespace,
    sources: Sequence[ScoreSource],
    accuracies: Sequence[AccuracyByView],
    fused: np.ndarray,
    class_names: list[str] | None,
) -> None:
    """Write the tables and the page of --report."""
    tests = []
    for source, accuracy in zip(sources, accuracies, strict=True):
        test = TestResult(
            source.name,
            source.protocol_line,
            source.scores,
            source.labels,
            source.ids,
            class_names,
            source.probabilities,
            failed=source.failed,
        )
        if accuracy.top1:
            test = test._replace(accuracy_by_view=np.array(accuracy.top1))
        if source.metadata and source.metadata.files:
            test = test._replace(files=source.metadata.files)
        if args.explain:
            # Imported here: it loads torch.
            from ops.report.maps import MistakeMaps

            test = test._replace(explain=MistakeMaps(source.name, source.metadata))
        tests.append(test)
    fusion = None
    if len(tests) > 1:
        weights = " ".join(f"{weight:g}" for weight in args.score_weights)
        fusion = tests[0]._replace(
            name="fusion",
            protocol_line=f"{len(tests)} tests, weights {weights}",
            scores=fused,
            failed=any_failed(sources),
            accuracy_by_view=None,
        )
    write_report(args.report, tests, fusion)
    print(f"report written to {args.report}/report.html")


def print_view(clip: int, crop: int, scores: np.ndarray, labels: np.ndarray) -> None:
    top1, top5 = metrics.topk_accuracy(scores, labels, (1, 5))
    print(f"{clip:4d}  {crop:4d}  {top1:6.2f}  {top5:6.2f}")


def print_table(
    sources: Sequence[ScoreSource],
    weights: Sequence[float],
    fusion: str,
    fused: dict[str, float],
) -> None:
    """Print the metrics of each source, and of the fusion in the last row."""
    rows = []
    for source, weight in zip(sources, weights, strict=True):
        result = metrics.evaluate(source.scores, source.labels, source.failed)
        rows.append((source.name, f"{weight:g}", result))
    rows.append((fusion, "", fused))
    width = max(len(name) for name, _, _ in rows)
    titles = [metrics.TITLES[key] for key in fused]
    print("  ".join([f"{'source':{width}}", "weight", *titles]))
    for name, weight, result in rows:
        values = [f"{result[key]:{len(metrics.TITLES[key])}.2f}" for key in fused]
        print("  ".join([f"{name:{width}}", f"{weight:>6}", *values]))


def warn(warning: str | None) -> None:
    if warning:
        print(f"warning: {warning}", file=sys.stderr)


if __name__ == "__main__":
    run_cli(main)
