"""A network that sees no later frames, run one frame at a time (TSM, section 4.2). ::

    stream = StreamingTSN(load_model("mobilenetv2_jester_online.pth.tar"))
    state = None
    for frame in frames:  # [B, C, H, W]
        scores, state = stream(frame, state)

A shift from the past needs a part of the channels of the frame before, and nothing else. These are
the state: as large as one frame for any length of the video. The step after T frames gives what the
clip network gives for the last of these T.
"""

import copy
from itertools import chain

import torch
from torch import nn

from ops.models import TSN
from ops.temporal import MODULES
from ops.utils.errors import UserError


def stepping_obstacle(model):
    """Why a network cannot run frame by frame.

    Args:
        model: a TSN.

    Returns:
        the reason, part of a sentence, or None if it can.
    """
    spec = model.spec
    if spec["non_local"]:
        return "its non-local blocks compare all frames of a clip"
    if spec["temporal_pool"]:
        return "its temporal pooling merges frames"
    entry = MODULES[spec["module"]]
    if entry.module_class is None and entry.stem is None:
        return None
    if entry.stepping_obstacle is None:
        return f"a {spec['module']} mixes all frames of a clip"
    return entry.stepping_obstacle(spec)


class StreamingTSN(nn.Module):
    """The frame-by-frame form of a causal TSM or a plain TSN, for inference.

    It has the weights of the model, in the same memory, but modules of its own: the model stays a
    clip network. Streams of several threads need one each, as a step is not reentrant.

    Attributes:
        network: the copy of the model whose shifts process single frames.

    Args:
        model: a TSN.

    Raises:
        UserError: the network cannot run frame by frame (:func:`stepping_obstacle`).
    """

    def __init__(self, model: TSN) -> None:
        super().__init__()
        reason = stepping_obstacle(model)
        if reason:
            raise UserError(
                f"this {model.spec['module']} cannot run frame by frame: {reason}; a tsm that was "
                f"trained with --shift_direction past can"
            )
        self._tape = _Tape()
        self.network = _copy_with_shared_weights(model)
        _replace_modules(self.network, self._tape)
        self.eval()

    def forward(
        self, frame: torch.Tensor, state: tuple[torch.Tensor, ...] | None = None
    ) -> tuple[torch.Tensor, tuple[torch.Tensor, ...]]:
        """Class scores (logits) of the next frame of B videos.

        Args:
            frame: ``[B, L*C, H, W]``; uint8 is pixels as they are read, floating point is already
                normalised.
            state: what the step before returned; None for the first frame of the videos.

        Returns:
            Scores ``[B, num_class]``, and the state for the next step: a tensor for each block with
            a temporal module, in the order of the blocks; none for a plain TSN.

        Raises:
            ValueError: a frame or a state of another network.
        """
        network = self.network
        if frame.dim() != 4 or frame.shape[1] != network.frame_channels:
            raise ValueError(
                f"a frame of this model is [B, {network.frame_channels}, H, W], "
                f"not {list(frame.shape)}"
            )
        if state is not None and len(state) != self._tape.length:
            raise ValueError(f"a state of this model has {self._tape.length} tensors")
        self._tape.start(state)
        scores = network.head(network.backbone(network.preprocess(frame)))
        return scores, self._tape.finish()

    @torch.no_grad()
    def initial_state(self, frame: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """The state before the first frame, zeros; the same as None in :meth:`forward`.

        Args:
            frame: any frame of the size and batch of the stream, ``[B, L*C, H, W]``.

        Returns:
            A tuple of ``[B, C', H', W']``.
        """
        _, state = self(frame)
        return tuple(torch.zeros_like(part) for part in state)


class _Tape:
    """The states of all temporal modules of a network during one step, in order of execution.

    A plain object beside the modules: exporters refuse tensors that are assigned to a module.
    """

    def __init__(self) -> None:
        self.length = 0  # number of temporal modules
        self._previous: tuple[torch.Tensor, ...] | None = None
        self._following: list[torch.Tensor] = []

    def start(self, state: tuple[torch.Tensor, ...] | None) -> None:
        self._previous = state
        self._following = []

    def read(self) -> torch.Tensor | None:
        """The state of the module whose turn it is; None at the start of a stream."""
        if self._previous is None:
            return None
        return self._previous[len(self._following)]

    def write(self, part: torch.Tensor) -> None:
        """Keep the new state of the module whose turn it is."""
        self._following.append(part)

    def finish(self) -> tuple[torch.Tensor, ...]:
        state = tuple(self._following)
        self.start(None)
        return state


class _Stepped(nn.Module):
    """A temporal module in its slot that processes one frame at a time."""

    def __init__(self, module: nn.Module, tape: _Tape) -> None:
        super().__init__()
        self.module = module
        self.tape = tape

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y, state = self.module.step(x, self.tape.read())
        self.tape.write(state)
        return y


def _copy_with_shared_weights(model: TSN) -> TSN:
    """A copy whose weights are in the memory of the model's.

    The parameters are new objects, so that moving the copy to another device leaves the model.
    """
    memo = {}
    for weight in chain(model.parameters(), model.buffers()):
        shared = weight.detach()
        if isinstance(weight, nn.Parameter):
            shared = nn.Parameter(shared, requires_grad=weight.requires_grad)
        memo[id(weight)] = shared
    return copy.deepcopy(model, memo)


def _replace_modules(network: TSN, tape: _Tape) -> None:
    """Put the temporal modules of all blocks into their frame-by-frame form, in place."""
    entry = MODULES[network.spec["module"]]
    if entry.module_class is None:
        return
    slot = entry.slot_for(network.spec)
    for block in chain.from_iterable(network.backbone.stages()):
        module = getattr(block, slot, None)
        if module is None or isinstance(module, nn.Identity):
            continue
        setattr(block, slot, _Stepped(module, tape))
        tape.length += 1
