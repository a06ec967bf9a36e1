"""The flags of the two test scripts."""

import argparse
import os
import sys

from ops.backbones.modalities import MODALITIES
from ops.checkpoints.names import resolve_weights
from ops.cli import legacy
from ops.cli.common_args import (
    WEIGHTS_KEY_HELP,
    add_data,
    add_module_options,
    add_runtime,
    base_parser,
)
from ops.cli.config import add_config, parse_with_config
from ops.cli.flags import Effect
from ops.cli.types import CROPS, non_negative_int, positive_float, positive_int, segments
from ops.data.sampling import samplings_for_tests
from ops.scores.aggregation import AVERAGES
from ops.temporal import MODULES
from ops.testing import RUNTIMES, TORCH
from ops.utils.errors import UserError

# tsn-pytorch test_models.py: its defaults, which its command relies on.
TSN_SEGMENTS = 25
TSN_CROPS = 10
SECTION = "test"  # of a file of --config
# Flags that can have a value for each network of an ensemble. Paths, which may contain commas, are
# treated apart.
PER_NETWORK = (
    "archs",
    "test_segments",
    "modality",
    "test_crops",
    "test_sampling",
    "weights_key",
)
PER_NETWORK_PATHS = ("val_list", "image_tmpl", "root_path")


def testing_parser(description, crops):
    """The parser of the two test scripts.

    Where several networks are tested, flags marked with [,] take one value for all or one for
    each, separated by commas.

    Args:
        description: first lines of ``--help``.
        crops: default of ``--test_crops``.

    Returns:
        a :class:`ops.cli.flags.FlagParser`.
    """
    parser = base_parser(description)
    parser.add_flag(
        "tsn",
        effect=Effect.RESULT,
        replaces=("modality",),
        nargs="*",
        metavar="MODALITY TEST_LIST WEIGHTS",
        help="tsn-pytorch's form, in place of --modality, --test_list and --weights; its "
        f"defaults are {TSN_SEGMENTS} segments and {TSN_CROPS} crops",
    )
    add_config(parser)
    add_data(parser, (("val_list", "videos to score [,]"),))
    parser.add_flag(
        "--test_list",
        effect=Effect.EXTENT,
        dest="val_list",
        metavar="FILE",
        help="the same as --val_list [,]",
    )
    _add_model(parser)
    _add_views(parser, crops)
    _add_results(parser)
    _add_run(parser)
    add_runtime(parser)
    legacy.add_testing_flags(parser)
    return parser


def _add_model(parser):
    group = parser.group("model")
    group.add_flag(
        "--weights",
        effect=Effect.RESULT,
        metavar="FILE[,FILE]",
        help="checkpoints, published or of this project, names of published ones "
        "(tsm_r50_8f_k400), or folders of runs (their best.pth); several are an ensemble",
    )
    group.add_flag(
        "--weights_key",
        effect=Effect.RESULT,
        type=_each(str),
        metavar="NAME",
        help=f"{WEIGHTS_KEY_HELP} [,]",
    )
    group.add_flag(
        "--archs",
        "--arch",
        effect=Effect.RESULT,
        type=_each(str),
        metavar="ARCH",
        help="backbone; compared with the checkpoint [,]",
    )
    group.add_flag(
        "--test_segments",
        effect=Effect.RESULT,
        type=_each(segments),
        metavar="T",
        help="segments of a clip [,] (default: those that the checkpoint was trained with)",
    )
    group.add_flag(
        "--modality",
        effect=Effect.RESULT,
        type=_each(str),
        metavar="NAME",
        help="input modality; compared with the checkpoint [,]",
    )
    group.add_flag(
        "--module",
        effect=Effect.RESULT,
        choices=tuple(MODULES),
        help="temporal module, if neither the weights nor the name of a published file specify it",
    )
    add_module_options(group)
    group.add_flag(
        "--fuse_bn",
        effect=Effect.NOISE,
        action="store_true",
        help="fold BatchNorms into the convs: the same scores to rounding",
    )


def _add_views(parser, crops):
    group = parser.group("protocol")
    group.add_flag(
        "--test_crops",
        effect=Effect.RESULT,
        type=_each(_crops),
        metavar=f"{{{','.join(map(str, CROPS))}}}",
        help=f"crops of a frame [,] (default: {crops})",
    )
    rules = [f"{name}: {entry.help}" for name, entry in samplings_for_tests().items()]
    group.add_flag(
        "--test_sampling",
        effect=Effect.RESULT,
        replaces=("sample",),
        type=_each(_sampling),
        metavar=f"{{{','.join(samplings_for_tests())}}}",
        help=f"frames of a clip; {'; '.join(rules)} [,] (default: random for kinetics with tdn, "
        "dense with tam, else center)",
    )
    for flag in ("dense", "twice"):
        group.add_flag(
            f"--{flag}_sample",
            effect=Effect.RESULT,
            dest="test_sampling",
            action="store_const",
            const=[flag],
            help=f"the same as --test_sampling {flag}",
        )
    group.add_flag(
        "--sample",
        effect=Effect.RESULT,
        replaces=("test_sampling", "clips"),
        type=_sampling_and_clips,
        metavar="{uniform,dense}-N",
        help="TAM's flag: --test_sampling and --clips N",
    )
    group.add_flag(
        "--clips",
        effect=Effect.RESULT,
        replaces=("sample",),
        type=positive_int,
        metavar="N",
        help="clips per video, all in one run (default: 10 for dense, 2 for twice, else the one "
        "of --clip_index)",
    )
    group.add_flag(
        "--clip_index",
        effect=Effect.EXTENT,
        type=non_negative_int,
        metavar="K",
        help="score only this clip, from 0",
    )
    group.add_flag(
        "--full_res",
        effect=Effect.RESULT,
        action="store_true",
        help="crops as large as the short side of a scaled frame (256)",
    )
    group.add_flag(
        "--scale_size",
        effect=Effect.RESULT,
        type=positive_int,
        metavar="PIXELS",
        help="short side of a scaled frame (default: the crop size * 256 / 224)",
    )
    group.add_flag(
        "--max_num",
        effect=Effect.EXTENT,
        type=positive_int,
        metavar="N",
        help="score only the first N videos of the list",
    )
    group.add_flag(
        "--on-error",
        "--on_error",
        effect=Effect.NONE,
        choices=("stop", "count-wrong"),
        default="stop",
        help="videos that cannot be decoded: stop with an error, or report each one and count it "
        "as wrong",
    )


def _add_results(parser):
    group = parser.group("results")
    group.add_flag(
        "--average",
        effect=Effect.NONE,
        choices=AVERAGES,
        help="what is averaged over the views of a video (default: logits; softmax for tdn, tin "
        "and files of MMAction2, as their authors do)",
    )
    group.add_flag(
        "--softmax",
        effect=Effect.NONE,
        action="store_true",
        help="apply softmax to each network's average, before the ensemble",
    )
    group.add_flag(
        "--coeff",
        effect=Effect.NONE,
        type=_each(positive_float),
        metavar="W[,W]",
        help="weights of the networks in the ensemble (default: 1 each)",
    )
    group.add_flag(
        "--csv_file",
        effect=Effect.NONE,
        metavar="FILE",
        help="also write the predictions as a submission",
    )
    group.add_flag(
        "--save_scores",
        effect=Effect.NONE,
        metavar="FILE.npz",
        help="also write the scores of every segment and crop to one file, as tsn-pytorch does "
        "(.npz is added)",
    )


def _add_run(parser):
    group = parser.group("run")
    group.add_flag(
        "--output_dir",
        effect=Effect.NONE,
        default="scores",
        metavar="DIR",
        help="folder of the score files; for an ensemble, of one folder for each network",
    )
    group.add_flag(
        "--batch_size",
        "-b",
        effect=Effect.NOISE,
        type=positive_int,
        default=1,
        metavar="N",
        help="clips per batch, each with all its crops; with 1 the scores are bit-identical for "
        "any number of processes and after any interruption",
    )
    group.add_flag(
        "--view_batch",
        effect=Effect.NOISE,
        type=positive_int,
        metavar="N",
        help="largest number of views per batch (default: no limit; either way it is halved when "
        "the device runs out of memory)",
    )
    group.add_flag(
        "--runtime",
        effect=Effect.RESULT,
        choices=RUNTIMES,
        default=TORCH,
        help="what computes the network; onnxruntime exports it first, which takes a minute, and "
        "runs on CPUs; int8 scores differ, and its ranges come from 128 of the videos",
    )
    group.add_flag(
        "--gpus",
        effect=Effect.NONE,
        replaces=("device",),
        type=non_negative_int,
        nargs="+",
        metavar="N",
        help="the GPU to use, as --device cuda:N; for several start one process for each with "
        "torchrun",
    )


def testing_arguments(description, crops, argv=None):
    """Parse the flags of the test scripts.

    Args:
        description: first lines of ``--help``.
        crops: default number of crops.
        argv: the command line after the program's name; None takes that of this process.

    Returns:
        the arguments. ``models`` is a list with, for each network, a namespace of the flags that
        are its own (``weights``, ``val_list`` and what else is marked [,]); ``notes`` are lines
        for the user about flags of the originals; ``free_options`` are the names of flags that may
        differ between runs that write scores into one directory.

    Raises:
        UserError: for flags that exclude each other.
    """
    argv = sys.argv[1:] if argv is None else argv
    parser = testing_parser(description, crops)
    args = parse_with_config(parser, argv, SECTION)
    args.free_options = parser.names_of(Effect.EXTENT, Effect.NONE)
    legacy_note = legacy.translate_testing(args, parser.prog, argv)
    args.notes = [legacy_note] if legacy_note else []
    _read_positionals(args)
    args.test_crops = args.test_crops or [crops]
    if args.save_scores and not args.save_scores.endswith(".npz"):
        args.save_scores += ".npz"  # as numpy.savez does for the originals
    if args.sample:
        if args.test_sampling or args.clips:
            raise UserError("--sample sets --test_sampling and --clips; give it alone")
        args.test_sampling, args.clips = [args.sample[0]], args.sample[1]
    if not args.weights:
        raise UserError("--weights is missing: give a checkpoint, published or of this project")
    if args.clips and args.clip_index is not None and args.clip_index >= args.clips:
        raise UserError(
            f"--clip_index {args.clip_index}: of {args.clips} clips the last is {args.clips - 1}"
        )
    args.models = _flags_per_network(args)
    return args


def _flags_per_network(args):
    """A namespace for each network of ``--weights``, with the flags that are its own."""
    weights = [str(resolve_weights(path)) for path in split_paths(args.weights)]
    values_of = {"weights": weights, "coeff": args.coeff or [1.0]}
    for name in PER_NETWORK:
        values_of[name] = getattr(args, name) or [None]
    for name in PER_NETWORK_PATHS:
        path = getattr(args, name)
        # The path of a single network may contain commas.
        values_of[name] = path.split(",") if path and len(weights) > 1 else [path]
    models = [argparse.Namespace() for _ in weights]
    for name, values in values_of.items():
        if len(values) not in (1, len(weights)):
            raise UserError(
                f"--{name}: {len(values)} values for {len(weights)} networks; give one for all or "
                f"one for each"
            )
        if len(values) == 1:
            values = values * len(weights)
        for model, value in zip(models, values, strict=True):
            setattr(model, name, value)
    return models


def _read_positionals(args):
    """The arguments after the dataset: modality, list, weights (tsn-pytorch) or modality (TIN)."""
    words = args.tsn
    if not words:
        return
    if len(words) == 1 and words[0] in MODALITIES and args.weights and not args.modality:
        args.modality = words
        return
    if len(words) != 3 or args.weights or args.val_list or args.modality:
        raise UserError(
            f"{' '.join(words)}: after the dataset come no arguments, or a modality, a list and "
            f"weights, and then no --modality, --test_list and --weights"
        )
    args.modality, args.val_list, args.weights = [words[0]], words[1], words[2]
    if not args.test_segments:
        args.test_segments = [TSN_SEGMENTS]
    if not args.test_crops:
        args.test_crops = [TSN_CROPS]
    if not args.test_sampling and not args.sample:
        args.test_sampling = ["center"]
    segments, crops = args.test_segments[0], args.test_crops[0]
    args.notes.append(f"tsn-pytorch's form: --test_segments {segments} --test_crops {crops}")


def split_paths(text):
    """Split paths that are separated by commas, of which each may contain commas itself.

    Args:
        text: one path or several.

    Returns:
        The longest parts, from the left, that exist; a part that does not exist ends at its first
        comma.
    """
    parts = text.split(",")
    paths = []
    while parts:
        length = len(parts)
        while length > 1 and not os.path.exists(",".join(parts[:length])):
            length -= 1
        paths.append(",".join(parts[:length]))
        parts = parts[length:]
    return paths


def _each(kind):
    """Values of one kind, separated by commas, as a list."""

    def parse(text):
        return [kind(part) for part in text.split(",")]

    parse.__name__ = kind.__name__.strip("_")  # argparse's name for it in errors
    return parse


def _sampling_and_clips(text):
    """TAM's ``uniform-10`` as ("uniform", 10)."""
    kind, _, number = text.partition("-")
    if kind not in ("uniform", "dense") or not number.isdecimal() or int(number) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not uniform-N or dense-N with N clips")
    return kind, int(number)


def _crops(text):
    if text not in map(str, CROPS):
        raise argparse.ArgumentTypeError(f"{text!r} is not 1, 3, 5 or 10")
    return int(text)


def _sampling(text):
    known = samplings_for_tests()
    if text not in known:
        raise argparse.ArgumentTypeError(f"{text!r} is not one of {', '.join(known)}")
    return text
