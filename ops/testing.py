"""What the two test fronts do: score one network or several on their lists, write the scores, put them together."""
import json
import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from ops import distributed, fusion, scores
from ops.checkpoints import load_model
from ops.data.clips import TestDataset
from ops.data.datasets import Dataset, load_class_names, resolve
from ops.data.loader import ShardSampler, make_loader
from ops.data.sampling import TEST_SAMPLINGS
from ops.data.sources import check_class_names, read_checked
from ops.errors import UserError
from ops.files import atomic_write
from ops.metrics import mean_class_accuracy, topk_accuracy
from ops.models import TSN, fuse_batch_norm
from ops.npz_scores import save_npz
from ops.options import OPTIONS, file_template
from ops.scoring import score_videos
from ops.submission import write_submission
from ops.temporal import MODULES
from ops.video_ids import save_videos


class Test(NamedTuple):
    """One network and what it is tested on: ``folder`` is for its scores, ``earlier`` the failures of other clips there."""

    __test__ = False  # not a test case, whatever its name begins with

    model: TSN
    data: Dataset
    dataset: TestDataset
    class_names: list[str] | None
    protocol: dict
    folder: Path
    earlier: list[dict]

    @property
    def line(self):
        clips = self.dataset.clips
        start = f"clip {clips[0]}, " if len(clips) == 1 else ""
        return start + scores.protocol_line(self.protocol, len(clips), self.protocol["crops"], self.protocol["videos"],
                                            softmax=self.protocol["average"] == "softmax")


def run(args):
    """Test what ``ops.testing_options.testing_arguments`` gives."""
    device = args.device
    if args.gpus:
        if len(args.gpus) > 1:
            raise UserError(f"--gpus {' '.join(map(str, args.gpus))}: one process uses one GPU; start "
                            f"torchrun --nproc_per_node {len(args.gpus)} with the same command and no --gpus")
        # TDN's commands name GPU 0; on a machine without one they run on the CPU, and the first line says so.
        device = device or (f"cuda:{args.gpus[0]}" if torch.cuda.is_available() else None)
    with distributed.start(device, args.local_rank, args.deterministic) as world:
        tests = prepare_all(args, quiet=not world.is_main)
        if args.dry_run:
            if world.is_main:
                for test in tests:
                    print(f"dry run: {test.model.report}; {test.line}; nothing was scored")
            return
        sources = []
        for test in tests:
            scored = score(args, test, world)
            if world.is_main:
                write(test, scored)
                sources.append(source_of(test, scored))
                if args.save_scores and len(tests) == 1:
                    views = scored.logits.reshape(len(scored.labels), -1, test.protocol["crops"], test.model.num_class)
                    save_npz(args.save_scores, views, scored.labels, sources[0].ids)
        if world.is_main:
            report(args, tests, sources)


def prepare_all(args, quiet):
    """A :class:`Test` for each of ``args.models``; whatever is wrong is found before anything is scored."""
    several = len(args.models) > 1
    if several and args.save_scores:
        raise UserError("--save_scores writes the scores of one network; each has its own folder in --output_dir")
    tests = []
    for number, own in enumerate(args.models):
        folder = Path(args.output_dir)
        tests.append(prepare(args, own, folder / f"{number}_{Path(own.weights).stem}" if several else folder, quiet))
    classes = [test.model.num_class for test in tests]
    if len(set(classes)) > 1:
        raise UserError(f"--weights {args.weights}: the networks tell {', '.join(map(str, classes))} classes apart: no "
                        f"ensemble")
    if args.csv_file and tests[0].data.name != "somethingv2" and tests[0].class_names is None:
        raise UserError(f"--csv_file {args.csv_file}: a submission names classes; give --class_names")
    return tests


def prepare(args, own, folder, quiet):
    """The :class:`Test` of one network. own: the flags that are its own. Raises UserError for what does not fit together."""
    options = {name: getattr(args, name) for name in OPTIONS}
    model = load_model(own.weights, own.test_segments, quiet=quiet, module=args.module, consensus="avg", **options)
    for flag, given, held in (("archs", own.archs, model.spec["arch"]), ("modality", own.modality, model.modality)):
        if given and given != held:
            raise UserError(f"--{flag} {given}: {own.weights} holds a {held}")
    data = resolve(args.dataset, model.modality, root_path=own.root_path, val_list=own.val_list, num_class=args.num_class,
                   class_names=args.class_names, image_tmpl=file_template(own.image_tmpl, args.flow_prefix, model.modality))
    if data.num_class != model.num_class:
        raise UserError(f"{own.weights} tells {model.num_class} classes apart, but {data.name} has {data.num_class}; "
                        f"give the right checkpoint, data set or --num_class")
    row = MODULES[model.spec["module"]]
    sampling = own.test_sampling or (row.long_sampling if data.test_sampling == "random" else "center")
    names = load_class_names(data)
    check_class_names(model.class_names, names, own.weights, data.class_names)
    videos, _ = read_checked(data, "val_list", stop=args.on_error == "stop",
                             remedy="count them as wrong: --on-error count-wrong")
    if args.max_num:
        videos = videos.head(args.max_num)
    scale = args.scale_size or model.scale_size
    clips = [args.clip_index]
    if args.clip_index is None:
        clips = range(args.clips or (1 if "random" in sampling else TEST_SAMPLINGS[sampling]))
    dataset = TestDataset(
        videos, num_segments=model.num_segments, frames_per_segment=model.frames_per_segment, image_tmpl=data.image_tmpl,
        decoder=args.decoder, clips=clips, num_clips=args.clips, crops=own.test_crops, scale_size=scale,
        crop_size=scale if args.full_res else model.input_size, sampling=sampling, seed=args.seed, modality=model.modality,
        compat=args.sampling_compat)
    protocol = {
        "dataset": data.name, "weights": own.weights, "module": model.spec["module"], "modality": model.modality,
        "num_segments": model.num_segments, "frames_per_segment": model.frames_per_segment, "sampling": sampling,
        "sampling_compat": args.sampling_compat, "clips": dataset.num_clips if sampling == "dense" else None,
        "crops": own.test_crops, "crop_size": dataset.transform.crop_size, "scale_size": scale, "seed": args.seed,
        "amp": args.amp, "max_num": args.max_num, "average": args.average or row.average, "listed": len(videos),
        "videos": len(videos),
    }
    return Test(model, data, dataset, names, protocol, folder, earlier_failures(folder, protocol))


def score(args, test, world):
    """The :class:`ops.scoring.Scored` of a test, the same in every process."""
    count = len(test.dataset)
    if world.is_main:
        print(f"scoring {count} videos on {world.size} x {world.device}, amp {args.amp}")
    model = test.model.to(world.device)
    if args.fuse_bn:
        fuse_batch_norm(model)
    if args.channels_last:
        model.to_channels_last()
    network = torch.compile(model) if args.compile else model
    sampler = ShardSampler(count, rank=world.rank, world_size=world.size)
    loader = make_loader(test.dataset, sampler, args.batch_size, workers=args.workers, timeout=args.timeout,
                         pin_memory=world.device.type == "cuda")
    return score_videos(network, loader, world, amp=args.amp, on_error=args.on_error, view_batch=args.view_batch)


def earlier_failures(folder, protocol):
    """The failures that other clips left in the ``protocol.json`` of a score folder: a list of dicts, empty without the file.

    Raises UserError if the scores there were made in another way: views of two protocols must not be averaged.
    """
    path = Path(folder) / "protocol.json"
    if scores.read_protocol(folder) is None:
        return []
    old = json.loads(path.read_text("utf-8"))
    differing = [key for key in protocol if key not in ("videos", "amp", "average") and old.get(key) != protocol[key]]
    if differing:
        changes = ", ".join(f"{key} {old.get(key)} -> {protocol[key]}" for key in differing)
        raise UserError(f"{path}: the scores there were made in another way ({changes}); give another --output_dir, or "
                        f"remove them")
    return old.get("failures", [])


def write(test, scored):
    """Write ``{clip}_crop{k}.pkl`` for each clip and crop, as TDN does, ``videos.txt``, and ``protocol.json``: how, and what
    failed."""
    clips, crops = test.dataset.clips, test.protocol["crops"]
    views = [(clip, crop) for clip in clips for crop in range(crops)]
    for view, (clip, crop) in enumerate(views):
        scores.save_scores(scores.score_path(test.folder, clip, crop), scored.logits[:, view], scored.labels)
    save_videos(test.folder, [record.id for record in test.dataset.video_list], scored.labels)
    failures = [{"clip": clip, "line": f.line, "id": f.id, "reason": f.reason} for clip in clips for f in scored.failures]
    failures = [f for f in test.earlier if f["clip"] not in clips] + failures
    test.protocol["failures"] = failures
    test.protocol["videos"] = test.protocol["listed"] - len({failure["line"] for failure in failures})
    with atomic_write(test.folder / "protocol.json", "w") as file:
        json.dump(test.protocol, file, indent=1)


def source_of(test, scored):
    """The mean over the views of each video as a :class:`ops.fusion.Source`."""
    is_softmax = test.protocol["average"] == "softmax"
    mean = scores.view_sum(scored.logits.transpose(1, 0, 2), softmax=is_softmax) / scored.logits.shape[1]
    ids = [record.id for record in test.dataset.video_list]
    failed = np.zeros(len(ids), bool)
    failed[[failure.index for failure in scored.failures]] = True
    return fusion.Source(str(test.folder), mean, scored.labels, ids, is_softmax, test.line, test.data.name, failed)


def report(args, tests, sources):
    """Print the accuracy of each network and of the ensemble; write the submission."""
    if args.softmax:
        sources = fusion.to_probabilities(sources)
    for test, source in zip(tests, sources, strict=True):
        top1, top5 = topk_accuracy(source.scores, source.labels)
        print(f"{source.line}: Prec@1 {top1:.2f}% Prec@5 {top5:.2f}%" + (f" ({test.folder})" if len(tests) > 1 else ""))
    fused = sources[0].scores
    if len(tests) > 1:
        sources = fusion.join(sources)
        if warning := fusion.check_scales(sources):
            print(f"warning: {warning}", file=sys.stderr)
        fused = fusion.fuse(sources, [own.coeff for own in args.models])
        print(f"ensemble, weights {' '.join(f'{own.coeff:g}' for own in args.models)}")
    top1, top5 = topk_accuracy(fused, sources[0].labels)
    print(f"Class Accuracy {mean_class_accuracy(fused, sources[0].labels):.2f}%")
    print(f"Overall Prec@1 {top1:.2f}% Prec@5 {top5:.2f}%")
    if args.csv_file:
        write_submission(args.csv_file, sources[0].ids, fused, class_names=tests[0].class_names, dataset=tests[0].data.name)
        print(f"predictions written to {args.csv_file}")
