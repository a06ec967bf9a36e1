"""Convert weights between this project's checkpoints and the layouts of the published ones.

    python tools/convert_checkpoint.py tsm_r50_8f_k400 tsm.pth
    python tools/convert_checkpoint.py runs/mine/best.pth for_tsm.pth.tar --to tsm
    python tools/convert_checkpoint.py runs/mine/best.pth mine.safetensors

IN is any file that --weights takes: of this project, TSN, TSM, TAM, TIN, TDN, MMAction2 or
torchvision. It is loaded strictly. OUT is a checkpoint of this project (--to ours), which contains
its model's options, or what the other project's own loader expects. A name that ends in
.safetensors gives a file of that format. What IN does not contain (T of a renamed TSM file, for
example) is assumed and reported, unless a flag gives it. OUT is loaded again and compared, tensor
by tensor, before it gets its name.
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from lib.arguments import command_parser
from ops.checkpoints.layout_tables import LAYOUTS
from ops.cli.common_args import WEIGHTS_KEY_HELP, module_option_flags
from ops.cli.types import positive_int
from ops.temporal import MODULES, option_names
from ops.utils.errors import run_cli


def main() -> None:
    args = parser().parse_args()
    # Imports PyTorch, which --help does not need.
    from lib.weights import conversion

    conversion.check_target(args.out, args.to, args.force, args.class_names)
    given = {name: getattr(args, name) for name in ("num_segments", "module", *option_names())}
    given = {name: value for name, value in given.items() if value is not None}
    source = conversion.load_source(args.source, args.weights_key, given, args.class_names)
    print("\n".join(conversion.describe_source(source)))
    if args.keys:
        print("\n".join(conversion.describe_keys(source)))
    missing = conversion.write(args.out, source, args.to)
    print("\n".join(conversion.describe_target(args.out, args.to, source, missing)))


def parser() -> argparse.ArgumentParser:
    top = command_parser(__doc__)
    top.add_argument(
        "source",
        type=Path,
        metavar="IN",
        help="weights to read; a published file's name contains options that its weights do not",
    )
    top.add_argument("out", type=Path, metavar="OUT", help="file to write")
    top.add_argument(
        "--to",
        choices=[name for name, layout in LAYOUTS.items() if layout.written],
        default="ours",
        help="layout of OUT (default: ours)",
    )
    top.add_argument("--keys", action="store_true", help="also print the new name of every key")
    top.add_argument("--force", action="store_true", help="replace OUT if it exists")
    top.add_argument("--weights_key", metavar="NAME", help=WEIGHTS_KEY_HELP)
    group = top.add_argument_group("options that IN does not contain")
    group.add_argument(
        "--class_names", metavar="FILE", help="class names, one per line, in label order"
    )
    group.add_argument("--num_segments", type=positive_int, metavar="T", help="segments of a clip")
    group.add_argument(
        "--module",
        choices=tuple(MODULES),
        help="temporal module, where the weights do not show it",
    )
    for flag, settings in module_option_flags():
        group.add_argument(flag, **settings)
    return top


if __name__ == "__main__":
    run_cli(main)
