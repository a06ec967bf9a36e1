"""An exponential moving average of the weights of a network."""

import copy

import torch
from torch.optim.swa_utils import get_ema_multi_avg_fn


class WeightAverage:
    """An average of the weights of a network, which starts from those that it has now.

    It computes what ``torch.optim.swa_utils.AveragedModel`` does. That one reads a counter on the
    CPU and copies it to the GPU in every update, which waits for all work before it.

    Attributes:
        module: a network with the averages. Its buffers, the statistics of BatchNorms, are those of
            the last update; they are not averaged.
    """

    def __init__(self, net, decay):
        """Create an average.

        Args:
            net: a TSN.
            decay: share of the old average in each update.
        """
        self.module = copy.deepcopy(net).requires_grad_(False)
        self._average = get_ema_multi_avg_fn(decay)

    @torch.no_grad()
    def update(self, net):
        """Update the average after a step.

        Args:
            net: the network that is trained.
        """
        averages = list(self.module.parameters())
        weights = [weight.detach() for weight in net.parameters()]
        number_of_updates = None  # the weight of a new value does not depend on it
        self._average(averages, weights, number_of_updates)
        for own, current in zip(self.module.buffers(), net.buffers(), strict=True):
            own.copy_(current)
