"""The network of a predictor: from a checkpoint, a TSN in memory, or an exported file."""

import os
from typing import Any, NamedTuple

from ops.checkpoints import load_model
from ops.checkpoints.class_order import class_names_of
from ops.checkpoints.identify import WeightFile, read_weights
from ops.export.network import ExportedNetwork, is_exported, load_exported
from ops.models import TSN
from ops.utils.errors import UserError


class LoadedNetwork(NamedTuple):
    """A network, and what its source says.

    Attributes:
        model: the network, in eval mode.
        class_names: in label order, or None.
        file: its checkpoint, None for a network in memory and for an exported one.
    """

    model: TSN | ExportedNetwork
    class_names: list[str] | None
    file: WeightFile | None


def load_network(
    weights: str | os.PathLike | TSN | ExportedNetwork,
    device: str | None,
    *,
    num_segments: int | None,
    weights_key: str | None,
    amp: str,
    fuse_bn: bool,
    quiet: bool,
    **options: Any,
) -> LoadedNetwork:
    """Load the network of a predictor.

    Args:
        weights, device, num_segments, weights_key, amp, fuse_bn, quiet, options: as of `Predictor`.

    Raises:
        UserError: the weights cannot be loaded, or the network is fixed in what an option asks for.
    """
    if is_exported(weights):
        model = _exported_clip(weights, device)
        _refuse_options(
            f"{model.name} is exported, and fixed in this; give the checkpoint, or export it again",
            num_segments=num_segments,
            weights_key=weights_key,
            amp=amp if amp != "none" else None,
            fuse_bn=fuse_bn or None,
            **options,
        )
        return LoadedNetwork(model, model.class_names, None)
    if isinstance(weights, TSN):
        _refuse_options(
            "the network is in memory, and fixed in this; give its checkpoint",
            num_segments=num_segments,
            weights_key=weights_key,
            **options,
        )
        return LoadedNetwork(weights.eval(), getattr(weights, "class_names", None), None)
    file = read_weights(weights, weights_key)
    model = load_model(file, num_segments, quiet=quiet, consensus="avg", **options)
    return LoadedNetwork(model, class_names_of(file), file)


def _exported_clip(
    source: str | os.PathLike | ExportedNetwork, device: str | None
) -> ExportedNetwork:
    """An exported network, called with clips.

    Raises:
        UserError: the file cannot be loaded, or the device is not the CPU.
    """
    network = source
    if not isinstance(source, ExportedNetwork):
        network = load_exported(source)
    if device not in (None, "cpu"):
        raise UserError(
            f"--device {device}: {network.name} runs in onnxruntime on the CPU; give the "
            "checkpoint for a GPU"
        )
    return network.as_clip()


def _refuse_options(reason: str, **options: Any) -> None:
    """Raise UserError for an option of a network that is fixed.

    Args:
        reason: why it is, and what to do.
        options: those of the user; None is not given.
    """
    for name, value in options.items():
        if value is not None:
            raise UserError(f"--{name}: {reason}")
