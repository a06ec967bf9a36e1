"""The consensus functions: how the scores of T segments become those of a clip."""


def average(scores):
    """``[B, T, num_class]`` to ``[B, num_class]``, the mean over the segments."""
    return scores.mean(dim=1)


def identity(scores):
    """The scores of all segments, ``[B, T, num_class]``."""
    return scores


CONSENSUS = {"avg": average, "identity": identity}


def clip_scores(scores):
    """The scores of clips, ``[B, num_class]``, from what a network of either consensus gives."""
    if scores.dim() == 3:
        return average(scores)
    return scores
