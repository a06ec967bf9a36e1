"""Precise BatchNorm statistics before a validation: ``--precise_bn``.

The running statistics of a training are an average over its last steps, in which the weights
changed. Here they are estimated anew, for the weights as they are: the mean and the variance of all
values of some batches (Wu & Johnson, arXiv 2105.07576, section 3). As in the authors' code, the
estimates replace the running statistics, and the training continues from them. That changes no
step: in training mode a BatchNorm normalizes by its batch.
"""

import contextlib

import torch

from ops.backbones.norms import batch_norms
from ops.training.sync_batchnorm import each_alone
from ops.utils.amp import autocast


@torch.no_grad()
def estimate_statistics(model, batches, world, *, amp="none", stop=None):
    """Collective: estimate the running statistics of the BatchNorms of a network, in place.

    BatchNorms that are not trained (partial BN, ``--freeze``) keep theirs. The rest of the network
    computes as in evaluation, so that nothing is random. Each batch of each process has the same
    weight.

    Args:
        model: a TSN, not its DDP wrapper. It is in eval mode afterwards.
        batches: those of this process, of the loader of a ``TrainDataset``.
        world: of ``ops.distributed``.
        amp: "none", "bf16" or "fp16".
        stop: called before each batch; once it returns a true value in one process, all stop soon.

    Returns:
        whether it was finished. If not, the statistics are those before.
    """
    watched = [_WatchedNorm(norm) for norm in _norms_in_training_mode(model)]
    flag = world.flag("stop estimating")
    is_stopped = False
    with contextlib.ExitStack() as stack:
        stack.callback(model.eval)
        stack.enter_context(each_alone(model))
        for norm in watched:
            stack.enter_context(norm)
        for batch in batches:
            is_stopped = flag(bool(stop and stop()))
            if is_stopped:
                break
            if batch.clips is None:  # no video of the batch can be decoded
                continue
            with autocast(world.device, amp):
                model(batch.clips.to(world.device, non_blocking=True))
    if world.any(is_stopped):
        return False
    for norm in watched:
        norm.set_statistics(world)
    return True


def _norms_in_training_mode(model):
    """The BatchNorms that are trained; afterwards they alone are in training mode."""
    model.train()
    norms = []
    for norm in batch_norms(model):
        if norm.training and norm.running_mean is not None:
            norms.append(norm)
    model.eval()
    for norm in norms:
        norm.train()
    return norms


class _WatchedNorm:
    """Context in which the mean and the variance of every batch of a BatchNorm are noted.

    A network may call it several times in a forward pass. Its statistics are not changed.

    Args:
        norm: the BatchNorm.
    """

    def __init__(self, norm):
        self.norm = norm
        self.means = []
        self.variances = []

    def __enter__(self):
        norm = self.norm
        self.before = {name: buffer.clone() for name, buffer in norm.named_buffers()}
        self.momentum = norm.momentum
        norm.momentum = 1.0  # the running statistics are those of the last batch
        self.handle = norm.register_forward_hook(self._note)

    def _note(self, norm, inputs, output):
        self.means.append(norm.running_mean.clone())
        self.variances.append(norm.running_var.clone())

    def __exit__(self, *_):
        self.handle.remove()
        self.norm.momentum = self.momentum
        for name, buffer in self.norm.named_buffers():
            buffer.copy_(self.before[name])

    def set_statistics(self, world):
        """Collective: make the mean and the variance over all batches the running statistics."""
        channels = self.norm.num_features
        sums = [0.0] * (2 * channels)
        if self.means:
            means = torch.stack(self.means).cpu().double()
            squares = torch.stack(self.variances).cpu().double() + means**2
            sums = torch.cat([means.sum(0), squares.sum(0)]).tolist()
        count, *sums = world.sum([len(self.means), *sums])
        if not count:  # no process had a video
            return
        mean, square = torch.tensor(sums, dtype=torch.float64).div(count).split(channels)
        self.norm.running_mean.copy_(mean)
        self.norm.running_var.copy_(square - mean**2)
