"""The results table of README.md: one row per script of ``scripts/``, by dataset.

The title and the expected accuracy are those of the recipe's comment; the weights are the ids of
``pretrained/manifest.json`` with the same network and dataset.
"""

import re
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from lib.runs.recipe_files import SCRIPTS, read_comment
from ops.checkpoints.manifest import read_manifest
from ops.cli.train_args import training_arguments
from ops.data.datasets import dataset_name
from ops.utils.errors import UserError

# The name of a dataset in file names of scripts, its name in --dataset, and its title.
DATASETS = (
    ("sthv1", "something", "Something-Something V1"),
    ("sthv2", "somethingv2", "Something-Something V2"),
    ("k400", "kinetics", "Kinetics-400"),
    ("ucf101", "ucf101", "UCF101"),
)
START = "<!-- results: written by tools/results_table.py -->"
END = "<!-- end of results -->"

_NETWORKS = re.compile(r"^networks=\((.*)\)$", re.MULTILINE)
# "52.3 % with 8 frames x 1 crop x 1 clip, 224" and "72.8 % with ... 224, and 71.2 % with ..."
_ACCURACY = re.compile(
    r"([\d.]+) %(?:, Prec@5 [\d.]+ %)? (?:with|in a) (.*?)(?= \(|, and [\d.]+ %|; |\.$|\. )"
)


class ResultRow(NamedTuple):
    """One row of the table.

    Attributes:
        title: the network and how it is trained.
        expected: (Prec@1 in percent, protocol) of the published results, as texts.
        weights: ids of published weight files.
        script: path relative to ``scripts/``.
    """

    title: str
    expected: list[tuple[str, str]]
    weights: list[str]
    script: str


def results_table(scripts: Path = SCRIPTS) -> str:
    """The table as Markdown, one collapsible block per dataset."""
    blocks = []
    for short_name, _, title in DATASETS:
        rows = [_result_row(path, title) for path in _scripts_of(scripts, short_name)]
        blocks.append(_markdown_block(title, rows))
    return "\n".join(blocks)


def replace_table(text: str, table: str) -> str:
    """Put the table between the two marker lines of a text.

    Args:
        text: content of README.md.
        table: result of :func:`results_table`.

    Raises:
        UserError: the text does not have both markers.
    """
    before, start, rest = text.partition(START)
    _, end, after = rest.partition(END)
    if not start or not end:
        raise UserError(f"README.md: needs the lines {START} and {END} around the results table")
    return f"{before}{START}\n{table}\n{END}{after}"


def _scripts_of(scripts, short_name):
    """The scripts of one dataset: by module, then by name, where 16 follows 8."""
    paths = scripts.glob(f"*/{short_name}_*.sh")
    return sorted(paths, key=lambda path: (path.parent.name, _natural_order(path.stem)))


def _natural_order(name):
    return [int(part) if part.isdecimal() else part for part in re.split(r"(\d+)", name)]


def _result_row(path, dataset_title):
    comment = read_comment(_recipe_of(path) or path)
    title = comment.title.replace(f", {dataset_title}", "").rstrip(".")
    return ResultRow(
        title=title.partition(";")[0],
        expected=_published_accuracies(comment.expected),
        weights=_published_weights(path),
        script=f"{path.parent.name}/{path.name}",
    )


def _published_accuracies(expected):
    """(Prec@1, protocol) of each published result of a comment.

    One that says "No number is published" may name the number of another network.
    """
    if expected is None or not expected.startswith("Prec@1"):
        return []
    return _ACCURACY.findall(expected)


def _recipe_of(script):
    """The recipe beside a script; None for an ensemble, which has none."""
    recipe = script.with_suffix(".toml")
    return recipe if recipe.exists() else None


def _published_weights(path):
    """Ids of the manifest's entries for the network of a script, for both of an ensemble.

    The authors' own files come first; those of MMAction2 are named where there are no others.
    """
    recipe = _recipe_of(path)
    if recipe is None:
        networks = _NETWORKS.search(path.read_text(encoding="utf-8"))
        if networks is None:
            return []
        scripts = [network.partition(":")[2] for network in networks[1].split()]
        ids = []
        for script in scripts:
            ids += _published_weights(path.parents[1] / f"{script}.sh")
        return ids
    args = training_arguments("main.py", ["--config", str(recipe)])
    wanted = {
        "dataset": dataset_name(args.dataset),
        "module": args.module,
        "arch": args.arch,
        "modality": args.modality,
        "T": args.num_segments,
        "non_local": args.non_local,
        "dense": args.sampling == "dense",
    }
    matching = [entry for entry in read_manifest() if _matches(entry, wanted)]
    authors = [entry["id"] for entry in matching if not entry["system"].startswith("mmaction2")]
    return authors or [entry["id"] for entry in matching]


def _matches(entry, wanted):
    """Whether an entry has the values of a script.

    A TSN is tested with other numbers of frames than it is trained with.
    """
    values = {**entry, "non_local": False, "dense": False, **entry["options"]}
    if values["dense"] is None:  # published for both
        values["dense"] = wanted["dense"]
    tested = {result["frames"] for result in entry["expected"]}
    if entry["module"] == "tsn" and wanted["T"] in tested:
        values["T"] = wanted["T"]
    return all(values[key] == value for key, value in wanted.items())


def _markdown_block(title: str, rows: Iterable[ResultRow]) -> str:
    rows = list(rows)
    lines = [
        "<details>",
        f"<summary>{title}: {len(rows)} scripts</summary>",
        "",
        "| network | expected Prec@1 | weights | script |",
        "|---|---|---|---|",
    ]
    for row in rows:
        expected = [f"**{accuracy}** ({protocol})" for accuracy, protocol in row.expected]
        weights = [f"`{name}`" for name in row.weights]
        script = f"[{row.script}](scripts/{row.script})"
        cells = [row.title, "<br>".join(expected) or "not published", "<br>".join(weights), script]
        lines.append(f"| {' | '.join(cells)} |")
    lines += ["", "</details>", ""]
    return "\n".join(lines)
