"""Optimizers and their parameter groups.

A new optimizer is a function that builds it and an entry of :data:`OPTIMIZERS`; its name is then a
choice of ``--optimizer``. Torch is imported in the functions, so that ``--help`` answers at once.
"""

from ops.backbones.layers import module_places
from ops.temporal import MODULES
from ops.utils.errors import UserError

POLICIES = ("groups", "flat")
MATRIX = 2  # dimensions from which on a parameter is a weight
# Fields of a group that choose how a step is computed, not what it computes.
IMPLEMENTATION_FIELDS = {"foreach", "fused", "capturable", "differentiable"}
AUTO = "auto"
# Value of --optimizer_impl -> arguments of an optimizer of torch, which also explains them.
IMPLEMENTATIONS = {
    AUTO: {"foreach": None, "fused": None},
    "for-loop": {"foreach": False, "fused": False},
    "foreach": {"foreach": True, "fused": False},
    "fused": {"foreach": False, "fused": True},
}


def parameter_groups(model, policy, *, weight_decay, fc_lr5=True, layer_decay=1.0):
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
        layer_decay: factor of the learning rate per layer, from the classifier to the stem: that of
            layer i of n is multiplied by ``layer_decay ** (n + 1 - i)``, as in BEiT
            (arXiv 2106.08254). Below 1 each group is split by layer.

    Returns:
        a list of dicts with ``name``, ``params`` in the order of the model, ``lr_mult`` and
        ``weight_decay``. Parameters that need no gradient and empty groups are left out.

    Raises:
        ValueError: the ``param_group`` of a module returns an unknown group.
    """
    if policy == "flat":
        parameters = [p for p in model.parameters() if p.requires_grad]
        groups = [{"name": "all", "params": parameters, "lr_mult": 1, "weight_decay": weight_decay}]
    else:
        groups = _groups_by_kind(model, weight_decay, fc_lr5)
    if layer_decay == 1:
        return groups
    return _split_by_layer(model, groups, layer_decay)


def _groups_by_kind(model, weight_decay, fc_lr5):
    """The groups of the policy "groups"."""
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


def _split_by_layer(model, groups, decay):
    """The groups, each split into one per layer of the network, whose rate falls with its depth."""
    numbers = {}
    for module, place in module_places(model.backbone).items():
        for parameter in module.parameters(recurse=False):
            numbers.setdefault(parameter, place.layer)
    head = max(numbers.values()) + 1
    split = []
    for group in groups:
        members = {}
        for parameter in group["params"]:
            members.setdefault(numbers.get(parameter, head), []).append(parameter)
        for number in sorted(members):
            split.append(
                {
                    **group,
                    "name": f"{group['name']} of layer {number}",
                    "params": members[number],
                    "lr_mult": group["lr_mult"] * decay ** (head - number),
                }
            )
    return split


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
    from ops.backbones.norms import BATCH_NORMS

    if layer is model.backbone.get_submodule(model.backbone.first_conv):
        return f"first_conv_{_kind(name, parameter)}"
    if isinstance(layer, BATCH_NORMS):
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


def build_optimizer(groups, name="sgd", *, lr, momentum=0.9, nesterov=False, implementation=AUTO):
    """The optimizer of a training.

    Args:
        groups: as :func:`parameter_groups` returns them.
        name: one of ``OPTIMIZERS``.
        lr: base learning rate.
        momentum: of SGD.
        nesterov: whether SGD's momentum is Nesterov's.
        implementation: key of ``IMPLEMENTATIONS``; "auto" is "fused" where all parameters are on a
            CUDA device, else torch's default.

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
    if implementation == AUTO and on_cuda:
        implementation = "fused"
    settings = IMPLEMENTATIONS[implementation]
    return OPTIMIZERS[name](groups, lr, momentum=momentum, nesterov=nesterov, **settings)


def _sgd(groups, lr, *, momentum, nesterov, **implementation):
    import torch

    optimizer = torch.optim.SGD(groups, lr, momentum=momentum, nesterov=nesterov, **implementation)
    if momentum and implementation.get("fused"):
        # Torch's fused step leaves the momentum undefined where a GradScaler skips the first step,
        # as it does with fp16. Zeros give the same numbers as no momentum.
        for group in optimizer.param_groups:
            for parameter in group["params"]:
                optimizer.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)
    return optimizer


def _adamw(groups, lr, *, momentum, nesterov, **implementation):
    import torch

    return torch.optim.AdamW(groups, lr, **implementation)


# Name -> (groups, lr, *, momentum, nesterov, foreach, fused) -> optimizer.
OPTIMIZERS = {"sgd": _sgd, "adamw": _adamw}


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
    implementation = {key: own[0][key] for key in IMPLEMENTATION_FIELDS if key in own[0]}
    saved = [{**group, **implementation} for group in saved]
    optimizer.load_state_dict({**state, "param_groups": saved})


def set_learning_rate(optimizer, lr):
    """Give every group its learning rate, base times multiplier."""
    for group in optimizer.param_groups:
        group["lr"] = lr * group["lr_mult"]
