"""Save, load, fine-tune from and export checkpoints.

These are files of this project, and every published layout that ``ops.checkpoints.layouts`` knows.
"""

from collections import Counter
from typing import NamedTuple

import torch

from ops.backbones import slot_prefixes
from ops.backbones.input_channels import spread_channels
from ops.backbones.resnet import ResNet
from ops.checkpoints.class_order import class_names_of
from ops.checkpoints.identify import WeightFile, read_weights
from ops.checkpoints.layouts import LAYOUTS, from_ours, layout_name
from ops.data.label_orders import LABEL_ORDERS, plain_name
from ops.models import TSN
from ops.temporal import MODULES
from ops.temporal.non_local import NonLocal
from ops.temporal.pooling import TemporalPool
from ops.temporal.shift import TemporalShift
from ops.utils.errors import UserError
from ops.utils.files import atomic_write
from ops.utils.text import counted, printable

FORMAT = 1  # raised when a reader of today could no longer understand the file


def save_checkpoint(
    path, model, *, optimizer=None, scaler=None, class_names=None, recipe=None, before=None, **facts
):
    """Write a checkpoint of this project, atomically: tensors and plain Python values only.

    Args:
        path: of the file.
        model: a TSN, not wrapped.
        optimizer: its state is written, too; None: none is.
        scaler: its state is written, too; None: none is.
        class_names: in label order, or None.
        recipe: the settings of the training run, a dict of plain values, or None.
        before: called without arguments when the file is written and about to take its place.
        **facts: further plain values, such as the epoch and metrics.

    Raises:
        OSError: the file cannot be written.
    """
    content = checkpoint_content(model, class_names=class_names, recipe=recipe, **facts)
    if optimizer:
        content["optimizer"] = optimizer.state_dict()
    if scaler:
        content["scaler"] = scaler.state_dict()
    with atomic_write(path) as file:
        try:
            torch.save(content, file)
        except RuntimeError as error:
            # torch closes the file after an OSError, fails once more, and raises that second error.
            if isinstance(error.__context__, OSError):
                raise error.__context__ from None
            raise
        if before:
            before()


def checkpoint_content(model, *, class_names=None, recipe=None, **facts):
    """What a checkpoint of this project contains.

    Args:
        model: a TSN, not wrapped.
        class_names: in label order, or None.
        recipe: the settings of the training run, a dict of plain values, or None.
        **facts: further plain values.

    Returns:
        a dict; the weights are its "state_dict".
    """
    state = model.state_dict()
    return {
        "format": FORMAT,
        "model": model.spec,
        "state_dict": {key: value.detach().contiguous() for key, value in state.items()},
        "class_names": list(class_names) if class_names else None,
        "recipe": recipe or {},
        "versions": {"torch": torch.__version__.split("+")[0]},
        **facts,
    }


def load_model(source, num_segments=None, *, weights_key=None, quiet=False, **overrides):
    """A ready network in eval mode from any known file or state dict.

    Args:
        source: path of a checkpoint or of a run's folder (its best.pth), or name of a published file
            (``tsm_r50_8f_k400``), or a state dict (name -> tensor) or checkpoint dict already in
            memory, or the :class:`ops.checkpoints.identify.WeightFile` of one.
        num_segments: T; wins over the file's. A published file does not contain T (its name, or a record of
            tools/weights.py, may); else 8 is assumed, and reported.
        weights_key: which of several sets of weights in the file to take, such as "state_dict_ema".
        quiet: do not print the report.
        overrides: arguments of :class:`ops.models.TSN`, which win over the file's; None is not given. A num_class other
            than the file's gives a new head.

    Returns:
        The network, in float64 if the file is, else float32. ``model.report`` is the printed line, ``model.class_names``
        its class names (of a published file, those of its authors) or None, ``model.average``
        what the authors of such files average over the views of a
        video (None: as the temporal module's), ``model.layout`` its layout,
        ``model.published`` its entry of the manifest or None.

    Raises:
        UserError: the layout is unknown, the file's name contradicts its weights, the temporal module of a bare state
            dict is not given, or any weight is missing, unexpected or of another shape.
    """
    file = source if isinstance(source, WeightFile) else read_weights(source, weights_key)
    overrides = {key: value for key, value in overrides.items() if value is not None}
    if num_segments is not None:
        overrides["num_segments"] = num_segments
    spec = _complete_spec(file, overrides)
    assumed = [
        f"{key} {value}"
        for key, value in spec.items()
        if key not in file.spec and key not in overrides
    ]
    try:
        model = TSN(**spec)
    except (TypeError, ValueError, RuntimeError) as error:
        reason = printable(str(error))
        raise UserError(
            f"{file.name}: its model needs an option this version does not know ({reason})"
        ) from None
    if any(value.dtype == torch.float64 for value in file.state.values()):
        model.double()
    filled = fill(model, file.state, file.name, file.spec["num_class"])
    parts = [f"layout: {layout_name(file.layout)}, {describe(model.spec)}"]
    if assumed:
        parts.append(f"assumed {', '.join(assumed)} (not in the file)")
    if file.note:
        parts.append(file.note)
    if file.published:
        parts.append(f"recorded as {file.published['id']}")
    model.report = f"{file.name}: {'; '.join([*parts, filled])}"
    model.class_names = class_names_of(file)
    model.layout = file.layout
    model.average = file.average
    model.published = file.published
    if not quiet:
        print(model.report)
    return model.eval()


def _complete_spec(file, overrides):
    """Arguments of TSN: what a :class:`WeightFile` contains, overrides, and defaults for the rest.

    Raises UserError where a default would be a guess between networks whose weights look alike.
    """
    spec = {**file.spec, **overrides}
    held = file.spec.get("module")
    if "module" not in spec:
        if file.layout == "ours":
            raise UserError(
                f"{file.name}: a state dict without the options of its model, which may be a tsn or a tsm; give --module"
            )
        spec["module"] = "tsn"
    if held and spec["module"] != held:  # options of another module are of no use
        dropped = set(MODULES[held].options) - overrides.keys()
        spec = {key: value for key, value in spec.items() if key not in dropped}
    entry = MODULES.get(spec["module"])
    if (
        entry
        and entry.infer_options
        and spec["module"] == held
        and spec.get("num_segments") != file.spec["num_segments"]
    ):
        raise UserError(
            f"{file.name}: holds a {held} of {file.spec['num_segments']} segments, and their number is "
            f"in the shapes of its weights: it cannot be used with {spec['num_segments']}"
        )
    spec.setdefault("num_segments", 8)
    for name, value in entry.defaults().items() if entry else ():
        spec.setdefault(name, value)
    return spec


def describe(spec):
    """A model in a few words: ``tsm resnet50, Flow, shift 1/8 blockres, non-local, 8 segments``."""
    words = [f"{spec['module']} {spec['arch']}"]
    if spec.get("modality", "RGB") != "RGB":
        words.append(spec["modality"])
    entry = MODULES[spec["module"]]
    options = {name: spec.get(name, default) for name, default in entry.defaults().items()}
    option_words = entry.describe(options)
    if option_words:
        words.append(option_words)
    words += [
        word
        for word, key in (("non-local", "non_local"), ("temporal pool", "temporal_pool"))
        if spec.get(key)
    ]
    return ", ".join([*words, counted(spec["num_segments"], "segment")])


def fill(model, state, name, file_classes=None):
    """Load a state dict with our names into a model, strictly, and return the report.

    The head is left new if file_classes differs from the model's class count. Raises UserError naming the first keys that
    are missing, unexpected or of another shape.
    """
    own = model.state_dict()
    head = ""
    if file_classes is not None and file_classes != model.num_class:
        state = {key: value for key, value in state.items() if not key.startswith("head.")}
        state.update((key, value) for key, value in own.items() if key.startswith("head."))
        head = f"head new ({file_classes} -> {model.num_class}), "
    missing = [key for key in own if key not in state and not key.endswith("num_batches_tracked")]
    unexpected = [key for key in state if key not in own]
    shapes = [key for key in own if key in state and state[key].shape != own[key].shape]
    for problem, keys in (
        ("missing", missing),
        ("unexpected", unexpected),
        ("of another shape", shapes),
    ):
        if keys:
            raise UserError(
                f"{name}: {len(keys)} weights {problem} for this {model.spec['module']} {model.spec['arch']} "
                f"({', '.join(keys[:3])}{', ...' if len(keys) > 3 else ''})"
            )
    model.load_state_dict({**own, **state})
    loaded = len(state) - (2 if head else 0)
    return f"loaded {loaded}, {head}unexpected 0, missing 0"


class Tuned(NamedTuple):
    """What :func:`tune` did: a line for the user, and whether no row of the head is new."""

    report: str
    head_kept: bool


def tune(model, source, *, dataset, class_names, weights_key=None, dry_run=False):
    """Fill a model, in place, from a checkpoint of another task or another temporal module, for fine-tuning.

    The head is taken over if the file's classes are known to be the model's: by their names (of a published file, those of
    its authors), or where one side has none by the name of the dataset. Of other classes, the rows whose names both sides
    have are taken over. A first conv of another modality starts from the mean over its channels. What only one of the two
    has, or has in another shape, may belong to a temporal module or a non-local block: it stays new, or is not used.

    Args:
        model: a TSN; for a dry run it may be on the meta device.
        source: as :func:`load_model` takes it.
        dataset: name of the dataset to be trained on.
        class_names: its class names in label order, or None.
        weights_key: as :func:`load_model` takes it.
        dry_run: only find out what would be loaded.

    Returns:
        :class:`Tuned`.

    Raises:
        UserError: the file cannot be used, or its backbone is another one.
    """
    file = source if isinstance(source, WeightFile) else read_weights(source, weights_key)
    own = model.state_dict()
    in_slots = tuple(f"backbone.{prefix}" for prefix in slot_prefixes(model.backbone))
    # A temporal module of another T, as TAM has it in its shapes, starts anew.
    state = {
        key: value
        for key, value in file.state.items()
        if not (key.startswith(in_slots) and key in own and own[key].shape != value.shape)
    }
    first = f"backbone.{model.backbone.first_conv}.weight"
    spread = ""
    if first in state and state[first].shape[1] != own[first].shape[1]:
        spread = (
            f", first conv {state[first].shape[1]} -> {own[first].shape[1]} channels by their mean"
        )
        state[first] = spread_channels(state[first], own[first].shape[1])
    head = _tuned_head(model, file, dataset, class_names)
    state = {key: value for key, value in state.items() if not key.startswith("head.")}
    new = [
        key
        for key in own
        if key not in state
        and not key.startswith("head.")
        and not key.endswith("num_batches_tracked")
    ]
    unused = [key for key in state if key not in own]
    wrong = [key for key in new + unused if not key.startswith(in_slots)]
    wrong += [key for key in own if key in state and state[key].shape != own[key].shape]
    if wrong:
        hint = ""
        if file.spec["arch"] != model.spec["arch"]:
            hint = f"; give --arch {file.spec['arch']}"
        raise UserError(
            f"--tune_from {file.name}: holds a {file.spec.get('module', 'network')} {file.spec['arch']}, whose backbone "
            f"does not fit a {model.spec['arch']} ({wrong[0]} is missing, unknown or of another shape){hint}"
        )
    taken = {key: value for key, value in state.items() if key in own}
    if not dry_run:
        model.load_state_dict({**own, **taken})
        with torch.no_grad():
            for name, values in head.rows.items():
                model.get_parameter(name)[head.labels] = values.to(own[name].dtype)
    count = len(taken) + len(head.rows)
    kind = f"{file.spec.get('module', 'module not in the file')} {file.spec['arch']}"
    if "num_segments" in file.spec:
        kind += f", {counted(file.spec['num_segments'], 'segment')}"
    parts = [f"layout: {layout_name(file.layout)}, {kind}"]
    if file.note:
        parts.append(file.note)
    if file.published:
        parts.append(f"recorded as {file.published['id']}")
    parts.append(f"loaded {count}, {head.text}, new {len(new)}, not used {len(unused)}{spread}")
    return Tuned(f"{file.name}: {'; '.join(parts)}", len(head.labels) == model.num_class)


class _Head(NamedTuple):
    """Rows of a classifier to be taken over: their labels in the model, the values by parameter name, a text for the user."""

    labels: list[int]
    rows: dict[str, torch.Tensor]
    text: str


def _tuned_head(model, file, dataset, class_names):
    """The :class:`_Head` that a model takes over from a :class:`WeightFile`."""
    own = model.state_dict()
    parameters = {key: file.state[key] for key in ("head.weight", "head.bias") if key in file.state}
    fits = len(parameters) == 2 and all(
        value.shape[1:] == own[key].shape[1:] for key, value in parameters.items()
    )
    of_file, classes = file.spec["num_class"], model.num_class
    pairs, reason = _label_pairs(file, dataset, class_names, classes) if fits else ([], "")
    if not pairs:
        text = f"head new ({of_file} -> {classes})"
        if of_file == classes and reason:
            text += f": {reason}"
        return _Head([], {}, text)
    labels = [ours for _, ours in pairs]
    theirs = [label for label, _ in pairs]
    rows = {key: value[theirs] for key, value in parameters.items()}
    if len(labels) < classes:
        text = (
            f"head of {len(labels)} of {classes} classes taken over by their names, the others new"
        )
    elif labels == theirs and of_file == classes:
        text = "head taken over"
    else:
        text = f"head of all {classes} classes taken over by their names"
    return _Head(labels, rows, text)


def _label_pairs(file, dataset, class_names, classes):
    """Which labels of a weight file and of a model mean the same class.

    Returns:
        (pairs of a label of the file and one of the model, the reason where there are none).
    """
    file_names = class_names_of(file)
    if file_names and class_names:
        # Published lists spell the same names differently; ours contain what was trained on.
        normalize = str if file.class_names else plain_name
        theirs, ours = (list(map(normalize, names)) for names in (file_names, class_names))
        return _same_names(theirs, ours), "other classes"
    if file.dataset is None:
        return [], "the file does not tell its classes"
    if file.dataset != dataset or file.spec["num_class"] != classes:
        return [], "other classes"
    if file.layout != "ours" and dataset in LABEL_ORDERS:
        return [], f"lists of {dataset} have several orders of classes; give --class_names"
    return [(label, label) for label in range(classes)], ""


def _same_names(theirs, ours):
    """Pairs (their label, our label) of the class names that each side has once, in our order; of equal lists, all."""
    if theirs == ours:
        return [(label, label) for label in range(len(ours))]
    their_counts, our_counts = Counter(theirs), Counter(ours)
    their_labels = {name: label for label, name in enumerate(theirs)}
    return [
        (their_labels[name], label)
        for label, name in enumerate(ours)
        if their_counts[name] == 1 and our_counts[name] == 1
    ]


def export_state_dict(model, layout):
    """State dict of a model in a published layout, as that project's own loader expects it. Raises UserError."""
    known = layout in LAYOUTS and LAYOUTS[layout].written
    if not known or model.spec["module"] not in (
        LAYOUTS[layout].modules or (model.spec["module"],)
    ):
        raise UserError(f"a {model.spec['module']} model cannot be written in the {layout} layout")
    return from_ours(
        model.state_dict(), layout, _wrapped(model) if LAYOUTS[layout].wrappers else ()
    )


def _wrapped(model):
    """(prefix of our keys, wrapper's name in TSM), outer ones first: what TSM's files hold one level deeper."""
    words = []
    for name, guest in model.named_modules():
        block, _, slot = name.rpartition(".")
        if isinstance(guest, TemporalPool):
            words.append(("backbone.layer2.", "net"))
        elif isinstance(guest, NonLocal):
            words.append((f"{block}.", "block"))
        elif isinstance(guest, TemporalShift) and slot == "before_block":
            words.append((f"{block}.", "net"))
        elif isinstance(guest, TemporalShift):
            conv = "conv1" if isinstance(model.backbone, ResNet) else "conv.0.0"
            words.append((f"{block}.{conv}.", "net"))
    return sorted(words, key=lambda word: word[0].count("."))
