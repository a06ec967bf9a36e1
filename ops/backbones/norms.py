"""The BatchNorms of a network."""

from torch import nn

BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)


def batch_norms(model):
    """The BatchNorms in a module, of any dimensions and synchronized ones, in its order.

    Args:
        model: any module.

    Returns:
        a list of modules.
    """
    return [module for module in model.modules() if isinstance(module, BATCH_NORMS)]
