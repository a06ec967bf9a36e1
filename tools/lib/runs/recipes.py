"""The training recipes of ``scripts/`` as options of main.py and protocols of tests."""

import argparse
import contextlib
import io
import math
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from lib.runs.recipe_files import SCRIPTS, read_comment, recipe_files
from ops.backbones.pixels import usual_scale_size
from ops.cli.test_args import testing_arguments
from ops.cli.train_args import training_arguments
from ops.data.datasets import choose_flip, dataset_name, load_class_names, resolve
from ops.data.sampling import SAMPLINGS
from ops.data.toml_file import TomlFile
from ops.temporal import MODULES
from ops.training.run_metadata import digest
from ops.training.schedule import rate_for
from ops.utils.errors import UserError

UNKNOWN = "unknown"  # a value that is not recorded, or whose file is not on this machine
# What a run and its recipe have in common.
IDENTITY = ("dataset", "modality", "module", "arch", "num_segments", "sampling")
# Where several recipes have that in common, these must be used in both or in neither.
TIE_BREAKERS = ("non_local", "tune_from")
NEAREST_SHOWN = 3


@dataclass(frozen=True, eq=False)
class Rate:
    """A learning rate and the total batch that it is used with.

    Rates that are linearly scaled versions of each other are equal.
    """

    lr: float
    batch: int

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Rate):
            return NotImplemented
        return math.isclose(self.lr / self.batch, other.lr / other.batch, rel_tol=0.02)

    def __repr__(self) -> str:
        return f"{self.lr:.3g} for {self.batch}"


class Recipe(NamedTuple):
    """A published training.

    Attributes:
        path: the TOML file.
        options: those of main.py, as ``settled`` returns them.
        tests: "test" and "test1" -> protocol, with the keys of ``scores.json``; "clips" is the
            number of clips.
        expected: the comment about the published result, None without one.
    """

    path: str
    options: dict[str, Any]
    tests: dict[str, dict[str, Any]]
    expected: str | None

    def test_command(self, mode: str) -> str:
        """What a user types for one of the tests."""
        script = Path(self.path).with_suffix(".sh")
        if script.exists():
            return f"bash {script} {mode}"
        return f"python test_models_center_crop.py --config {self.path}:{mode}"


def settled(options: Mapping[str, Any], processes: object) -> dict[str, Any]:
    """Options together with what follows from them and from the number of processes.

    Args:
        options: those of main.py, with "num_classes" and "class_names_sha256" if known.
        processes: number of processes; anything but a positive int counts as unknown.

    Returns:
        A copy of the options with "rate", a ``Rate``, and "norm_batch", the number of videos in a
        batch of a BatchNorm. UNKNOWN replaces what is not known.
    """
    complete = dict(options)
    for key in ("num_classes", "class_names_sha256", "flip"):
        complete[key] = options.get(key) or UNKNOWN
    complete["rate"] = UNKNOWN
    complete["norm_batch"] = UNKNOWN if options["sync_bn"] else options["batch_size"]
    if type(processes) is int and processes > 0:
        batch = processes * options["batch_size"] * options["accumulate"]
        lr, _, _ = rate_for(batch, options["lr"], options["lr_batch"], options["scale_lr"])
        complete["rate"] = Rate(lr, batch)
        if options["sync_bn"]:
            complete["norm_batch"] = options["batch_size"] * processes
    return complete


def read_recipe(path: str | Path) -> Recipe:
    """Read a recipe.

    Args:
        path: a file for ``--config`` with a section ``[train]``, or the script beside it.

    Raises:
        UserError: the file has no training, or main.py or a test script would refuse its flags.
    """
    path = Path(path)
    if path.suffix == ".sh":
        path = path.with_suffix(".toml")
    args = _parse(path, lambda: training_arguments("main.py", ["--config", str(path)]))
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
        name: _protocol(path, name, options, sampling)
        for name, content in TomlFile(str(path)).content.items()
        if name.startswith("test") and isinstance(content, dict)
    }
    expected = read_comment(path).expected
    return Recipe(str(path), settled(options, _processes(args)), tests, expected)


def _parse(path: str | Path, parse: Callable[[], Any]) -> Any:
    """What ``parse`` returns; the message of argparse becomes a UserError with the path."""
    errors = io.StringIO()
    try:
        with contextlib.redirect_stderr(errors), contextlib.redirect_stdout(io.StringIO()):
            return parse()
    except UserError as error:
        if str(error).startswith(str(path)):
            raise
        raise UserError(f"{path}: {error}") from None
    except SystemExit:
        message = errors.getvalue().strip().rpartition("error: ")[2]
        raise UserError(f"{path}: {message}") from None


def _processes(args: argparse.Namespace) -> int | None:
    """The number of processes that make up the total batch of a recipe, None if not specified."""
    if args.lr_batch is None:
        return None
    return max(1, args.lr_batch // (args.batch_size * args.accumulate))


def _protocol(
    path: str | Path, section: str, options: Mapping[str, Any], sampling: str
) -> dict[str, Any]:
    """The protocol of a test: its flags completed as ``ops.testing.test`` does.

    Args:
        path: the recipe.
        section: of the test.
        options: those of the training.
        sampling: the dataset's test sampling.
    """
    module = MODULES[options["module"]]
    words = ["--config", f"{path}:{section}"]
    args = _parse(path, lambda: testing_arguments("a test script", 1, words))
    if args.test_sampling:
        sampling = args.test_sampling[0]
    elif sampling == "random":
        sampling = module.kinetics_sampling
    clips = 1
    if args.clip_index is None:
        clips = SAMPLINGS[sampling].clips_per_run(args.clips)
    crop_size = options["input_size"]
    scale_size = args.scale_size or usual_scale_size(crop_size)
    default_average = "logits" if options["multi_label"] else module.average
    return {
        "num_segments": (args.test_segments or [options["num_segments"]])[0],
        "sampling": sampling,
        "clips": clips,
        "crops": args.test_crops[0],
        "crop_size": scale_size if args.full_res else crop_size,
        "scale_size": scale_size,
        "average": args.average or default_average,
    }


def find_recipe(options: Mapping[str, Any]) -> Recipe:
    """The recipe in ``scripts/`` that fits a run.

    Args:
        options: those of the run.

    Raises:
        UserError: none or several fit; it names the nearest.
    """
    recipes = [read_recipe(os.path.relpath(path)) for path in recipe_files(SCRIPTS)]

    def distance(recipe):
        return tuple(len(keys) for keys in _differing(recipe, options))

    recipes.sort(key=distance)
    if recipes and distance(recipes[0])[0] == 0:
        best = distance(recipes[0])
        if sum(distance(recipe) == best for recipe in recipes) == 1:
            return recipes[0]
    nearest = []
    for recipe in recipes[:NEAREST_SHOWN]:
        identity, ties = _differing(recipe, options)
        differences = [f"{key} {recipe.options[key]}" for key in identity + ties]
        nearest.append(f"{recipe.path} ({', '.join(differences) or 'the same'})")
    network = " ".join(str(options[key]) for key in IDENTITY)
    raise UserError(
        f"no single recipe of scripts/ is for {network}; the nearest are "
        f"{', '.join(nearest) or 'none'}; select one with --recipe"
    )


def _differing(recipe: Recipe, options: Mapping[str, Any]) -> tuple[list[str], list[str]]:
    """The keys of IDENTITY and of TIE_BREAKERS in which a recipe differs from a run."""
    identity = [key for key in IDENTITY if recipe.options[key] != options[key]]
    ties = [key for key in TIE_BREAKERS if bool(recipe.options[key]) != bool(options[key])]
    return identity, ties
