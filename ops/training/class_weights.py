"""Weights of the classes in the loss of a training: ``--class_weights``."""

import math

import numpy as np

from ops.data.lists import read_text
from ops.utils.errors import UserError
from ops.utils.text import counted, printable

BALANCED = "balanced"


def class_weights(source, labels, num_class):
    """The weight of each class, scaled so that their mean over the training videos is 1.

    The scale of the loss, and so the learning rate, stays that of a training without weights.

    Args:
        source: "balanced", weights in inverse proportion to the number of videos of a class, or
            the path of a text file with one weight per line, in the order of the labels.
        labels: label of each training video, int64 ``[n]``.
        num_class: number of classes.

    Returns:
        float32 ``[num_class]``. A class without videos has 0 if they are balanced.

    Raises:
        UserError: a video can have several labels; the file cannot be read, does not contain one
            weight from 0 for each class, or contains only 0 for the classes of the videos.
    """
    if labels.ndim > 1:
        raise UserError("--class_weights is for one label per video: leave it out for this dataset")
    counts = np.bincount(labels, minlength=num_class)
    if source == BALANCED:
        weights = np.zeros(num_class)
        weights[counts > 0] = 1 / counts[counts > 0]
    else:
        weights = _read_weights(source, num_class)
    total = (counts * weights).sum()
    if total == 0:
        raise UserError(f"{source}: the weights of all classes with training videos are 0")
    return (weights * (len(labels) / total)).astype(np.float32)


def _read_weights(path, num_class):
    """The numbers of a file, float64 ``[num_class]``."""
    lines = read_text(path).rstrip().splitlines()
    weights = []
    for number, line in enumerate(lines, start=1):
        try:
            weight = float(line)
        except ValueError:
            weight = math.nan
        if not 0 <= weight < math.inf:
            raise UserError(
                f"{path}:{number}: {printable(line)!r} is not a weight; give a number from 0 on "
                f"each line"
            )
        weights.append(weight)
    if len(weights) != num_class:
        raise UserError(
            f"{path}: {counted(len(weights), 'weight')} for "
            f"{counted(num_class, 'class', 'classes')}; give one per line, in the order of the "
            f"labels"
        )
    return np.array(weights)
