"""Conversion of weight files between layouts, for tools/convert_checkpoint.py."""

import contextlib
import os
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import torch

from ops.checkpoints import describe, export_state_dict, load_model
from ops.checkpoints.identify import WeightFile, read_weights
from ops.checkpoints.io import checkpoint_content
from ops.checkpoints.layouts import LAYOUTS, layout_name, to_ours
from ops.checkpoints.names import resolve_weights
from ops.checkpoints.safetensors_file import SUFFIX, write_safetensors
from ops.checkpoints.torch_file import find_weights, read_checkpoint
from ops.data.class_names import read_class_names
from ops.models import TSN
from ops.temporal import MODULES, option_names
from ops.utils.errors import UserError
from ops.utils.files import atomic_write
from ops.utils.text import counted

# A name with another ending would promise a format that is not written.
ENDINGS = (".pth", ".pt", ".pth.tar", ".pt.tar", ".ckpt", SUFFIX)


class Source(NamedTuple):
    """A weight file to be converted.

    Attributes:
        path: of the file.
        content: everything it contains.
        state: its weights, with its own keys.
        file: what was identified.
        model: the network with its weights.
        weights_key: which of several sets of weights was asked for, or None.
        given: arguments of the model that flags gave.
    """

    path: Path
    content: dict
    state: dict[str, torch.Tensor]
    file: WeightFile
    model: TSN
    weights_key: str | None
    given: dict[str, object]


def check_target(out: Path, layout: str, force: bool, class_names: str | None) -> None:
    """Check the output before anything is read.

    Args:
        out: file to be written.
        layout: key of ``LAYOUTS``.
        force: whether an existing file may be replaced.
        class_names: file of class names, or None.

    Raises:
        UserError: the file cannot be written as it is asked for.
    """
    if class_names and layout != "ours":
        raise UserError(
            f"--class_names: the {layout} layout has no place for them; leave the flag out"
        )
    if out.is_dir() or (os.path.lexists(out) and not force):
        raise UserError(f"{out} exists; give another OUT, or --force to replace a file")
    if not out.name.lower().endswith(ENDINGS):
        raise UserError(
            f"{out}: its name must end in one of {', '.join(ENDINGS)}, the formats that are "
            f"written; give another OUT"
        )


def load_source(
    path: Path, weights_key: str | None, given: dict[str, object], class_names: str | None
) -> Source:
    """Read and identify a weight file.

    Args:
        path: of a file, or of the folder of a training run.
        weights_key: which of several sets of weights is taken, or None.
        given: arguments of the model that flags give.
        class_names: file of class names in label order, or None.

    Returns:
        :class:`Source`.

    Raises:
        UserError: a file cannot be read, or its weights do not fit a known network.
    """
    path = resolve_weights(path)
    file = read_weights(path, weights_key)
    model = load_model(file, quiet=True, **given)
    if class_names:
        model.class_names = read_class_names(class_names, model.num_class)
    content = read_checkpoint(path)
    state = find_weights(content, path, weights_key).state
    return Source(path, content, state, file, model, weights_key, given)


def describe_source(source: Source) -> Iterator[str]:
    """Lines about a source: what was recognized, from where, and what had to be assumed."""
    file, model = source.file, source.model
    dataset = ""
    if file.dataset:
        dataset = f", dataset {file.dataset}"
    yield f"read        {source.path}, layout: {layout_name(file.layout)}{dataset}"
    if file.note:
        yield f"weights     {file.note.removeprefix('weights ')}"
    yield f"model       {describe(model.spec)}"
    yield f"T           {model.num_segments} ({_origin_of_segments(source)})"
    names = "names unknown"
    if model.class_names:
        names = "with their names"
    yield f"classes     {model.num_class} ({names})"
    options = ("module", "num_segments", *MODULES[model.spec["module"]].options)
    assumed = [
        f"{name} {model.spec[name]}"
        for name in options
        if name not in source.given and name not in file.spec
    ]
    if assumed:
        yield f"assumed     {', '.join(assumed)}: not in the file; flags can give other values"


def _origin_of_segments(source: Source) -> str:
    """Where T comes from."""
    name = "num_segments"
    if name in source.given:
        return "a flag"
    if name not in source.file.spec:
        return "assumed"
    if name in read_weights(source.content, source.weights_key).spec:
        return "the file"
    if source.file.published:
        return "the record"
    return "the file's name"


def describe_keys(source: Source) -> Iterator[str]:
    """Lines with the keys of a source, their shapes, and their names in this project."""
    own = source.model.state_dict()
    targets = follow_keys(list(source.state), source.file.layout)
    lines = [(key, value, targets[key]) for key, value in source.state.items()]
    added = own.keys() - targets.values()
    lines += [("(nothing)", value, f"{key}, added") for key, value in own.items() if key in added]
    lines = [(key, _shape_text(value), target) for key, value, target in lines]
    key_width = max(len(key) for key, _, _ in lines)
    shape_width = max(len(shape) for _, shape, _ in lines)
    for key, shape, target in lines:
        yield f"{key:<{key_width}}  {shape:<{shape_width}}  -> {target}"


def _shape_text(value: torch.Tensor) -> str:
    return "x".join(map(str, value.shape)) or "scalar"


def follow_keys(keys: list[str], layout: str) -> dict[str, str]:
    """What becomes of the keys of a layout.

    The translation is linear: each entry is given another unit vector, and the result shows which
    entries went into it.

    Args:
        keys: of a state dict without wrappers' prefixes.
        layout: key of ``LAYOUTS``.

    Returns:
        their key -> ours, or words about what else happens to it.
    """
    targets = dict.fromkeys(keys, "dropped: no forward pass reads it")
    unit_vectors = dict(zip(keys, torch.eye(len(keys)), strict=True))
    for ours, value in to_ours(unit_vectors, layout).items():
        for index in value.nonzero().flatten().tolist():
            targets[keys[index]] = ours
            if value[index] < 0:
                targets[keys[index]] = f"folded into {ours}"
    return targets


def write(out: Path, source: Source, layout: str) -> list[str]:
    """Write the model of a source in a layout.

    The file gets its name once it has been loaded and has the same tensors.

    Args:
        out: file to be written; a link stays a link.
        source: the model, and where it comes from.
        layout: key of ``LAYOUTS``.

    Returns:
        arguments of the model that the file does not contain, as ``name value``.

    Raises:
        UserError: the layout cannot hold the model, the file cannot be written, or its name
            contradicts the weights.
    """
    target = os.path.realpath(out)
    trial = f"{target}.{secrets.token_hex(4)}.tmp"
    try:
        content = _content(source, layout)
        with atomic_write(trial) as file:
            if out.name.lower().endswith(SUFFIX):
                write_safetensors(file, content)
            else:
                torch.save(content, file)
        missing = _compare(trial, source.model)
        os.replace(trial, target)
    except OSError as error:
        raise UserError(
            f"{out}: cannot be written ({error.strerror or error}); give another OUT"
        ) from None
    except UserError as error:
        raise UserError(str(error).replace(trial, str(out))) from None
    finally:
        with contextlib.suppress(OSError):
            os.unlink(trial)
    return missing


def _content(source: Source, layout: str) -> dict:
    """What a file of a layout contains."""
    model = source.model
    if layout == "ours":
        recipe = {}
        if source.file.dataset:
            recipe = {"dataset": source.file.dataset}
        if source.file.layout == "ours" and source.content.get("recipe"):
            recipe = source.content["recipe"]
        return checkpoint_content(
            model, class_names=model.class_names, recipe=recipe, converted_from=_origin(source)
        )
    state = export_state_dict(model, layout)
    # Loaders of projects whose files have DataParallel's prefix expect a checkpoint, the others a
    # bare state dict.
    if LAYOUTS[layout].prefix:
        return {"state_dict": state}
    return state


def _origin(source: Source) -> dict:
    """The file that was published: the source, or the one that it was converted from itself."""
    first = None
    if source.file.layout == "ours":
        first = source.content.get("converted_from")
    if isinstance(first, dict) and isinstance(first.get("layout"), str):
        return first
    return {"file": source.path.name, "layout": source.file.layout}


def _compare(path: str, model: TSN) -> list[str]:
    """Arguments of a model that a file does not contain; UserError if its weights differ."""
    expected = model.state_dict()
    found = load_model(path, quiet=True).state_dict()
    wrong = [
        key
        for key in expected.keys() | found.keys()
        if key not in expected or key not in found or not _is_same(expected[key], found[key])
    ]
    if wrong:
        raise UserError(
            f"{path}: {counted(len(wrong), 'tensor')} not the same when loaded again "
            f"({min(wrong)}); nothing was written"
        )
    spec = read_weights(path).spec
    return [
        f"{name} {model.spec[name]}"
        for name in ("module", "num_segments", *option_names())
        if name in model.spec and spec.get(name) != model.spec[name]
    ]


def _is_same(one: torch.Tensor, other: torch.Tensor) -> bool:
    return one.dtype == other.dtype and torch.allclose(one, other, 0, 0, equal_nan=True)


def describe_target(out: Path, layout: str, source: Source, missing: list[str]) -> Iterator[str]:
    """Lines about a written file; missing: what :func:`write` returned."""
    count = len(source.model.state_dict())
    yield (
        f"written     {out}, layout: {layout_name(layout)}; loaded again: the same {count} tensors"
    )
    if missing:
        yield f"not in it   {', '.join(missing)}; give these with a flag when you use the file"
