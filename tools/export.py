"""Export a network as an ONNX or torch.export file, for any number of clips at a time.

    python tools/export.py --weights best.pth --out best.onnx
    python tools/export.py --weights best.pth --check val.txt --out best.onnx
    python tools/export.py --weights best.pth --int8 train.txt --check val.txt --out small.onnx
    python tools/export.py --weights online.pth --stream --out online.onnx
    python tools/export.py --weights best.pth --to torch --out best.pt2

The file takes uint8 pixels (input `clip`, [B, T, L*C, S, S]) and gives logits (`scores`, [B,
classes]); normalization is in the graph, class names and sampling in the metadata. predict.py takes
an ONNX file as --weights. With --stream the input is one frame and the state of the stream
(`frame`, `state_0`, ...), for a tsm of --shift_direction past or a tsn.

The scores of the file are compared with those of the checkpoint in float32, on noise, on generated
pictures and on the videos of --check, in batches of 1, 2, 3 and 5. A file with other scores is not
written: the largest difference is 1e-4 of the largest logit, 3e-2 for --fp16 and --int8.

docs/export.md shows how to use the files.
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from lib.arguments import (
    add_class_names_flag,
    add_weights_flags,
    check_output_file,
    command_parser,
)
from ops.cli.types import positive_int
from ops.utils.errors import UserError, run_cli

SUFFIXES = {"onnx": ".onnx", "torch": ".pt2"}


def main() -> None:
    args = parser().parse_args()
    check_flags(args)
    # Imports PyTorch, which --help does not need.
    from lib.exporting.export_command import export

    export(args)


def check_flags(args: argparse.Namespace) -> None:
    """Refuse flags that exclude each other, and an --out that cannot be written, before the work.

    Raises:
        UserError: the first of them.
    """
    suffix = SUFFIXES[args.to]
    if args.out.suffix.lower() != suffix:
        raise UserError(f"--out {args.out}: the name of a file of --to {args.to} ends in {suffix}")
    check_output_file(args.out)
    if args.fp16 and args.int8:
        raise UserError("--fp16 and --int8 exclude each other")
    if args.force and not args.int8:
        raise UserError("--force keeps an --int8 file whose predictions differ; give --int8 LIST")
    if args.to == "torch":
        for name in ("int8", "opset"):
            if getattr(args, name) is not None:
                raise UserError(f"--{name} is for --to onnx")
    for name in ("root_path", "image_tmpl"):
        if getattr(args, name) and not (args.check or args.int8):
            raise UserError(f"--{name} is for the videos of --check or --int8")


def parser() -> argparse.ArgumentParser:
    top = command_parser(__doc__)
    top.add_argument(
        "--out", type=Path, required=True, metavar="FILE", help="file to write, or to replace"
    )
    model = top.add_argument_group("model")
    add_weights_flags(model)
    add_class_names_flag(model)
    model.add_argument(
        "--input_size",
        type=positive_int,
        metavar="PIXELS",
        help="side of the square input (default: that of predict.py)",
    )
    target = top.add_argument_group("file")
    target.add_argument(
        "--to", choices=tuple(SUFFIXES), default="onnx", help="format of the file (default: onnx)"
    )
    target.add_argument(
        "--stream", action="store_true", help="one frame at a time, with a state: for live video"
    )
    target.add_argument(
        "--fuse_bn", action="store_true", help="fold BatchNorms into the convs before the export"
    )
    target.add_argument(
        "--fp16", action="store_true", help="weights and computation in half precision"
    )
    target.add_argument(
        "--int8",
        metavar="LIST",
        help="quantize convs and classifier, calibrated with videos of this list",
    )
    target.add_argument(
        "--opset", type=int, metavar="N", help="version of the ONNX operators (default: 20)"
    )
    check = top.add_argument_group("check")
    check.add_argument(
        "--check",
        metavar="LIST_OR_VIDEO",
        help="also compare on videos; of a list, print the accuracy of both networks "
        "(default with --int8: videos of that list)",
    )
    check.add_argument(
        "--root_path",
        default="",
        metavar="DIR",
        help="folder that the paths of the lists are relative to (default: the current folder)",
    )
    check.add_argument(
        "--image_tmpl",
        metavar="TMPL",
        help="file names in a folder of frames (default: inferred from the files)",
    )
    check.add_argument(
        "--force",
        action="store_true",
        help="keep an --int8 file whose predictions differ from those of the checkpoint",
    )
    return top


if __name__ == "__main__":
    run_cli(main)
