"""The validation of a training: every video of a list once, at any number of processes."""

import numpy as np
import torch

from ops.data.loader import loader_errors
from ops.inference import score_videos
from ops.scores import metrics
from ops.scores.metadata import views_in_words
from ops.utils.errors import UserError


def validate(
    model, loader, world, criterion, *, amp="none", batch_size=8, stop=None, on_confusion=None
):
    """Score every video of a list once.

    Args:
        model: the TSN itself, not its DDP wrapper: the shards of the processes may be of different
            lengths, and no process may wait for another.
        loader: of a ``TestDataset``.
        world: of ``ops.distributed``.
        criterion: of ``ops.training.loss``.
        amp: "none", "bf16" or "fp16".
        batch_size: videos per batch.
        stop: see :func:`ops.inference.score_videos`.
        on_confusion: called with the confusion matrix of the decoded videos, int64 ``[classes,
            classes]`` with one row per true class, unless videos can have several labels.

    Returns:
        None if it was stopped, else a dict: the metrics of ``ops.scores.metrics.evaluate`` (first
        the one that chooses the best model; videos that cannot be decoded count as wrong),
        ``loss``, ``videos`` (decoded ones) and ``listed``.

    Raises:
        UserError: scores are not finite.
    """
    world.broadcast_buffers(model)  # each process has running statistics of its own
    model.eval()
    with loader_errors(loader):
        scored = score_videos(
            model, loader, world, amp=amp, batch_size=batch_size, desc="validation", stop=stop
        )
    if scored is None:
        return None
    logits = scored.logits.mean(axis=1)
    _check_finite(logits, loader.dataset.video_list, amp)
    failed = np.isin(np.arange(len(logits)), [failure.index for failure in scored.failures])
    if on_confusion and scored.labels.ndim == 1:
        best = logits.argmax(axis=1)
        on_confusion(
            metrics.confusion_matrix(best[~failed], scored.labels[~failed], logits.shape[1])
        )
    loss = criterion(torch.from_numpy(logits), torch.from_numpy(scored.labels)).item()
    listed = len(scored.labels)
    return {
        **metrics.evaluate(logits, scored.labels, failed),
        "loss": loss,
        "videos": listed - len(scored.failures),
        "listed": listed,
    }


def _check_finite(logits, videos, amp):
    """Raise UserError, naming the first video, for scores that are not finite.

    An accuracy of such scores would be meaningless.
    """
    broken = np.flatnonzero(~np.isfinite(logits).all(axis=1))
    if broken.size:
        record = videos[int(broken[0])]
        raise UserError(
            f"{videos.path}:{record.line}: {record.id}: its scores are not finite ({broken.size} "
            f"of {len(logits)} videos); the weights are broken, or their numbers too large for "
            f"--amp {amp}"
        )


def validation_line(result, dataset):
    """A result with its protocol: ``8 frames x 1 crop x 1 clip, 224, 120/120 videos: ...``.

    Args:
        result: of :func:`validate`.
        dataset: the ``TestDataset``.
    """
    measured = {key: value for key, value in result.items() if key in metrics.TITLES}
    views = views_in_words(dataset.num_segments, num_crops=1, num_clips=1)
    return (
        f"validation, {views}, {dataset.transform.crop_size}, "
        f"{result['videos']}/{result['listed']} videos: {metrics.line(measured)} "
        f"loss {result['loss']:.4f}"
    )
