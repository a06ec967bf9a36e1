"""What a test leaves beside its score files, for the tests of those who read them."""

import numpy as np

from ops.scores.metadata import Facts, write_facts

PROTOCOL = {
    "dataset": "mine",
    "num_class": 8,
    "num_segments": 8,
    "frames_per_segment": 5,
    "crops": 3,
    "crop_size": 256,
    "average": "softmax",
}


def facts_of(labels, ids=None, failures=0, class_names=None, clips=(0,), **protocol):
    """Facts of made-up videos, of which the first could not be read."""
    labels = np.asarray(labels)
    ids = ids or [f"video {row}" for row in range(len(labels))]
    failed = [
        {"row": row, "line": row + 1, "id": ids[row], "reason": "No such file", "clips": [0]}
        for row in range(failures)
    ]
    weights = {"file": "w.pth", "sha256": "0" * 64}
    return Facts(
        {**PROTOCOL, **protocol}, weights, {}, class_names, list(clips), failed, ids, labels
    )


def describe(directory, labels, ids=None, **changes):
    """Write ``scores.json``."""
    write_facts(directory, facts_of(labels, ids, **changes))
