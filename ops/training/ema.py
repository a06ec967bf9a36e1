"""An exponential moving average of the weights of a network."""

from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn


def make_ema(net, decay):
    """An average of the weights of a network, which starts from those that it has now.

    Args:
        net: a TSN. Its BatchNorm statistics are not averaged; the average has its own.
        decay: share of the old average in each update.

    Returns:
        an ``AveragedModel``. Call ``update_parameters(net)`` after each step; ``module`` is a
        network with the averages.
    """
    ema = AveragedModel(net, multi_avg_fn=get_ema_multi_avg_fn(decay)).requires_grad_(False)
    # At 0 torch would begin with a copy, and a resumed run would have to know the number.
    ema.n_averaged.fill_(1)
    return ema
