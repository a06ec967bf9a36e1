"""BatchNorm over the batches of all processes (``--sync_bn``), and contexts for BatchNorms."""

import contextlib

from torch import nn

from ops.backbones.norms import BATCH_NORMS, batch_norms
from ops.utils.errors import UserError


class SyncNorm(nn.SyncBatchNorm):
    """``torch.nn.SyncBatchNorm`` that can also normalize by the batch of this process only.

    Attributes:
        alone: whether it does, as ``nn.BatchNorm2d``.
    """

    alone = False

    def forward(self, x):
        if self.alone:
            # The method is the same for BatchNorms of all kinds.
            return nn.BatchNorm2d.forward(self, x)
        return super().forward(x)


def synchronize(model, world):
    """Replace the BatchNorms of a model by synchronized ones, in place.

    Parameters, statistics and their names stay. With one process nothing is replaced.

    Args:
        model: any module.
        world: of ``ops.distributed``.

    Raises:
        UserError: on CPUs, for which torch has no synchronized BatchNorm.
    """
    if world.size == 1:
        return
    if world.device.type == "cpu":
        raise UserError(
            "--sync_bn needs GPUs: PyTorch has no such BatchNorm for CPUs; leave it out, or raise "
            "--batch-size"
        )
    for parent in list(model.modules()):
        for name, old in list(parent.named_children()):
            if isinstance(old, BATCH_NORMS):
                setattr(parent, name, _synchronized(old))


def _synchronized(old):
    new = SyncNorm(old.num_features, old.eps, old.momentum, old.affine, old.track_running_stats)
    # The same parameter objects: an optimizer may have them.
    new.weight = old.weight
    new.bias = old.bias
    new.running_mean = old.running_mean
    new.running_var = old.running_var
    new.num_batches_tracked = old.num_batches_tracked
    return new.train(old.training)


@contextlib.contextmanager
def frozen_norms(model):
    """Context in which no BatchNorm updates its statistics."""
    norms = [norm for norm in batch_norms(model) if norm.training]
    for norm in norms:
        norm.eval()
    try:
        yield
    finally:
        for norm in norms:
            norm.train()


@contextlib.contextmanager
def each_alone(model, alone=True):
    """Context in which synchronized BatchNorms do not wait for other processes, if ``alone``."""
    norms = [m for m in model.modules() if isinstance(m, SyncNorm)] if alone else []
    for norm in norms:
        norm.alone = True
    try:
        yield
    finally:
        for norm in norms:
            norm.alone = False
