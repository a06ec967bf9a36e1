"""Check this project on one NVIDIA GPU: tests, then benchmarks beside the originals.

The parts run one after the other, each in a process of its own, until the time is over. Nothing is
installed or downloaded; the tests need PyTorch, torchvision, pytest and safetensors.

    python tools/gpu_check.py
    python tools/gpu_check.py --device cpu --minutes 30      (a dry run)
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from ops.cli.types import positive_float
from ops.utils.errors import run_cli


def parse_args():
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument(
        "--out", default="runs/gpu_check", metavar="DIR", help="folder of the report and the logs"
    )
    parser.add_argument(
        "--device",
        choices=("cuda", "cpu"),
        default="cuda",
        help="cuda, or cpu for a dry run with small inputs (default: cuda)",
    )
    parser.add_argument(
        "--minutes",
        type=positive_float,
        default=7.5,
        help="time for all parts; a part that does not end within it is stopped (default: 7.5)",
    )
    return parser.parse_args()


def main():
    args = parse_args()
    from lib.benchmarks.gpu_check import check

    check(args)


if __name__ == "__main__":
    run_cli(main)
