"""Save, load, fine-tune from and export: files of this project, and every published layout that ``ops.layouts`` knows."""

import re

import torch

from ops.backbones import spread_channels
from ops.backbones.resnet import ResNet
from ops.errors import UserError
from ops.files import atomic_write
from ops.layouts import LAYOUTS, from_ours
from ops.models import TSN
from ops.temporal import MODULES, NonLocal, TemporalPool, TemporalShift
from ops.utils.text import printable
from ops.weights.released import read_weights

_GUEST = re.compile(r"\.(before_\w+|after_block|stem|slot_\w+)\.")  # keys of what moved into a slot
FORMAT = 1  # raised when a reader of today could no longer understand the file


def save_checkpoint(
    path, model, *, optimizer=None, scaler=None, class_names=None, recipe=None, before=None, **facts
):
    """Write one of our checkpoints, atomically: tensors and plain Python values only.

    model: a TSN (not wrapped); before: called when the file is written and about to take its place; facts: further plain
    values, such as epoch and metrics.
    """
    content = {
        "format": FORMAT,
        "model": model.spec,
        "state_dict": {
            key: value.detach().contiguous() for key, value in model.state_dict().items()
        },
        "class_names": list(class_names) if class_names else None,
        "recipe": recipe or {},
        "versions": {"torch": torch.__version__.split("+")[0]},
        **facts,
    }
    if optimizer:
        content["optimizer"] = optimizer.state_dict()
    if scaler:
        content["scaler"] = scaler.state_dict()
    with atomic_write(path) as file:
        try:
            torch.save(content, file)
        except (
            RuntimeError
        ) as error:  # torch closes the file, fails once more, and that is what it says
            raise error.__context__ if isinstance(error.__context__, OSError) else error from None
        if before:
            before()


def load_model(source, num_segments=None, *, quiet=False, **overrides):
    """A ready network in eval mode from any known file or state dict.

    source: path of a checkpoint, or a state dict (name -> tensor) or checkpoint dict already in
    memory. num_segments and overrides (arguments of :class:`ops.models.TSN`; None is not given) win
    over what the file says and supply what it cannot tell: a published file does not hold T (its
    name may; else 8 is assumed, and said so). A num_class other than the file's gives a new head.
    The network has the file's precision if that is float64, else float32. ``model.report`` is the
    line this prints unless quiet, ``model.class_names`` the file's class names or None,
    ``model.layout`` its layout.

    Raises UserError if the layout is unknown, if the file's name contradicts its weights, or if any weight is missing,
    unexpected or of another shape.
    """
    file = read_weights(source)
    overrides = {key: value for key, value in overrides.items() if value is not None}
    spec = {**file.spec, **overrides}
    if overrides.get("module") not in (
        None,
        file.spec["module"],
    ):  # options of another module are of no use
        dropped = set(MODULES[file.spec["module"]].options) - overrides.keys()
        spec = {key: value for key, value in spec.items() if key not in dropped}
    if num_segments is not None:
        spec["num_segments"] = num_segments
    row = MODULES.get(spec["module"])
    if (
        row
        and row.read
        and spec["module"] == file.spec["module"]
        and spec.get("num_segments") != file.spec["num_segments"]
    ):
        raise UserError(
            f"{file.name}: holds a {spec['module']} of {file.spec['num_segments']} segments, and their number is "
            f"in the shapes of its weights: it cannot be used with {spec['num_segments']}"
        )
    assumed = "" if "num_segments" in spec else " (assumed: the file does not tell)"
    spec.setdefault("num_segments", 8)
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
    model.report = f"{file.name}: {file.layout} layout, {describe(model.spec)}{assumed}; {filled}"
    model.class_names = file.class_names
    model.layout = file.layout
    if not quiet:
        print(model.report)
    return model.eval()


def describe(spec):
    """A model in a few words: ``tsm resnet50, Flow, shift 1/8 blockres, non-local, 8 segments``."""
    words = [f"{spec['module']} {spec['arch']}"]
    if spec.get("modality", "RGB") != "RGB":
        words.append(spec["modality"])
    if "shift_place" in spec:
        past = ", past only" if spec.get("shift_direction") == "past" else ""
        words.append(f"shift 1/{spec.get('shift_div', 8)} {spec['shift_place']}{past}")
    words += [
        word
        for word, key in (("non-local", "non_local"), ("temporal pool", "temporal_pool"))
        if spec.get(key)
    ]
    return ", ".join([*words, f"{spec['num_segments']} segments"])


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


def tune(model, source, *, dataset, class_names):
    """Fill a model, in place, from a checkpoint of another task or another temporal module, for fine-tuning.

    The head is taken over if the file's classes are known to be the model's: their names, or where one side has none the
    name of the data set. A first conv of another modality starts from the mean over its channels. What only one of the two
    has, or has in another shape, may be a guest (a temporal module, a non-local block): it stays new, or is not used.

    Returns (report, whether the head was taken over). Raises UserError if the backbone is another one.
    """
    file = read_weights(source)
    own = model.state_dict()
    # A guest of another T, as TAM has it in its shapes, starts anew.
    state = {
        key: value
        for key, value in file.state.items()
        if not (_GUEST.search(key) and key in own and own[key].shape != value.shape)
    }
    first = f"backbone.{model.backbone.first_conv}.weight"
    spread = ""
    if first in state and state[first].shape[1] != own[first].shape[1]:
        spread = (
            f", first conv {state[first].shape[1]} -> {own[first].shape[1]} channels by their mean"
        )
        state[first] = spread_channels(state[first], own[first].shape[1])
    named = bool(file.class_names and class_names)
    same = file.class_names == list(class_names) if named else file.dataset == dataset
    keep_head = same and all(
        key in state and state[key].shape == own[key].shape for key in ("head.weight", "head.bias")
    )
    if not keep_head:
        state = {key: value for key, value in state.items() if not key.startswith("head.")}
    new = [
        key
        for key in own
        if key not in state
        and not key.startswith("head.")
        and not key.endswith("num_batches_tracked")
    ]
    unused = [key for key in state if key not in own]
    wrong = [key for key in new + unused if not _GUEST.search(key)]
    wrong += [key for key in own if key in state and state[key].shape != own[key].shape]
    if wrong:
        raise UserError(
            f"--tune_from {file.name}: holds a {file.spec['module']} {file.spec['arch']}, whose backbone "
            f"does not fit a {model.spec['arch']} ({wrong[0]} is missing, unknown or of another shape)"
        )
    taken = {key: value for key, value in state.items() if key in own}
    model.load_state_dict({**own, **taken})
    head = (
        "head taken over"
        if keep_head
        else f"head new ({file.spec['num_class']} -> {model.num_class})"
    )
    if not keep_head and file.spec["num_class"] == model.num_class:
        head += (
            ": other classes" if named or file.dataset else ": the file does not tell its classes"
        )
    return (
        f"{file.name}: {file.layout} layout, {file.spec['module']} {file.spec['arch']}; loaded {len(taken)}, {head}, "
        f"new {len(new)}, not used {len(unused)}{spread}"
    ), keep_head


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
