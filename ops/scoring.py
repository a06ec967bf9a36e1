"""Score every video of a list exactly once, with any number of processes."""
import contextlib
from typing import NamedTuple

import numpy as np
import torch
from tqdm import tqdm

from ops import distributed
from ops.data.clips import Failure
from ops.errors import UserError

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
def score_videos(model, loader, world, *, amp="none", on_error="stop", desc="scoring", view_batch=None):
    """Logits of all views of all videos of ``loader.dataset``, gathered from all processes.

    model: a TSN in eval mode (with consensus "identity", the mean of the segments' scores is taken); loader: batches of a
    ``TestDataset`` over this process' shard; on_error: what an unreadable video does: "stop" raises UserError, "count-wrong"
    gives it scores that rank its own class last; view_batch: views that go through the network at once, None: all of a batch.
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
        views = batch.clips.flatten(0, 1)
        parts = []
        for part in views.split(view_batch or len(views)):
            with autocast(world.device, amp):
                scores = model(part.to(world.device, non_blocking=True))
            parts.append(scores.float().mean(1) if scores.dim() == 3 else scores.float())
        logits = torch.cat(parts).unflatten(0, batch.clips.shape[:2]).cpu()
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
