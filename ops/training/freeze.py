"""Parts of a network that are not trained: ``--freeze``.

A frozen part keeps its weights and computes as in evaluation: its BatchNorms use their running
statistics and do not update them, and its branches are not dropped. Temporal modules are frozen
together with the blocks that they are inserted into.
"""

import re

from ops.backbones import slot_prefixes
from ops.backbones.layers import module_places
from ops.utils.errors import UserError
from ops.utils.text import counted

STEM_STAGE = 0
WHOLE_BACKBONE = "backbone"
_STAGES = re.compile(r"stages:([1-9][0-9]*)(?:-([1-9][0-9]*))?")


def parse_parts(text):
    """The stages that a value of ``--freeze`` names.

    Args:
        text: ``stem``, ``stages:2``, ``stages:1-3``, several of them joined by commas, or
            ``backbone``.

    Returns:
        a set of numbers of stages, from 1, with 0 for the stem; None for the whole backbone.

    Raises:
        ValueError: any other text.
    """
    if text == WHOLE_BACKBONE:
        return None
    stages = set()
    for part in text.split(","):
        match = _STAGES.fullmatch(part)
        if part == "stem":
            stages.add(STEM_STAGE)
        elif match:
            first = int(match[1])
            last = int(match[2] or first)
            if last < first:
                raise ValueError(f"{part}: the last stage is before the first")
            stages.update(range(first, last + 1))
        else:
            raise ValueError(f"{part!r} is neither stem, stages:1-3 nor backbone")
    return stages


def freeze(net, text, *, pretrained):
    """Freeze parts of a network, in place.

    Args:
        net: a TSN. Its BatchNorms must not be replaced afterwards.
        text: value of ``--freeze``.
        pretrained: which weights are trained already: "all", "backbone" (without the temporal
            modules) or "none".

    Returns:
        lines for the log.

    Raises:
        UserError: the backbone does not have such a stage.
    """
    stages = parse_parts(text)
    number = len(net.backbone.stages())
    if stages is None:
        stages = set(range(number + 1))
    if max(stages) > number:
        raise UserError(
            f"--freeze {text}: {net.spec['arch']} has {counted(number, 'stage')}, 1 to {number}"
        )
    places = module_places(net.backbone)
    net.freeze([module for module, place in places.items() if place.stage in stages])
    total = sum(parameter.numel() for parameter in net.parameters())
    trained = sum(parameter.numel() for parameter in net.parameters() if parameter.requires_grad)
    lines = [f"frozen: {text}; {trained:,} of {total:,} parameters are trained"]
    untrained = _untrained(net, pretrained)
    if untrained:
        lines.append(
            f"warning: --freeze {text}: {untrained} keep their initial weights; start from a "
            f"trained network with --tune_from"
        )
    return lines


def _untrained(net, pretrained):
    """Which frozen weights have never been trained, as words for a message; "" if none."""
    if pretrained == "all":
        return ""
    if pretrained == "none":
        return "the frozen layers"
    prefixes = slot_prefixes(net.backbone)
    for name, parameter in net.backbone.named_parameters():
        if not parameter.requires_grad and name.startswith(prefixes):
            return f"the {net.spec['module']} modules in frozen layers"
    return ""
