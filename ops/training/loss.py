"""The losses of a training: ``--loss``.

A new loss is a function that builds it and an entry of :data:`LOSSES`; its name is then a choice of
``--loss``. Torch is imported in the functions, so that ``--help`` answers at once.
"""

from ops.utils.errors import UserError


def build_loss(args, *, multi_label=False, training=True, class_weights=None):
    """The loss that the flags of ``main.py`` choose.

    Args:
        args: the arguments of ``main.py``.
        multi_label: whether a video can have several labels.
        training: False for the loss of a validation, which has no label smoothing.
        class_weights: factor of the terms of each class, float32 ``[num_class]`` on the device of
            the scores; None: 1. The mean is over videos, whatever their weights.

    Returns:
        A function ``(scores, labels) -> loss``, a scalar: the mean over the batch. scores are
        ``[B, num_class]``, or those of each segment, ``[B, T, num_class]`` (consensus "identity").
        labels are int64 ``[B]``, float ``[B, num_class]`` (shares of the classes, of mixed videos)
        or, with multi_label, bool or float ``[B, num_class]``.

    Raises:
        UserError: the loss cannot be used with these labels.
    """
    name = loss_name(args, multi_label)
    criterion = LOSSES[name](args, multi_label, training, class_weights)

    def loss(scores, labels):
        if scores.dim() == 3:
            labels = labels.repeat_interleave(scores.shape[1], dim=0)
            scores = scores.flatten(0, 1)
        return criterion(scores.float(), labels)

    return loss


def loss_name(args, multi_label):
    """The key of :data:`LOSSES` that ``--loss`` names; without the flag the usual one."""
    if args.loss:
        return args.loss
    return "bce" if multi_label else "cross_entropy"


def _cross_entropy(args, multi_label, training, class_weights):
    """Softmax cross-entropy, with ``--label_smoothing``."""
    from torch.nn import functional as F

    if multi_label:
        raise UserError("--loss cross_entropy: a video has several labels; use bce or focal")
    smoothing = args.label_smoothing if training else 0.0

    def loss(scores, labels):
        return F.cross_entropy(scores, labels, label_smoothing=smoothing)

    def weighted_loss(scores, labels):
        # Torch's mean would divide by the weights of the batch, so that its videos would count
        # differently beside others.
        losses = F.cross_entropy(
            scores, labels, class_weights, label_smoothing=smoothing, reduction="none"
        )
        return losses.mean()

    return loss if class_weights is None else weighted_loss


def _bce(args, multi_label, training, class_weights):
    """Mean binary cross-entropy of all classes."""
    from torch.nn import functional as F

    if class_weights is not None:
        raise UserError(
            "--class_weights is an option of --loss cross_entropy and focal, not of bce"
        )
    _refuse_smoothing(args, "bce")

    def loss(scores, labels):
        return F.binary_cross_entropy_with_logits(scores, _targets(scores, labels))

    return loss


def _focal(args, multi_label, training, class_weights):
    """Focal loss (Lin et al., arXiv 1708.02002); its alpha are the class weights.

    Of one label per video that of the softmax, of several that of each class' sigmoid. With
    ``--focal_gamma 0`` it is the cross-entropy, or the binary one.
    """
    from torchvision.ops import sigmoid_focal_loss

    _refuse_smoothing(args, "focal")
    gamma = args.focal_gamma

    def softmax_loss(scores, labels):
        log_probabilities = scores.log_softmax(1)
        weights = (1 - log_probabilities.exp()) ** gamma
        if class_weights is not None:
            weights = weights * class_weights
        return -(_targets(scores, labels) * weights * log_probabilities).sum(1).mean()

    def sigmoid_loss(scores, labels):
        no_alpha = -1
        return sigmoid_focal_loss(
            scores, _targets(scores, labels), no_alpha, gamma, reduction="mean"
        )

    return sigmoid_loss if multi_label else softmax_loss


def _targets(scores, labels):
    """Labels as float ``[N, num_class]``."""
    if labels.dim() == 2:
        return labels.float()
    from torch.nn import functional as F

    return F.one_hot(labels, scores.shape[1]).float()


def _refuse_smoothing(args, name):
    if args.label_smoothing:
        raise UserError(f"--label_smoothing is an option of --loss cross_entropy, not of {name}")


# Name -> (arguments of main.py, multi_label, training, class_weights) -> (scores float32
# [N, num_class], labels) -> scalar.
LOSSES = {"cross_entropy": _cross_entropy, "bce": _bce, "focal": _focal}
