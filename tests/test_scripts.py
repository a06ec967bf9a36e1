"""The scripts of the published tables.

The commands that the shell starts are compared with their recipes, which are dry-run in this
process.
"""

import os
import re
import subprocess

import pytest
import torch
from helpers.launch import ROOT, call

from lib.runs.recipe_files import recipe_files
from ops.checkpoints import export_state_dict
from ops.cli.test_args import testing_arguments as parse_testing
from ops.cli.train_args import training_arguments
from ops.models import TSN
from ops.temporal import MODULES

SCRIPTS = sorted(
    str(path.relative_to(ROOT / "scripts")) for path in (ROOT / "scripts").glob("*/*.sh")
)
RECIPES = [str(path.with_suffix(".sh").relative_to(ROOT / "scripts")) for path in recipe_files()]
ENSEMBLES = sorted(set(SCRIPTS) - set(RECIPES))
# Shell functions that a script calls instead of the programs: they print what they are given.
PRINTING = {
    f"BASH_FUNC_{name}%%": f"() {{ printf '%s\\0' {name} \"$@\"; echo; }}"
    for name in ("python", "torchrun")
}
CLASSES = {"something": 174, "somethingv2": 174, "kinetics": 400, "ucf101": 101}
# How a module's authors average the views of a video -> what a result line says.
AVERAGE = {"softmax": "softmax per view", "logits": "mean of logits"}
T_IN_WEIGHTS = ("tam", "tin")  # trained and tested with one T, that of the name


@pytest.fixture(scope="module")
def lists(tmp_path_factory):
    """Whether videos are flow (in frame folders) -> flags of three videos that are not read."""
    folder = tmp_path_factory.mktemp("lists")
    for name in "abc":
        (folder / f"{name}.mp4").write_bytes(b"never read")
        (folder / f"frames_{name}").mkdir()
    (folder / "rgb.txt").write_text("a 0\nb 1\nframes_c 30 100\n")
    (folder / "flow.txt").write_text("frames_a 30 0\nframes_b 30 1\nframes_c 30 100\n")
    names = {False: "rgb.txt", True: "flow.txt"}
    return {
        flow: ["--val_list", folder / name, "--root_path", folder] for flow, name in names.items()
    }


@pytest.fixture(scope="module")
def released(tmp_path_factory):
    """Files in the layout that the authors released, made on first use, with weights of zero."""
    folder, made = tmp_path_factory.mktemp("released"), {}

    def get(num_class, num_segments=8, **options):
        key = str((num_class, num_segments, options))
        if key not in made:
            made[key] = folder / f"{len(made)}.pth.tar"
            with torch.device("meta"):
                model = TSN(num_class, num_segments, **options)
            state = export_state_dict(model, layout_of(**options))
            # One tensor of which all weights are parts: a released file of zeros stays small.
            zeros = torch.zeros(max(value.numel() for value in state.values()))
            state = {key: zeros[: value.numel()].view(value.shape) for key, value in state.items()}
            torch.save({"state_dict": state}, made[key])
        return made[key]

    return get


def layout_of(module, arch, **_):
    """The layout of the files that the authors of a network released."""
    if arch == "mobilenetv2":
        return "tsm-mobilenetv2"
    return {"tsn": "tsm"}.get(module, module)  # TSM's repository released both


def run_script(script, *args, **env):
    """Run a script in bash, where python and torchrun only print their arguments."""
    own = {
        name: value
        for name, value in os.environ.items()
        if name not in ("GPUS", "SPLIT", "PRETRAIN")
    }
    return subprocess.run(
        ["bash", str(ROOT / "scripts" / script), *map(str, args)],
        env={**own, **PRINTING, **env},
        capture_output=True,
        text=True,
    )


def commands(script, *args, **env):
    """What a script starts, as argument lists."""
    run = run_script(script, *args, **env)
    assert run.returncode == 0, run.stderr
    return [line.split("\0")[:-1] for line in run.stdout.splitlines()]


def recipe_of(script):
    """The recipe of a script, relative to the root of the project."""
    return f"scripts/{script.removesuffix('.sh')}.toml"


def training_of(script):
    """The arguments of the training."""
    return training_arguments("", ["--config", str(ROOT / recipe_of(script))])


def test_of(script, mode):
    """The arguments of a test."""
    return parse_testing("", 1, ["--config", f"{ROOT / recipe_of(script)}:{mode}"])


test_of.__test__ = False


def modes_of(script):
    """The sections of a recipe that are tests."""
    text = (ROOT / recipe_of(script)).read_text()
    return [mode for mode in ("test", "test1") if f"\n[{mode}]\n" in text]


def comment_of(script):
    """The comment of a recipe, or that of a script without one."""
    path = ROOT / recipe_of(script)
    if not path.exists():
        path = ROOT / "scripts" / script
    lines = path.read_text().splitlines()
    return " ".join(re.sub(r"^# *", "", line) for line in lines if line.startswith("#"))


def run_dir_of(script):
    split = "_split1" if "ucf101" in script else ""
    return f"runs/{script.removesuffix('.sh').replace('/', '_')}{split}"


def value_of(command, flag, default=None):
    return command[command.index(flag) + 1] if flag in command else default


@pytest.mark.parametrize("script", SCRIPTS)
def test_comment_gives_batch_and_published_number(script):
    comment = comment_of(script)
    assert "effective batch" in comment
    assert "Expected: Prec@1" in comment or "No number is published" in comment


@pytest.mark.parametrize("script", RECIPES)
def test_shell_starts_the_commands_of_the_recipe(script):
    run = run_dir_of(script)
    (training,) = commands(script, "train", "--seed", "my seed")
    assert training == [
        *("torchrun", "--nproc_per_node", "8", "main.py", "--config", recipe_of(script)),
        *("-j", "4", "--output_dir", run, "--resume", "auto", "--seed", "my seed"),
    ]
    for mode in modes_of(script):
        folder = f"{run}/{mode.replace('test', 'scores')}"
        (command,) = commands(script, mode, "--dry_run")
        assert command[0] == "python"
        assert command[1] in ("test_models_center_crop.py", "test_models_three_crops.py")
        config = recipe_of(script) + (":test1" if mode == "test1" else "")
        assert command[2:] == ["--config", config, "--output_dir", folder, "--dry_run"]
        args = test_of(script, mode)
        assert args.weights == f"{run}/best.pth"
        assert ("three" in command[1]) == (args.test_crops == [3])
        results = commands(script, mode)[1:]
        assert len(results) == ("tdn/" in script)  # TDN computes its results with another command
        for command in results:
            assert command == ["python", "pkl_to_results.py", "--output_dir", folder]


def test_every_recipe_has_a_script():
    assert set(RECIPES) <= set(SCRIPTS)


@pytest.mark.parametrize("script", ENSEMBLES)
def test_a_dry_run_of_an_ensemble_prints_no_results(script):
    started = commands(script, "--dry_run")
    assert len(started) == 2
    for command in started:
        assert command[1].startswith("test_models_")


def test_gpus_in_the_environment_sets_the_number_of_processes():
    (command,) = commands("tsm/sthv1_r50_8f.sh", "train", GPUS="2")
    assert command[:3] == ["torchrun", "--nproc_per_node", "2"]


def segments_of(script):
    """T of a script, as its name gives it: 16 of ``k400_r50_16f_dense``."""
    return int(re.search(r"_(\d+)f(?=[_.])", script)[1])


def modality_of(script):
    for modality in ("RGBDiff", "Flow"):
        if modality.lower() in script:
            return modality
    return "RGB"


@pytest.mark.slow
@pytest.mark.parametrize("script", RECIPES)
def test_training_arguments(script, lists, released, capsys):
    args = training_of(script)
    assert args.module == script.split("/")[0]
    assert args.modality == modality_of(script)
    if args.module in T_IN_WEIGHTS:
        assert args.num_segments == segments_of(script)
    batch = args.batch_size
    assert args.lr_batch == 8 * batch
    note = rf"effective batch {8 * batch} = 8 processes x {batch} videos, lr {args.lr}\b"
    assert re.search(note, comment_of(script))
    own = lists[args.modality == "Flow"]
    flags = [*own, "--train_list", value_of(own, "--val_list"), "--batch-size", "2"]  # it is short
    if args.tune_from:  # a dry run reads it
        flags += ["--tune_from", released(400, module="tsm", arch="resnet50")]
    assert call("main", "--config", ROOT / recipe_of(script), *flags, "--dry_run") == 0
    out = capsys.readouterr().out
    classes = CLASSES[args.dataset]
    assert f"3 train videos, 3 val videos, {classes} classes; nothing was trained" in out
    assert ("non-local" in out) == ("_nl_" in script)
    assert (args.sampling == "dense") == ("dense" in script)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("script", "mode"), [(script, mode) for script in RECIPES for mode in modes_of(script)]
)
def test_test_arguments(script, mode, lists, released, capsys):
    _, file, *flags = commands(script, mode, "--dry_run")[0]
    out = check_test(script, file, flags, test_of(script, mode), lists, released, capsys)
    protocol = re.search(r"\d+ frames? x \d+ crops? x \d+ clips?, \d+", out)[0]
    assert protocol in comment_of(script)


@pytest.mark.slow
def test_test_arguments_of_three_crops_of_an_ensemble(lists, released, capsys):
    script = "tdn/sthv2_r101_8f16f_3crops.sh"
    for _, file, *flags in commands(script, "--dry_run"):
        assert file == "test_models_three_crops.py"
        args = parse_testing("", 3, flags)
        check_test(script, file, flags, args, lists, released, capsys)


def check_test(script, file, flags, args, lists, released, capsys):
    """Dry-run a test of a script; returns what it printed."""
    module, modality = script.split("/")[0], modality_of(script)
    assert args.modality == (None if modality == "RGB" else [modality])
    weights = released(
        CLASSES[args.dataset],
        segments_of(script) if module in T_IN_WEIGHTS else 8,
        module=module,
        arch=args.archs[0],
        modality=modality,
        non_local="_nl_" in script,
    )
    own = [*lists[modality == "Flow"], "--weights", weights, "--dry_run"]
    assert call(file.removesuffix(".py"), *flags, *own) == 0
    out = capsys.readouterr().out
    assert f"3/3 videos, {AVERAGE[MODULES[module].average]}; nothing was scored" in out
    assert (args.test_sampling == ["dense"]) == ("dense" in script)
    return out


def test_scores_of_two_streams_are_fused(monkeypatch):
    rgb, flow, fusion = commands("tsn/ucf101_rgb_flow.sh", SPLIT="3")
    folders = [value_of(command, "--output_dir") for command in (rgb, flow)]
    assert fusion == ["python", "pkl_to_results.py", *folders, "--score_weights", "1", "1.5"]
    monkeypatch.setenv("SPLIT", "3")
    for stream in ("rgb", "flow"):
        args = test_of(f"tsn/ucf101_{stream}.sh", "test")
        assert args.val_list.endswith(f"ucf101_{stream}_val_split_3.txt")


@pytest.mark.parametrize("script", [script for script in RECIPES if "ucf101" in script])
def test_each_split_has_its_own_lists_and_folder(script, monkeypatch):
    values = {}
    for split in "12":
        monkeypatch.setenv("SPLIT", split)
        (command,) = commands(script, "train", SPLIT=split)
        args = training_of(script)
        values[split] = [args.train_list, args.val_list, value_of(command, "--output_dir")]
        values[split].append(test_of(script, "test").weights)
    one = [re.sub("split(_?)1", r"split\g<1>2", value) for value in values["1"]]
    assert one == values["2"] != values["1"]
    run = run_script(script, "train", SPLIT="4")
    assert run.returncode == 2 and "SPLIT=4 is not 1, 2 or 3" in run.stderr


def test_the_shell_passes_the_split_to_the_recipe(tmp_path):
    """Without SPLIT in the environment, the script and the recipe mean the same."""
    script = "source scripts/recipe.sh; use_split; printenv SPLIT"
    run = subprocess.run(
        ["bash", "-c", script, "scripts/tsn/x.sh"],
        cwd=ROOT,
        env={**os.environ, **PRINTING},
        capture_output=True,
        text=True,
    )
    assert run.stdout.split() == ["1"], run.stderr


def test_pretrain_in_the_environment_names_the_weights(monkeypatch):
    assert training_of("tsn/ucf101_rgb.sh").pretrain == "pretrained/bn_inception.pth"
    monkeypatch.setenv("PRETRAIN", "my weights.pth")
    assert training_of("tsn/ucf101_rgb.sh").pretrain == "my weights.pth"


@pytest.mark.parametrize("args", [[], ["tset"], ["--lr", "1"]])
@pytest.mark.parametrize(
    ("script", "modes"),
    [("tsm/sthv1_r50_8f.sh", "train, test or test1"), ("tam/sthv1_r50_8f.sh", "train or test")],
)
def test_unknown_mode_is_refused(script, modes, args):
    run = run_script(script, *args)
    assert run.returncode == 2
    (line,) = run.stderr.splitlines()
    assert f"{script} {modes} [flags]" in line


def test_test1_is_refused_where_there_is_none():
    run = run_script("tam/sthv1_r50_8f.sh", "test1")
    assert run.returncode == 2 and "train or test [flags]" in run.stderr


@pytest.mark.parametrize("script", ["tdn/sthv1_r50_8f.sh", "tdn/k400_r101_16f.sh"])
@pytest.mark.parametrize("form", [["--output_dir", "my scores"], ["--output_dir=my scores"]])
def test_results_are_read_from_the_folder_of_the_test(script, form):
    scored, printed = commands(script, "test", "--weights", "other.pth", *form)
    assert scored[-len(form) :] == form
    assert value_of(printed, "--output_dir") == "my scores"


@pytest.mark.parametrize(
    ("script", "names"),
    [
        ("tdn/sthv2_r50_8f16f.sh", ["8f", "16f"]),
        ("tdn/sthv2_r101_8f16f_3crops.sh", ["8f", "16f"]),
        ("tsn/ucf101_rgb_flow.sh", ["rgb", "flow"]),
    ],
)
def test_an_ensemble_has_a_folder_for_each_network(script, names):
    started = commands(script, "--output_dir", "scores here")
    folders = [f"scores here/{name}" for name in names]
    scored = [command for command in started if "pkl_to_results.py" not in command]
    last_folders = []
    for command in scored:
        positions = [i for i, word in enumerate(command) if word == "--output_dir"]
        last_folders.append(command[positions[-1] + 1])  # argparse takes the last one
    assert last_folders == folders
    assert set(folders) <= set(started[-1])
    run = run_script(script, "--weights", "one.pth")
    assert run.returncode == 2 and "--weights" in run.stderr


def test_without_torchrun_there_is_one_line(tmp_path):
    for name in ("bash", "dirname"):
        (tmp_path / name).symlink_to(f"/usr/bin/{name}")
    (tmp_path / "scripts" / "tsn").mkdir(parents=True)
    script = "tsn/k400_r50_8f.sh"
    for name in (script, "recipe.sh"):
        (tmp_path / "scripts" / name).write_text((ROOT / "scripts" / name).read_text())
    run = subprocess.run(
        ["bash", tmp_path / "scripts" / script, "train"],
        env={"PATH": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert run.returncode == 2 and "torchrun" in run.stderr
    assert len(run.stderr.splitlines()) == 1
