"""The flags of the original repositories that have another name here, or no meaning.

The commands of the READMEs of tsn-pytorch, TSM, TAM, TIN and TDN run as they are. Their flags are
translated here, hidden from ``--help``, and one line of the log reports what each became.
``docs/original_commands.md`` lists the commands.
"""

import argparse
import math
import shlex
from functools import partial

from ops.backbones.pixels import usual_scale_size
from ops.cli.flags import Effect
from ops.cli.types import CROPS, boolean, is_bce, non_negative_int, positive_int, tsm_schedule
from ops.training.batch_size import AUTO
from ops.utils.errors import UserError

TIN_WARMUP_MULTIPLIER = 10  # TIN main.py: the warm-up starts at a tenth of the learning rate

# Flags that the original programs parse and never use, or that this project does not need.
_UNUSED_IN_TRAINING = {
    "--k": "unused in the original",
    "--img_feature_dim": "unused in the original",
    "--syncbn": "unused in TAM; --sync_bn does it",
    "--dense_sample_rate": "unused in TIN",
    "--use_ema": "unused in TIN; --ema does it",
    "--loss_factor": "unused in TIN",
    "--reweight": "unused in TIN",
    "--temporal_clips": "for tests only",
    "--random_crops": "for tests only",
}
_UNUSED_IN_TESTS = {
    "--k": "unused in the original",
    "--img_feature_dim": "unused in the original",
    "--num_set_segments": "unused in the original",
    "--input_size": "unused in the original",
    "--pretrain": "the checkpoint replaces these weights",
    "--num_clips": "names files in the original; --clips scores several clips",
}
# TIN's test.py parses the flags of its main.py. Those that matter in training only, with
# argparse's settings.
_VALUE = {"nargs": "?", "const": True}
_SWITCH = {"action": "store_true"}
_TRAINING_ONLY = (
    (("--dropout", "--do"), _VALUE),
    (("--loss_type",), _VALUE),
    (("--suffix",), _VALUE),
    (("--tune_from",), _VALUE),
    (("--epochs",), _VALUE),
    (("--lr",), _VALUE),
    (("--lr_type",), _VALUE),
    (("--lr_steps",), {"nargs": "+"}),
    (("--momentum",), _VALUE),
    (("--wd", "--weight-decay"), _VALUE),
    (("--gd", "--clip-gradient"), _VALUE),
    (("--npb", "--no_partialbn"), _SWITCH),
    (("--warmup_epochs",), _VALUE),
    (("--use_warmup",), _SWITCH),
    (("--print-freq", "-p"), _VALUE),
    (("--eval-freq", "-ef"), _VALUE),
    (("--resume",), _VALUE),
    (("--evaluate", "-e"), _SWITCH),
    (("--snapshot_pref",), _VALUE),
    (("--start-epoch",), _VALUE),
    (("--root_log",), _VALUE),
    (("--root_model",), _VALUE),
    (("--store_name",), _VALUE),
    (("--syncbn",), _VALUE),
    (("--use_ema",), _VALUE),
    (("--loss_factor",), _VALUE),
    (("--reweight",), _VALUE),
    (("--dense_sample_rate",), _VALUE),
)
# What a checkpoint contains, so that its test needs no flag.
_IN_THE_CHECKPOINT = ("--non_local", "--temporal_pool")
MODULE_FLAGS = {"shift": "tsm", "tam": "tam", "self_conv": "tam", "tin": "tin"}


def resume_source(text):
    """A checkpoint to resume from; TIN's README writes ``--resume=True`` for a bare flag."""
    return "auto" if text == "True" else text


def named_module(module, module_flags):
    """The temporal module that the flags of a command name.

    Args:
        module: value of ``--module``, or None.
        module_flags: the modules that flags such as ``--shift`` name.

    Returns:
        a key of ``MODULES``, None if no flag names one.

    Raises:
        UserError: they name several.
    """
    named = set(module_flags)
    if module:
        named.add(module)
    if len(named) > 1:
        raise UserError(
            f"the flags name several temporal modules ({', '.join(sorted(named))}); give one"
        )
    return named.pop() if named else None


def _hidden(parser, *names, effect=Effect.RESULT, **settings):
    parser.add_flag(
        *names, effect=effect, **settings, default=argparse.SUPPRESS, help=argparse.SUPPRESS
    )


def _add_ignored(parser, flags):
    """Flags that may be given, with a value or without, and change nothing."""
    for flag in flags:
        _hidden(parser, flag, effect=Effect.NONE, nargs="?", const=True, dest=_ignored(flag))


def _ignored(flag):
    """Where argparse keeps that a flag without effect was given."""
    return f"ignored_{flag.lstrip('-')}"


def add_training_flags(parser):
    """Add the flags of the original training programs to the parser of ``main.py``, hidden.

    Their values are absent from the parsed arguments where the flags are not given;
    :func:`translate_training` replaces them.
    """
    _hidden(parser, "--lr_type", type=tsm_schedule, metavar="{step,cos}")
    _hidden(parser, "--loss_type", dest="multi_label", type=is_bce, metavar="{nll,bce}")
    _hidden(parser, "--multi_class", dest="multi_label", nargs="?", const=True, type=boolean)
    _hidden(parser, "--no_flip", dest="flip", action="store_const", const="none")
    _hidden(parser, "--use_warmup", action="store_true")
    _hidden(parser, "--warmup_epochs", type=non_negative_int, metavar="N")
    _hidden(parser, "--resume_path", effect=Effect.NONE, replaces=("resume",), metavar="FILE")
    _hidden(parser, "--crop_size", type=positive_int, metavar="PIXELS")
    _hidden(parser, "--scale_size", type=positive_int, metavar="PIXELS")
    _hidden(
        parser,
        "--start-epoch",
        "--start_epoch",
        effect=Effect.NONE,
        dest="start_epoch",
        type=non_negative_int,
        metavar="N",
    )
    for flag in ("--root_log", "--root_model"):
        _hidden(parser, flag, effect=Effect.NONE, replaces=("output_dir",), metavar="DIR")
    _hidden(parser, "--store_name", effect=Effect.NONE, metavar="NAME")
    _hidden(
        parser,
        "--gpus",
        effect=Effect.NONE,
        replaces=("device",),
        type=non_negative_int,
        nargs="+",
        metavar="N",
    )
    _add_ignored(parser, _UNUSED_IN_TRAINING)


class _Notes:
    """The values of original flags, removed from the arguments when taken, and their meaning."""

    def __init__(self, args):
        self.values = vars(args)
        self.lines = []

    def take(self, name, default=None):
        return self.values.pop(name, default)

    def add(self, flag, meaning):
        self.lines.append(f"{flag} -> {meaning}")

    def ignore(self, flags):
        given = {}
        for flag, reason in flags.items():
            if self.take(_ignored(flag)) is not None:
                given.setdefault(reason, []).append(flag)
        self.lines += [f"{', '.join(names)} ignored ({reason})" for reason, names in given.items()]

    def text(self):
        """One line, None without flags of the originals."""
        return f"flags of the originals: {'; '.join(self.lines)}" if self.lines else None


def translate_training(args, argv):
    """Replace the original flags in the parsed arguments of ``main.py``, in place.

    Args:
        args: the parsed arguments, with ``module`` resolved and ``output_dir`` as given;
            afterwards they hold flags of this project only.
        argv: the words of the command line after the program's name, for the command that is
            suggested for several GPUs.

    Returns:
        ``(store_name, root, note)``: the name and the parent folder of the run where flags give
        them, else None, and a line that reports what the flags became, None without any.

    Raises:
        UserError: for a flag whose effect does not exist here.
    """
    notes = _Notes(args)
    _translate_schedule(args, notes)
    _translate_resume(args, notes)
    _translate_size(args, notes)
    _translate_gpus(args, notes, "main.py", argv, partial(_split_batch, args))
    start = notes.take("start_epoch", 0)
    if start:
        raise UserError(
            f"--start-epoch {start}: a run continues where its checkpoint is; use --resume auto "
            f"or --resume FILE"
        )
    name, root = notes.take("store_name"), _output_root(args, notes)
    if name is not None:
        notes.add("--store_name", "the run's name")
    notes.ignore(_UNUSED_IN_TRAINING)
    return name, root, notes.text()


def _translate_schedule(args, notes):
    kind = notes.take("lr_type")
    if kind == "step":
        args.lr_scheduler = "step"
    elif kind is not None and args.module == "tin":
        # TIN main.py adjusts the rate in every step, and falls to 0.
        args.lr_scheduler, args.min_lr = "cosine", 0.0
        notes.add("--lr_type cos", "--lr_scheduler cosine --min_lr 0 (TIN's, in every step)")
    elif kind is not None:
        args.lr_scheduler = kind
        notes.add("--lr_type cos", f"--lr_scheduler {kind} (TSM's, once per epoch)")
    use_warmup, epochs = notes.take("use_warmup", False), notes.take("warmup_epochs")
    if not use_warmup:
        if epochs is not None:
            notes.lines.append("--warmup_epochs ignored (no --use_warmup)")
        return
    args.warmup_epoch = 1 if epochs is None else epochs
    args.warmup_multiplier = TIN_WARMUP_MULTIPLIER
    notes.add(
        "--use_warmup",
        f"--warmup_epoch {args.warmup_epoch} --warmup_multiplier {TIN_WARMUP_MULTIPLIER}",
    )


def _translate_resume(args, notes):
    path = notes.take("resume_path")
    if path is None:
        return
    if args.resume not in (None, "auto", path):
        raise UserError(f"--resume_path {path} and --resume {args.resume}: give one checkpoint")
    args.resume = path
    notes.add("--resume_path", f"--resume {path}")


def _translate_size(args, notes):
    crop = notes.take("crop_size")
    if crop is not None:
        args.input_size = crop
        notes.add("--crop_size", f"--input_size {crop}")
    scale = notes.take("scale_size")
    derived = usual_scale_size(args.input_size)
    if scale is not None and scale != derived:
        raise UserError(
            f"--scale_size {scale}: validation frames are scaled to {derived} for crops of "
            f"{args.input_size}; leave it out"
        )


def _translate_gpus(args, notes, program, argv, batch_flags):
    """Replace ``--gpus`` by ``--device``.

    Args:
        program: the script, for the command that is suggested for several GPUs.
        argv: the words behind it.
        batch_flags: number of GPUs -> the words that this command needs besides.
    """
    gpus = notes.take("gpus")
    if not gpus:
        return
    if args.device:
        raise UserError(f"--gpus and --device {args.device}: give one of the two")
    from ops.distributed import launched_ranks  # imports torch

    if launched_ranks().size > 1:
        notes.lines.append("--gpus ignored (the launcher gives each process a GPU)")
        return
    if len(gpus) == 1:
        _use_gpu(args, notes, gpus[0])
        return
    words = _without_gpus(argv) + batch_flags(len(gpus))
    visible = ""
    if gpus != list(range(len(gpus))):
        visible = f"CUDA_VISIBLE_DEVICES={','.join(map(str, gpus))} "
    raise UserError(
        f"--gpus {' '.join(map(str, gpus))}: one process uses one GPU; type "
        f"{visible}torchrun --nproc_per_node {len(gpus)} {program} {shlex.join(words)}"
    )


def _use_gpu(args, notes, gpu):
    import torch

    if torch.cuda.is_available():
        args.device = f"cuda:{gpu}"
        notes.add("--gpus", f"--device {args.device}")
    else:
        notes.lines.append("--gpus ignored (this machine has no GPU)")


def _without_gpus(argv):
    """The words of a command line without ``--gpus`` and its values."""
    words, skipping = [], False
    for word in argv:
        if word.startswith("-"):
            skipping = word.split("=")[0] == "--gpus"
        if not skipping:
            words.append(word)
    return words


def _split_batch(args, gpus):
    """The flag that splits a batch over GPUs, as all originals but TDN do it."""
    if args.module == "tdn" or args.batch_size == AUTO:
        return []
    return ["--batch-size", str(math.ceil(args.batch_size / gpus))]


def _output_root(args, notes):
    """The parent folder of the run, given by ``--root_model`` or ``--root_log``."""
    logs, models = notes.take("root_log"), notes.take("root_model")
    root = models if models is not None else logs
    if root is None:
        return None
    if args.output_dir:
        notes.lines.append("--root_model and --root_log ignored (--output_dir is given)")
        return None
    if logs is not None and models is not None and logs != models:
        notes.lines.append("--root_log ignored (logs are written beside the checkpoints)")
    flag = "--root_model" if models is not None else "--root_log"
    notes.add(flag, "--output_dir, with the run's name")
    return root


def add_testing_flags(parser):
    """Add the flags of the original test programs, and TIN's training flags, hidden.

    :func:`translate_testing` replaces them.
    """
    for flag, module in MODULE_FLAGS.items():
        _hidden(
            parser,
            f"--{flag}",
            replaces=("module",),
            dest="module_flags",
            action="append_const",
            const=module,
        )
    _hidden(parser, "--multi_class", dest="multi_label", nargs="?", const=True, type=boolean)
    _hidden(parser, "--resume_path", effect=Effect.NONE, replaces=("weights",), metavar="FILE")
    _add_view_flags(parser)
    _hidden(parser, "--crop_size", type=positive_int, metavar="PIXELS")
    _hidden(parser, "--num_segments", replaces=("test_segments",), type=positive_int, metavar="T")
    _hidden(
        parser,
        "--batch-size",
        effect=Effect.NOISE,
        dest="batch_size",
        type=positive_int,
        metavar="N",
    )
    _hidden(parser, "--crop_fusion_type", choices=("avg",))
    _hidden(parser, "--consensus_type", choices=("avg",))
    for flag in _IN_THE_CHECKPOINT:
        _hidden(parser, flag, effect=Effect.NONE, action="store_true", dest=_ignored(flag))
    for names, arguments in _TRAINING_ONLY:
        _hidden(parser, *names, effect=Effect.NONE, dest=_ignored(names[0]), **arguments)
    _add_ignored(parser, _UNUSED_IN_TESTS)


def _add_view_flags(parser):
    """The flags of TIN's test.py about clips and crops."""
    _hidden(
        parser,
        "--temporal_clips",
        replaces=("test_sampling", "sample", "clips"),
        type=positive_int,
        metavar="N",
    )
    _hidden(parser, "--random_crops", replaces=("test_crops",), type=positive_int, metavar="N")


def translate_testing(args, program, argv):
    """Replace the original flags in the parsed arguments of a test script, in place.

    Args:
        args: the parsed arguments.
        program: the script's name.
        argv: the words of the command line after it, for the command that is suggested for several
            GPUs.

    Returns:
        a line that reports what they became, None without any.

    Raises:
        UserError: for flags that exclude each other.
    """
    notes = _Notes(args)
    module_flags = notes.take("module_flags", ())
    args.module = named_module(args.module, module_flags)
    if module_flags:
        notes.add("the temporal module's flag", f"--module {args.module}")
    path = notes.take("resume_path")
    if path is not None:
        if args.weights:
            raise UserError(
                f"--resume_path {path} and --weights {args.weights}: give one of the two"
            )
        args.weights = path
        notes.add("--resume_path", f"--weights {path}")
    segments = notes.take("num_segments")
    if segments is not None:
        args.test_segments = args.test_segments or [segments]
        notes.add("--num_segments", f"--test_segments {segments}")
    _translate_views(args, notes)
    _translate_gpus(args, notes, program, argv, lambda gpus: [])
    notes.take("crop_fusion_type")
    notes.take("consensus_type")
    notes.ignore(dict.fromkeys(_IN_THE_CHECKPOINT, "the checkpoint contains it"))
    notes.ignore({names[0]: "for training only" for names, _ in _TRAINING_ONLY})
    notes.ignore(_UNUSED_IN_TESTS)
    return notes.text()


def _translate_views(args, notes):
    """The clips and crops of TIN's test.py."""
    clips, crops = notes.take("temporal_clips"), notes.take("random_crops")
    args.crop_size = notes.take("crop_size")
    if args.crop_size is not None:
        notes.add("--crop_size", f"crops of {args.crop_size}")
    if crops is not None:
        if crops not in CROPS:
            raise UserError(f"--random_crops {crops}: there are 1, 3, 5 or 10 crops")
        args.test_crops = args.test_crops or [crops]
        notes.add("--random_crops", f"--test_crops {crops}")
    if clips is None:
        return
    if args.test_sampling or args.clips:
        notes.lines.append("--temporal_clips ignored (other flags choose the clips)")
        return
    if clips == 1:
        args.test_sampling = ["center"]
    else:
        args.test_sampling, args.clips = ["center+random"], clips
    notes.add(
        "--temporal_clips",
        f"--test_sampling {args.test_sampling[0]}" + (f" --clips {clips}" if clips > 1 else ""),
    )
