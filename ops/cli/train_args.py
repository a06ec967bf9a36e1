"""The arguments of ``main.py``: its flags, parsed, checked and resolved."""

import functools
import sys
from importlib.util import find_spec

from ops.backbones import build_backbone
from ops.cli import legacy
from ops.cli.config import parse_with_config, toml_lines
from ops.cli.flags import Effect
from ops.cli.train_flags import training_parser
from ops.data.datasets import dataset_name
from ops.data.readers.templates import choose_template
from ops.data.sampling import SAMPLINGS
from ops.temporal import MODULES, option_names, resolve_options, supported_modules
from ops.training.batch_size import AUTO as AUTO_BATCH
from ops.training.freeze import WHOLE_BACKBONE
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
    args.module = legacy.named_module(args.module, vars(args).pop("module_flags", ()))
    checkpoint_module = None
    if args.tune_from and not args.module:
        checkpoint_module = module_of_checkpoint(args)
    args.module, module_note = resolve_module(args, checkpoint_module)
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
        args: the parsed arguments of ``main.py``; ``module`` is that of the flags, or None.
        checkpoint_module: module of the checkpoint that ``--tune_from`` names, None without one.

    Returns:
        ``(module, note)``: a name of ``MODULES``, and a line that gives the reason, None where a
        flag names the module.
    """
    if args.module:
        return args.module, None
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
    if not _runs_default_module(args.arch):
        return f"{DEFAULT_MODULE} does not run on {args.arch}"
    if _is_tsn_pytorch(args):
        return "the command is one of tsn-pytorch"
    return None


@functools.cache  # tools that read many recipes and runs ask hundreds of times
def _runs_default_module(arch):
    """Whether the default module can be inserted into a backbone."""
    import torch  # slow: after parsing

    with torch.device("meta"):
        backbone = build_backbone(arch)
    return DEFAULT_MODULE in supported_modules(backbone)


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
