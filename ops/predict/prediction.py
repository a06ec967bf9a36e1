"""What a network predicts for one video."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from ops.data.class_names import class_name
from ops.scores.aggregation import to_probabilities, view_sum


@dataclass(frozen=True)
class Prediction:
    """What a network predicts for one video.

    Attributes:
        path: the video, as it was given.
        views: logits of each view (clip by clip, crop by crop), float32 ``[views, classes]``; None
            if the video could not be read.
        class_names: in label order, or None.
        protocol: the views in words, such as ``8 frames x 1 crop x 1 clip, 224, center sampling``.
        average: what is averaged over the views for the probabilities, "logits" or "softmax".
        multi_label: whether a video can have several classes: each has a probability of its own.
        seconds: time since the previous result, or since the call.
        error: why there is no prediction, on one line; None if there is one.
    """

    path: str
    views: np.ndarray | None
    class_names: Sequence[str] | None
    protocol: str
    average: str
    multi_label: bool = False
    seconds: float = 0.0
    error: str | None = None

    @cached_property
    def logits(self) -> np.ndarray | None:
        """Mean logits over the views, float64 ``[classes]``."""
        if self.views is None:
            return None
        return view_sum(self.views, of_softmax=False) / len(self.views)

    @cached_property
    def probabilities(self) -> np.ndarray | None:
        """Float64 ``[classes]``: softmax, or sigmoid of a multi-label network."""
        if self.views is None:
            return None
        return average_views(self.views, self.average, self.multi_label)

    def best_labels(self, k: int = 5, threshold: float = 0.0) -> list[int]:
        """The labels of the most probable classes.

        Args:
            k: at most so many.
            threshold: only classes of at least this probability.
        """
        if self.probabilities is None:
            return []
        order = np.argsort(-self.probabilities, kind="stable")[:k].tolist()
        return [label for label in order if self.probabilities[label] >= threshold]

    def name(self, label: int) -> str:
        """The name of a class, ``label 17`` without names."""
        return class_name(self.class_names, label)

    def top(self, k: int = 5, threshold: float = 0.0) -> list[tuple[str, float]]:
        """Names and probabilities of the most probable classes; arguments as of `best_labels`."""
        labels = self.best_labels(k, threshold)
        return [(self.name(label), float(self.probabilities[label])) for label in labels]

    def to_json(self, k: int = 5, threshold: float = 0.0) -> str:
        """One line of JSON; arguments as of `best_labels`."""
        top = [
            {
                "name": self.class_names[label] if self.class_names else None,
                "label": label,
                "probability": float(self.probabilities[label]),
            }
            for label in self.best_labels(k, threshold)
        ]
        read = self.error is None
        content = {
            "path": self.path,
            "top": top,
            "probabilities": self.probabilities.tolist() if read else None,
            "logits": self.logits.tolist() if read else None,
            "protocol": self.protocol,
            "seconds": round(self.seconds, 3),
            "error": self.error,
        }
        return json.dumps(content, ensure_ascii=False)


def average_views(views: np.ndarray, average: str, multi_label: bool) -> np.ndarray:
    """The class probabilities of a video.

    Args:
        views: logits ``[views, classes]``.
        average: what is averaged over the views, "logits" or "softmax".
        multi_label: as of `to_probabilities`.

    Returns:
        Float64 ``[classes]``.
    """
    if average == "softmax":
        return view_sum(views, of_softmax=True) / len(views)
    return to_probabilities(view_sum(views, of_softmax=False) / len(views), multi_label)
