"""Save, resume and load: files of this project, and every published layout that ``ops.layouts`` knows."""
from pathlib import Path

import torch

from ops.backbones import infer_arch
from ops.errors import UserError
from ops.files import atomic_write
from ops.layouts import LAYOUTS, from_ours, recognise, to_ours
from ops.models import TSN
from ops.temporal import MODULES
from ops.weight_files import find_state_dict, read_checkpoint

FORMAT = 1  # raised when a reader of today could no longer understand the file


def save_checkpoint(path, model, *, optimizer=None, scaler=None, class_names=None, recipe=None, **facts):
    """Write one of our checkpoints, atomically: tensors and plain Python values only.

    model: a TSN (not wrapped); facts: further plain values, such as epoch and metrics.
    """
    content = {
        "format": FORMAT,
        "model": model.spec,
        "state_dict": {key: value.detach().contiguous() for key, value in model.state_dict().items()},
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
        torch.save(content, file)


def load_model(source, num_segments=None, *, quiet=False, **overrides):
    """A ready network in eval mode from any known file or state dict.

    source: path of a checkpoint, or a state dict (name -> tensor) or checkpoint dict already in memory. num_segments and
    overrides (arguments of :class:`ops.models.TSN`) win over what the file says and supply what it cannot tell: a published
    file does not hold T (8 is assumed, and said so). A num_class other than the file's gives a new head. The network
    has the file's precision if that is float64, else float32. ``model.report`` is the line this prints unless quiet, and
    ``model.class_names`` the file's class names or None.

    Raises UserError if the layout is unknown, or if any weight is missing, unexpected or of another shape.
    """
    name = str(source) if isinstance(source, (str, Path)) else "state dict"
    content = read_checkpoint(source) if isinstance(source, (str, Path)) else source
    state = find_state_dict(content, name)
    layout = recognise(state)
    if layout is None:
        raise UserError(f"{name}: unknown layout of weights (first key: {next(iter(state))}); known are {', '.join(LAYOUTS)}")
    state = to_ours(state, layout)
    spec = content.get("model") if layout == "ours" else None
    if not isinstance(spec, dict) or "num_class" not in spec:
        spec = _infer_spec(state, layout, name)
    file_classes = spec["num_class"]
    assumed = num_segments is None and "num_segments" not in spec
    spec = {"num_segments": 8, **spec, **overrides}
    if num_segments is not None:
        spec["num_segments"] = num_segments
    try:
        model = TSN(**spec)
    except TypeError as error:
        raise UserError(f"{name}: its model needs an option this version does not know ({error})") from None
    if any(value.dtype == torch.float64 for value in state.values()):
        model.double()
    model.report = f"{name}: {layout} layout, {spec['module']} {spec['arch']}, {spec['num_segments']} segments" + (
        " (assumed: the file does not tell)" if assumed else "") + "; " + fill(model, state, name, file_classes)
    model.class_names = content.get("class_names") if isinstance(content, dict) and layout == "ours" else None
    if not quiet:
        print(model.report)
    return model.eval()


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
    for problem, keys in (("missing", missing), ("unexpected", unexpected), ("of another shape", shapes)):
        if keys:
            raise UserError(f"{name}: {len(keys)} weights {problem} for this {model.spec['module']} {model.spec['arch']} "
                            f"({', '.join(keys[:3])}{', ...' if len(keys) > 3 else ''})")
    model.load_state_dict({**own, **state})
    loaded = len(state) - (2 if head else 0)
    return f"loaded {loaded}, {head}unexpected 0, missing 0"


def _infer_spec(state, layout, name):
    prefix = "backbone."
    shapes = {key.removeprefix(prefix): tuple(value.shape) for key, value in state.items() if key.startswith(prefix)}
    arch = infer_arch(shapes)
    if arch is None or "head.weight" not in state:
        raise UserError(f"{name}: looks like the {layout} layout, but its shapes fit no known backbone with a classifier")
    marked = (module for module, row in MODULES.items() if row.mark and any(row.mark in key for key in state))
    return {"arch": arch, "module": next(marked, "tsn"), "num_class": state["head.weight"].shape[0]}


def export_state_dict(model, layout):
    """State dict of a model in a published layout, as that project's own loader expects it. Raises UserError."""
    wanted = LAYOUTS[layout].module if layout in LAYOUTS else None
    if layout not in LAYOUTS or wanted not in (None, model.spec["module"]):
        raise UserError(f"a {model.spec['module']} model cannot be written in the {layout} layout")
    return from_ours(model.state_dict(), layout)
