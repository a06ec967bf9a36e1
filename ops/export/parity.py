"""Compare the scores of an exported network with those of the network that it was made of."""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch

from ops.utils.errors import UserError

# Largest relative difference of the logits, by precision.
LIMITS = {"fp32": 1e-4, "fp16": 3e-2, "int8": 3e-2}
# Least share of clips with the same best class, by precision.
AGREEMENT = {"fp32": 0.99, "fp16": 0.99, "int8": 0.98}
BATCHES = (1, 2, 3, 5)
_SMALLEST = 1e-12
_SQUARE = 16  # pixels


@dataclass
class Parity:
    """The differences found so far.

    Attributes:
        precision: of the exported network, "fp32", "fp16" or "int8".
        largest_error: largest difference of a logit.
        largest_logit: largest logit of the network, without its sign.
        clips: number of clips (of frames for a network of single frames) compared.
        same: number of them with the same best class.
    """

    precision: str
    largest_error: float = 0.0
    largest_logit: float = 0.0
    clips: int = 0
    same: int = 0

    def add(self, expected: torch.Tensor, found: torch.Tensor) -> None:
        """Count the scores of a batch.

        Args:
            expected: scores of the network, ``[..., num_class]``.
            found: those of the exported network, of the same shape.

        Raises:
            UserError: another shape: the file takes other batches than it should.
        """
        if found.shape != expected.shape:
            raise UserError(
                f"the exported network gives {list(found.shape)} scores where the checkpoint gives "
                f"{list(expected.shape)}"
            )
        expected = expected.double().flatten(0, -2)
        found = found.double().flatten(0, -2)
        error = float((expected - found).abs().max())
        if not math.isfinite(error):
            error = math.inf
        self.largest_error = max(self.largest_error, error)
        self.largest_logit = max(self.largest_logit, float(expected.abs().max()))
        self.clips += len(expected)
        self.same += int((expected.argmax(1) == found.argmax(1)).sum())

    def merge(self, other: "Parity") -> None:
        """Count what another comparison has found, too."""
        self.largest_error = max(self.largest_error, other.largest_error)
        self.largest_logit = max(self.largest_logit, other.largest_logit)
        self.clips += other.clips
        self.same += other.same

    @property
    def difference(self) -> float:
        """Largest difference of a logit, relative to the largest logit."""
        return self.largest_error / max(self.largest_logit, _SMALLEST)

    @property
    def agreement(self) -> float:
        """Share of the clips with the same best class."""
        return self.same / max(1, self.clips)

    @property
    def is_good(self) -> bool:
        """Whether the file may be used in place of the network."""
        return (
            self.difference <= LIMITS[self.precision]
            and self.agreement >= AGREEMENT[self.precision]
        )

    def __str__(self) -> str:
        return (
            f"largest relative difference {self.difference:.1e} "
            f"(at most {LIMITS[self.precision]:g}), same best class in {self.same} of "
            f"{self.clips}"
        )


@torch.inference_mode()
def check_parity(
    network: Callable[[torch.Tensor], torch.Tensor],
    exported: Callable[[torch.Tensor], torch.Tensor],
    batches: Iterable[torch.Tensor],
    precision: str = "fp32",
) -> Parity:
    """Compare two networks.

    Args:
        network: clip to scores ``[B, ..., num_class]``, in float32.
        exported: the same function from a file.
        batches: uint8 clips ``[B, T, L*C, S, S]``.
        precision: of the file, "fp32", "fp16" or "int8".

    Returns:
        The :class:`Parity`, which the caller judges by ``is_good``.

    Raises:
        UserError: the exported network cannot take a batch.
    """
    parity = Parity(precision)
    for batch in batches:
        expected = network(batch)
        try:
            found = exported(batch)
        except Exception as error:  # onnxruntime's and torch's have no common class but this one
            reason = str(error).strip().splitlines()[0]
            raise UserError(
                f"the exported network fails on a batch of {len(batch)} ({reason})"
            ) from None
        parity.add(expected, found)
    return parity


def noise_batches(shape: tuple[int, ...]) -> Iterable[torch.Tensor]:
    """Batches of 1, 2, 3 and 5 clips of random pixels.

    Args:
        shape: of a clip, ``[T, L*C, S, S]``.

    Yields:
        uint8 ``[B, T, L*C, S, S]``, always the same.
    """
    generator = torch.Generator().manual_seed(0)
    for batch in BATCHES:
        yield torch.randint(256, (batch, *shape), dtype=torch.uint8, generator=generator)


def moving_batches(shape: tuple[int, ...]) -> Iterable[torch.Tensor]:
    """Batches of 1, 2, 3 and 5 clips of plain squares that move by a quarter of a square.

    Args, yields: as of `noise_batches`. Noise has no edges and no motion, videos have.
    """
    generator = torch.Generator().manual_seed(1)
    segments, channels, height, width = shape
    for batch in BATCHES:
        cells = (batch, channels, -(-height // _SQUARE), -(-width // _SQUARE))
        picture = torch.randint(256, cells, dtype=torch.uint8, generator=generator)
        picture = picture.repeat_interleave(_SQUARE, 2).repeat_interleave(_SQUARE, 3)
        frames = [picture.roll(number * _SQUARE // 4, 3) for number in range(segments)]
        yield torch.stack(frames, 1)[..., :height, :width]


def video_batches(clips: torch.Tensor) -> Iterable[torch.Tensor]:
    """Batches of 1, 2, 3 and 5 clips of videos.

    Args:
        clips: uint8 ``[N, T, L*C, S, S]``. They are also mirrored and played backwards, so that one
            clip is enough for five different ones.

    Yields:
        uint8 ``[B, T, L*C, S, S]``.
    """
    backwards = clips.flip(1)
    variants = [clips, clips.flip(-1), backwards, backwards.flip(-1), clips.flip(-2)]
    pool = torch.cat(variants)
    for batch in BATCHES:
        yield pool[:batch]
