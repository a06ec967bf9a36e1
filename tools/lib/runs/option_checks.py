"""Which options of a run are compared with its recipe, and what each difference means.

An option of ``main.py`` that affects the result is compared: with the words of its entry in
``SPECIFIC_CHECKS``, or with general ones.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from lib.runs.recipes import UNKNOWN
from ops.cli.flags import Effect
from ops.cli.train_flags import training_parser
from ops.temporal import option_names
from ops.utils.text import printable

Options = dict[str, Any]  # of main.py, as lib.runs.recipes.settled returns them


class Finding(NamedTuple):
    """A difference between a run and its recipe, as it is printed.

    Attributes:
        setting: what differs.
        recipe: the recipe's value.
        run: the run's value.
        why: the effect of the difference, and how to remove it.
        weight: from 10 (the run solves another task) to 1 (hardly any effect).
    """

    setting: str
    recipe: str
    run: str
    why: str
    weight: int


class Check(NamedTuple):
    """A setting that is compared.

    Attributes:
        setting: its name in the output.
        weight: that of a difference, see ``Finding``.
        options: the options of main.py that it depends on.
        value: options -> its value, UNKNOWN where they do not determine it.
        why: the effect of a difference, or a function of the options of recipe and run that
            returns it.
    """

    setting: str
    weight: int
    options: tuple[str, ...]
    value: Callable[[Options], Any]
    why: str | Callable[[Options, Options], str]

    def explain(self, recipe: Options, run: Options) -> str:
        return self.why(recipe, run) if callable(self.why) else self.why


def option_check(option: str, weight: int, effect: str) -> Check:
    """The check of a single option; its finding names the flag that removes the difference."""

    def value(options):
        return options[option]

    def why(recipe, run):
        return f"{effect}: {flag_for(option, recipe[option])}"

    return Check(option, weight, (option,), value, why)


def flag_for(option: str, value: Any) -> str:
    """What to write on the command line so that an option has a value."""
    name = "--gd" if option == "clip_gradient" else f"--{option}"
    if value is None or value is False:
        return f"leave out {name}"
    if value is True:
        return name
    return f"{name} {as_text(value)}"


def as_text(value: Any) -> str:
    """A value on one line."""
    if value is None:
        return "none"
    if value is True:
        return "yes"
    if value is False:
        return "no"
    if isinstance(value, float):
        return f"{value:g}"
    return printable(value)


def initial_weights(options: Options) -> str:
    kind = "tune_from" if options["tune_from"] else "pretrain"
    text = f"--{kind} {Path(str(options[kind])).name}"
    if options["weights_key"]:
        text += f" --weights_key {options['weights_key']}"
    return text


def why_initial_weights(recipe: Options, run: Options) -> str:
    if initial_weights(run) == "--pretrain none":
        return (
            "trained from scratch: these networks need the weights that the recipe starts from; "
            "leave out --pretrain none"
        )
    return "other initial weights; no problem if your file is a copy of the recipe's weights"


def why_rate(recipe: Options, run: Options) -> str:
    wanted, used = recipe["rate"], run["rate"]
    right = wanted.lr / wanted.batch * used.batch
    # The run has the recipe's --lr for the recipe's batch, and only the scaling is missing.
    needs_scaling = run["lr"] == recipe["lr"] and run["lr_batch"] == wanted.batch
    fix = "--scale_lr" if needs_scaling else f"--lr {right:.3g}"
    text = f"{used.lr / right:.3g} x the recipe's rate for such a batch: {fix}"
    factor, rest = divmod(wanted.batch, used.batch)
    if factor > 1 and not rest and used.lr == wanted.lr:
        text += f", or the recipe's batch: --accumulate {factor * run['accumulate']}"
    return text


def schedule(options: Options) -> str:
    """The schedule of the learning rate in words."""
    kind = options["lr_scheduler"]
    if kind == "step":
        epochs = " ".join(f"{step:g}" for step in options["lr_steps"])
        text = f"x{options['lr_decay_rate']:g} at {epochs}"
    elif kind == "cosine":
        text = f"cosine to {options['min_lr']:g}"
    elif kind == "cosine-epoch":
        text = "cosine by epoch"
    else:
        text = kind
    if options["warmup_epoch"]:
        text += f", {options['warmup_epoch']:g} of warm-up from 1/{options['warmup_multiplier']:g}"
    return text


def why_epochs(recipe: Options, run: Options) -> str:
    epochs = recipe["epochs"]
    if run["lr_scheduler"] == "step" and run["epochs"] <= max(run["lr_steps"], default=0):
        return (
            f"ends before the last step of the learning rate: --epochs {epochs}, or lower "
            "--lr_steps"
        )
    return f"another length of training: --epochs {epochs}"


def batch_norms(options: Options) -> str:
    return "the first" if options["partial_bn"] else "all"


def why_batch_norms(recipe: Options, run: Options) -> str:
    flag = "--partial_bn" if recipe["partial_bn"] else "--npb"
    return f"other BatchNorm layers are trained: {flag}"


def rates_by_layer(options: Options) -> str:
    policy, faster_classifier = options["lr_policy"], options["fc_lr5"]
    if policy != "groups":
        return policy
    if faster_classifier is None:
        if options["tune_from"]:
            return UNKNOWN  # depends on the checkpoint
        faster_classifier = True
    return "groups, classifier x5" if faster_classifier else "groups"


def list_names(options: Options) -> str:
    lists = [options["train_list"], options["val_list"]]
    return " ".join(Path(str(path)).name for path in lists if path) or "default"


SCHEDULE_OPTIONS = (
    "lr_scheduler",
    "lr_steps",
    "lr_decay_rate",
    "warmup_epoch",
    "warmup_multiplier",
    "min_lr",
)
REGULARIZATION_OPTIONS = (
    "weight_decay",
    "dropout",
    "label_smoothing",
    "mixup",
    "cutmix",
    "stochastic_depth",
)
SPECIFIC_CHECKS = (
    Check(
        "dataset",
        weight=10,
        options=("dataset",),
        value=lambda options: options["dataset"],
        why="another dataset: its results cannot be compared with the published number",
    ),
    Check(
        "modality",
        weight=10,
        options=("modality",),
        value=lambda options: options["modality"],
        why="another input modality, with other published numbers",
    ),
    option_check("module", 10, "another network"),
    option_check("arch", 10, "another network"),
    Check(
        "classes",
        weight=10,
        options=("num_class",),
        value=lambda options: options["num_classes"],
        why="another number of classes: check the lists",
    ),
    option_check("num_segments", 9, "another number of frames per video"),
    option_check("multi_label", 9, "another loss and another metric"),
    option_check("non_local", 9, "another network"),
    option_check("temporal_pool", 9, "another network"),
    Check(
        "initial weights",
        weight=9,
        options=("pretrain", "tune_from", "weights_key"),
        value=initial_weights,
        why=why_initial_weights,
    ),
    Check(
        "lr for the batch",
        weight=8,
        options=("lr", "lr_batch", "scale_lr", "batch_size", "accumulate"),
        value=lambda options: options["rate"],
        why=why_rate,
    ),
    Check(
        "epochs",
        weight=8,
        options=("epochs",),
        value=lambda options: options["epochs"],
        why=why_epochs,
    ),
    Check(
        "trained BatchNorms",
        weight=8,
        options=("partial_bn",),
        value=batch_norms,
        why=why_batch_norms,
    ),
    Check(
        "schedule",
        weight=7,
        options=SCHEDULE_OPTIONS,
        value=schedule,
        why="accuracy rises most where the rate falls: --lr_scheduler, --lr_steps, --warmup_epoch",
    ),
    Check(
        "class names",
        weight=7,
        options=("class_names",),
        value=lambda options: str(options["class_names_sha256"])[:12],
        why="other class names or another order: check that the labels of the lists match them",
    ),
    option_check("input_size", 7, "objects have another size in the input"),
    option_check("sampling", 7, "clips cover another part of a video"),
    option_check(
        "flip", 7, "other horizontal flips: in some datasets left and right are different classes"
    ),
    *(option_check(name, 7, "another temporal module") for name in option_names()),
    Check(
        "rates by layer",
        weight=6,
        options=("lr_policy", "fc_lr5"),
        value=rates_by_layer,
        why="layers are trained with other rates: --lr_policy, --fc_lr5",
    ),
    option_check("freeze", 8, "other layers are trained"),
    option_check("layer_decay", 6, "layers are trained with other rates"),
    *(option_check(name, 6, "another regularization") for name in REGULARIZATION_OPTIONS),
    option_check("optimizer", 8, "another optimizer, which needs another learning rate"),
    option_check("momentum", 6, "another step size"),
    option_check("nesterov", 6, "another step size"),
    option_check("clip_gradient", 6, "another step size"),
    option_check("loss", 9, "another loss"),
    option_check("class_weights", 7, "another loss"),
    option_check("balanced_sampling", 7, "classes are trained on in other proportions"),
    option_check("focal_gamma", 6, "another loss"),
    option_check("consensus_type", 6, "loss of each segment, or of the mean of the segments"),
    option_check("patience", 4, "may end the training earlier"),
    option_check("precise_bn", 5, "other BatchNorm statistics are tested"),
    option_check("ema", 5, "the average of the last weights is tested"),
    option_check("sampling_compat", 3, "short videos are sampled differently"),
    option_check("amp", 3, "other rounding"),
    Check(
        "BatchNorm batch",
        weight=3,
        options=("sync_bn",),
        value=lambda options: options["norm_batch"],
        why="videos per batch of a BatchNorm; --accumulate does not raise it, --sync_bn joins the "
        "processes",
    ),
    Check(
        "lists",
        weight=2,
        options=("train_list", "val_list"),
        value=list_names,
        why="lists with other names: check that they contain the same split",
    ),
    option_check("missing", 2, "listed videos that are missing are left out"),
)


def _all_checks() -> tuple[Check, ...]:
    """The specific checks, and one for each other option that affects the result."""
    compared = {option for check in SPECIFIC_CHECKS for option in check.options}
    parser = training_parser("")
    defaults = vars(parser.parse_args(["something", "RGB"]))
    others = [
        option_check(name, 6, "another setting")
        for name in sorted(parser.names_of(Effect.RESULT, Effect.EXTENT) - compared)
        if name in defaults and not name.startswith("positional_")
    ]
    return (*SPECIFIC_CHECKS, *others)


# Findings of one weight are printed in this order.
CHECKS = _all_checks()
