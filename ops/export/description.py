"""What an exported file contains beside its graph: how videos become its input, and its classes.

In an ONNX file these are the model's metadata, a text for each field: texts as they are, the others
as JSON. In a torch.export file they are one JSON object, the extra file ``DESCRIPTION``.
"""

import dataclasses
import json
from collections.abc import Mapping
from typing import Any

import torch

from ops.backbones.modalities import MODALITIES
from ops.data.class_names import check_names
from ops.data.sampling import SAMPLINGS
from ops.data.transforms import TEST_CROPS
from ops.models import TSN
from ops.scores.aggregation import AVERAGES
from ops.temporal import MODULES
from ops.utils.errors import UserError

VERSION = 1  # to be raised when an older version could no longer read the file
DESCRIPTION = "description.json"
KINDS = ("clip", "step")
PRECISIONS = ("fp32", "fp16", "int8")
_PLAIN = (str, int, float, bool, type(None))


@dataclasses.dataclass(frozen=True)
class Description:
    """The description of an exported network.

    Attributes:
        kind: "clip" (clip to scores) or "step" (frame and state to scores and state).
        module: key of ``MODULES``.
        modality: key of ``MODALITIES``.
        num_class: number of classes.
        num_segments: T.
        frames_per_segment: L.
        input_size: side of the crops that the graph takes, pixels.
        scale_size: short side of a frame before the crop, pixels.
        sampling: key of ``SAMPLINGS``, the sampling of a prediction without flags.
        clips: number of clips of such a prediction; None: the usual one of the sampling.
        crops: crops of a frame of such a prediction.
        average: what it averages over the views, "logits" or "softmax".
        multi_label: whether a video can have several classes.
        class_names: in label order, or None.
        model: the arguments of ``ops.models.TSN``.
        precision: of the weights, "fp32", "fp16" or "int8".
        source: name of the weight file.
        source_sha256: digest of its content; empty for a network that was no file.
        torch: version of PyTorch that wrote the graph.
        version: of this description.
    """

    kind: str
    module: str
    modality: str
    num_class: int
    num_segments: int
    frames_per_segment: int
    input_size: int
    scale_size: int
    sampling: str
    clips: int | None
    crops: int
    average: str
    multi_label: bool
    class_names: list[str] | None
    model: dict[str, Any]
    precision: str
    source: str
    source_sha256: str
    torch: str
    version: int = VERSION

    @classmethod
    def of(cls, model: TSN, **others: Any) -> "Description":
        """The description of a network.

        Args:
            model: the network.
            **others: fields that it does not contain, or that differ. The defaults are a clip
                network in float32, one center crop of its own input size, and no class names.
        """
        fields = {
            "kind": "clip",
            "module": model.spec["module"],
            "modality": model.modality,
            "num_class": model.num_class,
            "num_segments": model.num_segments,
            "frames_per_segment": model.frames_per_segment,
            "input_size": model.input_size,
            "scale_size": model.scale_size,
            "sampling": "center",
            "clips": None,
            "crops": 1,
            "average": "logits",
            "multi_label": False,
            "class_names": None,
            "model": model.spec,
            "precision": "fp32",
            "source": "",
            "source_sha256": "",
            "torch": torch.__version__.split("+")[0],
        }
        return cls(**{**fields, **others})

    @property
    def frame_channels(self) -> int:
        """L*C, the channels of a segment."""
        return MODALITIES[self.modality][0] * self.frames_per_segment

    def to_texts(self) -> dict[str, str]:
        """A text for each field, as the metadata of an ONNX file take them."""
        texts = {}
        for name, value in dataclasses.asdict(self).items():
            texts[name] = value
            if not isinstance(value, str):
                texts[name] = json.dumps(value, ensure_ascii=False)
        return texts

    @classmethod
    def from_texts(cls, texts: Mapping[str, str], name: str) -> "Description":
        """Read what `to_texts` wrote, and check it.

        Args:
            texts: the metadata of a file.
            name: of the file, for messages.

        Raises:
            UserError: they are not those of an exported network of this project.
        """
        values = {}
        for field in dataclasses.fields(cls):
            if field.name not in texts:
                raise UserError(
                    f"{name}: was not written by tools/export.py (its metadata have no "
                    f"{field.name}); export the checkpoint again"
                )
            value = texts[field.name]
            if field.type is not str:
                value = _parse(value)
            values[field.name] = value
        invalid = [key for key, is_valid in _RULES.items() if not is_valid(values[key])]
        if invalid:
            raise UserError(f"{name}: its metadata have an invalid {invalid[0]}; export it again")
        description = cls(**values)
        if description.class_names is not None:
            if len(description.class_names) != description.num_class:
                raise UserError(f"{name}: its class names are not {description.num_class} texts")
            check_names(name, description.class_names)
        return description


def _parse(text: str) -> Any:
    """The value of a JSON text; the text itself, which no rule accepts, if it is not JSON."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


def _is_count(value: Any) -> bool:
    return type(value) is int and value > 0


def _is_names(value: Any) -> bool:
    if value is None:
        return True
    return isinstance(value, list) and all(isinstance(one, str) for one in value)


def _is_spec(value: Any) -> bool:
    """Whether a value can be the arguments of a TSN, which reports describe."""
    return (
        isinstance(value, dict)
        and all(type(one) in _PLAIN for one in value.values())
        and value.get("module") in MODULES
        and isinstance(value.get("arch"), str)
        and _is_count(value.get("num_segments"))
    )


# What a field of a file must be. A description is read from a file that a stranger may have made.
_RULES = {
    "version": lambda value: value == VERSION,
    "kind": lambda value: value in KINDS,
    "module": lambda value: value in MODULES,
    "modality": lambda value: value in MODALITIES,
    "num_class": _is_count,
    "num_segments": _is_count,
    "frames_per_segment": _is_count,
    "input_size": _is_count,
    "scale_size": _is_count,
    "sampling": lambda value: value in SAMPLINGS,
    "clips": lambda value: value is None or _is_count(value),
    "crops": lambda value: value in TEST_CROPS,
    "average": lambda value: value in AVERAGES,
    "multi_label": lambda value: isinstance(value, bool),
    "class_names": _is_names,
    "model": _is_spec,
    "precision": lambda value: value in PRECISIONS,
}
