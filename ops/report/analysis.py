"""The data of a report: one test with its scores, and the analysis of each of its videos."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from ops.data.labels import best_of
from ops.scores.aggregation import to_probabilities
from ops.scores.metrics import average_precision, evaluate, label_ranks

BEST = 5  # predictions kept per video
BINS = 15  # of confidence, as in Guo et al., "On Calibration of Modern Neural Networks" (2017)
_ROWS = 2048  # videos at a time: all scores are never copied at once


class TestResult(NamedTuple):
    """One test of V videos.

    Attributes:
        name: the score directory.
        protocol_line: its protocol in words.
        scores: float64 ``[V, classes]``, the mean over views.
        labels: int64 ``[V]``, or bool ``[V, classes]`` with several labels per video.
        ids: the videos, None if not known.
        class_names: one per class, None if not known.
        probabilities: whether the scores come from a softmax; else they are logits.
        failed: bool ``[V]``, the videos that could not be read, or None.
        accuracy_by_view: floats ``[clips, crops]``, Prec@1 in percent with the first k+1 clips and
            m+1 crops, or None.
        files: ``root_path``, ``image_tmpl`` and ``modality`` of the videos, or None.
        explain: draws the evidence for a class in a video, (row, label) -> ``data:`` URL or None;
            None: a mistake has the middle frame of its video instead.
    """

    __test__ = False  # not a test case of pytest

    name: str
    protocol_line: str
    scores: np.ndarray
    labels: np.ndarray
    ids: list[str] | None
    class_names: list[str] | None
    probabilities: bool
    failed: np.ndarray | None = None
    accuracy_by_view: np.ndarray | None = None
    files: dict | None = None
    explain: Callable[[int, int], str | None] | None = None

    @property
    def classes(self) -> int:
        return self.scores.shape[1]

    @property
    def multi_label(self) -> bool:
        return self.labels.ndim == 2

    @property
    def read(self) -> np.ndarray:
        """bool ``[V]``: the videos that could be read."""
        if self.failed is None:
            return np.ones(len(self.scores), bool)
        return ~self.failed

    @property
    def videos_of_class(self) -> np.ndarray:
        """int64 ``[classes]``: number of videos with each label."""
        if self.multi_label:
            return self.labels.sum(axis=0)
        return np.bincount(self.labels, minlength=self.classes)

    def class_name(self, label: int) -> str:
        if self.class_names:
            return self.class_names[label]
        return f"class {label}"

    def video(self, row: int) -> str:
        """The id of a video; without ids, its number in the scores, from 1."""
        if self.ids:
            return self.ids[row]
        return f"video {row + 1}"


class Calibration(NamedTuple):
    """Calibration in ``BINS`` bins of confidence.

    Attributes:
        count: int64 ``[BINS]``, number of predictions.
        confidence: floats ``[BINS]`` in [0, 1], mean confidence, NaN in an empty bin.
        accuracy: the same for the accuracy.
        error: expected calibration error in percent, None without a prediction.
    """

    count: np.ndarray
    confidence: np.ndarray
    accuracy: np.ndarray
    error: float | None


class Analysis(NamedTuple):
    """The analysis of a test of V videos.

    Attributes:
        best: int64 ``[V, up to 5]``, the best classes in order.
        probability: float64, the same shape: their probabilities.
        rank: int64 ``[V]``, rank of the true class (of the best label), 1 for a right answer and
            ``classes + 1`` for a video that could not be read.
        truth: float64 ``[V]``, probability of that class.
        precision: float64 ``[classes]``, average precision in percent, NaN for a class without
            videos; None with one label per video.
        calibration: of all predictions.
        metrics: those of ``ops.scores.metrics.evaluate``.
    """

    best: np.ndarray
    probability: np.ndarray
    rank: np.ndarray
    truth: np.ndarray
    precision: np.ndarray | None
    calibration: Calibration
    metrics: dict[str, float]

    @property
    def right(self) -> np.ndarray:
        return self.rank == 1


def analyze(tested: TestResult) -> Analysis:
    """Analyze a test. Of equal scores, the lower class ranks first.

    Raises:
        ValueError: as ``ops.scores.metrics.evaluate``.
    """
    metrics = evaluate(tested.scores, tested.labels, tested.failed)
    count = len(tested.scores)
    width = min(BEST, tested.classes)
    best = np.empty((count, width), np.int64)
    probability = np.empty((count, width))
    rank = np.empty(count, np.int64)
    truth = np.empty(count)
    bins = np.zeros((3, BINS))
    for start in range(0, count, _ROWS):
        part = slice(start, start + _ROWS)
        scores = np.array(tested.scores[part], dtype=np.float64)
        labels = tested.labels[part]
        read = tested.read[part]
        shares = _probabilities(scores, tested.probabilities, tested.multi_label)
        target = best_of(scores, labels)
        rank[part] = label_ranks(scores, target)
        truth[part] = np.take_along_axis(shares, target[:, None], 1)[:, 0]
        best[part] = _best_classes(scores, width)
        probability[part] = np.take_along_axis(shares, best[part], 1)
        if tested.multi_label:
            bins += _bins(shares[read], labels[read])
        else:
            bins += _bins(probability[part, 0][read], rank[part][read] == 1)
    rank[~tested.read] = tested.classes + 1
    precision = None
    if tested.multi_label:
        read_scores = np.where(tested.read, tested.scores.T, -np.inf)
        precision = 100 * average_precision(read_scores, tested.labels.T)
    return Analysis(best, probability, rank, truth, precision, _calibration(bins), metrics)


def _best_classes(scores: np.ndarray, count: int) -> np.ndarray:
    """The best ``count`` classes of each row, int64; a sort of all classes would take longer."""
    scores = scores.copy()
    rows = np.arange(len(scores))
    best = np.empty((len(scores), count), np.int64)
    for place in range(count):
        best[:, place] = scores.argmax(axis=1)
        scores[rows, best[:, place]] = -np.inf
    return best


def class_accuracy(tested: TestResult, right: np.ndarray) -> np.ndarray:
    """Accuracy of each class.

    Args:
        tested: a test with one label per video.
        right: bool ``[V]``.

    Returns:
        Percentages, floats ``[classes]``, NaN for a class without videos.
    """
    hits = np.bincount(tested.labels[right], minlength=tested.classes)
    with np.errstate(invalid="ignore"):
        return 100 * hits / tested.videos_of_class


def _probabilities(scores: np.ndarray, given: bool, multi_label: bool) -> np.ndarray:
    if not given:
        return to_probabilities(scores, multi_label)
    if multi_label:
        return scores.clip(0, 1)
    scores = scores.clip(0, None)  # a failed video has -1
    # The maximum over crops does not sum to one.
    return scores / np.maximum(scores.sum(axis=1, keepdims=True), 1e-12)


def _bins(confidence: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Number, sum of confidence and number of hits per bin: floats ``[3, BINS]``."""
    places = np.minimum((confidence * BINS).astype(np.int64), BINS - 1).ravel()
    weights = (None, confidence.ravel(), right.ravel().astype(np.float64))
    return np.stack([np.bincount(places, weight, BINS) for weight in weights])


def _calibration(bins: np.ndarray) -> Calibration:
    count, total = bins[0], bins[0].sum()
    with np.errstate(invalid="ignore"):
        confidence, accuracy = bins[1] / count, bins[2] / count
    error = None
    if total:
        error = 100 * float(np.abs(bins[1] - bins[2]).sum() / total)
    return Calibration(count.astype(np.int64), confidence, accuracy, error)
