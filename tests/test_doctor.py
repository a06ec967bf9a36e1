"""A small training against a recipe written for it, and made-up runs against the published ones."""

import functools
import json
import shutil

import pytest
from helpers.datasets import make_motion
from helpers.launch import ROOT, call, refused
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from lib.runs import diagnosis, recipes
from lib.runs.option_checks import CHECKS
from lib.runs.recipe_files import recipe_files
from lib.runs.recipes import UNKNOWN, Recipe, find_recipe, read_recipe
from lib.runs.runs import Run, describe_best, read_run
from ops.cli.flags import Effect
from ops.cli.train_args import training_arguments
from ops.cli.train_flags import training_parser
from ops.utils.errors import UserError

SETTINGS = [
    "--module",
    "tsm",
    "--arch",
    "resnet18",
    "--pretrain",
    "none",
    "--num_segments",
    "2",
    "--input_size",
    "32",
    "--lr",
    "0.02",
    "--lr_steps",
    "1",
    "--epochs",
    "2",
]
RECIPE = """\
# A recipe for this test.
# Expected: Prec@1 99.9 % with 2 frames x 3 crops x 1 clip, 36, and 99.1 % with 2 frames x
#   1 crop x 1 clip, 32 (a book).
dataset = "motion"
{lists}
[train]
modality = "RGB"
{settings}
batch_size = 4
lr_batch = 8
[test]
weights = "w.pth"
full_res = true
test_crops = 3
"""
RECIPES = [str(path.relative_to(ROOT)) for path in recipe_files()]
TSM = "scripts/tsm/sthv1_r50_8f.toml"
SCRIPT = "scripts/tsm/sthv1_r50_8f.sh"


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return [str(flag) for flag in make_motion(tmp_path_factory.mktemp("motion"))]


@pytest.fixture(scope="module")
def checkout(tmp_path_factory):
    """A folder like a fresh checkout, with scripts and without data, runs or weights."""
    folder = tmp_path_factory.mktemp("checkout")
    (folder / "scripts").symlink_to(ROOT / "scripts")
    return folder


@pytest.fixture(autouse=True)
def in_a_fresh_checkout(monkeypatch, checkout):
    """Scripts are named as from there; data/NAME/ is searched there."""
    monkeypatch.chdir(checkout)
    monkeypatch.setattr(recipes, "SCRIPTS", checkout / "scripts")


def flags_of_test(data):
    """The flags that a test takes."""
    return [*data[:4], *data[-2:]]


@pytest.fixture(scope="module")
def trained(data, tmp_path_factory):
    """A run of two epochs with half the batch and learning rate of the recipe, and one test."""
    out = tmp_path_factory.mktemp("run") / "with spaces"
    assert (
        call(
            "main",
            "motion",
            "RGB",
            *data,
            *SETTINGS,
            "--batch-size",
            4,
            "-j",
            0,
            "--device",
            "cpu",
            "--lr",
            0.01,
            "--output_dir",
            out,
        )
        == 0
    )
    assert (
        call(
            "test_models_center_crop",
            "motion",
            *flags_of_test(data),
            "--weights",
            out / "best.pth",
            "-j",
            0,
            "--device",
            "cpu",
            "--output_dir",
            out / "scores",
        )
        == 0
    )
    return out


def as_toml(flags):
    """Flags with one value each as lines of a recipe."""
    pairs = zip(flags[::2], flags[1::2], strict=True)
    return [f"{flag.removeprefix('--')} = {json.dumps(value)}" for flag, value in pairs]


@pytest.fixture
def recipe_file(data, tmp_path):
    """The recipe of that run, in a folder with a name that needs quotes."""
    path = tmp_path / "it's ü $(x)" / "-row.toml"
    path.parent.mkdir()
    lists = [line for line in as_toml(data) if not line.startswith("train_list")]
    training = [line for line in as_toml(data) if line.startswith("train_list")]
    settings = [*training, *as_toml(SETTINGS)]
    path.write_text(RECIPE.format(lists="\n".join(lists), settings="\n".join(settings)))
    return path


@functools.cache
def recipe_of(path):
    return read_recipe(path)


def as_run(options, rows=None, scores=None):
    """A run with the options of a recipe, to its end."""
    last = {
        "epoch": options["epochs"],
        "train_videos": 86017,
        "val_listed": 11522,
        "val_videos": 11522,
        "val_top1": 45.0,
    }
    return Run(
        {**options, "videos": {}, "versions": {}}, [last] if rows is None else rows, scores or {}
    )


def findings_of(recipe, **changed):
    found, _, _ = diagnosis.compare_options(recipe.options, {**recipe.options, **changed})
    return {finding.setting: finding for finding in found}


def write_run(folder, options, rows=()):
    folder.mkdir(exist_ok=True)
    plain = {
        key: value
        for key, value in options.items()
        if key not in ("rate", "norm_batch") and value != UNKNOWN
    }
    (folder / "args.json").write_text(json.dumps({"world_size": 8, **plain}))
    (folder / "log.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


@pytest.mark.slow
def test_training_that_differs_from_its_recipe(trained, recipe_file, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")  # or the last column would be wrapped
    assert call("doctor", trained, "--recipe", recipe_file) == 1
    out = capsys.readouterr().out
    assert (
        "99.9 % with 2 frames x 3 crops x 1 clip, 36, and 99.1 % with 2 frames x 1 crop x 1 clip, "
        "32 (a book)." in out
    )
    assert (
        "below the 99.1 %" in out and "lr 0.01 for 4 corresponds to the recipe's 0.02 for 8" in out
    )
    table = [
        line.split("  ")[0]
        for line in out.split("\nlikely causes\n")[1].split("\n\n")[0].splitlines()
    ]
    assert table == ["setting", "scores: crops", "scores: crop_size"]
    assert "settings are as in the recipe; not known" not in out and "versions: python 3" in out


def test_training_that_follows_its_recipe(trained, recipe_file, tmp_path, capsys):
    text = (
        recipe_file.read_text().replace("full_res = true\n", "").replace("crops = 3", "crops = 1")
    )
    recipe_file.write_text(text)
    shutil.copytree(trained, tmp_path / "run")
    assert call("doctor", tmp_path / "run", "--recipe", recipe_file, "--json") == 0
    report = json.loads(capsys.readouterr().out)
    assert report["findings"] == [] and report["unknown"] == [] and "rate" not in report
    assert set(report["same"]) == {check.setting for check in CHECKS}
    assert report["notes"][1] == (
        f"scores: tested like `python test_models_center_crop.py --config {recipe_file}:test`, "
        f"8/8 videos"
    )
    (tmp_path / "run" / "log.jsonl").write_text(
        '{"epoch": 1, "train_data_share": 0.5}\n{"epoch": 2, "tr'
    )
    assert call("doctor", tmp_path / "run", "--recipe", recipe_file) == 1
    out = capsys.readouterr().out
    assert "1 of 2" in out and "not validated yet" in out and "50% of the last epoch" in out


def test_every_option_is_compared_or_ignored():
    compared = [option for check in CHECKS for option in check.options]
    options = vars(training_arguments("", ["something", "RGB"])).keys()
    assert len(set(compared)) == len(compared)
    effects = training_parser("").effects
    ignored = [name for name in options if effects[name] in (Effect.NOISE, Effect.NONE)]
    assert sorted(options) == sorted([*compared, *ignored])


OTHER = {
    "dataset": "mine",
    "modality": "Flow",
    "module": "tdn",
    "arch": "resnet18",
    "pretrain": "none",
    "tune_from": "a.pth",
    "lr_scheduler": "step",
    "lr_steps": [1],
    "sampling": "dense",
    "shift_place": "block",
    "shift_direction": "past",
    "lr_policy": "flat",
    "consensus_type": "identity",
    "flip": "pairs",
    "amp": "bf16",
    "train_list": "a",
    "val_list": "b",
    "missing": "skip",
    "optimizer": "adamw",
    "loss": "focal",
    "fc_lr5": False,
}
FACTS = {"num_class": {"num_classes": 3}, "class_names": {"class_names_sha256": "b" * 64}}


@pytest.mark.parametrize(
    "option",
    sorted(option for check in CHECKS for option in check.options),
)
def test_difference_in_each_option_is_found(option):
    steps = {**recipe_of(TSM).options, "class_names_sha256": "a" * 64}
    cosine = {
        **steps,
        "lr_scheduler": "cosine",
        "warmup_epoch": 1,
        "scale_lr": True,
        "lr_batch": 100,
    }
    found = []
    for options in (steps, cosine):
        value = options[option]
        other = (
            OTHER[option]
            if option in OTHER
            else not value
            if isinstance(value, bool)
            else 3 * (value or 1) + 1
        )
        changed = {**options, option: other, **FACTS.get(option, {})}
        recipe, run = (recipes.settled(side, 8) for side in (options, changed))
        found += diagnosis.compare_options(recipe, run)[0]
    assert found and all(finding.recipe != finding.run and finding.why for finding in found)


@pytest.mark.parametrize(
    ("processes", "batch", "accumulate", "lr", "change"),
    [
        (8, 8, 1, 0.01, None),
        (1, 8, 8, 0.01, None),
        (2, 8, 1, 0.0025, None),
        (1, 10, 1, 0.00157, None),
        (
            2,
            8,
            1,
            0.01,
            "4 x the recipe's rate for such a batch: --lr 0.0025, or the recipe's batch: "
            "--accumulate 4",
        ),
        (
            2,
            4,
            2,
            0.01,
            "4 x the recipe's rate for such a batch: --lr 0.0025, or the recipe's batch: "
            "--accumulate 8",
        ),
        (8, 8, 1, 0.04, "4 x the recipe's rate for such a batch: --lr 0.01"),
        (2, 8, 1, 0.02, "8 x the recipe's rate for such a batch: --lr 0.0025"),
        (16, 8, 1, 0.01, "0.5 x the recipe's rate for such a batch: --lr 0.02"),
    ],
)
def test_rate_is_compared_per_video(processes, batch, accumulate, lr, change):
    recipe = recipe_of(TSM)
    own = {"lr_batch": None, "batch_size": batch, "accumulate": accumulate, "lr": lr}
    used = recipes.settled({**recipe.options, **own}, processes)
    found = findings_of(recipe, **used)
    assert (found["lr for the batch"].why if change else None) == change
    assert change or not {
        name for name, finding in found.items() if finding.weight >= diagnosis.LIKELY
    }
    assert ("BatchNorm batch" in found) == (batch != 8)


def test_rate_for_another_batch_suggests_scale_lr():
    recipe = recipe_of(TSM)
    plain = {**recipe.options, "lr_batch": 64, "batch_size": 2}
    assert (
        "batch: --scale_lr, or"
        in findings_of(recipe, **recipes.settled(plain, 8))["lr for the batch"].why
    )
    assert "lr for the batch" not in findings_of(
        recipe, **recipes.settled({**plain, "scale_lr": True}, 8)
    )


def test_findings_are_sorted_by_weight(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")  # or the last column would be wrapped
    options = {
        **recipe_of(TSM).options,
        "amp": "fp16",
        "dropout": 0.8,
        "partial_bn": True,
        "arch": "resnet101",
    }
    row = {"epoch": 50, "val_top1": 44.0}
    assert call("doctor", write_run(tmp_path / "run", options, [row]), "--recipe", TSM) == 1
    first, rest = capsys.readouterr().out.split("\nlikely causes\n")[1].split("unlikely causes\n")
    assert [line.split()[0] for line in first.splitlines()[1:4]] == [
        "arch",
        "trained",
        "dropout",
    ]
    assert "--npb" in first and "--dropout 0.5" in first and rest.splitlines()[1].startswith("amp")


def test_epochs_that_end_before_the_rate_falls():
    why = findings_of(recipe_of(TSM), epochs=30)["epochs"].why
    assert "--epochs 50" in why and "--lr_steps" in why
    assert "--lr_steps" not in findings_of(recipe_of(TSM), epochs=70)["epochs"].why


@pytest.mark.parametrize(
    ("log", "expected"),
    [
        ({}, {}),
        (
            {"train_videos": 85000, "train_skipped": 500},
            {"unreadable train videos": 3},
        ),  # 85500 are listed
        ({"train_videos": 84000, "train_skipped": 2000}, {"unreadable train videos": 7}),
        ({"train_videos": 85500, "train_skipped": 0, "val_listed": 11000}, {"val videos": 8}),
        (
            {"train_videos": 80000, "val_videos": 11521},
            {"train videos": 8, "unreadable val videos": 3},
        ),
        ({"epoch": 49}, {"epochs done": 8}),
    ],
)
def test_findings_from_the_log(log, expected):
    recipe = recipe_of(TSM)
    run = as_run(recipe.options)
    run.epochs[-1].update(log)
    if "val_listed" in log:
        run.epochs[-1]["val_videos"] = log["val_listed"]
    assert {
        finding.setting: finding.weight for finding in diagnosis.compare_progress(recipe, run)
    } == expected


def test_scores_of_part_of_the_videos(trained):
    recipe = recipe_of(TSM)
    (facts,) = read_run(trained).scores.values()
    facts = facts._replace(
        failures=[{"row": 1}], protocol={**facts.protocol, **recipe.tests["test1"]}
    )
    found, notes = diagnosis.compare_tests(
        recipe, as_run(recipe.options, scores={"scores1": facts})
    )
    assert [(one.setting, one.run, one.weight) for one in found] == [
        ("unreadable in scores1", "1 of 8", 7),
        ("scores1: videos", "8", 8),
    ]
    assert notes == [f"scores1: tested like `bash {SCRIPT} test1`, 7/8 videos"]
    found, notes = diagnosis.compare_tests(recipe, as_run(recipe.options))
    assert not found and notes == [f"not tested yet: `bash {SCRIPT} test`"]


def test_number_of_listed_videos_overrides_the_log():
    recipe = recipe_of(TSM)
    run = as_run({**recipe.options})
    run.options["videos"] = {"train": 60000, "val": 11522}
    assert [finding.run for finding in diagnosis.compare_progress(recipe, run)] == ["60000"]
    assert [
        finding.setting
        for finding in diagnosis.compare_progress(recipe, as_run(recipe.options, []))
    ] == ["epochs done"]


@pytest.mark.parametrize(
    ("expected", "top1", "words"),
    [
        (
            "Prec@1 52.3 % with 8 frames x 1 crop x 1 clip, 224 (TDN's README).",
            50.0,
            "2.3 points below the 52.3 %",
        ),
        (
            "Prec@1 47.2 % with 8 frames x 3 crops x 2 clips, 256, and 45.6 % with 8 frames x 1 "
            "clip x 1 crop, 224.",
            46.0,
            "0.4 points above the 45.6 %",
        ),
        (
            "Prec@1 55.7 %, Prec@5 79.5 % with 8 frames x 1 crop x 1 clip, 224",
            55.7,
            "0.0 points above the 55.7 %",
        ),
        ("Prec@1 72.8 % with 8 frames x 10 crops x 1 clip, 224", 70.0, "more views"),
        (
            "No number is published. From ImageNet it is 44.04 % with 8 frames x 1 crop x 1 clip, "
            "224",
            40.0,
            None,
        ),
        (None, 40.0, None),
    ],
)
def test_best_validation_and_published_number(expected, top1, words):
    text = describe_best(
        Recipe("x.sh", {}, {}, expected),
        as_run({"epochs": 50}, [{"epoch": 3, "val_top1": top1}, {"epoch": 4}]),
    )
    start = f"Prec@1 {top1:.2f} % in the validation after epoch 3 (1 crop x 1 clip)"
    assert text.startswith(start) and (words in text if words else text == start)


@pytest.mark.parametrize("path", RECIPES)
def test_each_recipe_is_found_for_its_own_options(path, monkeypatch):
    monkeypatch.setattr(recipes, "read_recipe", recipe_of)
    recipe = recipe_of(path)
    assert find_recipe(recipe.options).path == path and recipe.tests and recipe.expected
    assert recipe.options["rate"].batch in (48, 64, 128) and recipe.options["num_classes"] in (
        101,
        174,
        400,
    )
    assert diagnosis.compare_options(recipe.options, recipe.options)[0] == []


def test_error_names_the_nearest_recipes(monkeypatch):
    monkeypatch.setattr(recipes, "read_recipe", recipe_of)
    with pytest.raises(
        UserError,
        match=r"something RGB tsm resnet50 12 uniform; .*sthv1_r50_16f.toml \(num_segments 16\)",
    ):
        find_recipe({**recipe_of(TSM).options, "num_segments": 12})
    tuned = {**recipe_of("scripts/tin/sthv1_r50_8f.toml").options, "tune_from": "my.pth"}
    assert find_recipe(tuned).path == "scripts/tin/sthv1_r50_8f_pretrained.toml"


def test_two_recipes_that_fit(tmp_path, monkeypatch):
    monkeypatch.setattr(recipes, "SCRIPTS", tmp_path)
    with pytest.raises(UserError, match=r"the nearest are none;.*--recipe"):
        find_recipe(recipe_of(TSM).options)
    (tmp_path / "mine").mkdir()
    shutil.copy(ROOT / TSM, tmp_path / "mine" / "a.toml")
    assert find_recipe(recipe_of(TSM).options).path.endswith("a.toml")
    shutil.copy(ROOT / TSM, tmp_path / "mine" / "b.toml")
    with pytest.raises(UserError, match=r"a.toml \(the same\), .*b.toml \(the same\);.*--recipe"):
        find_recipe(recipe_of(TSM).options)


def test_options_missing_in_an_old_args_json_are_unknown(tmp_path, capsys):
    new = (
        "world_size",
        "lr_batch",
        "scale_lr",
        "sync_bn",
        "ema",
        "label_smoothing",
        "mixup",
        "cutmix",
        "stochastic_depth",
        "num_classes",
        "versions",
        "total_batch",
    )
    options = {key: value for key, value in recipe_of(TSM).options.items() if key not in new}
    folder = write_run(
        tmp_path / "run", {**options, "torch": "2.6.0"}, [{"epoch": 50, "val_top1": 45.0}]
    )
    written = json.loads((folder / "args.json").read_text())
    (folder / "args.json").write_text(
        json.dumps({key: value for key, value in written.items() if key != "world_size"})
    )
    assert call("doctor", folder, "--recipe", TSM) == 0
    out = capsys.readouterr().out
    assert (
        "not known: classes, lr for the batch, class names" in out
        and "versions: torch 2.6.0" in out
    )


def test_the_total_batch_of_a_recipe(recipe_file):
    recipe = read_recipe(recipe_file)
    assert recipe.options["rate"] == recipes.Rate(0.02, 8)
    recipe_file.write_text(recipe_file.read_text().replace("lr_batch = 8\n", ""))
    assert read_recipe(recipe_file).options["rate"] == UNKNOWN


def test_a_recipe_is_given_by_its_script():
    assert read_recipe(SCRIPT).path == TSM


def test_a_run_is_compared_with_another_run(trained, capsys):
    assert call("doctor", trained, "--recipe", trained / "args.toml") == 0
    assert "not known: lr for the batch" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda text: None, "-row.toml: no such file"),
        (lambda text: "python -m pytest\n", "-row.toml:1: not TOML"),
        (lambda text: text.replace("[train]", "[test1]"), "no section [train]"),
        (lambda text: text.replace('lr = "0.02"', 'lr = "fast"'), "lr: "),
        (lambda text: text.replace('lr = "0.02"', "tam = true"), "tam"),
        (lambda text: text.replace("full_res", "crops"), "'crops'"),
        (lambda text: text.replace('modality = "RGB"', ""), "modality"),
        (
            lambda text: text.replace('lr = "0.02"', "scale_lr = true").replace("lr_batch = 8", ""),
            "lr_batch",
        ),
    ],
)
def test_invalid_recipes(trained, recipe_file, capsys, change, message):
    text = change(recipe_file.read_text())
    if text is None:
        recipe_file.unlink()
    else:
        recipe_file.write_text(text)
    line = refused(capsys, "doctor", trained, "--recipe", recipe_file)
    assert message in line and "-row.toml:" in line


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "has no args.json"),
        ("{", "cannot be read as JSON"),
        ("[" * 100_000, "cannot be read as JSON"),
        ("[1]", "is None"),
        ("{}", "dataset is None"),
        ({"lr": "0.1"}, "lr is 0.1"),
        ({"batch_size": 0}, "batch_size is 0"),
        ({"lr_steps": [1, "2"]}, "lr_steps is [1, '2']"),
        ({"epochs": None}, "epochs is None"),
        ({"config": [1]}, "config is [1]"),
    ],
)
def test_invalid_runs(tmp_path, capsys, content, message):
    options = vars(training_arguments("", ["something", "RGB"]))
    if content is not None:
        (tmp_path / "args.json").write_text(
            json.dumps({**options, **content}) if isinstance(content, dict) else content
        )
    assert message in refused(capsys, "doctor", tmp_path, "--recipe", TSM)


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=2)
    ),
)
keys = st.sampled_from(
    [
        *vars(training_arguments("", ["something", "RGB"])),
        "world_size",
        "videos",
        "versions",
        "num_classes",
        "class_names_sha256",
        "git",
    ]
)


@pytest.mark.slow
@settings(
    max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@example(changed={"lr_batch": False}, row={})
@example(changed={"lr_batch": "x"}, row={})
@given(
    changed=st.dictionaries(keys, anything, max_size=3),
    row=st.dictionaries(
        st.sampled_from(["epoch", "val_top1", "train_skipped", "val_listed"]), anything
    ),
)
def test_any_args_json_is_refused_or_compared(changed, row, tmp_path):
    recipe = recipe_of(TSM)
    folder = write_run(tmp_path / "run", {**recipe.options, **changed}, [row])
    try:
        run = read_run(folder)
    except UserError as error:
        assert "which main.py does not write" in str(error)
        return
    found = [
        *diagnosis.compare_options(recipe.options, run.options)[0],
        *diagnosis.compare_progress(recipe, run),
    ]
    assert len(list(diagnosis.table(found))) > len(found) and describe_best(recipe, run)
