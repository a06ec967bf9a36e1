"""One step of training: forward and backward of its batches, then the optimizer."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn

from ops.temporal.consensus import clip_scores
from ops.training.sync_batchnorm import frozen_norms
from ops.utils.amp import autocast
from ops.utils.compiled import run_eagerly


@dataclass
class TrainStep:
    """Forward and backward of batches, and the step of the optimizer.

    Attributes:
        model: a TSN, perhaps compiled or wrapped by DDP.
        optimizer: of ``ops.training.optim``.
        criterion: of ``ops.training.loss``.
        device: of the model.
        clip_shape: ``(T, L*C, H, W)``, of the stand-in for a batch without a decoded video.
        amp: "none", "bf16" or "fp16".
        scaler: a ``GradScaler`` with fp16, else None.
        accumulate: batches per step.
        clip_gradient: largest norm of the gradient, or None.
        mix: of ``ops.training.mixup``, or None.
        inspect: called with the clips and labels of the next batch that the network gets; None:
            nobody looks.
    """

    model: nn.Module
    optimizer: torch.optim.Optimizer
    criterion: Callable
    device: torch.device
    clip_shape: tuple[int, int, int, int]
    amp: str = "none"
    scaler: torch.amp.GradScaler | None = None
    accumulate: int = 1
    clip_gradient: float | None = None
    mix: Callable | None = None
    inspect: Callable | None = None

    def forward_backward(self, batch, meters):
        """Forward and backward of one batch, whose loss, hits and videos are added to meters.

        Args:
            batch: of a loader of a ``TrainDataset``.
            meters: of ``ops.training.meters``.

        Returns:
            the batch's share of the loss of the step, a scalar without gradient.
        """
        if batch.clips is None:
            loss = self._zero_loss()
        else:
            loss = self._loss(batch, meters)
        meters.watch.lap("forward")
        loss = loss / self.accumulate
        scaled = self.scaler.scale(loss) if self.scaler else loss
        scaled.backward()
        meters.watch.lap("backward")
        return loss.detach()

    def _zero_loss(self):
        """The loss of a batch of which no video can be decoded.

        The other processes wait for the gradient of this one: it is zero. The BatchNorms must not
        take statistics of the stand-in.
        """
        clips = torch.zeros((1, *self.clip_shape), dtype=torch.uint8, device=self.device)
        with (
            frozen_norms(self.model),
            run_eagerly(self.model),
            autocast(self.device, self.amp),
        ):
            return self.model(clips).sum() * 0

    def _loss(self, batch, meters):
        clips = batch.clips.to(self.device, non_blocking=True)
        labels = batch.labels.to(self.device, non_blocking=True)
        multi_label = labels.dim() == 2
        if self.mix:
            clips, labels = self.mix(clips, labels)
        if self.inspect:
            self.inspect(clips, labels)
            self.inspect = None
        with autocast(self.device, self.amp):
            scores = self.model(clips)
            loss = self.criterion(scores, labels)
        with torch.no_grad():
            hits = _count_hits(scores, labels, multi_label)
            meters.add(loss.detach(), hits, len(labels))
        return loss

    def update(self):
        """One step of the optimizer.

        Returns:
            the norm of the gradient before it was clipped, a scalar.
        """
        if self.scaler:
            self.scaler.unscale_(self.optimizer)
        parameters = list(self.model.parameters())
        if self.clip_gradient:
            norm = nn.utils.clip_grad_norm_(parameters, self.clip_gradient)
        else:
            norm = nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None])
        if self.scaler:
            self.scaler.step(self.optimizer)
            self.scaler.update()
        else:
            self.optimizer.step()
        return norm


def _count_hits(scores, labels, multi_label):
    """The number of videos whose best class is right; of a mixed video that of its larger share."""
    best = clip_scores(scores).argmax(1)
    if multi_label:
        return (labels.gather(1, best.unsqueeze(1)) > 0).sum()
    if labels.is_floating_point():
        labels = labels.argmax(1)
    return (best == labels).sum()
