"""Parameter groups and learning-rate schedules."""

import math

import torch
from torch.nn.modules.batchnorm import _BatchNorm as BatchNorm  # 1D, 2D and synchronised ones

from ops.temporal import MODULES
from ops.utils.errors import UserError

POLICIES = ("groups", "flat")
SCHEDULERS = ("step", "cosine", "cosine-epoch")


def parameter_groups(model, policy, *, weight_decay, fc_lr5=True):
    """Trainable parameters as groups for an optimizer.

    "flat" is one group, as TDN was really trained. "groups" applies TSN's multipliers of learning
    rate and weight decay (``get_optim_policies``): weights 1/1, biases 2/0, BatchNorms 1/0, the
    first conv of a Flow network 5/1 and 10/0, and with fc_lr5 the classifier's weight 5/1 and bias
    10/0 (without: 1/1 and 2/0, as in tsn-pytorch). Any other parameter of a temporal module or a
    backbone is in the group that its entry's ``param_group`` names, else a weight if it has two
    dimensions or more, a bias if its name ends in ``bias``, and otherwise without decay (1/0).

    Args:
        model: a TSN.
        policy: one of ``POLICIES``.
        weight_decay: weight decay of a multiplier of 1.
        fc_lr5: whether the classifier learns 5 times as fast.

    Returns:
        a list of dicts with ``name``, ``params`` in the order of the model, ``lr_mult`` and
        ``weight_decay``. Parameters that need no gradient and empty groups are left out.

    Raises:
        ValueError: the ``param_group`` of a module returns an unknown group.
    """
    if policy == "flat":
        parameters = [p for p in model.parameters() if p.requires_grad]
        return [{"name": "all", "params": parameters, "lr_mult": 1, "weight_decay": weight_decay}]
    multipliers = _multipliers(model.modality, fc_lr5)
    members = {name: [] for name in multipliers}
    seen = set()
    for layer in model.modules():
        for name, parameter in layer.named_parameters(recurse=False):
            if not parameter.requires_grad or parameter in seen:
                continue
            seen.add(parameter)
            group = _group_of(model, layer, name, parameter)
            if group not in members:
                raise ValueError(
                    f"param_group of {model.spec['module']}: {group!r} is not a group; "
                    f"known are {', '.join(members)}"
                )
            members[group].append(parameter)
    groups = []
    for name, (lr_mult, decay_mult) in multipliers.items():
        if members[name]:
            groups.append(
                {
                    "name": name,
                    "params": members[name],
                    "lr_mult": lr_mult,
                    "weight_decay": weight_decay * decay_mult,
                }
            )
    return groups


def _multipliers(modality, fc_lr5):
    """Name of a group -> (multiplier of the learning rate, of the weight decay)."""
    multipliers = {
        "first_conv_weight": (1, 1),
        "first_conv_bias": (2, 0),
        "weight": (1, 1),
        "bias": (2, 0),
        "bn": (1, 0),
        "fc_weight": (1, 1),
        "fc_bias": (2, 0),
        "no_decay": (1, 0),
    }
    if modality == "Flow":
        multipliers["first_conv_weight"] = (5, 1)
        multipliers["first_conv_bias"] = (10, 0)
    if fc_lr5:
        multipliers["fc_weight"] = (5, 1)
        multipliers["fc_bias"] = (10, 0)
    return multipliers


def _group_of(model, layer, name, parameter):
    """The group of the parameter ``name`` of a layer."""
    if layer is model.backbone.get_submodule(model.backbone.first_conv):
        return f"first_conv_{_kind(name, parameter)}"
    if isinstance(layer, BatchNorm):
        return "bn"
    if layer is model.head:
        return f"fc_{name}"
    param_group = MODULES[model.spec["module"]].param_group
    if param_group:
        group = param_group(layer, name, parameter)
        if group is not None:
            return group
    return _kind(name, parameter)


def _kind(name, parameter):
    """The group that follows from the dimensions and the name of a parameter."""
    if parameter.dim() >= MATRIX:
        return "weight"
    if name.endswith("bias"):
        return "bias"
    return "no_decay"


MATRIX = 2  # dimensions from which on a parameter is a weight


def build_optimizer(groups, name="sgd", *, lr, momentum=0.9, nesterov=False):
    """The optimizer of a training, in its fused form where all parameters are on a CUDA device.

    Args:
        groups: as :func:`parameter_groups` returns them.
        name: one of ``OPTIMIZERS``.
        lr: base learning rate.
        momentum: of SGD.
        nesterov: whether SGD's momentum is Nesterov's.

    Returns:
        a ``torch.optim.Optimizer``.

    Raises:
        UserError: an unknown name, or Nesterov without momentum or without SGD.
    """
    if name not in OPTIMIZERS:
        raise UserError(f"--optimizer {name}: unknown; known are {', '.join(OPTIMIZERS)}")
    if nesterov and name != "sgd":
        raise UserError(f"--nesterov is an option of --optimizer sgd, not of {name}")
    if nesterov and not momentum:
        raise UserError("--nesterov needs a --momentum above 0")
    on_cuda = all(parameter.is_cuda for group in groups for parameter in group["params"])
    fused = True if on_cuda else None
    return OPTIMIZERS[name](groups, lr, momentum=momentum, nesterov=nesterov, fused=fused)


def _sgd(groups, lr, *, momentum, nesterov, fused):
    return torch.optim.SGD(groups, lr, momentum=momentum, nesterov=nesterov, fused=fused)


def _adamw(groups, lr, *, momentum, nesterov, fused):
    return torch.optim.AdamW(groups, lr, fused=fused)


OPTIMIZERS = {"sgd": _sgd, "adamw": _adamw}


# Fields of a group that choose how a step is computed, not what it computes.
IMPLEMENTATION_FIELDS = {"foreach", "fused", "capturable", "differentiable"}


def load_optimizer_state(optimizer, state):
    """Fill an optimizer from a checkpoint, whatever device that was written on.

    Args:
        optimizer: to be filled, in place.
        state: ``state_dict()`` of an optimizer of the same kind.

    Raises:
        ValueError: its groups are others, or it is the state of another kind of optimizer.
    """
    own = optimizer.param_groups
    saved = state["param_groups"]
    missing = own[0].keys() - saved[0].keys() - IMPLEMENTATION_FIELDS
    if missing:
        raise ValueError(f"it was saved with another optimizer, which has no {min(missing)}")
    if saved[0].get("nesterov") != own[0].get("nesterov"):
        raise ValueError("one of the two optimizers uses Nesterov momentum, the other does not")
    # Which implementation computes a step depends on this run's device, not on the checkpoint's.
    saved = [{**group, "fused": own[0]["fused"]} for group in saved]
    optimizer.load_state_dict({**state, "param_groups": saved})


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
