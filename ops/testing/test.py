"""The work of both test scripts: score networks on their lists and print accuracies."""

import argparse
import contextlib
import sys
from collections.abc import Sequence
from pathlib import Path

from ops import distributed
from ops.checkpoints import load_model
from ops.checkpoints.class_order import order_warning
from ops.data.datasets import Dataset, load_class_names, resolve
from ops.data.preflight import check_class_names, read_checked
from ops.data.readers.templates import choose_template
from ops.data.sampling import SAMPLINGS
from ops.models import TSN
from ops.scores import fusion, metrics
from ops.scores.metadata import FILE_NAME, ScoreMetadata, check_same, read_metadata
from ops.scores.protocol import choose_protocol, default_average, default_sampling
from ops.scores.source import ScoreSource
from ops.scores.submission import write_submission
from ops.temporal import option_names
from ops.testing import INT8, journal
from ops.testing.run import TestRun, read_source, score
from ops.testing.runtime import check_runtime
from ops.utils import locks
from ops.utils.errors import UserError, repeatable
from ops.utils.files import sha256
from ops.utils.text import counted


def run(args: argparse.Namespace) -> None:
    """Test as the flags of ``ops.cli.test_args.testing_arguments`` specify."""
    with distributed.start(args.device, args.local_rank, args.deterministic) as world:
        if world.is_main:
            for note in args.notes:
                print(note)
        check_runtime(args, world.device)
        tests = prepare_all(args, quiet=not world.is_main)
        if args.dry_run:
            if world.is_main:
                for test in tests:
                    print(f"dry run: {test.model.report}; {test.line}; nothing was scored")
            return
        sources = []
        for number, test in enumerate(tests):
            lock = contextlib.nullcontext()
            if world.is_main:
                lock = locks.exclusive_lock(test.folder, "test", "--output_dir")
            with lock, repeatable():
                score(args, test, world, f"videos{number}")
            if world.is_main:
                sources.append(read_source(test))
        if world.is_main:
            if args.save_scores:
                print(f"scores of each segment and crop written to {args.save_scores}")
            report(args, tests, sources)


def prepare_all(args: argparse.Namespace, quiet: bool) -> list[TestRun]:
    """A test run for each of ``args.models``. All input is checked before anything is scored."""
    several = len(args.models) > 1
    if several and args.save_scores:
        raise UserError(
            "--save_scores writes the scores of one network; "
            "with several, each has its own folder in --output_dir"
        )
    tests = []
    for number, own in enumerate(args.models):
        folder = Path(args.output_dir)
        if several:
            folder /= f"{number}_{Path(own.weights).stem}"
        tests.append(prepare(args, own, folder, quiet))
    classes = [test.model.num_class for test in tests]
    if len(set(classes)) > 1:
        raise UserError(
            f"--weights {args.weights}: cannot ensemble networks with different numbers of classes "
            f"({', '.join(map(str, classes))})"
        )
    if args.csv_file and tests[0].data.name != "somethingv2" and not tests[0].metadata.class_names:
        raise UserError(
            f"--csv_file {args.csv_file}: a submission contains class names; give --class_names"
        )
    return tests


def prepare(
    args: argparse.Namespace, own: argparse.Namespace, folder: Path, quiet: bool
) -> TestRun:
    """Load one network and its list, and check that they match each other and the directory.

    Args:
        args: the flags.
        own: the flags of this network.
        folder: its score directory.
        quiet: whether to print nothing.

    Raises:
        UserError: the flags, the checkpoint, the dataset or the scores in ``folder`` do not match.
    """
    options = {name: getattr(args, name) for name in option_names()}
    model = _load_network(args, own, options, quiet)
    data = _resolve_dataset(args, own, model)
    class_names = _check_classes(own, model, data, quiet)
    videos, _ = read_checked(
        data,
        "val_list",
        stop=args.on_error == "stop",
        alternative="count them as wrong: --on-error count-wrong",
    )
    if args.max_num:
        videos = videos.head(args.max_num)
    protocol = choose_protocol(
        model,
        sampling=own.test_sampling or default_sampling(model, data.name, data.test_sampling),
        average=args.average or default_average(model, data.multi_label),
        crops=own.test_crops,
        clips=args.clips,
        clip_index=args.clip_index,
        full_res=args.full_res,
        scale_size=args.scale_size,
        crop_size=args.crop_size,
        seed=args.seed,
        compat=args.sampling_compat,
    )
    dataset = protocol.dataset(model, videos, data.image_tmpl, args.decoder)
    metadata = ScoreMetadata(
        protocol={
            "dataset": data.name,
            "module": model.spec["module"],
            "modality": model.modality,
            "num_class": model.num_class,
            "num_segments": model.num_segments,
            "frames_per_segment": model.frames_per_segment,
            "sampling": protocol.sampling,
            "sampling_compat": protocol.compat,
            "clips": dataset.num_clips if SAMPLINGS[protocol.sampling].uses_window else None,
            "crops": protocol.crops,
            "crop_size": protocol.crop_size,
            "scale_size": protocol.scale_size,
            "seed": protocol.seed,
            "amp": "int8" if args.runtime == INT8 else args.amp,
            "average": protocol.average,
        },
        weights=weights_metadata(own.weights, weights_key=own.weights_key, **options),
        files={
            "list": str(data.val_list),
            "root_path": str(data.root_path),
            "image_tmpl": data.image_tmpl,
            "modality": model.modality,
        },
        class_names=class_names or model.class_names,
        clips=list(dataset.clips),
        failures=[],
        ids=[record.id for record in videos],
        labels=videos.labels,
    )
    for directory, same_clips in ((folder, False), (folder / journal.FOLDER, True)):
        existing = read_metadata(directory)
        if existing:
            path = directory / FILE_NAME
            check_same(path, existing, metadata, clips=same_clips, free=args.free_options)
    return TestRun(model, data, dataset, metadata, folder, args.save_scores)


def _load_network(
    args: argparse.Namespace, own: argparse.Namespace, options: dict, quiet: bool
) -> TSN:
    model = load_model(
        own.weights,
        own.test_segments,
        weights_key=own.weights_key,
        quiet=quiet,
        module=args.module,
        consensus="identity" if args.save_scores else "avg",
        **options,
    )
    if model.published and not quiet:
        print_published(model.published)
    if own.archs and own.archs != model.spec["arch"]:
        raise UserError(f"--archs {own.archs}: {own.weights} contains a {model.spec['arch']}")
    if own.modality and own.modality != model.modality:
        raise UserError(f"--modality {own.modality}: {own.weights} was trained on {model.modality}")
    return model


def _resolve_dataset(args: argparse.Namespace, own: argparse.Namespace, model: TSN) -> Dataset:
    data = resolve(
        args.dataset,
        model.modality,
        root_path=own.root_path,
        val_list=own.val_list,
        num_class=args.num_class,
        class_names=args.class_names,
        multi_label=args.multi_label or None,
        image_tmpl=choose_template(own.image_tmpl, args.flow_prefix, model.modality),
    )
    if data.num_class != model.num_class:
        raise UserError(
            f"{own.weights} has {model.num_class} classes, but {data.name} has {data.num_class}; "
            "give the right checkpoint, dataset or --num_class"
        )
    if args.save_scores and data.multi_label:
        raise UserError(
            f"--save_scores {args.save_scores}: its files contain one label per video, and "
            f"{data.name} has several"
        )
    return data


def _check_classes(
    own: argparse.Namespace, model: TSN, data: Dataset, quiet: bool
) -> list[str] | None:
    """The class names of the dataset, None if they are not specified."""
    names = load_class_names(data)
    # The authors of published files may spell their classes differently, so only the order counts.
    own_names = model.class_names if model.layout == "ours" else None
    check_class_names(own_names, names, own.weights, data.class_names)
    if own_names is None and not quiet:
        warning = order_warning(
            own.weights, model.layout, data.name, names, data.class_names, model.published
        )
        if warning:
            print(f"warning: {warning}", file=sys.stderr)
    return names


def weights_metadata(path: str, **options: object) -> dict:
    """The entry of ``scores.json`` that identifies a network.

    Args:
        path: the weight file.
        options: flags that change the network; None where they are not given.
    """
    metadata = {"file": path, "sha256": sha256(path)}
    given = {name: value for name, value in options.items() if value is not None}
    if given:
        metadata["options"] = given
    return metadata


def print_published(entry: dict) -> None:
    """Print the protocols and accuracies that a published file is listed with, one per line."""
    for result in entry["expected"]:
        protocol = [
            counted(result[f"{name}s"], name)
            for name in ("frame", "crop", "clip")
            if result[f"{name}s"] is not None
        ]
        for name in ("size", "sampling"):
            if result[name] is not None:
                protocol.append(str(result[name]))
        accuracies = [
            f"Prec@{k} {result[f'top{k}']}" for k in (1, 5) if result[f"top{k}"] is not None
        ]
        if result["mAP"] is not None:
            accuracies.append(f"mAP {result['mAP']}")
        print(
            f"published: {entry['id']}: {', '.join(protocol)}: {', '.join(accuracies)} "
            f"({result['source']})"
        )


def report(
    args: argparse.Namespace, tests: Sequence[TestRun], sources: Sequence[ScoreSource]
) -> None:
    """Print the accuracy of each network and of the ensemble; write the submission."""
    if args.softmax:
        sources = fusion.to_probabilities(sources)
    for test, source in zip(tests, sources, strict=True):
        result = metrics.evaluate(source.scores, source.labels, source.failed)
        folder = f" ({test.folder})" if len(tests) > 1 else ""
        print(f"{source.protocol_line}: {metrics.line(result)}{folder}")
    scores = sources[0].scores
    if len(tests) > 1:
        sources = fusion.join(sources)
        warning = fusion.check_scales(sources)
        if warning:
            print(f"warning: {warning}", file=sys.stderr)
        weights = [own.coeff for own in args.models]
        scores = fusion.fuse(sources, weights)
        print(f"ensemble, weights {' '.join(f'{weight:g}' for weight in weights)}")
    failed = fusion.any_failed(sources)
    result = metrics.evaluate(scores, sources[0].labels, failed)
    print(*metrics.result_lines(result), sep="\n")
    if args.csv_file:
        warning = write_submission(
            args.csv_file,
            sources[0].ids,
            scores,
            class_names=tests[0].metadata.class_names,
            dataset=tests[0].data.name,
            failed=failed,
        )
        print(f"predictions written to {args.csv_file}")
        if warning:
            print(f"warning: {warning}", file=sys.stderr)
