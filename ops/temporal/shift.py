"""TSM: Temporal Shift Module (Lin et al., ICCV 2019, arXiv 1811.08383).

A part of the channels is taken from the next frame and a part from the previous one, the rest
stays: temporal mixing without a parameter or a multiplication (section 3 of the paper;
mit-han-lab/temporal-shift-module ops/temporal_shift.py).

Shapes: ``N = B * T`` frames, time fastest; ``[N, C, H, W]`` in either memory format, which the
module keeps.
"""

import torch
from torch import nn

from ops.utils.errors import UserError


class TemporalShift(nn.Module):
    """``y[t] = (x[t+1], x[t-1], x[t])``, zero at the ends of a clip.

    The parts are the first ``C // shift_div`` channels, as many more, and the rest. The first part
    comes from the future, as in the released weights (the paper's figure draws it the other way
    round).

    Args:
        channels: C.
        num_segments: T.
        shift_div: C divided by the number of channels of each direction; with more than C nothing
            is shifted.
        shift_direction: "both", or "past" for the online model, which sees no later frames:
            ``y[t] = (x[t-1], x[t])`` for the first ``C // shift_div`` channels and the rest
            (section 4.2 of the paper).
    """

    def __init__(self, channels, num_segments, shift_div=8, shift_direction="both"):
        super().__init__()
        self.num_segments = num_segments
        fold = channels // shift_div
        # (first channel, end, distance of the source frame, positive for a later one)
        self.moves = ((0, fold, -1),)
        if shift_direction == "both":
            self.moves = ((0, fold, 1), (fold, 2 * fold, -1))

    def forward(self, x):
        if torch.compiler.is_compiling() or torch.jit.is_tracing():
            return _shifted_plain(x, self.num_segments, self.moves)
        return _Shift.apply(x, self.num_segments, self.moves)

    def step(self, x, previous=None):
        """One frame of a shift of direction "past": :meth:`forward` for T frames, one at a time.

        Args:
            x: the frame, ``[B, C, H, W]``.
            previous: what the step before returned for the next one; None for the first frame.

        Returns:
            The shifted frame, ``[B, C, H, W]``, and the channels that the next step needs,
            ``[B, C // shift_div, H, W]``.
        """
        (_, fold, _) = self.moves[0]
        shifted = x[:, :fold]
        if previous is None:
            previous = torch.zeros_like(shifted)
        # A copy: a slice would keep the whole of x in memory, and later layers may write into x.
        return torch.cat([previous, x[:, fold:]], dim=1), shifted.clone()

    def extra_repr(self):
        return f"num_segments={self.num_segments}, moves={self.moves}"


def _shifted_plain(x, num_segments, moves):
    """The same by out-of-place operations, which a compiler fuses."""
    xs = x.unflatten(0, (-1, num_segments))
    parts = []
    for start, end, step in moves:
        part = xs[:, :, start:end]
        zero = torch.zeros_like(part[:, :1])
        moved = [zero, part[:, :-1]]
        if step > 0:
            moved = [part[:, 1:], zero]
        parts.append(torch.cat(moved, dim=1))
    return torch.cat([*parts, xs[:, :, moves[-1][1] :]], dim=2).flatten(0, 1)


def _shifted(x, num_segments, moves):
    """A shifted copy of x in its memory format."""
    y = x.clone()
    xs, ys = (a.unflatten(0, (-1, num_segments)) for a in (x, y))
    for start, end, step in moves:
        channels = slice(start, end)
        if step > 0:
            ys[:, :-1, channels] = xs[:, 1:, channels]
            ys[:, -1, channels] = 0
        else:
            ys[:, 1:, channels] = xs[:, :-1, channels]
            ys[:, 0, channels] = 0
    return y


class _Shift(torch.autograd.Function):
    """The shift with a hand-written backward, the opposite shift.

    Autograd would copy the whole gradient for every slice that is written in place.
    """

    @staticmethod
    def forward(ctx, x, num_segments, moves):
        ctx.num_segments, ctx.moves = num_segments, moves
        return _shifted(x, num_segments, moves)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, grad):
        moves = [(start, end, -step) for start, end, step in ctx.moves]
        return _shifted(grad, ctx.num_segments, moves), None, None


def check_options(options):
    """Two directions need two parts of the channels."""
    if options["shift_direction"] == "both" and options["shift_div"] < 2:
        raise UserError(
            f"--shift_div {options['shift_div']}: must be a whole number from 2 for tsm"
        )


def stepping_obstacle(options):
    """Only a shift from the past alone can process one frame after another."""
    if options["shift_direction"] == "past":
        return None
    return "its shift also needs the next frame (--shift_direction both)"


def describe_options(options):
    words = f"shift 1/{options['shift_div']} {options['shift_place']}"
    if options["shift_direction"] == "past":
        words += ", past only"
    return words
