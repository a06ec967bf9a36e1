"""What a report is made of: one test with its scores, and what is found out about each of its videos."""

from typing import NamedTuple

import numpy as np

from ops.data.labels import best_of
from ops.scores.aggregation import softmax
from ops.scores.metrics import average_precision, evaluate

BEST = 5  # predictions kept of each video
BINS = (
    15  # of confidence, as Guo et al., "On Calibration of Modern Neural Networks" (2017), have them
)
_ROWS = 2048  # videos at a time: nothing of the size of all scores is ever copied


class Tested(NamedTuple):
    """One test: scores float64 ``[V, classes]``, the mean over views, and labels int64 ``[V]``, or bool ``[V, classes]``
    of several labels a video.

    ``name`` is the directory and ``line`` its protocol; ``probabilities`` tells whether the scores come from a softmax, else
    they are logits; ``failed``, bool ``[V]`` or None, are the videos that could not be read; ``grid``, floats ``[clips,
    crops]`` or None, is Prec@1 in percent with the first k+1 clips and the first m+1 crops; ``files`` (root_path, image_tmpl,
    modality) or None says where the videos lie.
    """

    __test__ = False  # not a test case, whatever its name begins with

    name: str
    line: str
    scores: np.ndarray
    labels: np.ndarray
    ids: list[str] | None
    class_names: list[str] | None
    probabilities: bool
    failed: np.ndarray | None = None
    grid: np.ndarray | None = None
    files: dict | None = None

    @property
    def classes(self) -> int:
        return self.scores.shape[1]

    @property
    def multi_label(self) -> bool:
        return self.labels.ndim == 2

    @property
    def read(self) -> np.ndarray:
        """bool ``[V]``: the videos that could be read."""
        return np.ones(len(self.scores), bool) if self.failed is None else ~self.failed

    @property
    def videos_of_class(self) -> np.ndarray:
        """int64 ``[classes]``: how many videos have each label."""
        return (
            self.labels.sum(axis=0)
            if self.multi_label
            else np.bincount(self.labels, minlength=self.classes)
        )

    def class_name(self, label: int) -> str:
        return self.class_names[label] if self.class_names else f"class {label}"

    def video(self, row: int) -> str:
        """The id of a video; without ids its place among the scores, counted from 1."""
        return self.ids[row] if self.ids else f"video {row + 1}"


class Calibration(NamedTuple):
    """How sure and how right: of each of ``BINS`` bins of confidence the number of predictions, int64, their mean confidence
    and their accuracy, floats in [0, 1], NaN where there are none; ``error`` is the expected calibration error in percent,
    None without a prediction."""

    count: np.ndarray
    confidence: np.ndarray
    accuracy: np.ndarray
    error: float | None


class Findings(NamedTuple):
    """What is known of each video: ``best`` int64 and ``probability`` float64 ``[V, up to 5]``, the best classes in order;
    ``rank`` int64 ``[V]`` of the truth (of its best label), 1 for a right answer and ``classes + 1`` for a video that could not
    be read; ``truth`` float64 ``[V]``, the probability of that label; ``precision``, the average precision of each class,
    float64 ``[classes]`` in percent, NaN for one without videos, None where a video has one label. ``metrics`` are those of
    ``ops.scores.metrics.evaluate``."""

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


def study(tested: Tested) -> Findings:
    """The :class:`Findings` of a test. Of equal scores the lower class ranks first. Raises ``ValueError`` as
    ``ops.scores.metrics.evaluate`` does."""
    metrics = evaluate(tested.scores, tested.labels, tested.failed)
    count, width = len(tested.scores), min(BEST, tested.classes)
    best = np.empty((count, width), np.int64)
    probability, rank, truth = np.empty((count, width)), np.empty(count, np.int64), np.empty(count)
    read, bins = tested.read, np.zeros((3, BINS))
    for start in range(0, count, _ROWS):
        part = slice(start, start + _ROWS)
        scores, labels = np.array(tested.scores[part], dtype=np.float64), tested.labels[part]
        shares = _probabilities(scores, tested.probabilities, tested.multi_label)
        target = best_of(scores, labels)
        rank[part] = _rank(scores, target)
        truth[part] = np.take_along_axis(shares, target[:, None], 1)[:, 0]
        rows = np.arange(len(scores))
        for place in range(width):
            best[part, place] = chosen = scores.argmax(axis=1)
            probability[part, place] = shares[rows, chosen]
            scores[rows, chosen] = -np.inf
        if tested.multi_label:
            bins += _bins(shares[read[part]], labels[read[part]])
        else:
            bins += _bins(probability[part, 0][read[part]], (rank[part] == 1)[read[part]])
    rank[~read] = tested.classes + 1
    precision = None
    if tested.multi_label:
        precision = 100 * average_precision(
            np.where(read, tested.scores.T, -np.inf), tested.labels.T
        )
    return Findings(best, probability, rank, truth, precision, _calibration(bins), metrics)


def class_accuracy(tested: Tested, right: np.ndarray) -> np.ndarray:
    """Percentage of the videos of each class, int64 labels, that are ``right`` (bool ``[V]``): floats ``[classes]``, NaN where
    there are none."""
    with np.errstate(invalid="ignore"):
        return (
            100
            * np.bincount(tested.labels[right], minlength=tested.classes)
            / tested.videos_of_class
        )


def _probabilities(scores: np.ndarray, given: bool, multi_label: bool) -> np.ndarray:
    if multi_label:
        return (
            scores.clip(0, 1) if given else 0.5 + 0.5 * np.tanh(scores / 2)
        )  # the sigmoid; never overflows
    if not given:
        return softmax(scores)
    scores = scores.clip(0, None)  # a video that failed has -1
    return scores / np.maximum(
        scores.sum(axis=1, keepdims=True), 1e-12
    )  # the maximum over crops does not add up to one


def _rank(scores: np.ndarray, target: np.ndarray) -> np.ndarray:
    """The rank of the classes ``target``, from 1."""
    own = np.take_along_axis(scores, target[:, None], axis=1)
    lower = np.arange(scores.shape[1]) < target[:, None]
    return 1 + ((scores > own) | (lower & (scores == own))).sum(axis=1)


def _bins(confidence: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Number, sum of confidence and number of hits of each bin: floats ``[3, BINS]``."""
    places = np.minimum((confidence * BINS).astype(np.int64), BINS - 1).ravel()
    weights = (None, confidence.ravel(), right.ravel().astype(np.float64))
    return np.stack([np.bincount(places, weight, BINS) for weight in weights])


def _calibration(bins: np.ndarray) -> Calibration:
    count, total = bins[0], bins[0].sum()
    with np.errstate(invalid="ignore"):
        confidence, accuracy = bins[1] / count, bins[2] / count
    error = 100 * float(np.abs(bins[1] - bins[2]).sum() / total) if total else None
    return Calibration(count.astype(np.int64), confidence, accuracy, error)
