"""Score every video of a list exactly once, and what the two test fronts do with the scores."""
import contextlib
import json
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from tqdm import tqdm

from ops import distributed, scores
from ops.checkpoints import load_model
from ops.data.datasets import load_class_names, resolve
from ops.data.loader import Failure, ShardSampler, TestDataset, make_loader
from ops.data.sources import check_class_names, read_checked
from ops.errors import UserError
from ops.files import atomic_write
from ops.metrics import topk_accuracy
from ops.models import fuse_batch_norm

AMP_DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


class Scored(NamedTuple):
    """Scores of a list: logits float32 ``[videos, views, classes]`` in list order, labels int64 ``[videos]``, failures."""

    logits: np.ndarray
    labels: np.ndarray
    failures: list[Failure]


def autocast(device, amp):
    """Context of mixed precision on a device; amp: "none", "bf16" or "fp16"."""
    return contextlib.nullcontext() if amp == "none" else torch.autocast(device.type, AMP_DTYPES[amp])


@torch.inference_mode()
def score_videos(model, loader, world, *, amp="none", on_error="stop", desc="scoring"):
    """Logits of all views of all videos of ``loader.dataset``, gathered from all processes.

    model: a TSN in eval mode with consensus "avg"; loader: batches of a ``TestDataset`` over this process' shard; on_error:
    what an unreadable video does: "stop" raises UserError, "count-wrong" gives it scores that rank its own class last.
    Every process returns the same :class:`Scored`. Raises RuntimeError if a video was not scored exactly once.
    """
    dataset = loader.dataset
    indices, rows, failures = [], [], []
    hits = 0
    bar = tqdm(loader, desc=desc, unit="batch", disable=None if world.is_main else True, leave=False)
    for batch in bar:
        for failure in batch.failures:
            message = f"{dataset.video_list.path}:{failure.line}: {failure.id}: {failure.reason}"
            if on_error == "stop":
                raise UserError(f"{message}; mend the list, or count such videos as wrong with --on-error count-wrong")
            tqdm.write(f"warning: {message}; counted as wrong")
        failures += batch.failures
        if batch.clips is None:
            continue
        views = batch.clips.to(world.device, non_blocking=True)
        with autocast(world.device, amp):
            logits = model(views.flatten(0, 1))
        logits = logits.float().unflatten(0, views.shape[:2]).cpu()
        indices += batch.indices.tolist()
        rows.append(logits.numpy())
        hits += int((logits.softmax(-1).sum(1).argmax(-1) == batch.labels).sum())
        bar.set_postfix_str(f"Prec@1 {100 * hits / len(indices):.1f}")
    parts = distributed.gather((indices, np.concatenate(rows) if rows else None, failures))
    return _assemble(parts, dataset.video_list.labels, on_error)


def _assemble(parts, labels, on_error):
    """The parts of all processes in list order."""
    failures = sorted((failure for part in parts for failure in part[2]), key=lambda failure: failure.index)
    seen = np.zeros(len(labels), np.int64)
    example = next((part[1] for part in parts if part[1] is not None), None)
    if example is None:
        raise UserError(f"none of {len(labels)} videos could be read; the first: {failures[0].id}: {failures[0].reason}")
    logits = np.zeros((len(labels), *example.shape[1:]), np.float32)
    for indices, rows, _ in parts:
        if indices:
            logits[indices] = rows
            np.add.at(seen, indices, 1)
    for failure in failures:
        seen[failure.index] += 1
        logits[failure.index, :, labels[failure.index]] = -1  # every other class, at 0, ranks before the true one
    if (seen != 1).any():
        raise RuntimeError(f"{(seen != 1).sum()} of {len(labels)} videos were not scored exactly once")
    return Scored(logits, labels, failures)


def run(args):
    """What ``test_models_center_crop.py`` and ``test_models_three_crops.py`` do: score a list, write one file a crop."""
    device = args.device
    if args.gpus:
        if len(args.gpus) > 1:
            raise UserError(f"--gpus {' '.join(map(str, args.gpus))}: one process uses one GPU; start "
                            f"torchrun --nproc_per_node {len(args.gpus)} with the same command and no --gpus")
        # TDN's commands name GPU 0; on a machine without one they run on the CPU, and the first line says so.
        device = device or (f"cuda:{args.gpus[0]}" if torch.cuda.is_available() else None)
    with distributed.start(device, args.local_rank) as world:
        _run(args, world)


def _run(args, world):
    model = load_model(args.weights, args.test_segments, quiet=not world.is_main)
    if args.archs and args.archs != model.spec["arch"]:
        raise UserError(f"--archs {args.archs}: {args.weights} holds a {model.spec['arch']}")
    data = resolve(args.dataset, root_path=args.root_path, val_list=args.val_list, num_class=args.num_class,
                   class_names=args.class_names, image_tmpl=args.image_tmpl, test_sampling=args.test_sampling)
    if data.num_class != model.num_class:
        raise UserError(f"{args.weights} tells {model.num_class} classes apart, but {data.name} has {data.num_class}; "
                        f"give the right checkpoint, data set or --num_class")
    if data.test_sampling == "center" and args.clip_index:
        raise UserError(f"--clip_index {args.clip_index}: center sampling has clip 0 only; for many clips give "
                        f"--test_sampling random")
    names = load_class_names(data)
    check_class_names(model.class_names, names, args.weights, data.class_names)
    videos, _ = read_checked(data, "val_list", stop=args.on_error == "stop",
                             remedy="count them as wrong: --on-error count-wrong")
    scale = args.scale_size or model.scale_size
    crop = scale if args.full_res else model.input_size
    dataset = TestDataset(
        videos, num_segments=model.num_segments, frames_per_segment=model.frames_per_segment, image_tmpl=data.image_tmpl,
        decoder=args.decoder, clip=args.clip_index, crops=args.test_crops, scale_size=scale, crop_size=crop,
        sampling=data.test_sampling, seed=args.seed)
    protocol = {
        "dataset": data.name, "weights": str(args.weights), "num_segments": model.num_segments,
        "frames_per_segment": model.frames_per_segment, "clip": args.clip_index, "sampling": data.test_sampling,
        "crops": args.test_crops, "crop_size": crop, "scale_size": scale, "seed": args.seed, "amp": args.amp,
        "listed": len(videos), "videos": len(videos),
    }
    earlier = earlier_failures(args.output_dir, protocol)
    if args.dry_run:
        if world.is_main:
            print(f"dry run: {model.report}; {_line(protocol)}; nothing was scored")
        return
    if world.is_main:
        print(f"scoring {len(videos)} videos on {world.size} x {world.device}, amp {args.amp}")
    model = model.to(world.device)
    if args.fuse_bn:
        fuse_batch_norm(model)
    if args.channels_last:
        model.to_channels_last()
    network = torch.compile(model) if args.compile else model
    sampler = ShardSampler(len(videos), rank=world.rank, world_size=world.size)
    loader = make_loader(dataset, sampler, args.batch_size, workers=args.workers, pin_memory=world.device.type == "cuda",
                         timeout=args.timeout)
    scored = score_videos(network, loader, world, amp=args.amp, on_error=args.on_error)
    if world.is_main:
        failures = [{"clip": args.clip_index, "line": f.line, "id": f.id, "reason": f.reason} for f in scored.failures]
        protocol["failures"] = [f for f in earlier if f["clip"] != args.clip_index] + failures
        write(args.output_dir, scored, protocol)
        top1, top5 = topk_accuracy(scores.view_sum(scored.logits.transpose(1, 0, 2)), scored.labels)
        print(f"{_line(protocol)}: Prec@1 {top1:.2f}% Prec@5 {top5:.2f}%")


def _line(protocol):
    return f"clip {protocol['clip']}, " + scores.protocol_line(protocol, 1, protocol["crops"], protocol["videos"])


def earlier_failures(folder, protocol):
    """The failures that other clips left in the ``protocol.json`` of a score folder: a list of dicts, empty without the file.

    Raises UserError if the scores there were made in another way: views of two protocols must not be averaged.
    """
    path = Path(folder) / "protocol.json"
    if scores.read_protocol(folder) is None:
        return []
    old = json.loads(path.read_text("utf-8"))
    differing = [key for key in protocol if key not in ("clip", "videos", "amp") and old.get(key) != protocol[key]]
    if differing:
        changes = ", ".join(f"{key} {old.get(key)} -> {protocol[key]}" for key in differing)
        raise UserError(f"{path}: the scores there were made in another way ({changes}); give another --output_dir, or "
                        f"remove them")
    return old.get("failures", [])


def write(folder, scored, protocol):
    """Write ``{clip}_crop{k}.pkl`` for each crop, as the original does, and ``protocol.json``: how, and what failed."""
    folder = Path(folder)
    for k in range(scored.logits.shape[1]):
        scores.save_scores(scores.score_path(folder, protocol["clip"], k), scored.logits[:, k], scored.labels)
    protocol["videos"] = protocol["listed"] - len({failure["line"] for failure in protocol["failures"]})
    with atomic_write(folder / "protocol.json", "w") as file:
        json.dump(protocol, file, indent=1)
