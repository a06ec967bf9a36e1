"""What a weight file holds, of this project or published by others: told from its keys, its shapes and its name."""

import re
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

from ops.backbones.infer import infer_arch
from ops.backbones.input_channels import first_conv
from ops.backbones.modalities import MODALITIES
from ops.checkpoints.layouts import LAYOUTS, recognise, to_ours
from ops.checkpoints.manifest import published_entry, published_spec
from ops.checkpoints.names import resolve_weights
from ops.checkpoints.torch_file import find_weights, read_checkpoint
from ops.data.class_names import check_names
from ops.temporal import DEEP, MODULES
from ops.utils.errors import UserError

# The names that TSM's main.py gives its runs (store_name), for example
# TSM_kinetics_RGB_resnet50_shift8_blockres_avg_segment8_e50[_cos][_dense][_nl]
_TSM = re.compile(
    r"TSM_(?P<dataset>[A-Za-z0-9-]+)_(?P<modality>RGB|Flow)_(?P<arch>[A-Za-z0-9-]+)"
    r"(?:_shift(?P<div>\d+)_(?P<place>[a-z]+))?(?P<pool>_tpool)?_(?:avg|identity)_segment(?P<T>\d+)_e\d+"
    r"(?P<rest>(?:_[A-Za-z0-9-]+)*)"
)
_SEGMENTS = 1024  # TAM's weights grow with their square
_CLASSES = 2**15  # of a file without a classifier, which is made new
# The file of TSM's online demo, mobilenetv2_jester_online.pth.tar
_ONLINE = re.compile(r"(?P<arch>mobilenetv2)_(?P<dataset>[a-z0-9]+)_online")


def facts_of_name(path):
    """What the base name of a file tells, or else the name of its folder; never the rest of the path.

    Returns a dict with ``dataset`` and arguments of ``ops.models.TSN`` (``num_segments`` among them), empty for a name that is
    none of the known forms.
    """
    path = Path(path)
    for name in (path.name, path.resolve().parent.name):
        if match := _TSM.match(name):
            facts = {
                "dataset": match["dataset"],
                "modality": match["modality"],
                "arch": match["arch"],
                "num_segments": int(match["T"]),
                "module": "tsm" if match["div"] else "tsn",
                "temporal_pool": bool(match["pool"]),
                "non_local": "nl" in match["rest"].split("_"),
            }
            if match["div"]:
                facts.update(shift_div=int(match["div"]), shift_place=match["place"])
                facts["shift_direction"] = "both"  # TSM's main.py trains no other
            return facts
        if match := _ONLINE.match(name):
            return {
                "dataset": match["dataset"],
                "arch": match["arch"],
                "module": "tsm",
                "shift_direction": "past",
            }
    return {}


class WeightFile(NamedTuple):
    """A weight file and what it contains.

    Attributes:
        name: for messages.
        layout: key of ``LAYOUTS``.
        state: state dict with our names.
        spec: arguments of ``ops.models.TSN`` that the file, its entry in the manifest or its name contain; without
            "module" where nothing does.
        class_names: in label order, or None.
        dataset: name, or None.
        note: which of several sets of weights was taken, or nothing.
        average: what the authors of such files average over the views of a video ("softmax"), None: as the module's.
        published: entry of the manifest, or None.
        recipe: the options of the training that wrote the file; empty where it does not contain them.
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
        weights_key: which of several sets of weights in the file to take (``ops.checkpoints.torch_file.find_weights``).
        use_records: whether what the user has recorded of the file counts.

    Returns:
        :class:`WeightFile`.

    Raises:
        UserError: the file cannot be read, no known layout or backbone fits, or its name contradicts its weights.
    """
    is_path = isinstance(source, (str, Path))
    if is_path:
        source = resolve_weights(source)
    name = str(source) if is_path else "state dict"
    content = read_checkpoint(source) if is_path else source
    found = find_weights(content, name, weights_key)
    raw = found.state
    layout = recognise(raw)
    if layout is None:
        raise UserError(
            f"{name}: unknown layout of weights (first key: {next(iter(raw))}); known are {', '.join(LAYOUTS)}"
        )
    try:
        state = to_ours(raw, layout)
    except RuntimeError:
        raise UserError(
            f"{name}: looks like the {layout} layout, but its shapes are of no known backbone"
        ) from None
    ours = content if layout == "ours" and isinstance(content, dict) else {}
    spec = ours.get("model")
    if isinstance(spec, dict) and "num_class" in spec:
        names, recipe = ours.get("class_names"), ours.get("recipe")
        _check_told(name, state, spec, names)
        recipe = recipe if isinstance(recipe, dict) else {}
        average = _average_of_origin(ours.get("converted_from"))
        return WeightFile(
            name,
            layout,
            state,
            spec,
            names,
            recipe.get("dataset"),
            found.note,
            average,
            recipe=recipe,
        )
    published = published_entry(source) if is_path and use_records else None
    facts = facts_of_name(source) if is_path else {}
    origin = "its name"
    if published:
        facts = published_spec(published)
        origin = f"the record of it ({published['id']})"
    dataset = facts.pop("dataset", None)
    try:
        spec = _infer_spec(raw, state, layout, name, facts, origin)
    except LookupError:  # a weight that its module always has, or a dimension
        raise UserError(
            f"{name}: looks like the {layout} layout, but weights are missing or of another shape"
        ) from None
    average = LAYOUTS[layout].average
    return WeightFile(name, layout, state, spec, None, dataset, found.note, average, published)


def _average_of_origin(converted_from):
    """The average of the layout that a checkpoint of ours was converted from, if any."""
    layout = converted_from.get("layout") if isinstance(converted_from, dict) else None
    return LAYOUTS[layout].average if isinstance(layout, str) and layout in LAYOUTS else None


def _check_told(name, state, spec, names):
    """Raises UserError unless what one of our files says of itself is of the right types, and no more than its weights are: a
    model is made from it before they are compared, and a ``pretrain`` would be read or even downloaded."""
    plain = all(
        isinstance(key, str) and type(value) in (str, int, float, bool, type(None))
        for key, value in spec.items()
    )
    kinds = {"module": str, "arch": str, "num_segments": int}
    segments, head = spec.get("num_segments"), state.get("head.weight")
    typed = all(type(spec.get(key)) is kind for key, kind in kinds.items())
    if not plain or not typed or not 1 <= segments <= _SEGMENTS or "pretrain" in spec:
        raise UserError(f"{name}: does not describe its model as this project does")
    classes = spec["num_class"]
    if type(classes) is not int or not (
        0 < classes <= _CLASSES if head is None else head.shape[:1] == (classes,)
    ):
        raise UserError(f"{name}: the classes that it says it has are not those of its classifier")
    texts = isinstance(names, list) and all(isinstance(one, str) for one in names)
    if names is not None and not (texts and len(names) == classes):
        raise UserError(f"{name}: its class names are not {classes} texts")
    check_names(name, names or [])


def _infer_spec(raw, state, layout, name, facts, origin):
    """Arguments of TSN inferred from keys and shapes, completed by facts.

    raw: state dict with the file's own keys; state: with ours; facts: what ``origin``, the file's name or record, says.
    Raises UserError if the two contradict each other, or for a network that is none of ours.
    """
    shapes = {
        key.removeprefix("backbone."): tuple(value.shape)
        for key, value in state.items()
        if key.startswith("backbone.")
    }
    arch = infer_arch(shapes)
    if arch is None or "head.weight" not in state:
        raise UserError(
            f"{name}: looks like the {layout} layout, but its shapes fit no known backbone with a classifier"
        )
    inputs = shapes[f"{first_conv(arch)}.weight"][1]
    modality = next(
        (modality for modality, row in MODALITIES.items() if row.inputs == inputs), None
    )
    if modality is None:
        raise UserError(
            f"{name}: its first conv sees {inputs} channels; known are "
            f"{', '.join(f'{row.inputs} ({modality})' for modality, row in MODALITIES.items())}"
        )
    seen = {
        "arch": arch,
        "num_class": state["head.weight"].shape[0],
        "modality": modality,
        "non_local": any(".after_block.theta." in key for key in state),
    }
    marked = [
        module
        for module, row in MODULES.items()
        if row.key_signature and any(row.key_signature in key for key in state)
    ]
    if marked or len(LAYOUTS[layout].modules) == 1:
        seen["module"] = (marked or LAYOUTS[layout].modules)[0]
        infer_options = MODULES[seen["module"]].infer_options
        if infer_options:
            seen.update(infer_options(shapes))
    elif LAYOUTS[layout].wrappers and arch != "BNInception":  # its shift has no trace in the keys
        places = {
            "block": r"layer\d\.(net\.)?\d+\.(block\.)?net\.",
            "blockres": r"\.(conv1|conv\.0)(\.conv)?\.net\.",
        }
        place = next(
            (place for place, mark in places.items() if any(re.search(mark, key) for key in raw)),
            None,
        )
        if place == "blockres":
            _check_shifts(name, raw, shapes)
        seen["temporal_pool"] = any(".layer2.net." in key for key in raw)
        seen["module"] = "tsm" if place else "tsn"
        if place:
            seen["shift_place"] = place
        if (
            place and not LAYOUTS[layout].written
        ):  # a file of MMAction2, which shifts both ways only
            seen["shift_direction"] = "both"
    for key, value in seen.items():
        if facts.get(key, value) != value:
            remedy = "rename the file" if origin == "its name" else "correct the record"
            raise UserError(
                f"{name}: {origin} says {key} {facts[key]}, its weights are of {key} {value}; {remedy}"
            )
    return {**facts, **seen}


_SHIFTED = re.compile(r"layer(\d)\.(?:net\.)?(\d+)\.(?:block\.)?(conv\d)\.(?:conv\.)?net\.")


def _check_shifts(name, raw, shapes):
    """Raises UserError unless exactly those convs of a ResNet are shifted that TSM shifts.

    The weights themselves are the same whether a shift sits before them or not, so that another choice of blocks would
    load without a complaint and give other scores.
    """
    shifted = {match.groups() for key in raw if (match := _SHIFTED.search(key))}
    if any(conv != "conv1" for _, _, conv in shifted):
        raise UserError(
            f"{name}: a network that shifts before conv2 as well, as --shift of the TIN repository builds it; it is "
            f"another network than TSM, and is not supported"
        )
    blocks = {
        tuple(re.match(r"layer(\d)\.(\d+)\.", key).groups()) for key in shapes if "layer" in key
    }
    step = 2 if len([stage for stage, _ in blocks if stage == "3"]) >= DEEP else 1
    expected = {(stage, block, "conv1") for stage, block in blocks if int(block) % step == 0}
    if shifted != expected:
        raise UserError(
            f"{name}: shifts {len(shifted)} blocks, where TSM shifts {len(expected)} of this backbone; it is another "
            f"network than TSM, and is not supported"
        )
