"""Write the results table of README.md from the scripts and pretrained/manifest.json.

python tools/results_table.py            after a change of a script or of the manifest
python tools/results_table.py --check    only compare; the exit status is 1 if they differ
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from ops.utils.errors import run_cli

README = Path(__file__).resolve().parents[1] / "README.md"


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--check", action="store_true", help="write nothing, only compare")
    args = parser.parse_args()
    from lib.results_table import replace_table, results_table
    from ops.utils.files import atomic_write

    text = README.read_text(encoding="utf-8")
    current = replace_table(text, results_table())
    if current == text:
        print(f"{README}: the results table is up to date")
        return
    if args.check:
        print(f"{README}: the results table is out of date; run python tools/results_table.py")
        sys.exit(1)
    with atomic_write(README, "w") as file:
        file.write(current)
    print(f"{README}: results table written")


if __name__ == "__main__":
    run_cli(main)
