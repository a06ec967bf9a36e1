"""The differences between a run and its recipe, each with its severity: what doctor.py prints."""

import json
import shutil
import textwrap
from collections.abc import Iterator
from typing import Any, NamedTuple

from lib.runs.option_checks import CHECKS, Finding, as_text
from lib.runs.recipes import UNKNOWN, Recipe, find_recipe, read_recipe
from lib.runs.runs import Run, describe_best, read_run
from ops.scores.metadata import ScoreMetadata
from ops.utils.text import printable

LIKELY = 5  # findings of this weight or more are likely causes of a lower result
# The part of the videos that may be missing or unreadable without a visible effect on the result.
TOLERATED_SHARE = 0.01
# The number of videos in each split, as far as the project knows it.
VIDEOS = {
    "something": {"train": 86017, "val": 11522},
    "somethingv2": {"train": 168913, "val": 24777},
    "kinetics": {"val": 19796},
}
SLOW_DATA_SHARE = 0.2  # of the time of an epoch; more is worth a note
HEADER = ("setting", "recipe", "this run", "effect and fix")
COLUMN_GAP = 2  # characters between the columns of the table
MIN_TEXT_WIDTH = 30  # of the last column, in characters


class Comparison(NamedTuple):
    """Options of a run compared with those of a recipe.

    Attributes:
        findings: the differences, in the order of ``CHECKS``.
        same: settings that agree.
        unknown: settings that the run or the recipe does not specify.
    """

    findings: list[Finding]
    same: list[str]
    unknown: list[str]


class Diagnosis(NamedTuple):
    """All that ``doctor.py`` prints about a run.

    Attributes:
        summary: "run", "recipe", "expected" (None where the recipe has no such comment) and
            "reached" -> text.
        findings: the differences, those with the highest weight first.
        same: settings that agree.
        unknown: settings that the run or the recipe does not specify.
        notes: further lines.
        versions: package -> version, and "git" -> commit.
    """

    summary: dict[str, str | None]
    findings: list[Finding]
    same: list[str]
    unknown: list[str]
    notes: list[str]
    versions: dict[str, Any]

    @property
    def likely_causes(self) -> list[Finding]:
        return [finding for finding in self.findings if finding.weight >= LIKELY]

    @property
    def unlikely_causes(self) -> list[Finding]:
        return [finding for finding in self.findings if finding.weight < LIKELY]

    def to_json(self) -> str:
        """The report as a JSON object, with the keys of ``summary`` beside the others."""
        findings = [finding._asdict() for finding in self.findings]
        content = {**self._asdict(), **self.summary, "findings": findings}
        del content["summary"]
        order = [*self.summary, "findings", "same", "unknown", "notes", "versions"]
        return json.dumps({key: content[key] for key in order}, ensure_ascii=False, indent=1)

    def lines(self) -> Iterator[str]:
        """The report as lines of text."""
        for key, text in self.summary.items():
            yield f"{key + ':':<10}{text or 'not given by the recipe'}"
        if self.likely_causes:
            yield from ("", "likely causes", *table(self.likely_causes))
        if self.unlikely_causes:
            yield from ("", "unlikely causes", *table(self.unlikely_causes))
        yield ""
        agreement = f"{len(self.same)} settings are as in the recipe"
        if self.unknown:
            agreement += f"; not known: {', '.join(self.unknown)}"
        yield agreement
        yield from self.notes
        used = [f"{key} {printable(value)}" for key, value in self.versions.items() if value]
        yield f"versions: {', '.join(used)}"


def diagnose(run_dir: str, path: str | None = None) -> Diagnosis:
    """Compare a run with its recipe.

    Args:
        run_dir: ``--output_dir`` of the run.
        path: the recipe; None: the one in ``scripts/`` that fits the run.

    Raises:
        UserError: the run or the recipe cannot be read, or not exactly one recipe fits.
    """
    run = read_run(run_dir)
    recipe = find_recipe(run.options) if path is None else read_recipe(path)
    options = compare_options(recipe.options, run.options)
    in_tests, test_notes = compare_tests(recipe, run)
    findings = [*options.findings, *compare_progress(recipe, run), *in_tests]
    findings.sort(key=lambda finding: -finding.weight)
    return Diagnosis(
        summary={
            "run": run_dir,
            "recipe": recipe.path,
            "expected": recipe.expected,
            "reached": describe_best(recipe, run),
        },
        findings=findings,
        same=options.same,
        unknown=options.unknown,
        notes=[*rate_notes(recipe, run, options), *test_notes, *speed_notes(run)],
        versions=versions_of(run),
    )


def compare_options(recipe: dict[str, Any], run: dict[str, Any]) -> Comparison:
    """Compare the options of a run with those of a recipe, both as ``lib.runs.recipes.settled``."""
    findings, same, unknown = [], [], []
    for check in CHECKS:
        wanted, used = check.value(recipe), check.value(run)
        if UNKNOWN in (wanted, used):
            unknown.append(check.setting)
        elif wanted == used:
            same.append(check.setting)
        else:
            why = check.explain(recipe, run)
            found = Finding(check.setting, as_text(wanted), as_text(used), why, check.weight)
            findings.append(found)
    return Comparison(findings, same, unknown)


def compare_progress(recipe: Recipe, run: Run) -> list[Finding]:
    """Findings about the epochs of a run, and the videos that it listed and could not read."""
    last = run.epochs[-1] if run.epochs else {}
    unreadable = {
        "train": last.get("train_skipped", 0),
        "val": last.get("val_listed", 0) - last.get("val_videos", 0),
    }
    logged = {
        "train": last.get("train_videos", 0) + unreadable["train"],
        "val": last.get("val_listed", 0),
    }
    listed = {split: run.options["videos"].get(split) or logged[split] for split in logged}
    findings = list(_list_sizes(recipe, listed))
    done, planned = last.get("epoch", 0), run.options["epochs"]
    if done < planned:
        why = "stopped early: resume it with the same command and --resume auto"
        if run.options["patience"]:
            why += f", without --patience {run.options['patience']} if that ended it"
        wanted = str(recipe.options["epochs"])
        findings.append(Finding("epochs done", wanted, f"{done} of {planned}", why, 8))
    for split, number in unreadable.items():
        if number:
            findings.append(_unreadable(f"{split} videos", number, listed[split]))
    return findings


def _list_sizes(recipe: Recipe, listed: dict[str, int]) -> Iterator[Finding]:
    """Findings about lists with another number of videos than the dataset has."""
    for split, known in VIDEOS.get(recipe.options["dataset"], {}).items():
        number = listed[split]
        if not number or abs(number - known) <= TOLERATED_SHARE * known:
            continue
        why = "videos are missing in the list" if number < known else "the list has other videos"
        why += ": make it with tools/make_lists.py"
        yield Finding(f"{split} videos", str(known), str(number), why, 8)


def _unreadable(where: str, number: int, total: int) -> Finding:
    weight = 7 if number > TOLERATED_SHARE * total else 3
    why = "skipped in training, counted as wrong in tests: list them with tools/check_videos.py"
    return Finding(f"unreadable {where}", "0", f"{number} of {total}", why, weight)


def compare_tests(recipe: Recipe, run: Run) -> tuple[list[Finding], list[str]]:
    """Findings and notes about each score directory, compared with the nearest test of a recipe."""
    findings: list[Finding] = []
    notes: list[str] = []
    if not run.scores and recipe.tests:
        notes.append(f"not tested yet: `{recipe.test_command(next(iter(recipe.tests)))}`")
    for name, scores in run.scores.items():
        findings += _test_coverage(recipe, name, scores)
        mode, differing = _nearest_test(recipe, scores)
        if mode is None:
            continue
        used = _protocol_of(scores)
        for key in differing:
            wanted = recipe.tests[mode][key]
            why = f"not the protocol of the published number: test with `{mode}` of the recipe"
            findings.append(
                Finding(f"{name}: {key}", str(wanted), printable(used.get(key)), why, 5)
            )
        if not differing:
            notes.append(
                f"{name}: tested like `{recipe.test_command(mode)}`, "
                f"{scores.read}/{len(scores.ids)} videos"
            )
    return findings, notes


def _test_coverage(recipe: Recipe, name: str, scores: ScoreMetadata) -> Iterator[Finding]:
    """Findings about videos without scores."""
    total = len(scores.ids)
    if scores.read < total:
        yield _unreadable(f"in {name}", total - scores.read, total)
    known = VIDEOS.get(recipe.options["dataset"], {}).get("val", 0)
    if total < (1 - TOLERATED_SHARE) * known:
        why = "only part of the videos was tested"
        yield Finding(f"{name}: videos", str(known), str(total), why, 8)


def _nearest_test(recipe: Recipe, scores: ScoreMetadata) -> tuple[str | None, list[str]]:
    """The test of a recipe that differs least from a score directory, and the differing keys."""
    used = _protocol_of(scores)
    nearest, fewest = None, []
    for mode, protocol in recipe.tests.items():
        differing = [key for key in protocol if used.get(key) != protocol[key]]
        if nearest is None or len(differing) < len(fewest):
            nearest, fewest = mode, differing
    return nearest, fewest


def _protocol_of(scores: ScoreMetadata) -> dict[str, Any]:
    return {**scores.protocol, "clips": len(scores.clips)}


def rate_notes(recipe: Recipe, run: Run, options: Comparison) -> list[str]:
    """A note where the learning rate fits the recipe although the batch differs."""
    wanted, used = recipe.options["rate"], run.options["rate"]
    if "lr for the batch" not in options.same or wanted.batch == used.batch:
        return []
    return [f"lr {used} corresponds to the recipe's {wanted}"]


def speed_notes(run: Run) -> list[str]:
    """A note where training waited for data."""
    share = run.epochs[-1].get("train_data_share", 0) if run.epochs else 0
    if share <= SLOW_DATA_SHARE:
        return []
    return [
        f"{share:.0%} of the last epoch was spent waiting for data (no effect on the result): "
        "raise -j"
    ]


def versions_of(run: Run) -> dict[str, Any]:
    """Package -> version, and "git" -> commit."""
    versions = run.options["versions"]
    if not versions:  # runs of older versions have them among the options
        versions = {key: run.options[key] for key in ("python", "torch") if key in run.options}
    return {**versions, "git": run.options.get("git")}


def table(findings: list[Finding]) -> Iterator[str]:
    """Lines of a table of findings; its last column is wrapped to the width of the terminal."""
    rows = [HEADER, *(finding[:4] for finding in findings)]
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    indent = sum(widths) + len(widths) * COLUMN_GAP
    columns = shutil.get_terminal_size((140, 0)).columns
    for *cells, text in rows:
        lines = textwrap.wrap(text, max(MIN_TEXT_WIDTH, columns - indent))
        padded = [cell.ljust(width + COLUMN_GAP) for cell, width in zip(cells, widths, strict=True)]
        yield "".join(padded) + lines[0]
        for line in lines[1:]:
            yield " " * indent + line
