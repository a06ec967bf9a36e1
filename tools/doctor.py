"""Why is my number lower than the table's? Every difference between a run and its published recipe, the worst first.

    python tools/doctor.py runs/tsm_sthv1_r50_8f
    python tools/doctor.py runs/mine --recipe scripts/tdn/sthv1_r50_8f.sh

Of a run its args.json, log.jsonl and scores*/scores.json are read. A recipe is a script of scripts/, which is read
and not run; without --recipe it is the one script with the dataset and network of the run.
Exit status: 0 if nothing differs that matters, 1 if something does, 2 for an error.
"""

import argparse
import json
import shutil
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from lib.recipes import UNKNOWN, find_recipe, reached, read_recipe, read_run
from ops.temporal import option_names
from ops.utils.errors import run_cli
from ops.utils.text import printable

MATTERS = 5  # findings of this weight or more make the exit status 1
SHARE = 0.01  # of the videos, that may be missing or unreadable before it matters
VIDEOS = {
    "something": {"train": 86017, "val": 11522},
    "somethingv2": {"train": 168913, "val": 24777},
    "kinetics": {"val": 19796},
}  # as far as they are known here
# Options that change no result, or only what is looked at anyway: places, machine, logs, and how a run goes on.
FREE = {
    "root_path",
    "flow_prefix",
    "image_tmpl",
    "decoder",
    "overwrite",
    "workers",
    "timeout",
    "output_dir",
    "suffix",
    "snapshot_pref",
    "resume",
    "save_every",
    "keep",
    "evaluate",
    "eval_freq",
    "print_freq",
    "device",
    "channels_last",
    "compile",
    "local_rank",
    "seed",
    "deterministic",
    "dry_run",
}


class Finding(NamedTuple):
    """A difference as it is shown, weighed from 10 (another task) to 1 (worth knowing)."""

    setting: str
    recipe: str
    run: str
    why: str
    weight: int


class Check(NamedTuple):
    """A setting: why a difference matters, or a function of the options of recipe and run that says so; the options that it is
    made of (default: the one of its name); the value of recipe or run as it is shown (default: the option)."""

    setting: str
    weight: int
    why: str | Callable[[dict, dict], str]
    options: tuple[str, ...] = ()
    value: Callable[[dict], Any] | None = None


def flag_of(option, value):
    """What to write on the command line for an option to have a value."""
    name = "--gd" if option == "clip_gradient" else f"--{option}"
    return (
        f"leave out {name}"
        if value in (None, False)
        else name
        if value is True
        else f"{name} {say(value)}"
    )


def say(value):
    """A value on one line."""
    word = {"None": "none", "True": "yes", "False": "no"}.get(str(value))
    return f"{value:g}" if isinstance(value, float) else word or printable(value)


def start(options):
    kind = "tune_from" if options["tune_from"] else "pretrain"
    key = options["weights_key"]
    chosen = f" --weights_key {key}" if key else ""
    return f"--{kind} {Path(str(options[kind])).name}{chosen}"


def why_start(recipe, run):
    scratch = "from scratch: these networks need the weights that they started from; leave out --pretrain none"
    return (
        scratch
        if start(run) == "--pretrain none"
        else "another start; fine if your file is a copy of the recipe's weights"
    )


def why_rate(recipe, run):
    wanted, used = recipe["rate"], run["rate"]
    right = wanted.lr / wanted.batch * used.batch
    as_meant = (run["lr"], run["lr_batch"]) == (recipe["lr"], wanted.batch)  # but not scaled
    text = f"{used.lr / right:.3g} x the recipe's rate for such a batch: {'--scale_lr' if as_meant else f'--lr {right:.3g}'}"
    more, rest = divmod(wanted.batch, used.batch)
    fits = more > 1 and not rest and used.lr == wanted.lr
    return text + f", or the recipe's batch: --accumulate {more * run['accumulate']}" * fits


def schedule(options):
    kind = options["lr_scheduler"]
    text = {
        "step": f"x{options['lr_decay_rate']:g} at {' '.join(f'{step:g}' for step in options['lr_steps'])}",
        "cosine": f"cosine to {options['min_lr']:g}",
        "cosine-epoch": "cosine by epoch",
    }.get(kind, kind)
    warmup = f", {options['warmup_epoch']:g} of warm-up from 1/{options['warmup_multiplier']:g}"
    return text + (warmup if options["warmup_epoch"] else "")


def why_epochs(recipe, run):
    if run["lr_scheduler"] == "step" and run["epochs"] <= max(run["lr_steps"], default=0):
        return f"it ends before the rate has fallen at all its steps: --epochs {recipe['epochs']}, or lower --lr_steps as well"
    return f"trained for another time: --epochs {recipe['epochs']}"


def by_layer(options):
    new_head = not options["tune_from"] if options["fc_lr5"] is None else options["fc_lr5"]
    if options["lr_policy"] == "groups" and options["fc_lr5"] is None and options["tune_from"]:
        return UNKNOWN  # it depends on the checkpoint
    return options["lr_policy"] + ", classifier x5" * (
        options["lr_policy"] == "groups" and new_head
    )


CHECKS = (  # of one weight, in the order in which they are told
    Check(
        "data set",
        10,
        "another data set: its numbers are not the table's",
        ("dataset",),
        lambda o: o["dataset"],
    ),
    Check(
        "input",
        10,
        "another input, with numbers of its own",
        ("modality",),
        lambda o: o["modality"],
    ),
    *(Check(option, 10, "another network") for option in ("module", "arch")),
    Check(
        "classes",
        10,
        "another set of classes: look at the lists",
        ("num_class",),
        lambda o: o["num_classes"],
    ),
    Check("num_segments", 9, "sees other frames of a video"),
    Check("multi_label", 9, "another loss, another metric"),
    *(Check(option, 9, "another network") for option in ("non_local", "temporal_pool")),
    Check("start", 9, why_start, ("pretrain", "tune_from", "weights_key"), start),
    Check(
        "lr for the batch",
        8,
        why_rate,
        ("lr", "lr_batch", "scale_lr", "batch_size", "accumulate"),
        lambda o: o["rate"],
    ),
    Check("epochs", 8, why_epochs),
    Check(
        "BatchNorms",
        8,
        lambda recipe, run: (
            f"other layers learn: --{'partial_bn' if recipe['partial_bn'] else 'npb'}"
        ),
        ("partial_bn",),
        lambda o: "the first" if o["partial_bn"] else "all",
    ),
    Check(
        "schedule",
        7,
        "the last points come when the rate falls: --lr_scheduler, --lr_steps, --warmup_epoch",
        (
            "lr_scheduler",
            "lr_steps",
            "lr_decay_rate",
            "warmup_epoch",
            "warmup_multiplier",
            "min_lr",
        ),
        schedule,
    ),
    Check(
        "class names",
        7,
        "other names, or another order: are the labels those of the lists?",
        ("class_names",),
        lambda o: str(o["class_names_sha256"])[:12],
    ),
    Check("input_size", 7, "objects of another size"),
    Check("sampling", 7, "clips span another part of a video"),
    Check("flip", 7, "mirrored or not: in some data sets left and right are different classes"),
    *(Check(option, 7, "another temporal module") for option in option_names()),
    Check(
        "rates by layer",
        6,
        "layers learn at other rates: --lr_policy, --fc_lr5",
        ("lr_policy", "fc_lr5"),
        by_layer,
    ),
    *(
        Check(option, 6, "another regularisation")
        for option in (
            "weight_decay",
            "dropout",
            "label_smoothing",
            "mixup",
            "cutmix",
            "stochastic_depth",
        )
    ),
    Check("optimizer", 8, "another optimizer, with another learning rate"),
    *(
        Check(option, 6, "steps of another length")
        for option in ("momentum", "nesterov", "clip_gradient")
    ),
    Check("consensus_type", 6, "the loss of the segments, or of their mean"),
    Check("ema", 5, "the mean of the last weights is tested"),
    Check("sampling_compat", 3, "short videos are sampled otherwise"),
    Check("amp", 3, "other rounding"),
    Check(
        "BatchNorm batch",
        3,
        "videos that a BatchNorm sees at once, whatever --accumulate adds; --sync_bn joins the "
        "processes",
        ("sync_bn",),
        lambda o: o["norm_batch"],
    ),
    Check(
        "lists",
        2,
        "of other names: are they of the same split?",
        ("train_list", "val_list"),
        lambda o: (
            " ".join(Path(str(o[name])).name for name in ("train_list", "val_list") if o[name])
            or "the usual"
        ),
    ),
    Check("missing", 2, "listed videos that are not there are left out"),
)


def compare(recipe, run):
    """Findings about the options of recipe and run; settings that agree; settings that one of them does not tell."""
    findings, same, unknown = [], [], []
    for check in CHECKS:
        wanted, used = (
            check.value(side) if check.value else side[check.setting] for side in (recipe, run)
        )
        if UNKNOWN in (wanted, used):
            unknown.append(check.setting)
        elif wanted == used:
            same.append(check.setting)
        else:
            why = check.why(recipe, run) if callable(check.why) else check.why
            change = (
                "" if check.value or callable(check.why) else f": {flag_of(check.setting, wanted)}"
            )
            findings.append(
                Finding(check.setting, say(wanted), say(used), why + change, check.weight)
            )
    return findings, same, unknown


def happened(recipe, run):
    """Findings about lists, epochs and unreadable videos."""
    last, epochs, findings = run.rows[-1] if run.rows else {}, run.options["epochs"], []
    unread = {
        "train": last.get("train_skipped", 0),
        "val": last.get("val_listed", 0) - last.get("val_videos", 0),
    }
    in_log = {
        "train": last.get("train_videos", 0) + unread["train"],
        "val": last.get("val_listed", 0),
    }
    listed = {name: run.options["videos"].get(name) or number for name, number in in_log.items()}
    for name, known in VIDEOS.get(recipe.options["dataset"], {}).items():
        number = listed[name]
        if number and abs(number - known) > SHARE * known:
            what = (
                "videos are missing in the list"
                if number < known
                else "the list is of other videos"
            )
            findings.append(
                Finding(
                    f"{name} videos",
                    f"{known}",
                    f"{number}",
                    f"{what}: tools/make_lists.py makes it",
                    8,
                )
            )
    if last.get("epoch", 0) < epochs:
        findings.append(
            Finding(
                "epochs done",
                f"{recipe.options['epochs']}",
                f"{last.get('epoch', 0)} of {epochs}",
                "stopped early: the same command with --resume auto goes on",
                8,
            )
        )
    return findings + [
        unreadable(f"{name} videos", bad, listed[name]) for name, bad in unread.items() if bad
    ]


def unreadable(what, bad, number):
    why = "not learned from, or counted as wrong: tools/check_videos.py names them"
    return Finding(
        f"unreadable {what}", "0", f"{bad} of {number}", why, 7 if bad > SHARE * number else 3
    )


def tested(recipe, run):
    """Findings and notes about each score directory, beside the nearest test of the recipe."""
    findings = []
    notes = [
        f"not tested yet: `bash {recipe.script} {mode}`"
        for mode in [*recipe.tests][:1]
        if not run.scores
    ]
    for name, facts in run.scores.items():
        used, videos = {**facts.protocol, "clips": len(facts.clips)}, len(facts.ids)
        if facts.read < videos:
            findings.append(unreadable(f"in {name}", videos - facts.read, videos))
        known = VIDEOS.get(recipe.options["dataset"], {}).get("val", 0)
        if videos < (1 - SHARE) * known:
            findings.append(
                Finding(
                    f"{name}: videos", f"{known}", f"{videos}", "a part of the videos is tested", 8
                )
            )
        apart = {
            mode: [key for key in test if used.get(key) != test[key]]
            for mode, test in recipe.tests.items()
        }
        mode = min(apart, key=lambda mode: len(apart[mode]), default=None)
        for key in apart.get(mode, ()):
            why = f"another protocol than that of the number: test as `{mode}` of the recipe does"
            findings.append(
                Finding(
                    f"{name}: {key}", f"{recipe.tests[mode][key]}", printable(used.get(key)), why, 5
                )
            )
        if mode is not None and not apart[mode]:
            notes.append(
                f"{name}: tested as `bash {recipe.script} {mode}` does, {facts.read}/{videos} videos"
            )
    return findings, notes


def table(findings):
    """Lines of a table whose last column is wrapped to the width of the screen."""
    rows = [
        ("setting", "recipe", "this run", "what it does; what to change"),
        *(finding[:4] for finding in findings),
    ]
    widths = [max(map(len, column)) for column in list(zip(*rows, strict=True))[:3]]
    margin = sum(widths) + 6
    for row in rows:
        lines = textwrap.wrap(row[3], max(30, shutil.get_terminal_size((140, 0)).columns - margin))
        yield "  ".join(
            [*(text.ljust(width) for text, width in zip(row, widths, strict=False)), lines[0]]
        )
        yield from (" " * margin + line for line in lines[1:])


def main():
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("run_dir", metavar="RUN_DIR", help="--output_dir of a run of main.py")
    parser.add_argument(
        "--recipe",
        metavar="SCRIPT",
        help="script of a row (default: the one in scripts/ that is the run's)",
    )
    parser.add_argument(
        "--json", action="store_true", help="print one JSON object (default: a table)"
    )
    args = parser.parse_args()
    run = read_run(args.run_dir)
    recipe = read_recipe(args.recipe) if args.recipe else find_recipe(run.options)
    findings, same, unknown = compare(recipe.options, run.options)
    in_tests, notes = tested(recipe, run)
    findings = sorted(
        [*findings, *happened(recipe, run), *in_tests], key=lambda finding: -finding.weight
    )
    matters = sum(finding.weight >= MATTERS for finding in findings)
    if "lr for the batch" in same and recipe.options["rate"].batch != run.options["rate"].batch:
        notes.insert(0, f"lr {run.options['rate']} is the recipe's {recipe.options['rate']}")
    if run.rows and run.rows[-1].get("train_data_share", 0) > 0.2:
        notes.append(
            f"{run.rows[-1]['train_data_share']:.0%} of the last epoch went by waiting for data (no points): raise -j"
        )
    versions = run.options["versions"] or {
        key: run.options[key] for key in ("python", "torch") if key in run.options
    }
    facts = {
        "run": args.run_dir,
        "recipe": recipe.script,
        "expected": recipe.expected,
        "reached": reached(recipe, run),
    }
    more = {
        "same": same,
        "unknown": unknown,
        "notes": notes,
        "versions": {**versions, "git": run.options.get("git")},
    }
    if args.json:
        print(
            json.dumps(
                {**facts, "findings": [one._asdict() for one in findings], **more},
                ensure_ascii=False,
                indent=1,
            )
        )
    else:
        lines = [
            f"{key + ':':10}{text or 'the script says nothing'}" for key, text in facts.items()
        ]
        for title, some in (
            ("THIS MATTERS", findings[:matters]),
            ("seldom the cause", findings[matters:]),
        ):
            lines += ["", title, *table(some)] if some else []
        told = f"{len(same)} settings are as in the recipe{'; not known: ' if unknown else ''}{', '.join(unknown)}"
        used = (f"{key} {printable(value)}" for key, value in more["versions"].items() if value)
        print(*lines, "", told, *notes, f"versions: {', '.join(used)}", sep="\n")
    sys.exit(matters > 0)


if __name__ == "__main__":
    run_cli(main)
