"""2D CNNs with named slots for temporal modules.

A backbone is a module that maps ``[N, C, H, W]`` to features ``[N, feature_dim]`` and carries:

* ``feature_dim``  length of a feature vector;
* ``pixels``       a :class:`Pixels`: how uint8 frames become its input;
* ``stages()``     its blocks, stage by stage; a block names its slots as attributes;
* ``stem``         the slot around its first stage.
"""
from ops.backbones import resnet
from ops.backbones.pixels import Pixels
from ops.errors import UserError

__all__ = ["ARCHS", "Pixels", "build_backbone", "infer_arch"]

ARCHS = tuple(resnet.ARCHS)


def build_backbone(arch):
    """A backbone of a known name with freshly initialised weights. Raises UserError for an unknown name."""
    if arch in resnet.ARCHS:
        return resnet.build(arch)
    raise UserError(f"--arch {arch}: unknown backbone; known are {', '.join(ARCHS)}")


def infer_arch(shapes):
    """Name of the backbone whose weights have these shapes.

    shapes: dict of torchvision key (``layer1.0.conv1.weight``) -> tuple. Returns None if no backbone fits.
    """
    return resnet.infer_arch(shapes)
