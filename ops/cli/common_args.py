"""The flags that training, tests and tools share."""

import argparse

from ops.cli.flags import Effect, FlagParser
from ops.cli.types import AMP, non_negative_int, positive_int, seed, workers
from ops.data.datasets import KNOWN
from ops.data.readers.open import DECODERS
from ops.temporal import MODULES, option_names
from ops.utils.machine import default_workers

ORIGINAL_FLAGS = (
    "The flags of the original repositories are accepted as well: docs/original_commands.md"
)
WEIGHTS_KEY_HELP = "key of the weights in a file that contains several, such as state_dict_ema"
# How the text of a flag becomes the value of an option of a temporal module, by its type.
OPTION_TYPES = {int: int, float: float, str: str}
METAVARS = {int: "N", float: "F", str: "TEXT"}


def base_parser(description):
    """A parser with the argument ``dataset``.

    Args:
        description: text of ``--help``.

    Returns:
        a :class:`FlagParser`.
    """
    parser = FlagParser(description, epilog=ORIGINAL_FLAGS)
    parser.add_flag(
        "dataset",
        effect=Effect.RESULT,
        help=f"{', '.join(KNOWN)}, a file NAME.toml or its folder, or another name with the list "
        "flags below",
    )
    return parser


def add_data(parser, lists):
    """Add the flags of the data.

    Args:
        parser: a :class:`FlagParser`.
        lists: (name, help) of the flags that give lists of videos.
    """
    group = parser.group("data (each flag overrides the dataset's own setting)")
    for name, meaning in lists:
        group.add_flag(f"--{name}", effect=Effect.EXTENT, metavar="FILE", help=meaning)
    group.add_flag(
        "--root_path",
        effect=Effect.NONE,
        metavar="DIR",
        help="folder, or shard set (NAME.shards, also at a URL), that the paths of a list are "
        "relative to",
    )
    group.add_flag(
        "--flow_prefix",
        "--flow_pref",
        effect=Effect.NONE,
        replaces=("image_tmpl",),
        metavar="TEXT",
        help="start of the names of flow files: sets --image_tmpl to TEXT{}_{:05d}.jpg "
        "(tsn-pytorch's flag)",
    )
    group.add_flag(
        "--num_class",
        effect=Effect.RESULT,
        type=positive_int,
        metavar="N",
        help="number of classes",
    )
    group.add_flag(
        "--class_names",
        effect=Effect.EXTENT,
        metavar="FILE",
        help="class names, one per line, in label order",
    )
    group.add_flag(
        "--multi_label",
        effect=Effect.RESULT,
        action="store_true",
        help="a video can have several labels, `video 3,17` in the lists: binary cross-entropy, "
        "mAP",
    )
    group.add_flag(
        "--image_tmpl",
        effect=Effect.NONE,
        replaces=("flow_prefix",),
        metavar="TMPL",
        help="file names in a frame folder, such as img_{:05d}.jpg",
    )
    group.add_flag(
        "--sampling_compat",
        effect=Effect.RESULT,
        action="store_true",
        help="sample short videos as the originals do, which repeat the first frame",
    )
    group.add_flag(
        "--decoder",
        effect=Effect.NONE,
        choices=tuple(DECODERS),
        default="pyav",
        help="library that decodes video files",
    )
    group.add_flag(
        "-j",
        "--workers",
        effect=Effect.NONE,
        type=workers,
        default=default_workers(),
        metavar="N",
        help="number of data-loading workers per process",
    )
    group.add_flag(
        "--timeout",
        effect=Effect.NONE,
        type=non_negative_int,
        default=300,
        metavar="SECONDS",
        help="longest wait for a data-loading worker; 0 waits without a limit",
    )


def module_option_flags():
    """The flags of the options in the table of temporal modules.

    The default of a flag is None, "not given", since modules that share an option may have
    different defaults for it.

    Returns:
        a list of (flag, settings of ``add_argument``).

    Raises:
        TypeError: two modules declare an option of the same name with different types.
    """
    flags = []
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
        settings = {"help": f"{first.help} (default: {defaults})"}
        choices = {value: None for option in options.values() for value in option.choices}
        if first.type is bool:
            settings["action"] = argparse.BooleanOptionalAction
        elif choices:
            settings.update(type=OPTION_TYPES[first.type], choices=tuple(choices))
        else:
            settings.update(type=OPTION_TYPES[first.type], metavar=METAVARS[first.type])
        flags.append((f"--{name}", settings))
    return flags


def add_module_options(group):
    """Add :func:`module_option_flags` to a :class:`ops.cli.flags.FlagGroup`."""
    for flag, settings in module_option_flags():
        group.add_flag(flag, effect=Effect.RESULT, **settings)


def add_runtime(parser):
    """Add the flags of the machine and of reproducibility."""
    group = parser.group("machine")
    group.add_flag(
        "--device",
        effect=Effect.NONE,
        metavar="NAME",
        help="cpu, cuda, cuda:1, mps (default: a GPU if there is one, else the CPU)",
    )
    group.add_flag(
        "--amp",
        effect=Effect.RESULT,
        choices=AMP,
        default="none",
        help="automatic mixed precision",
    )
    group.add_flag(
        "--channels_last",
        effect=Effect.NOISE,
        action=argparse.BooleanOptionalAction,
        default=True,
        help="store activations channels-last: faster, the same numbers to rounding",
    )
    group.add_flag(
        "--compile",
        effect=Effect.NONE,
        action="store_true",
        help="torch.compile the model for batches of the usual size; takes minutes at the start",
    )
    group.add_flag(
        "--local-rank",
        "--local_rank",
        effect=Effect.NONE,
        type=int,
        metavar="N",
        help="set by python -m torch.distributed.launch; torchrun needs no flag",
    )
    group.add_flag(
        "--seed",
        effect=Effect.NOISE,
        type=seed,
        default=0,
        metavar="N",
        help="seed of every random draw",
    )
    group.add_flag(
        "--deterministic",
        effect=Effect.NOISE,
        action="store_true",
        help="the same numbers in every run on a GPU, too, by slower algorithms where there is a "
        "choice",
    )
    group.add_flag(
        "--dry_run",
        effect=Effect.NONE,
        action="store_true",
        help="parse the flags, build the model, count the videos and stop",
    )
