"""Compare a training run with its published recipe and list the differences, likely causes first.

    python tools/doctor.py runs/tsm_sthv1_r50_8f
    python tools/doctor.py runs/mine --recipe scripts/tdn/sthv1_r50_8f.toml

Reads args.json, log.jsonl and scores*/scores.json of the run. Without --recipe the recipe of
scripts/ with the dataset and network of the run is used.
Exit status: 0 without a likely cause of a lower result, 1 with one, 2 after an error.
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from lib.arguments import command_parser
from ops.utils.errors import run_cli


def main() -> None:
    args = parser().parse_args()
    from lib.runs.diagnosis import diagnose  # imports PyTorch, which --help does not need

    diagnosis = diagnose(args.run_dir, args.recipe)
    if args.json:
        print(diagnosis.to_json())
    else:
        print("\n".join(diagnosis.lines()))
    sys.exit(bool(diagnosis.likely_causes))


def parser() -> argparse.ArgumentParser:
    top = command_parser(__doc__)
    top.add_argument("run_dir", metavar="RUN_DIR", help="--output_dir of a run of main.py")
    top.add_argument(
        "--recipe",
        metavar="FILE.toml",
        help="recipe, a file for --config of main.py (default: the one in scripts/ that fits the "
        "run)",
    )
    top.add_argument("--json", action="store_true", help="print one JSON object instead of text")
    return top


if __name__ == "__main__":
    run_cli(main)
