"""What the two test fronts do: score one network or several on their lists, write the scores, put them together."""

import contextlib
import sys
from pathlib import Path

from ops import distributed
from ops.checkpoints import load_model
from ops.checkpoints.class_order import order_warning
from ops.checkpoints.manifest import published_sampling
from ops.cli.train_args import file_template
from ops.data.clips import TestDataset
from ops.data.datasets import load_class_names, resolve
from ops.data.preflight import check_class_names, read_checked
from ops.data.sampling import SAMPLINGS
from ops.scores import fusion, metrics
from ops.scores.metadata import FILE_NAME, Facts, check_same, read_facts
from ops.scores.submission import write_submission
from ops.temporal import MODULES, option_names
from ops.testing import journal
from ops.testing.run import Test, score, source_of
from ops.utils import locks
from ops.utils.errors import UserError
from ops.utils.files import sha256
from ops.utils.signals import repeatable
from ops.utils.text import counted


def run(args):
    """Test what ``ops.cli.test_args.testing_arguments`` gives."""
    with distributed.start(args.device, args.local_rank, args.deterministic) as world:
        if world.is_main:
            for note in args.notes:
                print(note)
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
                facts = score(args, test, world, f"videos{number}")
            if world.is_main:
                sources.append(source_of(test._replace(facts=facts)))
        if world.is_main:
            if args.save_scores:
                print(f"scores of each segment and crop written to {args.save_scores}")
            report(args, tests, sources)


def prepare_all(args, quiet):
    """A :class:`Test` for each of ``args.models``; whatever is wrong is found before anything is scored."""
    several = len(args.models) > 1
    if several and args.save_scores:
        raise UserError(
            "--save_scores writes the scores of one network; each has its own folder in --output_dir"
        )
    tests = []
    for number, own in enumerate(args.models):
        folder = Path(args.output_dir)
        tests.append(
            prepare(
                args,
                own,
                folder / f"{number}_{Path(own.weights).stem}" if several else folder,
                quiet,
            )
        )
    classes = [test.model.num_class for test in tests]
    if len(set(classes)) > 1:
        raise UserError(
            f"--weights {args.weights}: the networks tell {', '.join(map(str, classes))} classes apart: no "
            f"ensemble"
        )
    if args.csv_file and tests[0].data.name != "somethingv2" and tests[0].facts.class_names is None:
        raise UserError(
            f"--csv_file {args.csv_file}: a submission names classes; give --class_names"
        )
    return tests


def prepare(args, own, folder, quiet):
    """The :class:`Test` of one network. own: the flags that are its own. Raises UserError for what does not fit together."""
    options = {name: getattr(args, name) for name in option_names()}
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
    for flag, given, held in (
        ("archs", own.archs, model.spec["arch"]),
        ("modality", own.modality, model.modality),
    ):
        if given and given != held:
            raise UserError(f"--{flag} {given}: {own.weights} holds a {held}")
    data = resolve(
        args.dataset,
        model.modality,
        root_path=own.root_path,
        val_list=own.val_list,
        num_class=args.num_class,
        class_names=args.class_names,
        multi_label=args.multi_label or None,
        image_tmpl=file_template(own.image_tmpl, args.flow_prefix, model.modality),
    )
    if data.num_class != model.num_class:
        raise UserError(
            f"{own.weights} tells {model.num_class} classes apart, but {data.name} has {data.num_class}; "
            f"give the right checkpoint, data set or --num_class"
        )
    if args.save_scores and data.multi_label:
        raise UserError(
            f"--save_scores {args.save_scores}: its files hold one label per video, and "
            f"{data.name} has several"
        )
    row = MODULES[model.spec["module"]]
    sampling = own.test_sampling or default_sampling(model, row, data)
    names = load_class_names(data)
    check_class_names(model.class_names, names, own.weights, data.class_names)
    if model.class_names is None and not quiet:
        warning = order_warning(
            own.weights, model.layout, data.name, names, data.class_names, model.published
        )
        if warning:
            print(f"warning: {warning}", file=sys.stderr)
    videos, _ = read_checked(
        data,
        "val_list",
        stop=args.on_error == "stop",
        remedy="count them as wrong: --on-error count-wrong",
    )
    if args.max_num:
        videos = videos.head(args.max_num)
    scale = args.scale_size or model.scale_size
    crop = args.crop_size or (scale if args.full_res else model.input_size)
    if crop > scale:
        raise UserError(
            f"--crop_size {crop}: larger than the short side of a scaled frame; give "
            f"--scale_size {crop} or more"
        )
    clips = [args.clip_index]
    if args.clip_index is None:
        clips = range(SAMPLINGS[sampling].clips_per_run(args.clips))
    dataset = TestDataset(
        videos,
        num_segments=model.num_segments,
        frames_per_segment=model.frames_per_segment,
        image_tmpl=data.image_tmpl,
        decoder=args.decoder,
        clips=clips,
        num_clips=args.clips,
        crops=own.test_crops,
        scale_size=scale,
        crop_size=crop,
        sampling=sampling,
        seed=args.seed,
        modality=model.modality,
        compat=args.sampling_compat,
    )
    protocol = {
        "dataset": data.name,
        "module": model.spec["module"],
        "modality": model.modality,
        "num_class": model.num_class,
        "num_segments": model.num_segments,
        "frames_per_segment": model.frames_per_segment,
        "sampling": sampling,
        "sampling_compat": args.sampling_compat,
        "clips": dataset.num_clips if SAMPLINGS[sampling].uses_window else None,
        "crops": own.test_crops,
        "crop_size": dataset.transform.crop_size,
        "scale_size": scale,
        "seed": args.seed,
        "amp": args.amp,
        "average": args.average or default_average(model, row, data),
    }
    files = {
        "list": str(data.val_list),
        "root_path": str(data.root_path),
        "image_tmpl": data.image_tmpl,
        "modality": model.modality,
    }
    facts = Facts(
        protocol,
        weights_facts(own.weights, weights_key=own.weights_key, **options),
        files,
        names or model.class_names,
        list(dataset.clips),
        [],
        [record.id for record in videos],
        videos.labels,
    )
    for path, same_clips in ((folder, False), (folder / journal.FOLDER, True)):
        old = read_facts(path)
        if old:
            check_same(path / FILE_NAME, old, facts, clips=same_clips)
    return Test(model, data, dataset, facts, folder)


def weights_facts(path, **options):
    """What identifies the tested network in ``scores.json``: the file, and the flags that made another network of it."""
    facts = {"file": path, "sha256": sha256(path)}
    given = {name: value for name, value in options.items() if value is not None}
    if given:
        facts["options"] = given
    return facts


def default_sampling(model, entry, data):
    """The sampling that the network's results were published with, else that of its module's authors for this dataset."""
    if model.published and model.published["dataset"] == data.name:
        sampling = published_sampling(model.published)
        if sampling:
            return sampling
    if data.test_sampling == "random":
        return entry.kinetics_sampling
    return data.test_sampling


def default_average(model, entry, data):
    """What the authors of the network average over the views of a video."""
    if data.multi_label:
        return "logits"
    return model.average or entry.average


def print_published(entry):
    """Print the protocols and the accuracies that a recorded file was published with, one per line."""
    for result in entry["expected"]:
        words = [
            counted(result[f"{name}s"], name)
            for name in ("frame", "crop", "clip")
            if result[f"{name}s"] is not None
        ]
        words += [str(result[name]) for name in ("size", "sampling") if result[name] is not None]
        accuracies = [
            f"Prec@{k} {result[f'top{k}']}" for k in (1, 5) if result[f"top{k}"] is not None
        ]
        if result["mAP"] is not None:
            accuracies.append(f"mAP {result['mAP']}")
        print(
            f"published: {entry['id']}: {', '.join(words)}: {', '.join(accuracies)} ({result['source']})"
        )


def report(args, tests, sources):
    """Print the accuracy of each network and of the ensemble; write the submission."""
    if args.softmax:
        sources = fusion.to_probabilities(sources)
    for test, source in zip(tests, sources, strict=True):
        result = metrics.evaluate(source.scores, source.labels, source.failed)
        print(
            f"{source.line}: {metrics.line(result)}"
            + (f" ({test.folder})" if len(tests) > 1 else "")
        )
    fused = sources[0].scores
    if len(tests) > 1:
        sources = fusion.join(sources)
        if warning := fusion.check_scales(sources):
            print(f"warning: {warning}", file=sys.stderr)
        fused = fusion.fuse(sources, [own.coeff for own in args.models])
        print(f"ensemble, weights {' '.join(f'{own.coeff:g}' for own in args.models)}")
    result = metrics.evaluate(fused, sources[0].labels, fusion.any_failed(sources))
    print(*metrics.result_lines(result), sep="\n")
    if args.csv_file:
        warning = write_submission(
            args.csv_file,
            sources[0].ids,
            fused,
            class_names=tests[0].facts.class_names,
            dataset=tests[0].data.name,
            failed=fusion.any_failed(sources),
        )
        print(f"predictions written to {args.csv_file}")
        if warning:
            print(f"warning: {warning}", file=sys.stderr)
