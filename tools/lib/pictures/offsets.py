"""The offsets and weights that a TIN computes for a clip, for tools/show_offsets.py."""

from typing import NamedTuple

import numpy as np
import torch

from lib.measure import table
from ops.checkpoints import load_model
from ops.data.readers.base import UnreadableVideo
from ops.data.readers.open import open_reader
from ops.data.sampling import center_offsets, frame_indices
from ops.data.transforms import TestTransform
from ops.models import TSN
from ops.temporal.interlace import TemporalInterlace
from ops.utils.errors import UserError


class BlockOffsets(NamedTuple):
    """What the module of a block does to a clip.

    Attributes:
        name: of the block (``layer1.0``).
        offsets: of each group in segments, ``[4]``.
        weights: of each segment and group, ``[T, 4]``.
    """

    name: str
    offsets: torch.Tensor
    weights: torch.Tensor


def load_tin(path: str) -> TSN:
    """The network of a weight file. Raises UserError if it is not a TIN."""
    model = load_model(path)
    if model.spec["module"] != "tin":
        raise UserError(
            f"{path}: a {model.spec['module']}, which has no offsets; give the weights of a tin"
        )
    return model


def read_clip(video: str, model: TSN, image_tmpl: str) -> tuple[torch.Tensor, list[int], int]:
    """The clip of a test with one view.

    Args:
        video: path of a video file or a folder of frames.
        model: gives the number of segments and the size.
        image_tmpl: file names in a folder.

    Returns:
        The clip, uint8 ``[T, L*C, H, W]``, the first frame of each segment, and the number of
        frames of the video.

    Raises:
        UserError: the video cannot be read.
    """
    length = model.frames_per_segment
    try:
        with open_reader(video, image_tmpl=image_tmpl, modality=model.modality) as reader:
            total = len(reader)
            starts = center_offsets(total, model.num_segments, length)
            wanted, picks = np.unique(frame_indices(starts, length, total), return_inverse=True)
            frames = reader.get(wanted)
    except UnreadableVideo as error:
        raise UserError(
            f"{error}; give a video file, or a folder of frames and its --image_tmpl"
        ) from None
    transform = TestTransform(model.scale_size, model.input_size, 1, flow=model.modality == "Flow")
    picks = torch.from_numpy(picks.reshape(-1, length))
    clip = transform.crops(transform.scale(frames), picks)[0]
    return clip, starts.tolist(), total


@torch.no_grad()
def find_offsets(model: TSN, clip: torch.Tensor) -> list[BlockOffsets]:
    """The offsets and weights of every block, in the order of the forward pass.

    Args:
        model: a TIN in eval mode.
        clip: uint8 ``[T, L*C, H, W]``.
    """
    found = []
    names = {
        module: name.removeprefix("backbone.").removesuffix(".before_conv1")
        for name, module in model.named_modules()
        if isinstance(module, TemporalInterlace)
    }

    def hook(module, inputs, _):
        offsets, weights = module.offsets(*inputs)
        found.append(BlockOffsets(names[module], offsets[0], weights[0]))

    handles = [module.register_forward_hook(hook) for module in names]
    model(clip[None])
    for handle in handles:
        handle.remove()
    return found


def print_offsets(title: str, blocks: list[BlockOffsets]) -> None:
    """Print two lines per block: the groups 1 and 3, and 2 and 4, which have the same weights."""
    # --temporal_pool halves the segments of later blocks.
    columns = max(len(block.weights) for block in blocks)
    lines = []
    for block in blocks:
        for group in (0, 1):
            weights = [f"{weight:.2f}" for weight in block.weights[:, group]]
            weights += [""] * (columns - len(weights))
            offsets = [f"{offset:+.2f}" for offset in block.offsets[group::2]]
            lines.append([block.name, f"{group + 1}, {group + 3}", *offsets, *weights])
    print(f"\n{title}")
    weight_names = [f"w{number + 1}" for number in range(columns)]
    table(["block", "groups", "offset", "opposite", *weight_names], lines)
