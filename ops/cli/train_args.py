"""The flags of ``main.py``. Defaults are shown by ``--help`` and saved with the run."""

import argparse
import sys
from importlib.util import find_spec

from ops.backbones import BACKBONES, build_backbone
from ops.backbones.modalities import MODALITIES
from ops.cli import legacy
from ops.cli.common_args import (
    WEIGHTS_KEY_HELP,
    add_data,
    add_module_options,
    add_runtime,
    base_parser,
)
from ops.cli.config import add_config, parse_with_config, toml_lines
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
from ops.data.datasets import dataset_name
from ops.data.readers.templates import choose_template
from ops.data.sampling import SAMPLINGS, samplings_for_training
from ops.temporal import MODULES, option_names, resolve_options, supported_modules
from ops.temporal.consensus import CONSENSUS
from ops.training.batch_size import AUTO as AUTO_BATCH
from ops.training.freeze import WHOLE_BACKBONE
from ops.training.loss import LOSSES
from ops.training.optim import AUTO, IMPLEMENTATIONS, OPTIMIZERS, POLICIES
from ops.training.schedule import SCHEDULERS
from ops.training.trackers import TRACKERS
from ops.utils.errors import UserError

DEFAULT_MODULE = "tdn"
SECTION = "train"  # of a file of --config
# What args.toml does not contain: how a run starts or ends, and flags whose effect is in others.
_NOT_REPEATED = frozenset(
    (
        "resume",
        "overwrite",
        "evaluate",
        "dry_run",
        "local_rank",
        "flow_prefix",
        "snapshot_pref",
        "suffix",
    )
)
# Every backbone halves the sides of its input five times.
BACKBONE_STRIDE = 32


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


def args_toml(args, processes):
    """The arguments of a run as a file for ``--config``, which repeats it.

    Args:
        args: the arguments, resolved.
        processes: number of processes of the run.

    Returns:
        the text of ``args.toml``.
    """
    launcher = "python" if processes == 1 else f"torchrun --nproc_per_node {processes}"
    first = f"# To train the same again: {launcher} main.py --config THIS_FILE --output_dir OTHER"
    lines = toml_lines(training_parser(""), vars(args), skipped=_NOT_REPEATED)
    return "\n".join([first, *lines, ""])


def check_trackers(names):
    """Raise UserError for a tracker whose package is not installed."""
    for name in names:
        if find_spec(name) is None:
            raise UserError(f"--log_to {name}: the package is not installed: pip install {name}")


def fixed_options():
    """The options that a resumed run must share with the run that it continues: a set of names."""
    return training_parser("").names_of(Effect.RESULT, Effect.NOISE)


def parse_training(description, argv=None):
    """Parse the flags of ``main.py`` and resolve those that depend on others.

    Args:
        description: first lines of ``--help``.
        argv: the command line after the program's name; None takes that of this process.

    Returns:
        ``(args, notes)``: the arguments, and lines for the log about choices that no flag made and
        flags of the originals. ``fc_lr5`` stays None where it depends on the checkpoint to be
        tuned.

    Raises:
        UserError: for flags that exclude each other.
    """
    argv = sys.argv[1:] if argv is None else argv
    args = parse_with_config(training_parser(description), argv, SECTION)
    args.module_flags = vars(args).pop("module_flags", ())
    checkpoint_module = None
    if args.tune_from and not args.module and not args.module_flags:
        checkpoint_module = module_of_checkpoint(args)
    args.module, module_note = resolve_module(args, checkpoint_module)
    del args.module_flags
    is_tsn_pytorch = _is_tsn_pytorch(args)
    _move_positional_lists(args)
    run_name, root, legacy_note = legacy.translate_training(args, argv)
    config_note = f"flags from {', '.join(args.config)}" if args.config else None
    notes = [note for note in (config_note, module_note, legacy_note) if note]

    entry = MODULES[args.module]
    options = {name: getattr(args, name) for name in option_names()}
    for name, value in resolve_options(args.module, options).items():
        setattr(args, name, value)
    args.image_tmpl = choose_template(args.image_tmpl, args.flow_prefix, args.modality)
    if args.tune_from:
        args.pretrain = "none"
    if args.partial_bn is None:
        is_pretrained = args.pretrain != "none" or args.tune_from is not None
        args.partial_bn = entry.partial_bn and is_pretrained
    if not args.evaluate and args.batch_size != AUTO_BATCH:
        check_norm_batch(args)
    args.lr_policy = args.lr_policy or entry.lr_policy
    if args.fc_lr5 is None and is_tsn_pytorch and args.module == "tsn":
        args.fc_lr5 = False
        notes.append(
            "the classifier is trained at the common rate, as in tsn-pytorch; --fc_lr5 trains it "
            "at 5 times the rate"
        )
    _check_exclusive(args)
    check_trackers(args.log_to)
    args.output_dir = args.output_dir or f"{root or 'runs'}/{run_name or _run_name(args)}"
    return args, notes


def training_arguments(description, argv=None):
    """The arguments of :func:`parse_training`, without its notes."""
    return parse_training(description, argv)[0]


def _check_exclusive(args):
    """Raise UserError for flags that exclude each other."""
    if args.nesterov and args.optimizer != "sgd":
        raise UserError(f"--nesterov is an option of --optimizer sgd, not of {args.optimizer}")
    if args.scale_lr and not args.lr_batch:
        raise UserError("--scale_lr needs --lr_batch N, the total batch that --lr was tuned for")
    if args.overwrite and args.resume:
        raise UserError("--overwrite starts again and --resume continues a run: give one of them")
    if args.compile and args.checkpoint_activations:
        raise UserError(
            "--checkpoint_activations is for training without --compile, which recomputes what it "
            "finds worthwhile by itself: give one of them"
        )
    if args.precise_bn and args.freeze == WHOLE_BACKBONE:
        raise UserError(
            "--precise_bn has nothing to estimate with --freeze backbone, which keeps the "
            "statistics of all BatchNorms: leave it out"
        )
    for option in ("label_smoothing", "balanced_sampling", "class_weights"):
        if args.multi_label and getattr(args, option):
            raise UserError(
                f"--{option} is for one label per video: leave it out with --multi_label"
            )


def module_of_checkpoint(args):
    """The module of the ``--tune_from`` checkpoint.

    The options of the checkpoint's module become those of args that no flag gives.

    Args:
        args: the parsed arguments of ``main.py``.

    Returns:
        a name of ``MODULES``, None if the checkpoint is an image classifier and decides nothing.

    Raises:
        UserError: the checkpoint cannot be read, or does not contain its module.
    """
    from ops.checkpoints.identify import read_weights  # imports torch

    file = read_weights(args.tune_from, args.weights_key)
    if file.layout == "torchvision":
        return None
    if "module" not in file.spec:
        raise UserError(
            f"--tune_from {file.name}: does not contain its temporal module; name the one to train "
            f"with --module"
        )
    module = file.spec["module"]
    for name in MODULES[module].options:
        if getattr(args, name) is None:
            setattr(args, name, file.spec.get(name))
    return module


def check_norm_batch(args):
    """Raise UserError if a BatchNorm would have a single value per channel to train on.

    Args:
        args: the arguments of ``main.py``, resolved.
    """
    if args.sync_bn:  # the values of all processes count
        return
    if args.freeze == WHOLE_BACKBONE:
        return
    frames = args.batch_size * args.num_segments
    if args.module == "tam":  # its own BatchNorms see one value per video and channel, and segment
        values = frames
        fix = "give a larger --batch-size, or more --num_segments"
    elif args.partial_bn:
        return
    else:
        values = frames * (-(-args.input_size // BACKBONE_STRIDE)) ** 2
        fix = "give a larger --batch-size, --num_segments or --input_size, or --partial_bn"
    if values < 2:
        raise UserError(
            f"--batch-size {args.batch_size} with --num_segments {args.num_segments}: a BatchNorm "
            f"of {args.module} cannot be trained on a single value per channel; {fix}"
        )


def resolve_module(args, checkpoint_module=None):
    """Choose the temporal module of a training.

    Args:
        args: the parsed arguments of ``main.py``; ``module_flags`` are the modules that flags such
            as ``--shift`` name.
        checkpoint_module: module of the checkpoint that ``--tune_from`` names, None without one.

    Returns:
        ``(module, note)``: a name of ``MODULES``, and a line that gives the reason, None where a
        flag names the module.

    Raises:
        UserError: the flags name several modules.
    """
    named = {*args.module_flags, *([args.module] if args.module else [])}
    if len(named) > 1:
        raise UserError(
            f"the flags name several temporal modules ({', '.join(sorted(named))}); give one"
        )
    if named:
        return named.pop(), None
    others = f"choose another one with --module {{{','.join(MODULES)}}}"
    if checkpoint_module:
        return checkpoint_module, f"module {checkpoint_module}, that of {args.tune_from}; {others}"
    reason = _reason_for_tsn(args)
    if reason:
        return "tsn", f"module tsn (no temporal module), because {reason}; {others}"
    return DEFAULT_MODULE, f"module {DEFAULT_MODULE} by default, as no flag names one; {others}"


def _reason_for_tsn(args):
    """Why a command that names no module cannot mean the default one, or None."""
    modalities = MODULES[DEFAULT_MODULE].modalities
    if args.modality not in modalities:
        return f"{DEFAULT_MODULE} takes {', '.join(modalities)} only"
    import torch  # slow: after parsing

    with torch.device("meta"):
        backbone = build_backbone(args.arch)
    if DEFAULT_MODULE not in supported_modules(backbone):
        return f"{DEFAULT_MODULE} does not run on {args.arch}"
    if _is_tsn_pytorch(args):
        return "the command is one of tsn-pytorch"
    return None


def _is_tsn_pytorch(args):
    """Whether the command is tsn-pytorch's: lists without a flag, or ``--snapshot_pref``."""
    return args.snapshot_pref is not None or args.positional_train_list is not None


def _move_positional_lists(args):
    """Move lists that are given without a flag, as in tsn-pytorch, to those of the flags."""
    for name in ("train_list", "val_list"):
        value = vars(args).pop(f"positional_{name}")
        if value is None:
            continue
        if getattr(args, name):
            raise UserError(f"--{name} {getattr(args, name)} and {value}: give one list")
        setattr(args, name, value)


def _run_name(args):
    """The name of a run that has no --output_dir."""
    if args.snapshot_pref:
        words = [args.snapshot_pref.rstrip("_"), args.modality.lower()]
    else:
        words = [
            dataset_name(args.dataset),
            args.modality,
            args.module,
            args.arch,
            f"segment{args.num_segments}",
            f"e{args.epochs}",
        ]
        if args.non_local:
            words.append("nl")
        if args.temporal_pool:
            words.append("tpool")
        if SAMPLINGS[args.sampling].uses_window:
            words.append(args.sampling)
    if args.suffix:
        words.append(args.suffix)
    return "_".join(words)
