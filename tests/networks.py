"""Networks of any kind with weights drawn anew, and clips for them."""

import torch
from torch import nn

from ops.models import TSN


def small(num_class=5, num_segments=4, *, module="tdn", arch="resnet18", seed=0, **options):
    torch.manual_seed(seed)
    return TSN(num_class, num_segments, arch=arch, module=module, **options)


def randomise_norms(model):
    """Running statistics and weights of the BatchNorms as after a training: nothing folds to nothing."""
    generator = torch.Generator().manual_seed(3)
    for bn in model.modules():
        if isinstance(bn, nn.BatchNorm2d):
            for value, low, high in (
                (bn.running_mean, -0.3, 0.3),
                (bn.running_var, 0.5, 1.5),
                (bn.weight, 0.5, 1.5),
                (bn.bias, -0.3, 0.3),
            ):
                value.data.uniform_(low, high, generator=generator)
    return model


def pixels(model, batch=2, size=32):
    shape = (batch, model.num_segments, model.frame_channels, size, size)
    return torch.randint(256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
