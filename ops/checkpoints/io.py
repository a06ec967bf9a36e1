"""Save, load and export checkpoints: files of this project, and of every layout in ``LAYOUTS``."""

import torch

from ops.backbones.resnet import ResNet
from ops.checkpoints.class_order import class_names_of
from ops.checkpoints.identify import WeightFile, read_weights
from ops.checkpoints.layouts import LAYOUTS, from_ours, layout_name
from ops.models import TSN
from ops.temporal import MODULES
from ops.temporal.non_local import NonLocal
from ops.temporal.pooling import TemporalPool
from ops.temporal.shift import TemporalShift
from ops.utils.errors import UserError
from ops.utils.files import atomic_write
from ops.utils.text import counted, printable

FORMAT = 1  # to be raised when an older version could no longer read the file
DEFAULT_SEGMENTS = 8


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
    """A network with the weights of a file or state dict, in eval mode.

    Args:
        source: path of a checkpoint or of a run's folder (its best.pth), name of a published file
            (``tsm_r50_8f_k400``), a state dict (name -> tensor) or checkpoint dict already in
            memory, or a :class:`ops.checkpoints.identify.WeightFile`.
        num_segments: T; takes precedence over the file's. The weights of a published file do not
            contain T; its name, or a record of tools/weights.py, may. Else 8 is assumed and
            reported.
        weights_key: which of several sets of weights in the file to take, such as "state_dict_ema".
        quiet: do not print the report.
        overrides: arguments of :class:`ops.models.TSN`, which take precedence over the file's; None
            is not given. A num_class other than the file's gives a new head.

    Returns:
        The network, in float64 if the file is, else float32. ``model.report`` is the printed line,
        ``model.class_names`` its class names (of a published file, those of its authors) or None,
        ``model.average`` what the authors of such files average over the views of a video (None:
        the same as for the temporal module), ``model.layout`` its layout, ``model.published`` its
        entry of the manifest or None.

    Raises:
        UserError: the layout is unknown, the file's name contradicts its weights, the temporal
            module of a bare state dict is not given, or any weight is missing, unexpected or of
            another shape.
    """
    file = source
    if not isinstance(source, WeightFile):
        file = read_weights(source, weights_key)
    overrides = {key: value for key, value in overrides.items() if value is not None}
    if num_segments is not None:
        overrides["num_segments"] = num_segments
    spec = _complete_spec(file, overrides)
    try:
        model = TSN(**spec)
    except (TypeError, ValueError, RuntimeError) as error:
        reason = printable(str(error))
        raise UserError(
            f"{file.name}: its model needs an option that this version does not have ({reason})"
        ) from None
    if any(value.dtype == torch.float64 for value in file.state.values()):
        model.double()
    filled = fill(model, file.state, file.name, file.spec["num_class"])
    parts = [f"layout: {layout_name(file.layout)}, {describe(model.spec)}"]
    assumed = [
        f"{key} {value}"
        for key, value in spec.items()
        if key not in file.spec and key not in overrides
    ]
    if assumed:
        parts.append(f"assumed {', '.join(assumed)} (not in the file)")
    parts += notes(file)
    model.report = f"{file.name}: {'; '.join([*parts, filled])}"
    model.class_names = class_names_of(file)
    if model.num_class != file.spec["num_class"]:  # a new head
        model.class_names = None
    model.layout = file.layout
    model.average = file.average
    model.published = file.published
    if not quiet:
        print(model.report)
    return model.eval()


def notes(file):
    """Parts of a report: which of several sets of weights was taken, and the entry of a file."""
    parts = []
    if file.note:
        parts.append(file.note)
    if file.published:
        caveat = file.published["caveat"]
        note = f" ({caveat})" if caveat else ""
        parts.append(f"published as {file.published['id']}{note}")
    return parts


def _complete_spec(file, overrides):
    """Arguments of TSN: those of a :class:`WeightFile`, overrides, and defaults for the rest.

    Raises UserError if networks with the same weights differ, so that a default would be a guess.
    """
    spec = {**file.spec, **overrides}
    file_module = file.spec.get("module")
    if "module" not in spec and file.layout == "ours":
        raise UserError(
            f"{file.name}: a state dict without the options of its model, which may be a tsn or a "
            f"tsm; give --module"
        )
    spec.setdefault("module", "tsn")
    if file_module and spec["module"] != file_module:
        # The options of the file's module do not apply to another one.
        dropped = MODULES[file_module].options.keys() - overrides.keys()
        spec = {key: value for key, value in spec.items() if key not in dropped}
    entry = MODULES.get(spec["module"])
    if entry is None:
        return spec  # TSN refuses it, with the names of all modules
    if entry.infer_options and spec["module"] == file_module:
        segments = file.spec["num_segments"]
        if spec["num_segments"] != segments:
            raise UserError(
                f"{file.name}: a {file_module} of {segments} segments, a number that the shapes of "
                f"its weights depend on; it cannot be used with {spec['num_segments']}"
            )
    spec.setdefault("num_segments", DEFAULT_SEGMENTS)
    for name, value in entry.defaults().items():
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
    if spec.get("non_local"):
        words.append("non-local")
    if spec.get("temporal_pool"):
        words.append("temporal pool")
    words.append(counted(spec["num_segments"], "segment"))
    return ", ".join(words)


def fill(model, state, name, file_classes=None):
    """Load a state dict with the names of this project into a model, strictly.

    Args:
        model: a TSN.
        state: name -> tensor.
        name: of the file, for messages.
        file_classes: its number of classes. If it is not the model's, the head stays new.

    Returns:
        the report, ``loaded 318, head new (400 -> 174), unexpected 0, missing 0``.

    Raises:
        UserError: weights are missing, unexpected or of another shape.
    """
    own = model.state_dict()
    count = len(state)
    head = ""
    if file_classes is not None and file_classes != model.num_class:
        head = f"head new ({file_classes} -> {model.num_class}), "
        state = {key: value for key, value in state.items() if not is_head(key)}
        count = len(state)
        state.update((key, value) for key, value in own.items() if is_head(key))
    missing = [key for key in own if key not in state and not key.endswith("num_batches_tracked")]
    unexpected = [key for key in state if key not in own]
    shapes = [key for key in own if key in state and state[key].shape != own[key].shape]
    _check_none(missing, "missing", model, name)
    _check_none(unexpected, "unexpected", model, name)
    _check_none(shapes, "of another shape", model, name)
    model.load_state_dict({**own, **state})
    return f"loaded {count}, {head}unexpected 0, missing 0"


def is_head(key):
    """Whether a weight is of the classifier."""
    return key.startswith("head.")


def _check_none(keys, problem, model, name):
    """Raise UserError with the first keys, unless there are none."""
    if not keys:
        return
    first = ", ".join(keys[:3])
    if len(keys) > 3:
        first += ", ..."
    raise UserError(
        f"{name}: {len(keys)} weights {problem} for this {model.spec['module']} "
        f"{model.spec['arch']} ({first})"
    )


def export_state_dict(model, layout):
    """The weights of a model in a published layout, as that project's own loader expects them.

    Args:
        model: a TSN.
        layout: key of ``LAYOUTS``.

    Returns:
        a state dict.

    Raises:
        UserError: the layout is unknown, or does not have the temporal module of the model.
    """
    module = model.spec["module"]
    entry = LAYOUTS.get(layout)
    if entry is None or not entry.written or (entry.modules and module not in entry.modules):
        raise UserError(f"a {module} model cannot be written in the {layout} layout")
    wrapped = ()
    if entry.wrappers:
        wrapped = _wrapped(model)
    return from_ours(model.state_dict(), layout, wrapped)


def _wrapped(model):
    """The layers that TSM's files contain one level deeper, in a wrapper.

    Returns:
        pairs (prefix of our keys, name of the wrapper), outer ones first.
    """
    wrapped = []
    for name, layer in model.named_modules():
        block, _, slot = name.rpartition(".")
        if isinstance(layer, TemporalPool):
            wrapped.append(("backbone.layer2.", "net"))
        elif isinstance(layer, NonLocal):
            wrapped.append((f"{block}.", "block"))
        elif isinstance(layer, TemporalShift) and slot == "before_block":
            wrapped.append((f"{block}.", "net"))
        elif isinstance(layer, TemporalShift):
            conv = "conv.0.0"
            if isinstance(model.backbone, ResNet):
                conv = "conv1"
            wrapped.append((f"{block}.{conv}.", "net"))
    return sorted(wrapped, key=lambda pair: pair[0].count("."))
