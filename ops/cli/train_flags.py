"""The flags of ``main.py``. Defaults are shown by ``--help`` and saved with the run."""

import argparse

from ops.backbones import BACKBONES
from ops.backbones.modalities import MODALITIES
from ops.cli import legacy
from ops.cli.common_args import (
    WEIGHTS_KEY_HELP,
    add_data,
    add_module_options,
    add_runtime,
    base_parser,
)
from ops.cli.config import add_config
from ops.cli.flags import Effect
from ops.cli.types import (
    batch_size,
    fraction,
    frozen_parts,
    mixing,
    non_negative_float,
    non_negative_int,
    positive_float,
    positive_fraction,
    positive_int,
    save_interval,
    segments,
)
from ops.data.dataset_files import FLIPS
from ops.data.sampling import samplings_for_training
from ops.temporal import MODULES
from ops.temporal.consensus import CONSENSUS
from ops.training.loss import LOSSES
from ops.training.optim import AUTO, IMPLEMENTATIONS, OPTIMIZERS, POLICIES
from ops.training.schedule import SCHEDULERS
from ops.training.trackers import TRACKERS


def training_parser(description):
    """The parser of ``main.py``.

    Args:
        description: first lines of ``--help``.

    Returns:
        a :class:`ops.cli.flags.FlagParser`.
    """
    parser = base_parser(description)
    parser.add_flag(
        "modality", effect=Effect.RESULT, choices=tuple(MODALITIES), help="input modality"
    )
    for name, purpose in (("train", "to train on"), ("val", "to validate on")):
        parser.add_flag(
            f"positional_{name}_list",
            effect=Effect.EXTENT,
            replaces=(f"{name}_list",),
            nargs="?",
            metavar=f"{name.upper()}_LIST",
            help=f"videos {purpose}, as --{name}_list (tsn-pytorch's form)",
        )
    add_config(parser)
    add_data(parser, (("train_list", "videos to train on"), ("val_list", "videos to validate on")))
    _add_train_sampling(parser)
    _add_model(parser)
    _add_pretrained(parser)
    _add_fine_tuning(parser)
    _add_batch_norm(parser)
    _add_batch_and_rate(parser)
    _add_schedule(parser)
    _add_regularisation(parser)
    _add_optimizer(parser)
    _add_run(parser)
    add_runtime(parser)
    legacy.add_training_flags(parser)
    return parser


def _add_train_sampling(parser):
    group = parser.group("frames and clips")
    rules = [f"{name}: {entry.train_help}" for name, entry in samplings_for_training().items()]
    group.add_flag(
        "--sampling",
        effect=Effect.RESULT,
        choices=tuple(samplings_for_training()),
        default="uniform",
        help=f"frames of a training clip; {'; '.join(rules)}",
    )
    group.add_flag(
        "--dense_sample",
        effect=Effect.RESULT,
        dest="sampling",
        action="store_const",
        const="dense",
        help="the same as --sampling dense",
    )
    group.add_flag(
        "--flip",
        effect=Effect.RESULT,
        choices=FLIPS,
        help="mirror half of the training clips and swap labels by the class names or by the "
        "dataset's flip_pairs; none mirrors no clip (default: as the module's authors train the "
        "dataset, docs/data.md)",
    )
    group.add_flag(
        "--balanced_sampling",
        effect=Effect.RESULT,
        action="store_true",
        help="take the videos of all classes equally often: those of rare classes several times "
        "per epoch, each time another clip",
    )
    group.add_flag(
        "--missing",
        effect=Effect.EXTENT,
        choices=("stop", "skip"),
        default="stop",
        help="listed training videos that are not on disk: stop with an error, or train without "
        "them",
    )


def _add_model(parser):
    group = parser.group("model")
    group.add_flag(
        "--module",
        effect=Effect.RESULT,
        choices=tuple(MODULES),
        help="temporal module; tsn has none (default: tsn where tdn is impossible or a flag of "
        "tsn-pytorch is given, else tdn; the first line of the log names it)",
    )
    for flag, module in legacy.MODULE_FLAGS.items():
        group.add_flag(
            f"--{flag}",
            effect=Effect.RESULT,
            replaces=("module",),
            dest="module_flags",
            action="append_const",
            const=module,
            default=argparse.SUPPRESS,
            help=f"the same as --module {module}",
        )
    add_module_options(group)
    group.add_flag(
        "--non_local",
        effect=Effect.RESULT,
        action="store_true",
        help="also insert non-local blocks into the second and third stage",
    )
    group.add_flag(
        "--temporal_pool",
        effect=Effect.RESULT,
        action="store_true",
        help="halve the segments from the second stage on",
    )
    group.add_flag(
        "--arch",
        effect=Effect.RESULT,
        choices=tuple(BACKBONES),
        default="resnet50",
        help="backbone",
    )
    group.add_flag(
        "--num_segments",
        effect=Effect.RESULT,
        type=segments,
        default=8,
        metavar="T",
        help="number of segments of a clip",
    )
    group.add_flag(
        "--input_size",
        effect=Effect.RESULT,
        type=positive_int,
        default=224,
        metavar="PIXELS",
        help="side of the crops",
    )
    group.add_flag(
        "--consensus_type",
        effect=Effect.RESULT,
        choices=tuple(CONSENSUS),
        default="avg",
        help="avg trains on the mean of the segments' scores, identity on each segment",
    )
    group.add_flag(
        "--stochastic_depth",
        effect=Effect.RESULT,
        type=fraction,
        default=0.0,
        metavar="P",
        help="probability that a clip skips the last residual branch in training, falling linearly "
        "to the first",
    )
    group.add_flag(
        "--dropout",
        "--do",
        effect=Effect.RESULT,
        type=fraction,
        default=0.5,
        metavar="P",
        help="dropout before the classifier",
    )


def _add_pretrained(parser):
    group = parser.group("first weights")
    group.add_flag(
        "--pretrain",
        effect=Effect.RESULT,
        default="imagenet",
        metavar="WHAT",
        help="first weights of the backbone: imagenet (torchvision's), none, or a file of such "
        "weights",
    )
    group.add_flag(
        "--tune_from",
        effect=Effect.RESULT,
        metavar="FILE",
        help="fine-tune this checkpoint, published or of this project, or the published one of "
        "this name (tsm_r50_8f_k400), in place of --pretrain; without --module its module is "
        "used; its classifier is kept for the classes that are known to be the same",
    )
    group.add_flag("--weights_key", effect=Effect.RESULT, metavar="NAME", help=WEIGHTS_KEY_HELP)


def _add_fine_tuning(parser):
    group = parser.group("fine-tuning")
    group.add_flag(
        "--freeze",
        effect=Effect.RESULT,
        type=frozen_parts,
        metavar="PARTS",
        help="do not train these parts, their BatchNorms and the temporal modules in them: stem, "
        "stages:1-3, both joined by a comma, or backbone (all but the classifier)",
    )
    group.add_flag(
        "--layer_decay",
        effect=Effect.RESULT,
        type=positive_fraction,
        default=1.0,
        metavar="F",
        help="multiply the learning rate by F per layer, from the classifier down to the stem; 1 "
        "disables it",
    )


def _add_batch_norm(parser):
    group = parser.group("BatchNorm")
    group.add_flag(
        "--npb",
        "--no_partialbn",
        effect=Effect.RESULT,
        dest="partial_bn",
        action="store_false",
        default=None,
        help="train every BatchNorm (default: for tdn and tam, and with --pretrain none)",
    )
    group.add_flag(
        "--partial_bn",
        effect=Effect.RESULT,
        dest="partial_bn",
        action="store_true",
        default=None,
        help="train only the first BatchNorm (default: for tsn, tsm and tin with pretrained "
        "weights)",
    )
    group.add_flag(
        "--sync_bn",
        effect=Effect.RESULT,
        action="store_true",
        help="normalise over the videos of all processes (GPUs)",
    )
    group.add_flag(
        "--precise_bn",
        effect=Effect.RESULT,
        type=non_negative_int,
        default=0,
        metavar="N",
        help="before each validation estimate the statistics from N training batches per process, "
        "in place of the running average; 0 disables it",
    )


def _add_batch_and_rate(parser):
    group = parser.group("batch and learning rate")
    group.add_flag(
        "--epochs",
        effect=Effect.EXTENT,
        type=positive_int,
        default=60,
        metavar="N",
        help="number of epochs",
    )
    group.add_flag(
        "-b",
        "--batch-size",
        "--batch_size",
        effect=Effect.RESULT,
        type=batch_size,
        default=8,
        metavar="N",
        help="videos per batch, PER PROCESS; auto measures the largest that fits into the memory "
        "of the GPU",
    )
    group.add_flag(
        "--accumulate",
        effect=Effect.RESULT,
        type=positive_int,
        default=1,
        metavar="N",
        help="batches per optimiser step",
    )
    group.add_flag(
        "--checkpoint_activations",
        effect=Effect.NONE,
        action="store_true",
        help="keep the input of each block only and compute the block again in the backward pass: "
        "larger batches fit, steps take longer, the gradients are the same",
    )
    group.add_flag(
        "--lr",
        effect=Effect.RESULT,
        type=positive_float,
        default=0.01,
        help="learning rate for the total batch (processes x batch x accumulate)",
    )
    group.add_flag(
        "--lr_batch",
        effect=Effect.RESULT,
        type=positive_int,
        metavar="N",
        help="total batch that --lr was tuned for (default: that of this run)",
    )
    group.add_flag(
        "--scale_lr",
        effect=Effect.RESULT,
        action="store_true",
        help="multiply --lr by this run's total batch over --lr_batch",
    )
    group.add_flag(
        "--lr_policy",
        effect=Effect.RESULT,
        choices=POLICIES,
        help="groups: TSN's multipliers by kind of parameter; flat: one rate for all (default: "
        "flat for tdn, groups for the others, as each was trained)",
    )
    group.add_flag(
        "--fc_lr5",
        effect=Effect.RESULT,
        action=argparse.BooleanOptionalAction,
        help="with groups: train the classifier at 5 times the rate (default: if it is new)",
    )


def _add_schedule(parser):
    group = parser.group("learning-rate schedule")
    group.add_flag(
        "--lr_scheduler",
        effect=Effect.RESULT,
        choices=SCHEDULERS,
        default="step",
        help="schedule of the learning rate",
    )
    group.add_flag(
        "--lr_steps",
        effect=Effect.RESULT,
        type=non_negative_float,
        nargs="+",
        default=[30, 45, 55],
        metavar="EPOCH",
        help="epochs at which step multiplies the rate",
    )
    group.add_flag(
        "--lr_decay_rate",
        effect=Effect.RESULT,
        type=positive_float,
        default=0.1,
        metavar="F",
        help="factor of step",
    )
    group.add_flag(
        "--warmup_epoch",
        effect=Effect.RESULT,
        type=non_negative_int,
        default=0,
        metavar="N",
        help="epochs of linear warm-up",
    )
    group.add_flag(
        "--warmup_multiplier",
        effect=Effect.RESULT,
        type=positive_float,
        default=100,
        metavar="F",
        help="warm-up starts at lr / F",
    )
    group.add_flag(
        "--min_lr",
        effect=Effect.RESULT,
        type=non_negative_float,
        default=1e-5,
        metavar="LR",
        help="last rate of cosine",
    )


def _add_regularisation(parser):
    group = parser.group("loss and regularisation")
    group.add_flag(
        "--loss",
        effect=Effect.RESULT,
        choices=tuple(LOSSES),
        help="loss (default: cross_entropy; bce where a video can have several labels)",
    )
    group.add_flag(
        "--focal_gamma",
        effect=Effect.RESULT,
        type=non_negative_float,
        default=2.0,
        metavar="G",
        help="focusing parameter of --loss focal; 0 weights all videos equally",
    )
    group.add_flag(
        "--class_weights",
        effect=Effect.RESULT,
        metavar="WHAT",
        help="weights of the classes in the loss: balanced (in inverse proportion to their videos) "
        "or a text file with one number per line; scaled to a mean of 1 over the training videos",
    )
    group.add_flag(
        "--label_smoothing",
        effect=Effect.RESULT,
        type=fraction,
        default=0.0,
        metavar="P",
        help="label smoothing of the cross-entropy",
    )
    group.add_flag(
        "--mixup",
        effect=Effect.RESULT,
        type=mixing,
        default=0.0,
        metavar="ALPHA",
        help="mix pairs of videos by shares of Beta(ALPHA, ALPHA); 0 disables it",
    )
    group.add_flag(
        "--cutmix",
        effect=Effect.RESULT,
        type=mixing,
        default=0.0,
        metavar="ALPHA",
        help="paste a box of one video into another; with --mixup as well, each batch takes one of "
        "the two at random",
    )
    group.add_flag(
        "--ema",
        effect=Effect.RESULT,
        type=fraction,
        default=0.0,
        metavar="DECAY",
        help="validate and save an average of the weights; 0.999 averages about 1000 steps; 0 "
        "disables it",
    )


def _add_optimizer(parser):
    group = parser.group("optimiser")
    group.add_flag(
        "--optimizer",
        effect=Effect.RESULT,
        choices=tuple(OPTIMIZERS),
        default="sgd",
        help="adamw needs a smaller --lr than sgd, such as 1e-4",
    )
    group.add_flag(
        "--momentum",
        effect=Effect.RESULT,
        type=fraction,
        default=0.9,
        help="momentum of SGD",
    )
    group.add_flag(
        "--nesterov",
        effect=Effect.RESULT,
        action="store_true",
        help="Nesterov momentum for SGD",
    )
    group.add_flag(
        "--optimizer_impl",
        effect=Effect.NOISE,
        choices=tuple(IMPLEMENTATIONS),
        default=AUTO,
        help="how torch computes a step: one parameter after the other, several in one call, or "
        "all in one kernel; auto is fused on NVIDIA GPUs and torch's default elsewhere",
    )
    group.add_flag(
        "--wd",
        "--weight-decay",
        "--weight_decay",
        effect=Effect.RESULT,
        dest="weight_decay",
        type=non_negative_float,
        default=5e-4,
        help="weight decay",
    )
    group.add_flag(
        "--gd",
        "--clip-gradient",
        effect=Effect.RESULT,
        dest="clip_gradient",
        type=positive_float,
        metavar="NORM",
        help="clip the gradient to this norm",
    )


def _add_run(parser):
    group = parser.group("run")
    group.add_flag(
        "--output_dir",
        effect=Effect.NONE,
        metavar="DIR",
        help="logs and checkpoints (default: runs/ and the run's name)",
    )
    group.add_flag("--suffix", effect=Effect.NONE, metavar="TEXT", help="added to the run's name")
    group.add_flag(
        "--snapshot_pref",
        effect=Effect.NONE,
        metavar="TEXT",
        help="the run's name: TEXT and the modality (tsn-pytorch's flag)",
    )
    group.add_flag(
        "--resume",
        effect=Effect.NONE,
        replaces=("overwrite",),
        nargs="?",
        const="auto",
        type=legacy.resume_source,
        metavar="WHAT",
        help="auto (the last checkpoint of output_dir, if any; so is --resume alone), a "
        "checkpoint, or the folder of a run (its last checkpoint)",
    )
    group.add_flag(
        "--overwrite",
        effect=Effect.NONE,
        replaces=("resume",),
        action="store_true",
        help="start again in an output_dir that contains a training, and remove that training's "
        "files",
    )
    group.add_flag(
        "--save_every",
        effect=Effect.NONE,
        type=save_interval,
        metavar="N|Nm",
        default="15m",
        help="also save within an epoch: every N steps, or every N minutes; 0 disables it",
    )
    group.add_flag(
        "--keep",
        effect=Effect.NONE,
        type=positive_int,
        default=2,
        metavar="K",
        help="number of checkpoints to keep: last.pth and the K - 1 before it",
    )
    group.add_flag(
        "-e",
        "--evaluate",
        effect=Effect.NONE,
        action="store_true",
        help="validate the --resume checkpoint and stop",
    )
    group.add_flag(
        "--eval-freq",
        "-ef",
        "--eval_freq",
        effect=Effect.NONE,
        type=positive_int,
        default=1,
        metavar="N",
        help="validate every N epochs, and after the last",
    )
    group.add_flag(
        "--patience",
        effect=Effect.EXTENT,
        type=non_negative_int,
        default=0,
        metavar="N",
        help="end the training after N validations in a row without a new best one; 0 disables it",
    )
    group.add_flag(
        "--print-freq",
        "-p",
        "--print_freq",
        effect=Effect.NONE,
        type=positive_int,
        default=20,
        metavar="N",
        help="write a line to the log every N steps",
    )
    group.add_flag(
        "--log_to",
        effect=Effect.NONE,
        nargs="*",
        choices=tuple(TRACKERS),
        default=[],
        metavar="NAME",
        help=f"also log curves and images to {', '.join(TRACKERS)} (optional packages; "
        "docs/training.md, Loggers)",
    )
