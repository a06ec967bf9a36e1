"""Score directories as a test writes them."""

import numpy as np

from ops.scores.metadata import ScoreMetadata, write_metadata
from ops.scores.pickle_file import save_scores, score_path

PROTOCOL = {
    "dataset": "mine",
    "num_class": 8,
    "num_segments": 8,
    "frames_per_segment": 5,
    "crops": 3,
    "crop_size": 256,
    "average": "softmax",
}


def metadata_of(labels, ids=None, failures=0, class_names=None, clips=(0,), **protocol):
    """ScoreMetadata of made-up videos, of which the first could not be read."""
    labels = np.asarray(labels)
    ids = ids or [f"video {row}" for row in range(len(labels))]
    failed = [
        {"row": row, "line": row + 1, "id": ids[row], "reason": "No such file", "clips": [0]}
        for row in range(failures)
    ]
    weights = {"file": "w.pth", "sha256": "0" * 64}
    return ScoreMetadata(
        {**PROTOCOL, **protocol}, weights, {}, class_names, list(clips), failed, ids, labels
    )


def describe(directory, labels, ids=None, **changes):
    """Write ``scores.json``."""
    write_metadata(directory, metadata_of(labels, ids, **changes))


def write_views(directory, logits, labels, ids=None, **protocol):
    """Write score files of logits ``[V, clips, crops, classes]``; ``scores.json`` if needed."""
    for clip in range(logits.shape[1]):
        for crop in range(logits.shape[2]):
            save_scores(score_path(directory, clip, crop), logits[:, clip, crop], labels)
    if ids or protocol:
        num_class = logits.shape[3]
        describe(directory, labels, ids, num_class=num_class, crop_size=224, **protocol)


def random_views(videos, clips, crops, classes):
    """Logits float32 ``[V, clips, crops, classes]`` and labels."""
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(videos, clips, crops, classes), scale=3).astype(np.float32)
    return logits, np.arange(videos) % classes
