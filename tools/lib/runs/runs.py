"""Reads the output folder of a training: its options, its log and the metadata of its scores."""

import json
import re
from pathlib import Path
from typing import Any, NamedTuple

from lib.runs.recipes import Recipe, settled
from ops.cli.train_args import training_arguments
from ops.scores.metadata import ScoreMetadata, read_metadata
from ops.scores.metrics import TITLES
from ops.training.run_metadata import current_options
from ops.utils.errors import UserError
from ops.utils.files import read_regular
from ops.utils.text import printable

# Options that args.json of every version of main.py has.
REQUIRED = (
    "dataset",
    "modality",
    "module",
    "arch",
    "num_segments",
    "epochs",
    "batch_size",
    "lr",
)
POSITIVE = ("batch_size", "accumulate", "lr")
# The published number for one view, in the comment of a recipe.
ONE_VIEW = re.compile(
    r"([\d.]+) %(?:, Prec@5 [\d.]+ %)? with \d+ frames x 1 c\w+ x 1 c\w+,"  # crop and clip
)


class Run(NamedTuple):
    """A training.

    Attributes:
        options: those of ``args.json``, as ``settled`` returns them.
        epochs: the numbers that ``log.jsonl`` holds for each epoch.
        scores: name of a score directory -> its metadata.
    """

    options: dict[str, Any]
    epochs: list[dict[str, float]]
    scores: dict[str, ScoreMetadata]


def read_run(folder: str | Path) -> Run:
    """Read the output folder of a training.

    Options that main.py did not have yet when it wrote ``args.json`` get their default.

    Args:
        folder: ``--output_dir`` of the run.

    Raises:
        UserError: the folder has no ``args.json``, or one that main.py cannot have written.
    """
    path = Path(folder) / "args.json"
    options = _read_options(path)
    defaults = vars(training_arguments("", ["something", "RGB"]))
    for key, default in defaults.items():
        fallback = None if key in REQUIRED else default
        value = options.get(key, fallback) if isinstance(options, dict) else None
        if not _is_valid(key, value, default):
            raise UserError(
                f"{path}: {key} is {printable(value)}, which main.py does not write; "
                "give the --output_dir of a run"
            )
    options = current_options(options, expected_flip="names")
    options = {"num_classes": options.get("num_class"), **defaults, **options}
    for key in ("videos", "versions"):
        if not isinstance(options.get(key), dict):
            options[key] = {}
    scores = {
        metadata.parent.name: read_metadata(metadata.parent)
        for metadata in sorted(Path(folder).glob("scores*/scores.json"))
    }
    epochs = _read_log(Path(folder) / "log.jsonl")
    return Run(settled(options, options.get("world_size")), epochs, scores)


def _read_options(path: Path) -> Any:
    try:
        return json.loads(read_regular(path).decode())
    except (FileNotFoundError, NotADirectoryError):
        raise UserError(
            f"{path.parent}: has no {path.name}; give the --output_dir of a run of main.py"
        ) from None
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(
            f"{path}: cannot be read as JSON ({type(error).__name__}); give another run"
        ) from None


def _is_valid(key: str, value: Any, default: Any) -> bool:
    """Whether main.py can have written a value of an option."""
    if not _has_type_of(value, default):
        return False
    if key in POSITIVE:
        return value > 0
    if key == "lr_batch" and value is not None:
        return type(value) is int and value >= 1
    return True


def _has_type_of(value: Any, default: Any) -> bool:
    """Whether a value has the type of a default; where that is None: text, a number or None."""
    if isinstance(default, list):
        kind = int | float if default else str  # epochs of --lr_steps; files of --config
        return isinstance(value, list) and all(isinstance(one, kind) for one in value)
    if isinstance(default, str):
        return isinstance(value, str)
    if isinstance(default, int | float) and not isinstance(default, bool):
        return isinstance(value, int | float)
    return isinstance(value, str | int | float | None)


def _read_log(path: Path) -> list[dict[str, float]]:
    """The epochs of a log, without lines that a killed run did not finish."""
    if not path.is_file():
        return []
    epochs = []
    for line in path.read_text("utf-8", errors="replace").splitlines():
        try:
            content = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if not isinstance(content, dict):
            continue
        numbers = {key: value for key, value in content.items() if isinstance(value, int | float)}
        if "epoch" in numbers:
            epochs.append(numbers)
    return epochs


def describe_best(recipe: Recipe, run: Run) -> str:
    """The best validation of a run, and its distance from the published number for one view."""
    metric = "map" if any("val_map" in epoch for epoch in run.epochs) else "top1"
    key = f"val_{metric}"
    validated = [epoch for epoch in run.epochs if key in epoch]
    if not validated:
        return "not validated yet"
    best = max(validated, key=lambda epoch: epoch[key])
    text = (
        f"{TITLES[metric]} {best[key]:.2f} % in the validation after epoch {best['epoch']} "
        "(1 crop x 1 clip)"
    )
    if metric != "top1" or not (recipe.expected or "").startswith("Prec@1"):
        return text
    published = ONE_VIEW.search(recipe.expected)
    if published is None:
        return f"{text}; the published number is for more views: test, then compare"
    points = best[key] - float(published[1])
    side = "below" if points < 0 else "above"
    return f"{text}, {abs(points):.1f} points {side} the {published[1]} % expected of one view"
