"""What a weight file contains, of this project or a published one.

The layout follows from the keys, the network from keys and shapes. A file of this project contains
the options of its model. Options that a published file lacks come from its entry in the manifest or
its name.
"""

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

from ops.checkpoints.file_names import spec_of_name
from ops.checkpoints.infer import infer_spec
from ops.checkpoints.layouts import LAYOUTS, infer_layout, to_ours
from ops.checkpoints.manifest import published_entry, published_spec
from ops.checkpoints.names import resolve_weights
from ops.checkpoints.torch_file import find_weights, read_checkpoint
from ops.data.class_names import check_names
from ops.utils.errors import UserError

# Limits of what a file may ask for before its weights are compared with the model.
_MOST_SEGMENTS = 1024  # TAM's weights grow with their square
_MOST_CLASSES = 2**15  # of a file without a classifier, which is made new
_PLAIN_TYPES = (str, int, float, bool, type(None))
_SPEC_TYPES = {"module": str, "arch": str, "num_segments": int}


class WeightFile(NamedTuple):
    """A weight file and what it contains.

    Attributes:
        name: for messages.
        layout: key of ``LAYOUTS``.
        state: state dict with the names of this project.
        spec: arguments of ``ops.models.TSN`` that the file, its entry in the manifest or its name
            contain; without "module" if none of them does.
        class_names: in label order, or None.
        dataset: name, or None.
        note: which of several sets of weights was taken, or nothing.
        average: what the authors of such files average over the views of a video ("softmax"); None:
            the same as for the temporal module.
        published: entry of the manifest, or None.
        recipe: the options of the training that wrote the file; empty if it does not contain them.
    """

    name: str
    layout: str
    state: dict
    spec: dict
    class_names: list | None
    dataset: str | None
    note: str = ""
    average: str | None = None
    published: dict | None = None
    recipe: Mapping = MappingProxyType({})


def read_weights(source, weights_key=None, *, use_records=True):
    """Read and identify a weight file.

    Args:
        source: path of a checkpoint or of a run's folder, name of a published file, or a state dict
            or checkpoint dict already in memory.
        weights_key: which of several sets of weights in the file to take, see
            :func:`ops.checkpoints.torch_file.find_weights`.
        use_records: whether the user's records of published files count.

    Returns:
        :class:`WeightFile`.

    Raises:
        UserError: the file cannot be read, no known layout or backbone fits, or its name
            contradicts its weights.
    """
    path = None
    name = "state dict"
    content = source
    if isinstance(source, (str, Path)):
        path = resolve_weights(source)
        name = str(path)
        content = read_checkpoint(path)
    found = find_weights(content, name, weights_key)
    layout = infer_layout(found.state)
    if layout is None:
        first = next(iter(found.state))
        raise UserError(
            f"{name}: unknown layout of weights (first key: {first}); known are "
            f"{', '.join(LAYOUTS)}"
        )
    try:
        state = to_ours(found.state, layout)
    except RuntimeError:
        raise UserError(
            f"{name}: looks like the {layout} layout, but its shapes are of no known backbone"
        ) from None
    if layout == "ours" and _has_spec(content):
        return _own_file(content, name, state, found.note)
    published = None
    if path and use_records:
        published = published_entry(path)
    given, origin = _given_spec(path, published)
    dataset = given.pop("dataset", None)
    try:
        spec = infer_spec(found.state, state, layout, name)
    except LookupError:
        raise UserError(
            f"{name}: looks like the {layout} layout, but weights are missing or of another shape"
        ) from None
    _check_given(name, given, spec, origin)
    return WeightFile(
        name=name,
        layout=layout,
        state=state,
        spec={**given, **spec},
        class_names=None,
        dataset=dataset,
        note=found.note,
        average=LAYOUTS[layout].average,
        published=published,
    )


def _has_spec(content):
    """Whether a file contains the options of its model, as checkpoints of this project do."""
    if not isinstance(content, dict):
        return False
    spec = content.get("model")
    return isinstance(spec, dict) and "num_class" in spec


def _own_file(content, name, state, note):
    """The :class:`WeightFile` of a checkpoint of this project."""
    spec = content["model"]
    class_names = content.get("class_names")
    _check_own_spec(name, state, spec)
    _check_class_names(name, class_names, spec["num_class"])
    recipe = content.get("recipe")
    if not isinstance(recipe, dict):
        recipe = {}
    return WeightFile(
        name=name,
        layout="ours",
        state=state,
        spec=spec,
        class_names=class_names,
        dataset=recipe.get("dataset"),
        note=note,
        average=_average_of_origin(content.get("converted_from")),
        recipe=recipe,
    )


def _average_of_origin(converted_from):
    """The average of the layout that a checkpoint of this project was converted from, if any."""
    if not isinstance(converted_from, dict):
        return None
    layout = converted_from.get("layout")
    if not isinstance(layout, str) or layout not in LAYOUTS:
        return None
    return LAYOUTS[layout].average


def _check_own_spec(name, state, spec):
    """Raise UserError unless the options of a model are of the right types and fit its classifier.

    A model is built from them before its weights are compared; a ``pretrain`` would even be
    downloaded.
    """
    is_plain = all(
        isinstance(key, str) and type(value) in _PLAIN_TYPES for key, value in spec.items()
    )
    is_typed = all(type(spec.get(key)) is kind for key, kind in _SPEC_TYPES.items())
    if (
        not is_plain
        or not is_typed
        or not 1 <= spec["num_segments"] <= _MOST_SEGMENTS
        or "pretrain" in spec
    ):
        raise UserError(f"{name}: does not describe its model as this project does")
    classes = spec["num_class"]
    head = state.get("head.weight")
    if type(classes) is not int:
        fits = False
    elif head is None:
        fits = 0 < classes <= _MOST_CLASSES
    else:
        fits = head.shape[:1] == (classes,)
    if not fits:
        raise UserError(f"{name}: its number of classes is not that of its classifier")


def _check_class_names(name, class_names, num_class):
    """Raise UserError unless class names are None, or one text per class."""
    if class_names is None:
        return
    is_list = isinstance(class_names, list) and all(isinstance(one, str) for one in class_names)
    if not is_list or len(class_names) != num_class:
        raise UserError(f"{name}: its class names are not {num_class} texts")
    check_names(name, class_names)


def _given_spec(path, published):
    """Options from the manifest entry or the name of a file.

    Returns:
        (a dict of ``dataset`` and arguments of TSN, where they come from).
    """
    if published:
        return published_spec(published), f"its entry ({published['id']})"
    if path:
        return spec_of_name(path), "its name"
    return {}, ""


def _check_given(name, given, spec, origin):
    """Raise UserError if the name or the entry of a file contradicts its weights."""
    for key, value in spec.items():
        if key not in given or given[key] == value:
            continue
        fix = "it is another file"
        if origin == "its name":
            fix = "rename the file"
        raise UserError(
            f"{name}: {origin} says {key} {given[key]}, its weights are of {key} {value}; {fix}"
        )
