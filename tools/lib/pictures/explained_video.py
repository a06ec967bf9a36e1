"""A video with the evidence for a class in one of its clips."""

from dataclasses import dataclass

import numpy as np

from lib.pictures.traced_clips import TracedClip
from ops.explain import Explanation
from ops.predict import Prediction


@dataclass(frozen=True)
class ExplainedVideo:
    """A clip of a video and the evidence for a class in it.

    Attributes:
        prediction: of the whole video.
        explanation: of the clip.
        traced: the clip.
        pictures: a frame of each of the T' maps, uint8 ``[T', S, S, 3]``.
        frames: its number in the video, from 0, ``[T']``.
        summary: network, frames and stage in words, one line.
    """

    prediction: Prediction
    explanation: Explanation
    traced: TracedClip
    pictures: np.ndarray
    frames: list[int]
    summary: str

    @property
    def name(self) -> str:
        """The class that is explained."""
        return self.prediction.name(self.explanation.label)

    @property
    def probability(self) -> float:
        """Its probability in the video."""
        return float(self.prediction.probabilities[self.explanation.label])

    @property
    def shares(self) -> list[float]:
        """The share of each frame in the evidence, ``[T']``."""
        return self.explanation.shares.tolist()

    def maps(self, height: int, width: int) -> np.ndarray:
        """The evidence, floats ``[T', height, width]``."""
        return self.explanation.maps(height, width).cpu().numpy()
