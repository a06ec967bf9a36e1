"""The page docs/model_zoo.md: a table of the published weight files per dataset."""

from collections.abc import Iterable, Iterator

from ops.checkpoints.manifest import read_manifest, read_unsupported
from ops.data.datasets import KNOWN
from ops.utils.text import counted

# Datasets in the order of the page, with their titles.
TITLES = {
    "kinetics": "Kinetics-400",
    "something": "Something-Something V1",
    "somethingv2": "Something-Something V2",
    "kinetics600": "Kinetics-600",
    "kinetics700": "Kinetics-700",
    "minikinetics": "Mini-Kinetics",
    "ucf101": "UCF101",
    "hmdb51": "HMDB51",
    "jester": "Jester",
    "diving48": "Diving48",
    "activitynet": "ActivityNet 1.3",
    "mit": "Moments in Time",
    "mmit": "Multi-Moments in Time",
}
SYSTEMS = {
    "tsm": "TSM",
    "tdn": "TDN",
    "tam": "TAM",
    "mmaction2-1.x": "MMAction2 1.x",
    "mmaction2-0.x": "MMAction2 0.x",
}
FULL_SIZE = 256  # pixels of a crop with --full_res
CROPS_OF_SCRIPT = {"center_crop": 1, "three_crops": 3}  # without --test_crops
# Of these samplings, --clips gives the number of clips; the others have as many as their name says.
SAMPLINGS_WITH_CLIPS = ("dense", "random", "uniform")
INTRODUCTION = """\
# Model zoo

<!-- written by tools/results_table.py from pretrained/manifest.json -->

The weights that the authors of these systems have published, {count} files. Fetch one, then use its
name wherever a weight file is expected: `--weights`, `--tune_from`, `load_model("NAME")`.

```bash
python tools/weights.py get tsm_r50_8f_k400
python tools/predict.py video.mp4 --weights tsm_r50_8f_k400
python test_models_center_crop.py kinetics --weights tsm_r50_8f_k400
```

A name is the system, module, backbone, number of frames and dataset. The accuracies are those that
the authors report; none was measured by this project. A dash means that they do not report it.
Files without a direct address are on a page to open in a browser;
`python tools/weights.py get NAME` prints which file to take and where to save it.
"""
HEADER = (
    "| name | system | backbone | frames x crops x clips | Prec@1 / Prec@5 | get | test |",
    "|---|---|---|---|---|---|---|",
)


def model_zoo() -> str:
    """The page as Markdown."""
    entries = read_manifest()
    blocks = [INTRODUCTION.format(count=len(entries))]
    for title, chosen in _by_dataset(entries):
        blocks.append("\n".join(_section(title, chosen)))
    blocks.append("\n".join(_unsupported()))
    return "\n".join(blocks)


def _by_dataset(entries):
    """(title, entries) of each section."""
    for dataset, title in TITLES.items():
        yield title, [entry for entry in entries if entry["dataset"] == dataset]
    yield "HVU", [entry for entry in entries if entry["dataset"].startswith("hvu_")]


def _section(title: str, entries: list[dict]) -> Iterator[str]:
    yield f"## {title}"
    yield ""
    yield from HEADER
    for entry in entries:
        for result in entry["expected"] or [None]:
            yield _row(entry, result)
    notes = [f"* `{entry['id']}`: {entry['caveat']}." for entry in entries if entry["caveat"]]
    if notes:
        yield ""
        yield from notes
    yield ""


def _row(entry: dict, result: dict | None) -> str:
    get = f"`python tools/weights.py get {entry['id']}`"
    if not entry["url"]:
        get = f"[page]({entry['page']})"
    cells = [
        f"`{entry['id']}`",
        SYSTEMS[entry["system"]],
        _backbone(entry),
        _protocol(result),
        _accuracy(result),
        get,
        f"`{scoring_command(entry, result)}`",
    ]
    return f"| {' | '.join(cells)} |"


def _backbone(entry: dict) -> str:
    words = [entry["arch"]]
    if entry["modality"] != "RGB":
        words.append(entry["modality"])
    if entry["options"].get("non_local"):
        words.append("non-local")
    return ", ".join(words)


def _protocol(result: dict | None) -> str:
    if result is None:
        return "-"
    views = [result[name] for name in ("frames", "crops", "clips")]
    if not any(views):
        return "-"
    text = " x ".join(_or_dash(value) for value in views)
    details = [str(result[name]) for name in ("size", "sampling") if result[name]]
    return ", ".join([text, *details])


def _accuracy(result: dict | None) -> str:
    if result is None:
        return "-"
    if result["mAP"] is not None:
        return f"mAP {result['mAP']}"
    return f"**{result['top1']}** / {_or_dash(result['top5'])}"


def _or_dash(value: object) -> str:
    return "-" if value is None else str(value)


def scoring_command(entry: dict, result: dict | None) -> str:
    """The command that scores a file as its authors did.

    Args:
        entry: an element of the manifest.
        result: one of its ``expected`` results, or None: the protocol is not published.
    """
    result = result or dict.fromkeys(("frames", "crops", "clips", "size", "sampling"))
    script = "three_crops" if result["crops"] == 3 else "center_crop"
    words = [f"python test_models_{script}.py {entry['dataset']}"]
    if entry["dataset"] not in KNOWN:
        words += _list_flags(entry)
    elif entry["modality"] == "Flow":
        words.append("--val_list LIST --image_tmpl TMPL")
    words.append(f"--weights {entry['id']}")
    if result["frames"] not in (None, entry["T"]):
        words.append(f"--test_segments {result['frames']}")
    if result["crops"] not in (None, CROPS_OF_SCRIPT[script]):
        words.append(f"--test_crops {result['crops']}")
    if result["size"] == FULL_SIZE:
        words.append("--full_res")
    if result["sampling"]:
        words.append(f"--test_sampling {result['sampling']}")
    if result["sampling"] in SAMPLINGS_WITH_CLIPS and result["clips"]:
        words.append(f"--clips {result['clips']}")
    return " ".join(words)


def _list_flags(entry: dict) -> Iterable[str]:
    """Flags for a dataset that has no entry in ``ops/data/known``."""
    yield "--val_list LIST"
    if entry["class_names"]:
        yield f"--class_names ops/data/known/{entry['class_names']}"
    else:
        yield f"--num_class {entry['num_class']}"
    if entry["multi_label"]:
        yield "--multi_label"


def _unsupported() -> Iterator[str]:
    entries = read_unsupported()
    yield "## Files that cannot be loaded"
    yield ""
    yield f"{counted(len(entries), 'file')} of the same families, all of MMAction2:"
    yield ""
    yield "| name | reason |"
    yield "|---|---|"
    for entry in entries:
        yield f"| [`{entry['id']}`]({entry['url'][0]}) | {entry['reason']} |"
    yield ""
