"""torch.compile for the loops of training and tests."""

import contextlib

import torch
from torch import nn


class CompiledNetwork(nn.Module):
    """A network that runs compiled on batches of one size, and eagerly on all others.

    torch.compile compiles again, for minutes, when the shape of its input changes. The batches of
    another size are rare: the last one of a pass, and one of whose videos some cannot be read.
    They give the same numbers eagerly, to rounding.

    The wrapper shares parameters, buffers and mode with the network, which can be used without it.

    Args:
        network: called with a batch; the first dimension is its size.
        batch_size: size of the batches that run compiled.

    Attributes:
        eager: whether all batches run eagerly for now; see :func:`run_eagerly`.
    """

    def __init__(self, network, batch_size):
        super().__init__()
        self.network = network
        self.batch_size = batch_size
        self.eager = False

        def run(clips):
            return network(clips)

        # A function and not the network: as a module, the compiled one would appear as a second
        # owner of every parameter.
        # fallback_random: dropout draws what it draws eagerly.
        self._compiled = torch.compile(run, dynamic=False, options={"fallback_random": True})

    def forward(self, clips):
        if self.eager or len(clips) != self.batch_size:
            return self.network(clips)
        return self._compiled(clips)


@contextlib.contextmanager
def run_eagerly(model, eager=True):
    """Context in which the compiled networks of a model run eagerly, if ``eager``.

    For what would make torch.compile compile again, such as BatchNorms in another mode.

    Args:
        model: any module.
        eager: False changes nothing.
    """
    networks = []
    if eager:
        networks = [part for part in model.modules() if isinstance(part, CompiledNetwork)]
    for network in networks:
        network.eager = True
    try:
        yield
    finally:
        for network in networks:
            network.eager = False
