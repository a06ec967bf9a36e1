"""Grad-CAM of a whole clip: which places of which frames are evidence for a class. ::

    from ops.explain import explain

    maps = explain(model, clip, label)  # [T, H, W], from 0 to 1

Grad-CAM (Selvaraju et al., ICCV 2017, arXiv 1610.02391, section 3) weights the channels of a
feature map with the mean gradient of the class score, sums them, and keeps what is positive. What
follows the last map of these networks is linear (the mean over places, the classifier, the mean
over segments). Grad-CAM of the last map is therefore CAM (Zhou et al., CVPR 2016, arXiv
1512.04150), whose weights are those of the classifier: it needs no backward pass.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import nn

from ops.models import TSN
from ops.temporal.consensus import clip_scores

MIN_CELLS = 6  # height and width of the map of the default stage, at least
_STILL = 128  # value of optical flow where nothing moves
_MOTION_GAIN = 8
_TINY = 1e-12


class Explanation(NamedTuple):
    """Evidence for a class in a clip, with the resolution of the network.

    Attributes:
        cells: float32 ``[T', h, w]``, from 0 (no evidence) to 1 (the strongest of the clip); all 0
            if nothing in the clip is evidence for the class. T' is T, or T / 2 with temporal
            pooling, whose n-th frame is that of segment 2n.
        label: the class.
        stage: number of the stage, from 1, at whose end the map was taken.
        logits: float32 ``[classes]``, of the clip.
    """

    cells: torch.Tensor
    label: int
    stage: int
    logits: torch.Tensor

    def maps(self, height: int, width: int) -> torch.Tensor:
        """The evidence at the size of pictures, float32 ``[T', height, width]``, from 0 to 1."""
        maps = F.interpolate(self.cells[:, None], (height, width), mode="bicubic")
        return _normalized(maps[:, 0].relu())  # bicubic curves swing below 0

    @property
    def shares(self) -> torch.Tensor:
        """The share of each frame in the evidence, float32 ``[T']``; all 0 without evidence."""
        amounts = self.cells.sum((1, 2))
        return amounts / amounts.sum().clamp_min(_TINY)


def explain(
    model: TSN, clip: torch.Tensor, label: int | None = None, stage: int | None = None
) -> torch.Tensor:
    """Which places of which frames of a clip are evidence for a class.

    Args:
        model, clip, label, stage: as of :func:`grad_cam`.

    Returns:
        Float32 ``[T', H, W]`` with the height and width of the clip, from 0 to 1. The maximum of
        the clip is 1, not that of each frame: a frame without evidence is dark. T' is T, or T / 2
        with temporal pooling.

    Raises:
        ValueError: as :func:`grad_cam`.
    """
    return grad_cam(model, clip, label, stage).maps(*clip.shape[-2:])


def grad_cam(
    model: TSN, clip: torch.Tensor, label: int | None = None, stage: int | None = None
) -> Explanation:
    """Explain a class score of a clip, in one forward pass and at most a part of a backward pass.

    Args:
        model: in eval mode, with any temporal module and backbone.
        clip: ``[T, L*C, H, W]`` on the device of the model; uint8 pixels, or floating point,
            normalized.
        label: the class; None: the one with the highest score.
        stage: number of the stage of the backbone, from 1, whose last map is taken; None: the last
            one whose map has at least 6 x 6 cells, or the first if none has. A later map means
            more, an earlier one has a finer resolution.

    Raises:
        ValueError: the model is in training mode, or there is no such class or stage, or the clip
            has another shape.
    """
    ends = _stage_ends(model.backbone)
    _check(model, clip, label, stage, len(ends))
    watched = _Watched(len(ends), stage)
    handles = []
    for number, module in enumerate(ends, 1):
        handles.append(module.register_forward_pre_hook(watched.hook(number)))
    try:
        with torch.inference_mode(False), torch.no_grad():
            # From the watched map on, the hook switches the recording of gradients on.
            scores = clip_scores(model(clip[None]))[0]
            if label is None:
                label = int(scores.argmax())
            if watched.stage == len(ends):
                weights = model.head.weight[label, :, None, None]
            else:
                (gradients,) = torch.autograd.grad(scores[label], watched.map)
                weights = gradients.mean((2, 3), keepdim=True)
    finally:
        for handle in handles:
            handle.remove()
    cells = (weights.detach() * watched.map.detach()).sum(1).relu().float()
    return Explanation(_normalized(cells), label, watched.stage, scores.detach().float())


def pictures_of(model: TSN, clip: torch.Tensor) -> torch.Tensor:
    """A picture for each map of :func:`explain`: the middle frame of a segment.

    Args:
        model: the network.
        clip: uint8 ``[T, L*C, H, W]``.

    Returns:
        uint8 ``[T', H, W, 3]``, see :func:`to_pictures`.
    """
    frames = middle_of_segments(model, clip.unflatten(1, (model.frames_per_segment, -1)))
    return to_pictures(frames)


def to_pictures(frames: torch.Tensor) -> torch.Tensor:
    """Frames as pictures.

    Args:
        frames: uint8 ``[n, C, H, W]``: RGB, or the x and y of optical flow.

    Returns:
        uint8 ``[n, H, W, 3]``. Flow is drawn as the amount of motion, white from 32 of its
        values on.
    """
    if frames.shape[1] == 3:
        return frames.permute(0, 2, 3, 1)
    motion = (frames.float() - _STILL).norm(dim=1) * _MOTION_GAIN
    return motion.clamp_max(255).byte()[..., None].expand(-1, -1, -1, 3)


def middle_of_segments(model: TSN, values: torch.Tensor) -> torch.Tensor:
    """What belongs to the frames that :func:`pictures_of` draws.

    Args:
        model: the network.
        values: one for each frame of a clip, ``[T, L, ...]``.

    Returns:
        ``[T', ...]``.
    """
    step = model.num_segments // model.scored_segments
    return values[::step, values.shape[1] // 2]


class _Watched:
    """Keeps the map of one stage of a forward pass.

    Args:
        stages: number of stages.
        stage: the stage; None: the last one with enough cells, which is found on the way.

    Attributes:
        map: ``[T', C, h, w]``; what follows it was recorded for its gradient, unless it is the map
            of the last stage.
        stage: its number, from 1.
    """

    def __init__(self, stages: int, stage: int | None) -> None:
        self.map = None
        self.stage = None
        self._stages = stages
        self._wanted = stage

    def hook(self, number: int):
        """A forward pre-hook of the module that receives the map of a stage."""

        def watch(_, inputs):
            (features,) = inputs
            if not self._is_wanted(number, features):
                return None
            self.stage = number
            if number == self._stages:
                self.map = features
                return None
            # A new leaf: what was recorded for an earlier map is given up.
            torch.set_grad_enabled(True)
            self.map = features.detach().requires_grad_()
            return self.map

        return watch

    def _is_wanted(self, number: int, features: torch.Tensor) -> bool:
        if self._wanted is not None:
            return number == self._wanted
        side = min(features.shape[-2:])
        if side < MIN_CELLS:
            return self.map is None
        # A stage halves the sides at most: if half of them is enough, the next map is wanted.
        return number == self._stages or (side + 1) // 2 < MIN_CELLS


def _stage_ends(backbone: nn.Module) -> list[nn.Module]:
    """The modules that receive the last map of each stage."""
    return [stage[0] for stage in backbone.stages()[1:]] + [backbone.avgpool]


def _check(
    model: TSN, clip: torch.Tensor, label: int | None, stage: int | None, stages: int
) -> None:
    if model.training:
        raise ValueError("explain needs a model in eval mode")
    shape = (model.num_segments, model.frame_channels)
    if clip.dim() != 4 or tuple(clip.shape[:2]) != shape:
        raise ValueError(
            f"a clip of this model is [{shape[0]}, {shape[1]}, H, W], not {list(clip.shape)}"
        )
    if label is not None and not 0 <= label < model.num_class:
        raise ValueError(f"label {label}: the model has {model.num_class} classes")
    if stage is not None and not 1 <= stage <= stages:
        raise ValueError(f"stage {stage}: the backbone has stages 1 to {stages}")


def _normalized(maps: torch.Tensor) -> torch.Tensor:
    """Maps of a clip divided by their maximum."""
    return maps / maps.max().clamp_min(_TINY)
