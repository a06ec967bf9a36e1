"""Turn the scores of tests into accuracies; fuse networks, clips and crops.

One directory, one view a video, or ten clips of three crops each:
    python pkl_to_results.py --num_clips 1 --test_crops 1 --output_dir DIR
    python pkl_to_results.py --num_clips 10 --test_crops 3 --output_dir DIR

Two networks, as the (8+16)-frame rows of TDN:
    python pkl_to_results.py --num_clips 1 --test_crops 3 --output_dir DIR8 --multi_segments --output_dir1 DIR16

Any number of sources, each a directory of {clip}_crop{crop}.pkl files or an .npz file (TSN's --save_scores), weighted:
    python pkl_to_results.py rgb.npz flow.npz --score_weights 1 1.5

The views of a source are put together first, crops and then clips or frames, and then the sources. Videos are joined by
their ids where all sources have them, else by their order. --report writes tables and a page about them.
"""

import sys
from collections.abc import Sequence

import numpy as np

from ops.cli.results_args import results_arguments
from ops.data.datasets import read_class_names
from ops.report import TestResult, write_report
from ops.scores import metrics
from ops.scores.fusion import (
    Grid,
    Rule,
    Source,
    any_failed,
    check_scales,
    fuse,
    is_npz,
    join,
    load_source,
    need_ids,
    to_probabilities,
)
from ops.scores.submission import write_submission
from ops.utils.errors import run_cli


def main(argv: Sequence[str] | None = None) -> None:
    args = results_arguments(__doc__, argv)
    rule = Rule(args.average, args.crop_agg, args.frame_agg)
    class_names = read_class_names(args.class_names) if args.class_names else None
    sources, grids = [], []
    for name, weight in zip(args.sources, args.score_weights, strict=True):
        if args.per_view and not is_npz(name):
            print(f"{name}\nclip  crop  Prec@1  Prec@5")
        grids.append(Grid())
        watchers = [print_view] * args.per_view + [grids[-1]] * bool(args.report)
        sources.append(
            load_source(
                name,
                rule,
                args.num_clips,
                args.test_crops,
                lambda *view, watchers=watchers: [watch(*view) for watch in watchers],
            )
        )
        line = sources[-1].line
        print(line if len(args.sources) == 1 else f"{name} (weight {weight:g}): {line}")
    sources = to_probabilities(join(sources)) if args.softmax else join(sources)
    if warning := check_scales(sources):
        print(f"warning: {warning}", file=sys.stderr)
    scores, labels = fuse(sources, args.score_weights), sources[0].labels
    result = metrics.evaluate(scores, labels, any_failed(sources))
    if len(sources) > 1:
        print_table(
            sources, args.score_weights, "fusion of softmaxes" if args.softmax else "fusion", result
        )
    facts = [source.facts for source in sources if source.facts]
    class_names = class_names or next((one.class_names for one in facts if one.class_names), None)
    if args.csv_file:
        dataset = args.dataset or (facts[0].protocol["dataset"] if facts else None)
        warning = write_submission(
            args.csv_file,
            need_ids(sources),
            scores,
            class_names=class_names,
            dataset=dataset,
            failed=any_failed(sources),
        )
        if warning:
            print(f"warning: {warning}", file=sys.stderr)
    if args.report:
        report(
            args,
            sources,
            [np.array(grid.top1) if grid.top1 else None for grid in grids],
            scores,
            class_names,
        )
    print(*metrics.result_lines(result), sep="\n")


def report(
    args,
    sources: Sequence[Source],
    grids: Sequence[np.ndarray | None],
    fused: np.ndarray,
    class_names,
) -> None:
    tests = [
        TestResult(
            one.name,
            one.line,
            one.scores,
            one.labels,
            one.ids,
            class_names,
            one.probabilities,
            one.failed,
            grid,
            (one.facts and one.facts.files) or None,
        )
        for one, grid in zip(sources, grids, strict=True)
    ]
    line = f"{len(tests)} tests, weights {' '.join(f'{weight:g}' for weight in args.score_weights)}"
    fusion = tests[0]._replace(
        name="fusion", line=line, scores=fused, failed=any_failed(sources), grid=None
    )
    write_report(args.report, tests, fusion if len(tests) > 1 else None)
    print(f"report written to {args.report}/report.html")


def print_view(clip, crop, scores, labels) -> None:
    top1, top5 = metrics.topk_accuracy(scores, labels, (1, 5))
    print(f"{clip:4d}  {crop:4d}  {top1:6.2f}  {top5:6.2f}")


def print_table(
    sources: Sequence[Source], weights: Sequence[float], fusion: str, fused: dict[str, float]
) -> None:
    rows = [
        (source.name, f"{weight:g}", metrics.evaluate(source.scores, source.labels, source.failed))
        for source, weight in zip(sources, weights, strict=True)
    ]
    rows.append((fusion, "", fused))
    width = max(len(name) for name, _, _ in rows)
    titles = [metrics.TITLES[key] for key in fused]
    print("  ".join([f"{'source':{width}}", "weight", *titles]))
    for name, weight, result in rows:
        values = [
            f"{value:{len(title)}.2f}" for title, value in zip(titles, result.values(), strict=True)
        ]
        print("  ".join([f"{name:{width}}", f"{weight:>6}", *values]))


if __name__ == "__main__":
    run_cli(main)
