"""BatchNorm over the batches of all processes (``--sync_bn``): torch's, which can also be told to stay by itself for a step."""

import contextlib

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm as BatchNorm  # 1D, 2D and synchronised ones

from ops.utils.errors import UserError


class SyncNorm(nn.SyncBatchNorm):
    """``torch.nn.SyncBatchNorm`` with a switch: ``alone`` normalises by the batch of this process, as nn.BatchNorm does."""

    alone = False

    def forward(self, x):
        return BatchNorm.forward(self, x) if self.alone else super().forward(x)


def synchronize(model, world):
    """Replace the BatchNorms of a model, in place; parameters, statistics and their names stay. Without other processes nothing
    is to be done. Raises UserError on a device for which torch has none (CPUs)."""
    if world.size == 1:
        return
    if world.device.type == "cpu":
        raise UserError(
            "--sync_bn needs GPUs: PyTorch has no such BatchNorm for CPUs; leave it out, or raise --batch-size"
        )
    for parent in list(model.modules()):
        for name, old in list(parent.named_children()):
            if isinstance(old, BatchNorm):
                setattr(parent, name, _synchronized(old))


def _synchronized(old):
    new = SyncNorm(old.num_features, old.eps, old.momentum, old.affine, old.track_running_stats)
    new.weight, new.bias = old.weight, old.bias  # the very parameters: an optimiser may hold them
    new.running_mean, new.running_var, new.num_batches_tracked = (
        old.running_mean,
        old.running_var,
        old.num_batches_tracked,
    )
    return new.train(old.training)


@contextlib.contextmanager
def frozen_norms(model):
    """Context in which no BatchNorm learns statistics."""
    norms = [m for m in model.modules() if isinstance(m, BatchNorm) and m.training]
    for norm in norms:
        norm.eval()
    try:
        yield
    finally:
        for norm in norms:
            norm.train()


@contextlib.contextmanager
def each_alone(model, alone=True):
    """Context in which synchronised BatchNorms, where there are some, wait for no other process."""
    norms = [m for m in model.modules() if isinstance(m, SyncNorm)] if alone else []
    for norm in norms:
        norm.alone = True
    try:
        yield
    finally:
        for norm in norms:
            norm.alone = False
