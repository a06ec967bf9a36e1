"""TIN: Temporal Interlacing Network (Shao et al., AAAI 2020, arXiv 2001.06499).

A part of the channels, in four groups, is moved along time by fractions of a frame. Two small
networks compute these offsets from the clip itself, and a weight for each moved frame (section 3 of
the paper; deepcs233/TIN ops/temporal_interlace.py).

Moving by a fraction and weighting is linear: per video and group one ``[T, T]`` matrix, built from
offset and weights, times the frames. The originals need a CUDA kernel here (and mmcv's sends the
gradient to the wrong frames).

Shapes: ``N = B * T`` frames, time fastest; ``[N, C, H, W]`` in either memory format, which the
module keeps.
"""

import torch
from torch import nn

from ops.utils.errors import UserError

GROUPS = 4  # two learned offsets and their opposites
HALF_A_FRAME = 0.5108  # 4 * (sigmoid(0.5108) - 0.5) = 0.5


class TemporalInterlace(nn.Module):
    """``y[t] = w[t] * x[t - o]`` for each of four groups of channels.

    The groups are the first ``C // shift_div`` channels; the rest stays. Between two frames x is
    interpolated linearly, outside the clip it is zero. The offsets o, two and their opposites, lie
    in (-2, 2) frames, one per video and group: a positive one moves content to later frames. The
    weights w lie in (0, 2), one per frame. Both are computed without autocast, since half precision
    is coarse for a position in time.

    Args:
        channels: C.
        num_segments: T; fixed by the shapes of the weights.
        shift_div: C divided by the number of channels that move.

    Raises:
        UserError: the channels that move do not make four equal groups.
    """

    def __init__(self, channels, num_segments, shift_div=4):
        super().__init__()
        fold = channels // shift_div
        if not fold or fold % GROUPS:
            raise UserError(
                f"--shift_div {shift_div}: TIN moves {GROUPS} equal groups of channels, which "
                f"{channels} // {shift_div} = {fold} are not; choose another"
            )
        self.num_segments = num_segments
        self.fold = fold
        self.offset_conv = nn.Conv1d(fold, 1, 3, padding=1)
        self.offset_fc1 = nn.Linear(num_segments, num_segments)
        self.offset_fc2 = nn.Linear(num_segments, GROUPS // 2)
        self.weight_conv = nn.Conv1d(fold, GROUPS // 2, 3, padding=1)
        nn.init.constant_(self.offset_fc2.bias, HALF_A_FRAME)
        nn.init.zeros_(self.weight_conv.bias)

    def forward(self, x):
        dtype = self.offset_conv.weight.dtype
        if torch.compiler.is_compiling() or torch.jit.is_tracing():
            matrices = interlacing_matrices(*self._offsets(_pooled(x, self.fold, dtype)))
            return _interlaced_plain(x, matrices.to(x.dtype), self.fold)
        x, pooled = _Pool.apply(x, self.fold, dtype)
        matrices = interlacing_matrices(*self._offsets(pooled))
        return _Interlace.apply(x, matrices.to(x.dtype), self.fold)

    def offsets(self, x):
        """What the module would do to an input.

        Args:
            x: ``[N, C, H, W]``.

        Returns:
            offsets ``[B, 4]`` in frames and weights ``[B, T, 4]``, per group.
        """
        return self._offsets(_pooled(x, self.fold, self.offset_conv.weight.dtype))

    def _offsets(self, pooled):
        """Offsets ``[B, 4]`` and weights ``[B, T, 4]`` of means ``[N, C // shift_div]``."""
        device = pooled.device.type
        if torch.amp.is_autocast_available(device) and torch.is_autocast_enabled(device):
            with torch.autocast(device, enabled=False):
                return self._offsets(pooled)
        pooled = pooled.unflatten(0, (-1, self.num_segments)).transpose(1, 2)
        o = self.offset_fc2(torch.relu(self.offset_fc1(self.offset_conv(pooled).squeeze(1))))
        o = 4 * (torch.sigmoid(o) - 0.5)
        w = 2 * torch.sigmoid(self.weight_conv(pooled)).transpose(1, 2)
        return torch.cat([o, -o], dim=1), torch.cat([w, w], dim=2)

    def extra_repr(self):
        return f"num_segments={self.num_segments}, fold={self.fold}"


def interlacing_matrices(offsets, weights):
    """The weight of each input frame in each output frame, differentiable in both arguments.

    With b = floor(o) and r = o - b, output frame t is
    ``w[t] * ((1 - r) * x[t - b] + r * x[t - b - 1])``. At whole numbers the slope of this branch is
    the gradient of o, as in the original.

    Args:
        offsets: ``[B, 4]``, per group.
        weights: ``[B, T, 4]``, per group.

    Returns:
        ``[4, B, T, T]``: group, video, output frame, input frame.
    """
    segments = weights.shape[1]
    frame = torch.arange(segments, device=offsets.device, dtype=offsets.dtype)
    lag = frame[:, None] - frame
    offsets = offsets.t()[..., None, None]
    whole = offsets.detach().floor()
    rest = offsets - whole
    matrices = (1 - rest) * (lag == whole) + rest * (lag == whole + 1)
    return matrices * weights.permute(2, 0, 1).unsqueeze(-1)


def _pooled(x, fold, dtype):
    """Means of the first channels of each frame, ``[N, fold]``."""
    return x[:, :fold].mean(dim=(2, 3), dtype=dtype)


def _interlaced_plain(x, matrices, fold):
    """The same by out-of-place operations, for compilers and exporters."""
    layout = torch.channels_last
    if x.is_contiguous():
        layout = torch.contiguous_format
    groups = x[:, :fold].unflatten(0, (-1, matrices.shape[-1])).unflatten(2, (GROUPS, -1))
    y = torch.einsum("gbtu,bugchw->btgchw", matrices, groups).flatten(2, 3).flatten(0, 1)
    return torch.cat([y.contiguous(memory_format=layout), x[:, fold:]], dim=1)


def _grouped(x, segments, fold, channels_last):
    """A view of the first channels, group by group.

    ``[4, B, T, ...]`` with the values of a frame in the order of memory.
    """
    groups = x[:, :fold].unflatten(0, (-1, segments)).unflatten(2, (GROUPS, -1))
    if channels_last:
        return groups.permute(2, 0, 1, 4, 5, 3)
    return groups.permute(2, 0, 1, 3, 4, 5)


def _write_products(matrices, rows, y, fold, channels_last):
    """Write ``matrices @ rows`` over the first channels of y.

    rows: ``[4, B, T, values]`` of the tensor that y is a copy of.
    """
    target = _grouped(y, rows.shape[2], fold, channels_last)
    if channels_last:
        products = torch.empty_like(rows)
    else:
        products = target.flatten(3)  # a view
    for matrix, row, product in zip(matrices, rows, products, strict=True):
        torch.bmm(matrix, row, out=product)  # with out= in the type of x, also under autocast
    if channels_last:
        target.copy_(products.view(target.shape))
    return y


class _Pool(torch.autograd.Function):
    """x itself and its means.

    The two gradients are added in one tensor: autograd would pad that of the means to all channels.
    """

    @staticmethod
    def forward(ctx, x, fold, dtype):
        ctx.fold = fold
        return x.view_as(x), _pooled(x, fold, dtype)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, grad, grad_pooled):
        # In place: grad was made by the backward of _Interlace, the only consumer of this x, and
        # has no other reference.
        height, width = grad.shape[-2:]
        grad[:, : ctx.fold] += (grad_pooled / (height * width)).to(grad.dtype)[..., None, None]
        return grad, None, None


class _Interlace(torch.autograd.Function):
    """The interlacing with a hand-written backward, which has the transposed matrices.

    Frames are multiplied in their place (NCHW) or after one copy of the channels that move
    (channels-last); the other channels are copied once and never permuted.
    """

    @staticmethod
    def forward(ctx, x, matrices, fold):
        ctx.save_for_backward(x, matrices)
        ctx.fold = fold
        channels_last = not x.is_contiguous()
        rows = _grouped(x, matrices.shape[-1], fold, channels_last).flatten(3)
        return _write_products(matrices, rows, x.clone(), fold, channels_last)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, grad):
        x, matrices = ctx.saved_tensors
        segments, channels_last = matrices.shape[-1], not x.is_contiguous()
        grad_rows = _grouped(grad, segments, ctx.fold, channels_last).flatten(3)
        grad_x = grad_matrices = None
        if ctx.needs_input_grad[0]:
            grad_x = torch.empty_like(x).copy_(grad)
            _write_products(matrices.transpose(2, 3), grad_rows, grad_x, ctx.fold, channels_last)
        if ctx.needs_input_grad[1]:
            rows = _grouped(x, segments, ctx.fold, channels_last).flatten(3)
            grad_matrices = torch.empty_like(matrices)
            for grad_row, row, product in zip(grad_rows, rows, grad_matrices, strict=True):
                torch.bmm(grad_row, row.transpose(1, 2), out=product)
        return grad_x, grad_matrices, None


def infer_options(shapes):
    """T and shift_div.

    Some files of MMAction2 move an eighth of the channels, not the quarter that their
    configuration names.
    """
    block = next(
        key.partition(".before_conv1.")[0] for key in shapes if ".before_conv1.offset_conv." in key
    )
    conv = shapes.get(f"{block}.conv1.weight")  # of a ResNet
    if conv is None:
        conv = shapes.get(f"{block}.conv.0.0.weight")  # of a MobileNetV2
    found = {"num_segments": shapes[f"{block}.before_conv1.offset_fc1.weight"][1]}
    if conv is not None:  # other backbones do not show how many channels the slot has
        found["shift_div"] = conv[1] // shapes[f"{block}.before_conv1.offset_conv.weight"][1]
    return found
