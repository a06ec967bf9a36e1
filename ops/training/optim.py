"""Parameter groups and learning-rate schedules."""

import math

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm as BatchNorm  # 1D, 2D and synchronised ones

from ops.temporal import MODULES

POLICIES = ("groups", "flat")
SCHEDULERS = ("step", "cosine", "cosine-epoch")


def parameter_groups(model, policy, *, weight_decay, fc_lr5=True):
    """Trainable parameters as groups for ``torch.optim.SGD``.

    policy "flat" is one group, as TDN was really trained; "groups" applies the multipliers of TSN (``get_optim_policies``):
    conv weights 1/1 (lr/decay), biases 2/0, BatchNorm 1/0, the first conv of a Flow network 5/1 and 10/0, and with fc_lr5 the
    classifier's weight 5/1 and bias 10/0 (without: 1/1 and 2/0, as in tsn-pytorch); a temporal module's linear layers are like
    convs, but TAM's like the classifier, as its authors train it. The parameters of a group come in the
    order of the model. Each group carries ``name`` and ``lr_mult``; parameters that need no gradient are left out, empty
    groups too. Raises ValueError if a layer's kind is unknown to "groups".
    """
    if policy == "flat":
        parameters = [p for p in model.parameters() if p.requires_grad]
        return [{"name": "all", "params": parameters, "lr_mult": 1, "weight_decay": weight_decay}]
    first_conv = model.backbone.get_submodule(model.backbone.first_conv)
    flow, head_rate = model.modality == "Flow", MODULES[model.spec["module"]].head_rate
    table = {  # name: (lr multiplier, decay multiplier)
        "first_conv_weight": (5 if flow else 1, 1),
        "first_conv_bias": (10 if flow else 2, 0),
        "weight": (1, 1),
        "bias": (2, 0),
        "bn": (1, 0),
        "fc_weight": (5, 1) if fc_lr5 else (1, 1),
        "fc_bias": (10, 0) if fc_lr5 else (2, 0),
    }
    members = {name: [] for name in table}
    for layer in model.modules():
        for kind, parameter in layer.named_parameters(recurse=False):
            if layer is first_conv:
                name = f"first_conv_{kind}"
            elif isinstance(layer, BatchNorm):
                name = "bn"
            elif layer is model.head or (isinstance(layer, nn.Linear) and head_rate):
                name = f"fc_{kind}"
            elif isinstance(layer, (nn.Conv1d, nn.Conv2d, nn.Linear)):
                name = kind
            else:
                raise ValueError(f"no learning-rate group for a {type(layer).__name__}")
            if parameter.requires_grad:
                members[name].append(parameter)
    return [
        {"name": name, "params": members[name], "lr_mult": lr, "weight_decay": weight_decay * decay}
        for name, (lr, decay) in table.items()
        if members[name]
    ]


def rate_for(batch, lr, lr_batch=None, scale=False):
    """The learning rate of a run, scaled linearly to its total batch if asked.

    Source: Goyal et al., arXiv 1706.02677, section 2.1.

    Args:
        batch: total batch of this run.
        lr: learning rate as given.
        lr_batch: total batch that lr was tuned for; None: this run's.
        scale: whether to scale lr by ``batch / lr_batch``.

    Returns:
        ``(rate, text, warning)``: the rate of this run, a few words for the log, and a warning if
        lr was tuned for another batch and is not scaled, else None.
    """
    if lr_batch in (None, batch):
        return lr, f"lr {lr:g}", None
    scaled = lr * batch / lr_batch
    if scale:
        return scaled, f"lr {scaled:g} = {lr:g} x {batch} / {lr_batch}", None
    warning = (
        f"lr {lr:g} was tuned for a total batch of {lr_batch} (this run: {batch}); "
        f"--scale_lr would use {scaled:g}"
    )
    return lr, f"lr {lr:g}", warning


def describe_schedule(
    scheduler, *, lr, epochs, lr_steps, decay_rate, warmup_epochs, warmup_multiplier, min_lr
):
    """The course of the learning rate for the log, and a warning for steps after the last epoch.

    The warning is None where all steps are reached.
    The arguments are those of :func:`learning_rate`.
    """
    warmup = ""
    if warmup_epochs:
        start = f"{lr / warmup_multiplier:g}"
        warmup = f"warm-up from {start} over {_epochs(warmup_epochs)}, then "
    ending = f"{_epochs(epochs)} in all"
    if scheduler == "cosine":
        return f"{warmup}cosine from {lr:g} to {min_lr:g} in every step; {ending}", None
    if scheduler == "cosine-epoch":
        return f"{warmup}cosine from {lr:g} towards 0, once per epoch; {ending}", None
    reached = [math.ceil(step) for step in lr_steps if math.ceil(step) < epochs]
    missed = [f"{step:g}" for step in lr_steps if math.ceil(step) >= epochs]
    steps = (
        f"x {decay_rate:g} after epoch {', '.join(map(str, reached))}" if reached else "constant"
    )
    warning = None
    if missed:
        given = " ".join(f"{step:g}" for step in lr_steps)
        warning = (
            f"--lr_steps {given}: a run of --epochs {epochs} ends before {', '.join(missed)}; "
            f"give the steps of a run of this length"
        )
    return f"{warmup}lr {lr:g}, {steps}; {ending}", warning


def _epochs(number):
    return f"{number} epoch{'' if number == 1 else 's'}"


def learning_rate(
    step,
    *,
    lr,
    steps_per_epoch,
    epochs,
    scheduler="step",
    lr_steps=(),
    decay_rate=0.1,
    warmup_epochs=0,
    warmup_multiplier=100,
    min_lr=1e-5,
):
    """Base learning rate of an optimiser step, a pure function (TDN ops/lr_scheduler.py; TSM main.py).

    step: number of optimiser steps taken before; lr_steps: epochs at which "step" multiplies by
    decay_rate, a fractional one at the start of the next epoch, as in TSM. Warm-up rises linearly
    from ``lr / warmup_multiplier`` to lr; "cosine" then falls from lr to min_lr at the end of the
    last epoch, and "cosine-epoch", TSM's, from lr towards 0 in one step an epoch.
    """
    warmup = warmup_epochs * steps_per_epoch
    if step < warmup:
        return lr / warmup_multiplier * ((warmup_multiplier - 1) * step / warmup + 1)
    if scheduler == "cosine-epoch":
        return lr * (1 + math.cos(math.pi * (step // steps_per_epoch) / epochs)) / 2
    if scheduler == "cosine":
        share = (step - warmup) / max(1, epochs * steps_per_epoch - warmup)
        return min_lr + (lr - min_lr) * (1 + math.cos(math.pi * min(1, share))) / 2
    epoch = step // steps_per_epoch
    return lr * decay_rate ** sum(epoch >= milestone for milestone in lr_steps)


def set_learning_rate(optimizer, lr):
    """Give every group its learning rate, base times multiplier."""
    for group in optimizer.param_groups:
        group["lr"] = lr * group["lr_mult"]
