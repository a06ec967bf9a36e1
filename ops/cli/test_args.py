"""The flags of the two test fronts."""

import argparse
import os
import sys

from ops.backbones.modalities import MODALITIES
from ops.checkpoints.torch_file import weight_file
from ops.cli import legacy
from ops.cli.train_args import (
    WEIGHTS_KEY_HELP,
    add_data,
    add_module_options,
    add_runtime,
    base_parser,
)
from ops.cli.types import non_negative_int, positive_float, positive_int, segments
from ops.data.sampling import samplings_for_tests
from ops.temporal import MODULES
from ops.utils.errors import UserError

# tsn-pytorch test_models.py: its defaults, which its command relies on.
TSN_SEGMENTS, TSN_CROPS = 25, 10


def testing_parser(description, crops):
    """Flags of the two test fronts; crops: default of ``--test_crops``. Where several networks are tested, flags marked
    with [,] take one value for all or one for each, separated by commas."""
    parser = base_parser(description)
    parser.add_argument(
        "tsn",
        nargs="*",
        metavar="MODALITY TEST_LIST WEIGHTS",
        help="tsn-pytorch's form, in place of --modality, --test_list and --weights; its "
        "defaults are "
        f"{TSN_SEGMENTS} segments and {TSN_CROPS} crops",
    )
    add_data(parser, (("val_list", "videos to score [,]"),))
    parser.add_argument(
        "--test_list", dest="val_list", metavar="FILE", help="the same as --val_list [,]"
    )

    group = parser.add_argument_group("model")
    group.add_argument(
        "--weights",
        metavar="FILE[,FILE]",
        help="checkpoints, ours or published, or folders of runs (their best.pth); several are an ensemble",
    )
    group.add_argument(
        "--weights_key", type=_each(str), metavar="NAME", help=f"{WEIGHTS_KEY_HELP} [,]"
    )
    group.add_argument(
        "--coeff",
        type=_each(positive_float),
        metavar="W[,W]",
        help="weights of the networks in the ensemble (default: 1 each)",
    )
    group.add_argument(
        "--archs",
        "--arch",
        type=_each(str),
        metavar="ARCH",
        help="backbone; checked against the checkpoint [,]",
    )
    group.add_argument(
        "--test_segments",
        type=_each(segments),
        metavar="T",
        help="segments of a clip [,] (default: what the checkpoint was trained with)",
    )
    group.add_argument(
        "--modality", type=_each(str), metavar="NAME", help="checked against the checkpoint [,]"
    )
    group.add_argument(
        "--module",
        choices=tuple(MODULES),
        help="temporal module, where neither the weights nor the name of a published file tell it",
    )
    add_module_options(group)
    group.add_argument(
        "--fuse_bn",
        action="store_true",
        help="fold BatchNorms into the convs: same scores to rounding",
    )

    group = parser.add_argument_group("protocol")
    group.add_argument(
        "--test_crops",
        type=_each(_crops),
        metavar="{1,3,5,10}",
        help=f"crops of a frame [,] (default: {crops})",
    )
    group.add_argument(
        "--test_sampling",
        type=_each(_sampling),
        metavar=f"{{{','.join(samplings_for_tests())}}}",
        help="; ".join(f"{name}: {entry.help}" for name, entry in samplings_for_tests().items())
        + " [,] (default: random for kinetics with tdn, dense with tam, else center)",
    )
    for flag in ("dense", "twice"):
        group.add_argument(
            f"--{flag}_sample",
            dest="test_sampling",
            action="store_const",
            const=[flag],
            help=f"the same as --test_sampling {flag}",
        )
    group.add_argument(
        "--sample",
        type=_clips_of,
        metavar="{uniform,dense}-N",
        help="TAM's flag: --test_sampling and --clips N",
    )
    group.add_argument(
        "--clips",
        type=positive_int,
        metavar="N",
        help="clips of a video, all in one run (default: 10 for dense, 2 for twice, else the one --clip_index)",
    )
    group.add_argument(
        "--clip_index", type=non_negative_int, metavar="K", help="score this one clip only, from 0"
    )
    group.add_argument(
        "--full_res", action="store_true", help="crops as large as the scaled short side (256)"
    )
    group.add_argument(
        "--scale_size",
        type=positive_int,
        metavar="PIXELS",
        help="short side of a scaled frame (default: the crop size * 256 / 224)",
    )
    group.add_argument(
        "--average",
        choices=AVERAGES,
        help="what is averaged over the views of a video (default: logits; softmax for tdn and tin and for "
        "files of MMAction2, as their authors do)",
    )
    group.add_argument(
        "--softmax",
        action="store_true",
        help="softmax of each network's average, before the ensemble",
    )
    group.add_argument(
        "--max_num",
        type=positive_int,
        metavar="N",
        help="score the first N videos of the list only",
    )
    group.add_argument(
        "--on-error",
        "--on_error",
        choices=("stop", "count-wrong"),
        default="stop",
        help="an unreadable video: stop, or count it as wrong and name it",
    )

    group = parser.add_argument_group("run")
    group.add_argument(
        "--output_dir",
        default="scores",
        metavar="DIR",
        help="folder of the score files; for an ensemble, of one folder for each network",
    )
    group.add_argument(
        "--csv_file", metavar="FILE", help="also write the predictions as a submission"
    )
    group.add_argument(
        "--save_scores",
        metavar="FILE.npz",
        help="also write the scores of every segment and crop to one file, as tsn-pytorch does "
        "(.npz is added)",
    )
    group.add_argument(
        "--batch_size",
        "-b",
        type=positive_int,
        default=1,
        metavar="N",
        help="clips that go through the network at once, each with all its crops; with 1 the scores are the "
        "same to the last bit for any number of processes and after any interruption",
    )
    group.add_argument(
        "--view_batch",
        type=positive_int,
        metavar="N",
        help="at most N views through the network at once (default: no limit; either way it is halved when the "
        "device runs out of memory)",
    )
    group.add_argument(
        "--gpus",
        type=non_negative_int,
        nargs="+",
        metavar="N",
        help="the GPU to use, as --device cuda:N; for several start one process for each with torchrun",
    )
    add_runtime(parser)
    legacy.add_testing_flags(parser)
    return parser


def testing_arguments(description, crops, argv=None):
    """Parse the flags of the test scripts.

    Args:
        description: first lines of ``--help``.
        crops: number of crops where no flag says it.
        argv: the command line after the program's name; None takes that of this process.

    Returns:
        the arguments. ``models`` is a list with, for each network, a namespace of the flags that
        are its own (``weights``, ``val_list`` and what else is marked [,]); ``notes`` are lines
        for the user about flags of the originals.

    Raises:
        UserError: for flags that exclude each other.
    """
    argv = sys.argv[1:] if argv is None else argv
    parser = testing_parser(description, crops)
    args = parser.parse_args(argv)
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
        raise UserError("--weights is missing: give a checkpoint, ours or a published one")
    if args.clips and args.clip_index is not None and args.clip_index >= args.clips:
        raise UserError(
            f"--clip_index {args.clip_index}: of {args.clips} clips the last is {args.clips - 1}"
        )
    weights = [str(weight_file(path)) for path in split_paths(args.weights)]
    own = {
        "weights": weights,
        "coeff": args.coeff or [1.0],
        **{name: getattr(args, name) for name in EACH},
    }
    for name in ("val_list", "image_tmpl", "root_path"):  # one network's may hold a comma
        value = getattr(args, name)
        own[name] = value.split(",") if value and len(weights) > 1 else value and [value]
    args.models = [argparse.Namespace() for _ in weights]
    for name, values in own.items():
        values = values or [None]
        if len(values) not in (1, len(weights)):
            raise UserError(
                f"--{name}: {len(values)} values for {len(weights)} networks; give one for all or one for each"
            )
        for model, value in zip(
            args.models, values * len(weights) if len(values) == 1 else values, strict=True
        ):
            setattr(model, name, value)
    return args


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
            f"weights, "
            f"and then no --modality, --test_list and --weights"
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


EACH = ("archs", "test_segments", "modality", "test_crops", "test_sampling", "weights_key")
AVERAGES = ("logits", "softmax")


def split_paths(text):
    """Split paths that are separated by commas, of which each may contain commas itself.

    Args:
        text: one path or several.

    Returns:
        The longest parts, from the left, that exist; a part that does not exist ends at its first comma.
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


def _clips_of(text):
    kind, _, number = text.partition("-")
    if kind not in ("uniform", "dense") or not number.isdecimal() or int(number) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not uniform-N or dense-N with N clips")
    return kind, int(number)


def _crops(text):
    if text not in ("1", "3", "5", "10"):
        raise argparse.ArgumentTypeError(f"{text!r} is not 1, 3, 5 or 10")
    return int(text)


def _sampling(text):
    if text not in samplings_for_tests():
        raise argparse.ArgumentTypeError(
            f"{text!r} is not one of {', '.join(samplings_for_tests())}"
        )
    return text
