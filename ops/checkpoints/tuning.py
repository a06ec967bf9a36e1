"""Fine-tuning: a model starts from a checkpoint of another task or another temporal module."""

from collections import Counter
from typing import NamedTuple

import torch

from ops.backbones import slot_prefixes
from ops.backbones.input_channels import spread_channels
from ops.checkpoints.class_order import class_names_of
from ops.checkpoints.identify import WeightFile, read_weights
from ops.checkpoints.io import is_head, notes
from ops.checkpoints.layouts import layout_name
from ops.data.label_orders import LABEL_ORDERS, plain_name
from ops.utils.errors import UserError
from ops.utils.text import counted


class Tuned(NamedTuple):
    """What :func:`tune` did.

    Attributes:
        report: a line for the user.
        head_kept: whether all classes of the head are taken over.
    """

    report: str
    head_kept: bool


def tune(model, source, *, dataset, class_names, weights_key=None, dry_run=False):
    """Fill a model, in place, from a checkpoint of another task or another temporal module.

    The head is taken over if the file's classes are known to be the model's: by their names (of a
    published file, those of its authors), or by the name of the dataset if one side has no names.
    Of other classes, those with names that both sides have are taken over. A first conv of another
    modality starts from the mean over its channels. Weights that only one of the two has, or has in
    another shape, may belong to a temporal module or a non-local block: they stay new, or are not
    used.

    Args:
        model: a TSN; for a dry run it may be on the meta device.
        source: see :func:`ops.checkpoints.io.load_model`.
        dataset: name of the dataset to be trained on.
        class_names: its class names in label order, or None.
        weights_key: which of several sets of weights in the file to take.
        dry_run: only find out what would be loaded.

    Returns:
        :class:`Tuned`.

    Raises:
        UserError: the file cannot be used, or its backbone is another one.
    """
    file = source
    if not isinstance(source, WeightFile):
        file = read_weights(source, weights_key)
    own = model.state_dict()
    in_slots = tuple(f"backbone.{prefix}" for prefix in slot_prefixes(model.backbone))
    # A temporal module of another T, which TAM has in its shapes, starts from new weights.
    state = {
        key: value
        for key, value in file.state.items()
        if not (key.startswith(in_slots) and key in own and own[key].shape != value.shape)
    }
    first_conv_note = _spread_first_conv(model, state)
    head = _find_head(model, file, dataset, class_names)
    state = {key: value for key, value in state.items() if not is_head(key)}
    new = [
        key
        for key in own
        if key not in state and not is_head(key) and not key.endswith("num_batches_tracked")
    ]
    unused = [key for key in state if key not in own]
    wrong = [key for key in new + unused if not key.startswith(in_slots)]
    wrong += [key for key in own if key in state and state[key].shape != own[key].shape]
    if wrong:
        raise _backbone_error(model, file, wrong[0])
    loaded = {key: value for key, value in state.items() if key in own}
    if not dry_run:
        model.load_state_dict({**own, **loaded})
        with torch.no_grad():
            for name, values in head.weights.items():
                model.get_parameter(name)[head.labels] = values.to(own[name].dtype)
    count = len(loaded) + len(head.weights)
    kind = f"{file.spec.get('module', 'module not in the file')} {file.spec['arch']}"
    if "num_segments" in file.spec:
        kind += f", {counted(file.spec['num_segments'], 'segment')}"
    parts = [f"layout: {layout_name(file.layout)}, {kind}", *notes(file)]
    parts.append(
        f"loaded {count}, {head.text}, new {len(new)}, not used {len(unused)}{first_conv_note}"
    )
    return Tuned(f"{file.name}: {'; '.join(parts)}", len(head.labels) == model.num_class)


def _spread_first_conv(model, state):
    """Give the first conv in a state dict the model's number of input channels.

    Returns:
        a note for the user, empty if nothing changed.
    """
    key = f"backbone.{model.backbone.first_conv}.weight"
    if key not in state:
        return ""
    channels = model.state_dict()[key].shape[1]
    file_channels = state[key].shape[1]
    if channels == file_channels:
        return ""
    state[key] = spread_channels(state[key], channels)
    return f", first conv {file_channels} -> {channels} channels by their mean"


def _backbone_error(model, file, key):
    """The error for a file whose backbone differs from the model's, in the weight ``key``."""
    hint = ""
    if file.spec["arch"] != model.spec["arch"]:
        hint = f"; give --arch {file.spec['arch']}"
    return UserError(
        f"--tune_from {file.name}: a {file.spec.get('module', 'network')} {file.spec['arch']}, "
        f"whose backbone does not fit a {model.spec['arch']} ({key} is missing, unknown or of "
        f"another shape){hint}"
    )


class _Head(NamedTuple):
    """The part of a classifier that is taken over.

    Attributes:
        labels: of the classes in the model.
        weights: parameter name -> their values.
        text: for the user.
    """

    labels: list[int]
    weights: dict[str, torch.Tensor]
    text: str


def _find_head(model, file, dataset, class_names):
    """The :class:`_Head` that a model takes over from a :class:`WeightFile`."""
    own = model.state_dict()
    weights = {key: file.state[key] for key in ("head.weight", "head.bias") if key in file.state}
    file_classes = file.spec["num_class"]
    classes = model.num_class
    pairs, reason = [], ""
    if len(weights) == 2 and all(
        value.shape[1:] == own[key].shape[1:] for key, value in weights.items()
    ):
        pairs, reason = _label_pairs(file, dataset, class_names, classes)
    if not pairs:
        text = f"head new ({file_classes} -> {classes})"
        if file_classes == classes and reason:
            text += f": {reason}"
        return _Head([], {}, text)
    file_labels = [label for label, _ in pairs]
    labels = [label for _, label in pairs]
    weights = {key: value[file_labels] for key, value in weights.items()}
    if len(labels) < classes:
        text = (
            f"head of {len(labels)} of {classes} classes taken over by their names, the others new"
        )
    elif labels == file_labels and file_classes == classes:
        text = "head taken over"
    else:
        text = f"head of all {classes} classes taken over by their names"
    return _Head(labels, weights, text)


def _label_pairs(file, dataset, class_names, classes):
    """Which labels of a weight file and of a model mean the same class.

    Returns:
        (pairs of a label of the file and one of the model, the reason if there are none).
    """
    file_names = class_names_of(file)
    if file_names and class_names:
        if not file.class_names:
            # Published lists spell the same names differently.
            file_names = [plain_name(name) for name in file_names]
            class_names = [plain_name(name) for name in class_names]
        return _same_names(file_names, class_names), "other classes"
    if file.dataset is None:
        return [], "its classes are not in the file"
    if file.dataset != dataset or file.spec["num_class"] != classes:
        return [], "other classes"
    if file.layout != "ours" and dataset in LABEL_ORDERS:
        return [], f"lists of {dataset} have several orders of classes; give --class_names"
    return [(label, label) for label in range(classes)], ""


def _same_names(theirs, ours):
    """Pairs (their label, our label) of the class names that each side has once, in our order.

    Of equal lists all labels, repeated names too.
    """
    if theirs == ours:
        return [(label, label) for label in range(len(ours))]
    their_counts = Counter(theirs)
    our_counts = Counter(ours)
    their_labels = {name: label for label, name in enumerate(theirs)}
    return [
        (their_labels[name], label)
        for label, name in enumerate(ours)
        if their_counts[name] == 1 and our_counts[name] == 1
    ]
