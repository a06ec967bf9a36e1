"""The two sides of ``doctor.py``: the recipe that a script of ``scripts/`` holds, and a run that a folder holds."""

import contextlib
import io
import json
import math
import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from lib.recipe_scripts import SCRIPTS, read_script, recipe_scripts
from ops.cli.test_args import testing_arguments
from ops.cli.train_args import training_arguments
from ops.data.datasets import choose_flip, dataset_name, load_class_names, resolve
from ops.data.sampling import TEST_SAMPLINGS
from ops.scores.metadata import Facts, read_facts
from ops.scores.metrics import TITLES
from ops.temporal import MODULES
from ops.training.optim import rate_for
from ops.training.run_metadata import current_options, digest
from ops.utils.errors import UserError
from ops.utils.files import read_regular
from ops.utils.text import printable

UNKNOWN = "unknown"  # a value that was not written down, or whose file is not here
SAME_ROW = (
    "dataset",
    "modality",
    "module",
    "arch",
    "num_segments",
    "sampling",
)  # what a run has in common with its row
NEEDED = (*SAME_ROW[:5], "epochs", "batch_size", "lr")  # what every args.json has


class Rate(NamedTuple):
    """A learning rate and the total batch that it is used with. Rates that are scaled linearly are the same."""

    lr: float
    batch: int

    def __eq__(self, other):
        return isinstance(other, Rate) and math.isclose(
            self.lr / self.batch, other.lr / other.batch, rel_tol=0.02
        )

    def __repr__(self):
        return f"{self.lr:.3g} for {self.batch}"


class Recipe(NamedTuple):
    """options: those of main.py, ``settled``; tests: for "test" and "test1", a protocol with keys of
    ``scores.json``, and ``clips`` as a number; expected: what the comment says of the result, None without."""

    script: str
    options: dict[str, Any]
    tests: dict[str, dict[str, Any]]
    expected: str | None


class Run(NamedTuple):
    """options: those of ``args.json``, ``settled``; rows: the numbers of ``log.jsonl``, a dict an epoch; scores: name of a
    score directory -> what its ``scores.json`` says."""

    options: dict[str, Any]
    rows: list[dict[str, float]]
    scores: dict[str, Facts]


def settled(options: Mapping[str, Any], processes: object) -> dict[str, Any]:
    """Options with what follows from the number of processes: ``rate``, and ``norm_batch``, the videos that a BatchNorm sees at
    once; and with ``num_classes`` and ``class_names_sha256``. What is not known is UNKNOWN."""
    facts = {key: options.get(key) or UNKNOWN for key in ("num_classes", "class_names_sha256")}
    facts |= {
        "flip": options["flip"] or UNKNOWN,
        "rate": UNKNOWN,
        "norm_batch": UNKNOWN if options["sync_bn"] else options["batch_size"],
    }
    if type(processes) is int and processes > 0:
        batch = processes * options["batch_size"] * options["accumulate"]
        lr, _, _ = rate_for(batch, options["lr"], options["lr_batch"], options["scale_lr"])
        facts |= {
            "rate": Rate(lr, batch),
            "norm_batch": options["batch_size"] * (processes if options["sync_bn"] else 1),
        }
    return {**options, **facts}


def read_run(folder: str | Path) -> Run:
    """Raises UserError for a folder without an ``args.json`` that main.py can have written. Options that main.py did not have
    when it wrote one count as not used."""
    path = Path(folder) / "args.json"
    try:
        options = json.loads(read_regular(path).decode())
    except (FileNotFoundError, NotADirectoryError):
        raise UserError(
            f"{folder}: has no args.json; give the --output_dir of a run of main.py"
        ) from None
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(
            f"{path}: cannot be read as JSON ({type(error).__name__}); give another run"
        ) from None
    defaults = vars(training_arguments("", ["something", "RGB"]))
    for key, default in defaults.items():
        value = (
            options.get(key, None if key in NEEDED else default)
            if isinstance(options, dict)
            else None
        )
        batch = key == "lr_batch" and value is not None
        if (
            not _fits(value, default)
            or (key in ("batch_size", "accumulate", "lr") and value <= 0)
            or (batch and (type(value) is not int or value < 1))
        ):
            raise UserError(
                f"{path}: {key} is {printable(value)}, which main.py does not write; give the --output_dir of a run"
            )
    scores = {
        place.parent.name: read_facts(place.parent)
        for place in sorted(Path(folder).glob("scores*/scores.json"))
    }
    options = current_options(options, expected_flip="names")
    options = {"num_classes": options.get("num_class"), **defaults, **options}
    options |= {
        key: options[key] if isinstance(options.get(key), dict) else {}
        for key in ("videos", "versions")
    }
    return Run(
        settled(options, options.get("world_size")), _rows(Path(folder) / "log.jsonl"), scores
    )


def _fits(value, default):
    """Whether a value is of the kind of a default; where that is None, text or a number."""
    if isinstance(default, list):
        return isinstance(value, list) and all(isinstance(one, (int, float)) for one in value)
    kinds = {str: str, int: (int, float), float: (int, float)}
    return isinstance(value, kinds.get(type(default), (str, int, float, type(None))))


def _rows(path):
    """The epochs of a log; a line that a killed run left broken is none."""
    rows = []
    for line in path.read_text("utf-8", errors="replace").splitlines() if path.is_file() else ():
        with contextlib.suppress(ValueError, RecursionError, AttributeError):
            rows.append(
                {
                    key: value
                    for key, value in json.loads(line).items()
                    if isinstance(value, (int, float))
                }
            )
    return [row for row in rows if "epoch" in row]


def read_recipe(script: str | Path) -> Recipe:
    """The recipe of a script.

    Raises:
        UserError: the script holds no training, or main.py or a test script would refuse its flags.
    """
    data = read_script(script)
    args = _parse(script, lambda: training_arguments("main.py", data.train))
    options = {**vars(args), "dataset": dataset_name(args.dataset)}
    sampling = "center"
    with contextlib.suppress(UserError):  # the files of a custom dataset may be elsewhere
        dataset = resolve(
            args.dataset,
            args.modality,
            train_list=args.train_list,
            val_list=args.val_list,
            num_class=args.num_class,
            class_names=args.class_names,
            image_tmpl=args.image_tmpl,
        )
        flips = MODULES[options["module"]].flips
        options["flip"], _ = choose_flip(dataset, options["flip"], options["module"], flips)
        sampling = dataset.test_sampling
        options["num_classes"] = dataset.num_class
        options["class_names_sha256"] = digest(load_class_names(dataset))
    tests = {
        mode: _protocol(script, command, options, sampling) for mode, command in data.tests.items()
    }
    return Recipe(str(script), settled(options, data.processes), tests, data.expected)


def _parse(script, parse: Callable[[], Any]):
    """What ``parse`` returns; what argparse says last becomes a UserError."""
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said), contextlib.redirect_stdout(io.StringIO()):
            return parse()
    except UserError as error:
        raise UserError(f"{script}: {error}") from None
    except SystemExit:
        raise UserError(
            f"{script}: {(said.getvalue().strip() or 'asks for help').rpartition('error: ')[2]}"
        ) from None


def _protocol(script, command, options, sampling):
    """The protocol of a test command: what ``ops.testing.test`` makes of its flags and the network."""
    row, size = MODULES[options["module"]], options["input_size"]
    crops = 3 if "three" in command.entry_point else 1
    args = _parse(script, lambda: testing_arguments(command.entry_point, crops, command.arguments))
    sampling = (
        args.test_sampling[0]
        if args.test_sampling
        else row.kinetics_sampling
        if sampling == "random"
        else sampling
    )
    clips = args.clips or (1 if "random" in sampling else TEST_SAMPLINGS[sampling])
    scale = args.scale_size or size * 256 // 224
    return {
        "num_segments": (args.test_segments or [options["num_segments"]])[0],
        "sampling": sampling,
        "clips": clips if args.clip_index is None else 1,
        "crops": args.test_crops[0],
        "crop_size": scale if args.full_res else size,
        "scale_size": scale,
        "average": args.average or ("logits" if options["multi_label"] else row.average),
    }


def reached(recipe: Recipe, run: Run) -> str:
    """The best validation of a run, and how far it is from what is expected of one view."""
    key = "val_map" if any("val_map" in row for row in run.rows) else "val_top1"
    best = max((row for row in run.rows if key in row), key=lambda row: row[key], default=None)
    if best is None:
        return "nothing was validated yet"
    text = f"{TITLES[key[4:]]} {best[key]:.2f} % in the validation after epoch {best['epoch']} (1 clip x 1 crop)"
    expected = recipe.expected if key == "val_top1" and recipe.expected else ""
    if not expected.startswith("Prec@1"):
        return text
    one = re.search(
        r"([\d.]+) %(?:, Prec@5 [\d.]+ %)? with \d+ frames x 1 c\w+ x 1 c\w+,", expected
    )
    points = best[key] - float(one[1]) if one else 0
    told = (
        f"{abs(points):.1f} points {'below' if points < 0 else 'above'} the {one[1]} % expected of such a view"
        if one
        else ("while what is expected is of more views: test, then compare")
    )
    return f"{text}, {told}"


def find_recipe(options: Mapping[str, Any]) -> Recipe:
    """The one row script of the network and data of a run; non-local blocks and a checkpoint to start from decide between
    several. Raises UserError, naming the nearest, if that is none or several."""
    recipes = [read_recipe(os.path.relpath(script)) for script in recipe_scripts(SCRIPTS)]

    def differing(recipe):
        torn = [
            key
            for key in ("non_local", "tune_from")
            if bool(recipe.options[key]) != bool(options[key])
        ]
        return [key for key in SAME_ROW if recipe.options[key] != options[key]], torn

    ranked = sorted((*map(len, differing(recipe)), place) for place, recipe in enumerate(recipes))
    if ranked and ranked[0][0] == 0 and [rank[:2] for rank in ranked].count(ranked[0][:2]) == 1:
        return recipes[ranked[0][2]]
    told = []
    for recipe in (recipes[place] for *_, place in ranked[:3]):
        keys, torn = differing(recipe)
        apart = ", ".join(f"{key} {recipe.options[key]}" for key in keys + torn)
        told.append(f"{recipe.script} ({apart or 'the same'})")
    raise UserError(
        f"no single row of scripts/ is of {' '.join(str(options[key]) for key in SAME_ROW)}; the nearest are "
        f"{', '.join(told) or 'none'}; name one with --recipe"
    )
