"""Activation checkpointing (Chen et al., arXiv 1604.06174): ``--checkpoint_activations``.

The blocks of a backbone keep their input only, and are computed a second time in the backward
pass, with the same random draws. Their BatchNorms update the running statistics once.
"""

import contextlib
import functools

import torch
from torch.utils.checkpoint import checkpoint

from ops.backbones.norms import BATCH_NORMS
from ops.utils.errors import UserError


def recomputable(forward):
    """Decorator of a method ``(self, x, *args)`` whose activations need not be kept.

    The class has an attribute ``recompute``: whether they are computed a second time in place.
    """

    @functools.wraps(forward)
    def run(self, x, *args):
        if not self.recompute or not torch.is_grad_enabled():
            return forward(self, x, *args)
        return checkpoint(
            forward,
            self,
            x,
            *args,
            use_reentrant=False,
            context_fn=functools.partial(_contexts, self),
        )

    return run


def recompute_activations(backbone, arch="this backbone"):
    """Let the blocks of a backbone compute their activations a second time, in place.

    Args:
        backbone: see ``ops.backbones``.
        arch: its name, for the message.

    Raises:
        UserError: it has no method with the decorator :func:`recomputable`.
    """
    parts = [module for module in backbone.modules() if hasattr(module, "recompute")]
    if not parts:
        raise UserError(f"--checkpoint_activations does not run on {arch}")
    for module in parts:
        module.recompute = True


def _contexts(block):
    """The contexts of the two passes through a block."""
    modes = [(module, module.training) for module in block.modules()]
    return contextlib.nullcontext(), _as_before(modes)


@contextlib.contextmanager
def _as_before(modes):
    """Context of the second pass: modules in the modes of the first, spare running statistics.

    Args:
        modes: pairs of a module and whether it was in training mode.
    """
    current = [(module, module.training) for module, _ in modes]
    statistics = []
    for module, training in modes:
        module.training = training
        if training and isinstance(module, BATCH_NORMS):
            statistics += [(module, name, buffer) for name, buffer in module.named_buffers()]
    for norm, name, buffer in statistics:
        setattr(norm, name, buffer.clone())
    try:
        yield
    finally:
        for norm, name, buffer in statistics:
            setattr(norm, name, buffer)
        for module, training in current:
            module.training = training
