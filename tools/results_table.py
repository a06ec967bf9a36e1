"""Write the results table of README.md and docs/model_zoo.md.

    python tools/results_table.py            after a change of a script or of the manifest
    python tools/results_table.py --check    only compare; the exit status is 1 if they differ

The tables are made from the scripts in scripts/ and from pretrained/manifest.json.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from lib.arguments import command_parser
from ops.utils.errors import run_cli

ROOT = Path(__file__).resolve().parents[1]
README = ROOT / "README.md"
MODEL_ZOO = ROOT / "docs" / "model_zoo.md"


def main() -> None:
    parser = command_parser(__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing, only compare")
    args = parser.parse_args()
    from lib.weights.model_zoo import model_zoo
    from lib.weights.results_table import replace_table, results_table
    from ops.utils.files import atomic_write

    readme = README.read_text(encoding="utf-8")
    current = {README: replace_table(readme, results_table()), MODEL_ZOO: model_zoo()}
    outdated = 0
    for path, text in current.items():
        if path.exists() and path.read_text(encoding="utf-8") == text:
            print(f"{path}: up to date")
        elif args.check:
            print(f"{path}: out of date; run python tools/results_table.py")
            outdated += 1
        else:
            with atomic_write(path, "w") as file:
                file.write(text)
            print(f"{path}: written")
    if outdated:
        sys.exit(1)


if __name__ == "__main__":
    run_cli(main)
