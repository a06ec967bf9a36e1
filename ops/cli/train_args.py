"""The flags of ``main.py``, and the groups that it shares with the test fronts (``ops/cli/test_args.py``).

Defaults are shown by ``--help`` and saved with the run.
"""

import argparse
import sys

import torch

from ops.backbones import BACKBONES, build_backbone
from ops.backbones.modalities import MODALITIES
from ops.checkpoints.identify import read_weights
from ops.cli import legacy
from ops.cli.types import (
    fraction,
    interval,
    mixing,
    non_negative_float,
    non_negative_int,
    positive_float,
    positive_int,
    seed,
    segments,
    workers,
)
from ops.data.dataset_files import FLIPS
from ops.data.datasets import KNOWN, dataset_name
from ops.data.readers.open import DECODERS
from ops.data.sampling import samplings_for_training
from ops.temporal import MODULES, option_names, resolve_options, supported_modules
from ops.temporal.consensus import CONSENSUS
from ops.training.optim import OPTIMIZERS, POLICIES, SCHEDULERS
from ops.utils.errors import UserError
from ops.utils.machine import default_workers

AMP = ("none", "bf16", "fp16")


class _Help(argparse.ArgumentDefaultsHelpFormatter, argparse.RawDescriptionHelpFormatter):
    def _get_help_string(self, action):
        """With the default behind it, unless that is nothing or the text names it."""
        if action.default is None or "(default: " in action.help:
            return action.help
        return super()._get_help_string(action)


class _Parser(argparse.ArgumentParser):
    def error(self, message):
        """One line: the usage, of dozens of flags, would hide it."""
        self.exit(2, f"error: {message}; python {self.prog} --help explains the flags\n")


def base_parser(description):
    """A parser that knows the data set, and takes no abbreviations."""
    # No abbreviations: an unknown flag is an error, today and after new flags have come.
    parser = _Parser(
        description=description,
        formatter_class=_Help,
        allow_abbrev=False,
        epilog=legacy.HELP_NOTE,
    )
    parser.add_argument(
        "dataset",
        help=f"{', '.join(KNOWN)}, a file NAME.toml or its folder, or another name with the list "
        "flags below",
    )
    return parser


def add_data(parser, lists):
    group = parser.add_argument_group("data (each flag overrides what is known of the data set)")
    for name, meaning in lists:
        group.add_argument(f"--{name}", metavar="FILE", help=meaning)
    group.add_argument(
        "--root_path",
        metavar="DIR",
        help="folder, or shard set (NAME.shards, at a URL, too), that the paths of a list are relative to",
    )
    group.add_argument(
        "--flow_prefix",
        "--flow_pref",
        metavar="TEXT",
        help="start of the flow files' names: TEXT and {}_{:05d}.jpg is their --image_tmpl (tsn-pytorch's flag)",
    )
    group.add_argument("--num_class", type=positive_int, metavar="N", help="number of classes")
    group.add_argument(
        "--class_names", metavar="FILE", help="class names, one a line, in label order"
    )
    group.add_argument(
        "--multi_label",
        action="store_true",
        help="a video can have several labels, `video 3,17` in the lists: binary cross-entropy, mAP",
    )
    group.add_argument(
        "--image_tmpl", metavar="TMPL", help="file names in a frame folder, such as img_{:05d}.jpg"
    )
    group.add_argument(
        "--sampling_compat",
        action="store_true",
        help="sample short videos as the originals do, who repeat their first frame",
    )
    group.add_argument(
        "--decoder",
        choices=tuple(DECODERS),
        default="pyav",
        help="library that decodes video files",
    )
    group.add_argument(
        "-j",
        "--workers",
        type=workers,
        default=default_workers(),
        metavar="N",
        help="number of data-loading workers per process",
    )
    group.add_argument(
        "--timeout",
        type=non_negative_int,
        default=300,
        metavar="SECONDS",
        help="longest wait for a data-loading worker; 0 waits for ever",
    )


DEFAULT_MODULE = "tdn"


def add_module_options(group):
    """Add the flags of the options in the table of temporal modules to an argparse group.

    The default of a flag is None, "not given", since modules that share an option may have
    different defaults for it.

    Args:
        group: argument group or parser.

    Raises:
        TypeError: two modules declare an option of the same name with different types.
    """
    for name in option_names():
        options = {
            module: entry.options[name]
            for module, entry in MODULES.items()
            if name in entry.options
        }
        first = next(iter(options.values()))
        if any(option.type is not first.type for option in options.values()):
            raise TypeError(f"option {name} has different types in {', '.join(options)}")
        defaults = ", ".join(f"{option.default} for {module}" for module, option in options.items())
        keywords = {"help": f"{first.help} (default: {defaults})"}
        choices = {value: None for option in options.values() for value in option.choices}
        if first.type is bool:
            group.add_argument(f"--{name}", action=argparse.BooleanOptionalAction, **keywords)
            continue
        if choices:
            keywords["choices"] = tuple(choices)
        else:
            keywords["metavar"] = METAVARS[first.type]
        group.add_argument(f"--{name}", type=OPTION_TYPES[first.type], **keywords)


# How the text of a flag becomes the value of an option, by the option's type.
OPTION_TYPES = {int: int, float: float, str: str}
METAVARS = {int: "N", float: "F", str: "TEXT"}


WEIGHTS_KEY_HELP = "key of the weights to take from files that hold several, such as state_dict_ema"


def _add_train_sampling(parser):
    group = parser.add_argument_group("which frames")
    group.add_argument(
        "--sampling",
        choices=tuple(samplings_for_training()),
        default="uniform",
        help="frames of a training clip: "
        + "; ".join(
            f"{name}: {entry.train_help}" for name, entry in samplings_for_training().items()
        ),
    )
    group.add_argument(
        "--flip",
        choices=FLIPS,
        help="mirror half of the training clips and swap labels by the class names or by the "
        "dataset's flip_pairs; none mirrors no clip (default: as the module's authors train the dataset, docs/data.md)",
    )
    group.add_argument(
        "--dense_sample",
        dest="sampling",
        action="store_const",
        const="dense",
        help="the same as --sampling dense",
    )


def add_runtime(parser):
    group = parser.add_argument_group("machine")
    group.add_argument(
        "--device", metavar="NAME", help="cpu, cuda, cuda:1; the GPU if there is one, else the CPU"
    )
    group.add_argument("--amp", choices=AMP, default="none", help="automatic mixed precision")
    group.add_argument(
        "--channels_last",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="hold activations channels-last: faster, same numbers to rounding",
    )
    group.add_argument(
        "--compile", action="store_true", help="torch.compile the model; minutes at the start"
    )
    group.add_argument(
        "--local-rank",
        "--local_rank",
        type=int,
        metavar="N",
        help="set by python -m torch.distributed.launch; torchrun needs no flag",
    )
    group.add_argument(
        "--seed", type=seed, default=0, metavar="N", help="seed of every random draw"
    )
    group.add_argument(
        "--deterministic",
        action="store_true",
        help="the same numbers in every run on a GPU, too, by slower algorithms where there is a choice",
    )
    group.add_argument(
        "--dry_run", action="store_true", help="parse, build the model, count the lists, and stop"
    )


def training_parser(description):
    """Flags of ``main.py``."""
    parser = base_parser(description)
    parser.add_argument("modality", choices=tuple(MODALITIES), help="input modality")
    for name, purpose in (("train", "to train on"), ("val", "to validate on")):
        parser.add_argument(
            f"positional_{name}_list",
            nargs="?",
            metavar=f"{name.upper()}_LIST",
            help=f"videos {purpose}, as --{name}_list (tsn-pytorch's form)",
        )
    add_data(parser, (("train_list", "videos to train on"), ("val_list", "videos to validate on")))
    _add_train_sampling(parser)
    parser.add_argument(
        "--missing",
        choices=("stop", "skip"),
        default="stop",
        help="listed training videos that are not on disk: refuse to start, or train without them",
    )

    group = parser.add_argument_group("model")
    group.add_argument(
        "--module",
        choices=tuple(MODULES),
        help="temporal module; tsn is none (default: tsn where tdn is impossible or a flag of "
        "tsn-pytorch is given, "
        "else tdn; the first line of the log names it)",
    )
    for flag, module in legacy.MODULE_FLAGS.items():
        group.add_argument(
            f"--{flag}",
            dest="module_flags",
            action="append_const",
            const=module,
            default=argparse.SUPPRESS,
            help=f"the same as --module {module}",
        )
    add_module_options(group)
    group.add_argument(
        "--non_local",
        action="store_true",
        help="non-local blocks in the second and third stage, too",
    )
    group.add_argument(
        "--temporal_pool", action="store_true", help="half the segments from the second stage on"
    )
    group.add_argument("--arch", choices=tuple(BACKBONES), default="resnet50", help="backbone")
    group.add_argument(
        "--num_segments", type=segments, default=8, metavar="T", help="segments of a clip"
    )
    group.add_argument(
        "--input_size", type=positive_int, default=224, metavar="PIXELS", help="side of the crops"
    )
    group.add_argument(
        "--consensus_type",
        choices=tuple(CONSENSUS),
        default="avg",
        help="avg trains on the mean of the segments' scores, identity on each segment",
    )
    group.add_argument(
        "--stochastic_depth",
        type=fraction,
        default=0.0,
        metavar="P",
        help="chance that a clip skips the last residual branch in training, falling linearly to the first",
    )
    group.add_argument(
        "--dropout",
        "--do",
        type=fraction,
        default=0.5,
        metavar="P",
        help="dropout before the classifier",
    )
    group.add_argument(
        "--pretrain",
        default="imagenet",
        metavar="WHAT",
        help="start of the backbone: imagenet (torchvision's weights), none, or a file of such weights",
    )
    group.add_argument(
        "--tune_from",
        metavar="FILE",
        help="fine-tune this checkpoint, ours or a published one, in place of --pretrain; without --module its "
        "module is used; its classifier is taken over for the classes that are known to be the same",
    )
    group.add_argument("--weights_key", metavar="NAME", help=WEIGHTS_KEY_HELP)
    group.add_argument(
        "--npb",
        "--no_partialbn",
        dest="partial_bn",
        action="store_false",
        default=None,
        help="train every BatchNorm (default: for tdn and tam, and with --pretrain none)",
    )
    group.add_argument(
        "--partial_bn",
        dest="partial_bn",
        action="store_true",
        default=None,
        help="train only the first BatchNorm (default: for tsn, tsm and tin with pretrained weights)",
    )
    group.add_argument(
        "--sync_bn", action="store_true", help="BatchNorm over the videos of all processes (GPUs)"
    )

    group = parser.add_argument_group("optimisation")
    group.add_argument(
        "--epochs", type=positive_int, default=60, metavar="N", help="epochs to train"
    )
    group.add_argument(
        "-b",
        "--batch-size",
        "--batch_size",
        type=positive_int,
        default=8,
        metavar="N",
        help="videos of a batch, PER PROCESS",
    )
    group.add_argument(
        "--accumulate",
        type=positive_int,
        default=1,
        metavar="N",
        help="batches of one optimiser step",
    )
    group.add_argument(
        "--lr",
        type=positive_float,
        default=0.01,
        help="learning rate for the total batch (processes x batch x accumulate)",
    )
    group.add_argument(
        "--lr_batch",
        type=positive_int,
        metavar="N",
        help="total batch that --lr is meant for (default: this run's, whatever it is)",
    )
    group.add_argument(
        "--scale_lr",
        action="store_true",
        help="use --lr times this run's total batch over --lr_batch",
    )
    group.add_argument(
        "--lr_scheduler", choices=SCHEDULERS, default="step", help="course of the learning rate"
    )
    group.add_argument(
        "--lr_steps",
        type=non_negative_float,
        nargs="+",
        default=[30, 45, 55],
        metavar="EPOCH",
        help="epochs at which step multiplies the rate",
    )
    group.add_argument(
        "--lr_decay_rate",
        type=positive_float,
        default=0.1,
        metavar="F",
        help="what step multiplies by",
    )
    group.add_argument(
        "--warmup_epoch",
        type=non_negative_int,
        default=0,
        metavar="N",
        help="epochs of linear warm-up",
    )
    group.add_argument(
        "--warmup_multiplier",
        type=positive_float,
        default=100,
        metavar="F",
        help="warm-up starts at lr / F",
    )
    group.add_argument(
        "--min_lr", type=non_negative_float, default=1e-5, metavar="LR", help="where cosine ends"
    )
    group.add_argument(
        "--lr_policy",
        choices=POLICIES,
        help="TSN's multipliers by kind of parameter, or one rate for all (default: flat for tdn, "
        "groups for the others, as each was trained)",
    )
    group.add_argument(
        "--fc_lr5",
        action=argparse.BooleanOptionalAction,
        help="with groups: the classifier learns 5 times as fast (default: if it is new)",
    )
    group.add_argument(
        "--label_smoothing", type=fraction, default=0.0, metavar="P", help="of the cross-entropy"
    )
    group.add_argument(
        "--mixup",
        type=mixing,
        default=0.0,
        metavar="ALPHA",
        help="mix pairs of videos by shares of Beta(ALPHA, ALPHA); 0 does not",
    )
    group.add_argument(
        "--cutmix",
        type=mixing,
        default=0.0,
        metavar="ALPHA",
        help="put a box of one video into another; with --mixup as well, each batch takes either by chance",
    )
    group.add_argument(
        "--ema",
        type=fraction,
        default=0.0,
        metavar="DECAY",
        help="validate and keep an average of the weights, 0.999 for that of about 1000 steps; 0 does not",
    )
    group.add_argument(
        "--optimizer",
        choices=tuple(OPTIMIZERS),
        default="sgd",
        help="adamw needs a smaller --lr than sgd, such as 1e-4",
    )
    group.add_argument("--momentum", type=fraction, default=0.9, help="momentum of SGD")
    group.add_argument("--nesterov", action="store_true", help="Nesterov momentum for SGD")
    group.add_argument(
        "--wd",
        "--weight-decay",
        "--weight_decay",
        dest="weight_decay",
        type=non_negative_float,
        default=5e-4,
        help="weight decay",
    )
    group.add_argument(
        "--gd",
        "--clip-gradient",
        dest="clip_gradient",
        type=positive_float,
        metavar="NORM",
        help="clip the gradient to this norm",
    )

    group = parser.add_argument_group("run")
    group.add_argument(
        "--output_dir",
        metavar="DIR",
        help="logs and checkpoints (default: runs/ and the run's name)",
    )
    group.add_argument("--suffix", metavar="TEXT", help="added to the run's name")
    group.add_argument(
        "--snapshot_pref",
        metavar="TEXT",
        help="the run's name: TEXT and the modality (tsn-pytorch's flag)",
    )
    group.add_argument(
        "--resume",
        nargs="?",
        const="auto",
        type=legacy.resume_source,
        metavar="WHAT",
        help="auto (the last checkpoint of output_dir, if any; so is --resume alone), a checkpoint, "
        "or the folder of a run (its last checkpoint)",
    )
    group.add_argument(
        "--overwrite",
        action="store_true",
        help="start anew in an output_dir that holds a training, and remove that training's files",
    )
    group.add_argument(
        "--save_every",
        type=interval,
        metavar="N|Nm",
        default="15m",
        help="also save within an epoch: every N steps, or every N minutes; 0 does not",
    )
    group.add_argument(
        "--keep",
        type=positive_int,
        default=2,
        metavar="K",
        help="checkpoints to keep: last.pth and K - 1 before",
    )
    group.add_argument(
        "-e", "--evaluate", action="store_true", help="validate the --resume checkpoint and stop"
    )
    group.add_argument(
        "--eval-freq",
        "-ef",
        "--eval_freq",
        type=positive_int,
        default=1,
        metavar="N",
        help="validate every N epochs, and after the last",
    )
    group.add_argument(
        "--print-freq",
        "-p",
        "--print_freq",
        type=positive_int,
        default=20,
        metavar="N",
        help="a line to the log every N steps",
    )
    add_runtime(parser)
    legacy.add_training_flags(parser)
    return parser


def file_template(image_tmpl, flow_prefix, modality):
    """``--image_tmpl``, or what ``--flow_prefix`` makes it for flow; None if neither says. Raises UserError if both do."""
    if image_tmpl and flow_prefix is not None:
        raise UserError("--flow_prefix and --image_tmpl both name the files; give one of the two")
    return (
        flow_prefix + "{}_{:05d}.jpg"
        if flow_prefix is not None and modality == "Flow"
        else image_tmpl
    )


def module_of_checkpoint(args):
    """The module of the ``--tune_from`` checkpoint; its options become those of args that no flag gives.

    Args:
        args: the parsed arguments of ``main.py``.

    Returns:
        a name of ``MODULES``, None if the checkpoint is an image classifier and decides nothing.

    Raises:
        UserError: the checkpoint cannot be read, or does not contain its module.
    """
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


# Every backbone halves the sides of its input five times.
BACKBONE_STRIDE = 32


def check_norm_batch(args):
    """Raise UserError if a BatchNorm would have a single value per channel to train on.

    Args:
        args: the arguments of ``main.py``, resolved.
    """
    if args.sync_bn:  # the values of all processes count
        return
    frames = args.batch_size * args.num_segments
    if args.module == "tam":  # its own BatchNorms see one value per video and channel, and segment
        values = frames
        remedy = "give a larger --batch-size, or more --num_segments"
    elif args.partial_bn:
        return
    else:
        values = frames * (-(-args.input_size // BACKBONE_STRIDE)) ** 2
        remedy = "give a larger --batch-size, --num_segments or --input_size, or --partial_bn"
    if values < 2:
        raise UserError(
            f"--batch-size {args.batch_size} with --num_segments {args.num_segments}: a BatchNorm of "
            f"{args.module} cannot be trained on a single value per channel; {remedy}"
        )


def resolve_module(args, checkpoint_module=None):
    """Choose the temporal module of a training.

    Args:
        args: the parsed arguments of ``main.py``; ``module_flags`` are the modules that flags such
            as ``--shift`` name.
        checkpoint_module: module of the checkpoint that ``--tune_from`` names, None without one.

    Returns:
        ``(module, note)``: a name of ``MODULES``, and a line that says why it was chosen, None
            where a flag names it.

    Raises:
        UserError: if the flags name several modules.
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
    args = training_parser(description).parse_args(argv)
    args.module_flags = vars(args).pop("module_flags", ())
    checkpoint_module = None
    if args.tune_from and not args.module and not args.module_flags:
        checkpoint_module = module_of_checkpoint(args)
    args.module, module_note = resolve_module(args, checkpoint_module)
    del args.module_flags
    is_tsn_pytorch = _is_tsn_pytorch(args)
    _move_positional_lists(args)
    name, root, legacy_note = legacy.translate_training(args, argv)
    notes = [note for note in (module_note, legacy_note) if note]

    row = MODULES[args.module]
    options = resolve_options(args.module, {name: getattr(args, name) for name in option_names()})
    for option, value in options.items():
        setattr(args, option, value)
    args.image_tmpl = file_template(args.image_tmpl, args.flow_prefix, args.modality)
    if args.tune_from:
        args.pretrain = "none"
    if args.partial_bn is None:
        args.partial_bn = row.partial_bn and (args.pretrain != "none" or args.tune_from is not None)
    if not args.evaluate:
        check_norm_batch(args)
    args.lr_policy = args.lr_policy or row.lr_policy
    if args.fc_lr5 is None and is_tsn_pytorch and args.module == "tsn":
        args.fc_lr5 = False
        notes.append(
            "the classifier learns at the common rate, as in tsn-pytorch; --fc_lr5 makes it 5 "
            "times as fast"
        )
    if args.nesterov and args.optimizer != "sgd":
        raise UserError(f"--nesterov is an option of --optimizer sgd, not of {args.optimizer}")
    if args.scale_lr and not args.lr_batch:
        raise UserError("--scale_lr needs --lr_batch N, the total batch that --lr is meant for")
    if args.overwrite and args.resume:
        raise UserError("--overwrite starts anew and --resume continues a run: give one of them")
    if args.multi_label and args.label_smoothing:
        raise UserError(
            "--label_smoothing is of one label a video: leave it out with --multi_label"
        )
    args.output_dir = args.output_dir or f"{root or 'runs'}/{name or _run_name(args)}"
    return args, notes


def training_arguments(description, argv=None):
    """The arguments of :func:`parse_training`, without its notes."""
    return parse_training(description, argv)[0]


def _move_positional_lists(args):
    """tsn-pytorch gives the lists without flags."""
    for name in ("train_list", "val_list"):
        value = vars(args).pop(f"positional_{name}")
        if value is None:
            continue
        if getattr(args, name):
            raise UserError(f"--{name} {getattr(args, name)} and {value}: give one list")
        setattr(args, name, value)


def _run_name(args):
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
        if args.sampling == "dense":
            words.append("dense")
    if args.suffix:
        words.append(args.suffix)
    return "_".join(words)
