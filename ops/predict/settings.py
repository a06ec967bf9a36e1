"""What a predictor takes from its network where no argument says otherwise.

These are the class names, whether a video can have several, and the protocol.
"""

import os
from collections.abc import Sequence

from ops.checkpoints.identify import WeightFile
from ops.data.class_names import check_names, read_class_names
from ops.data.datasets import KNOWN
from ops.data.preflight import check_class_names
from ops.data.sampling import SAMPLINGS
from ops.export.network import ExportedNetwork
from ops.models import TSN
from ops.scores.protocol import (
    Protocol,
    choose_protocol,
    default_average,
    default_sampling,
    published_result,
)
from ops.utils.errors import UserError
from ops.utils.text import counted


def is_multi_label(model: TSN | ExportedNetwork, file: WeightFile | None) -> bool:
    """Whether a network was trained for videos with several classes."""
    if isinstance(model, ExportedNetwork):
        return model.description.multi_label
    recipe = file.recipe if file else {}
    trained = model.published or recipe
    return trained.get("multi_label") is True


def choose_names(
    known: Sequence[str] | None,
    given: str | os.PathLike | Sequence[str] | None,
    model: TSN | ExportedNetwork,
    file: WeightFile | None,
) -> list[str] | None:
    """The class names: those of the checkpoint, or those given by the user."""
    source = file.name if file else "the network"
    if known is not None and len(known) != model.num_class:
        raise UserError(
            f"{source}: {counted(model.num_class, 'class', 'classes')}, but "
            f"{counted(len(known), 'class name')}"
        )
    if given is None:
        return known
    if isinstance(given, str | os.PathLike):
        names = read_class_names(given, model.num_class)
        origin = os.fspath(given)
    else:
        names = list(given)
        origin = "class_names"
        check_names(origin, names)
    if len(names) != model.num_class:
        raise UserError(
            f"{origin}: {counted(len(names), 'class name')} for "
            f"{counted(model.num_class, 'class', 'classes')}"
        )
    check_class_names(known, names, source, origin)
    return names


def predictor_protocol(
    model: TSN | ExportedNetwork,
    file: WeightFile | None,
    multi_label: bool,
    *,
    sampling: str | None,
    average: str | None,
    crops: int | None,
    clips: int | None,
    full_res: bool,
    scale_size: int | None,
    crop_size: int | None,
    seed: int,
) -> Protocol:
    """The protocol of a predictor: what was given, then what was published, then the defaults.

    Args:
        model: the network.
        file: it was loaded from, or None.
        multi_label: whether a video can have several classes.
        sampling, average, crops, clips, full_res, scale_size, crop_size, seed: as of `Predictor`.
    """
    if isinstance(model, ExportedNetwork):
        # In the file are the choices below for its checkpoint.
        if sampling is None:
            sampling = model.description.sampling
            clips = clips or model.description.clips
        crops = crops or model.description.crops
        _check_crop_size(model, full_res, scale_size, crop_size)
    result = published_result(model.published, model.num_segments)
    if result:
        if sampling is None:
            sampling = result["sampling"]
            if clips is None and sampling and SAMPLINGS[sampling].any_num_clips:
                clips = result["clips"]
        if crops is None:
            crops = result["crops"]
        if not (full_res or crop_size or scale_size):
            crop_size = result["size"]
    return choose_protocol(
        model,
        sampling=sampling or _usual_sampling(model, file),
        average=average or default_average(model, multi_label),
        crops=crops or 1,
        clips=clips,
        full_res=full_res,
        scale_size=scale_size,
        crop_size=crop_size,
        seed=seed,
    )


def _check_crop_size(
    network: ExportedNetwork, full_res: bool, scale_size: int | None, crop_size: int | None
) -> None:
    """Raise UserError unless the crops are of the size that an exported network takes."""
    size = network.input_size
    if full_res:
        crop_size = scale_size or network.scale_size
    if crop_size not in (None, size):
        raise UserError(
            f"crops of {crop_size}: {network.name} takes {size} x {size}; export it again with "
            f"--input_size {crop_size}"
        )


def _usual_sampling(model: TSN, file: WeightFile | None) -> str:
    """That of the test scripts for a known dataset, else that of the training's validation."""
    dataset = file.dataset if file else None
    if isinstance(dataset, str) and dataset in KNOWN:
        return default_sampling(model, dataset, KNOWN[dataset].test_sampling)
    trained = file.recipe.get("sampling") if file else None
    if isinstance(trained, str) and trained in SAMPLINGS:
        return SAMPLINGS[trained].validation
    return "center"
