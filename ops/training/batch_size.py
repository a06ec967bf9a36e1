"""The largest batch that fits into the memory of a GPU: ``--batch-size auto``.

It does not import torch, so that ``--help`` answers at once.
"""

from ops.utils.errors import UserError

AUTO = "auto"
MAX_BATCH = 1024
PRECISION = 8  # the result is at most 1/8 below the largest batch that fits


def check_auto(args, world, checkpoint):
    """Check that ``--batch-size auto`` is possible, before weights are downloaded.

    Args:
        args: the arguments of ``main.py``.
        world: of ``ops.distributed``.
        checkpoint: the ``TrainingCheckpoint`` of ``--resume``, whose number is used, or None.

    Raises:
        UserError: there is no GPU, or it is a dry run.
    """
    if args.batch_size != AUTO or checkpoint:
        return
    if args.dry_run:
        raise UserError("--batch-size auto measures a real step: give a number with --dry_run")
    if world.device.type != "cuda":
        raise UserError(
            f"--batch-size auto measures the memory of an NVIDIA GPU: give a number on "
            f"{world.device}"
        )


def resolve_batch_size(args, net, world, checkpoint, videos):
    """Collective: the number of videos that ``--batch-size auto`` stands for.

    :func:`check_auto` comes first.

    Args:
        args: the arguments of ``main.py``.
        net: the TSN on its device.
        world: of ``ops.distributed``.
        checkpoint: the ``TrainingCheckpoint`` of ``--resume``, whose number is used, or None.
        videos: number of training videos.

    Returns:
        (videos per batch and process, a line for the log).

    Raises:
        UserError: the checkpoint has no batch size, or one video does not fit.
    """
    if checkpoint:
        saved = checkpoint.recipe.get("batch_size")
        if type(saved) is not int or saved < 1:
            raise UserError(f"--resume {checkpoint.path}: has no batch size; give --batch-size N")
        return saved, f"batch size {saved}, that of {checkpoint.path}"
    from ops.training.memory_probe import MemoryProbe

    probe = MemoryProbe(net, world.device, amp=args.amp, has_average=bool(args.ema))
    limit = max(1, min(MAX_BATCH, videos // (world.size * args.accumulate)))
    own = largest_batch(probe.fits, limit)
    (negated,) = world.max(-own)
    smallest = -negated
    if not smallest:
        raise UserError(
            "--batch-size auto: one video does not fit into the memory; try "
            "--checkpoint_activations, --amp bf16, fewer --num_segments or --freeze"
        )
    return smallest, f"batch size {smallest}, the largest that fits ({probe.describe()})"


def largest_batch(fits, limit):
    """The largest batch that fits, or at most an eighth less.

    Args:
        fits: number of videos -> whether a batch of them fits. What is smaller than one that fits
            fits, too.
        limit: the largest number that is tried.

    Returns:
        a number of videos; 0 if one does not fit.
    """
    largest = 0
    trial = 1
    while trial <= limit and fits(trial):
        largest = trial
        trial *= 2
    too_large = min(trial, limit + 1)
    while too_large - largest > max(1, largest // PRECISION):
        trial = (largest + too_large) // 2
        if fits(trial):
            largest = trial
        else:
            too_large = trial
    return largest
