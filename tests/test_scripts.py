"""The scripts of the published tables.

Their arguments are dry-run in this process, and the commands that the shell starts are compared
with what ``tools/lib/recipe_scripts.py`` reads.
"""

import os
import re
import subprocess

import pytest
import torch
from helpers.launch import ROOT, call

from lib.recipe_scripts import read_script, recipe_scripts
from ops.checkpoints import export_state_dict
from ops.models import TSN
from ops.temporal import MODULES

SCRIPTS = sorted(
    str(path.relative_to(ROOT / "scripts")) for path in (ROOT / "scripts").glob("*/*.sh")
)
RECIPES = [str(path.relative_to(ROOT / "scripts")) for path in recipe_scripts()]
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


def comment_of(script):
    lines = (ROOT / "scripts" / script).read_text().splitlines()
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
def test_shell_starts_the_commands_that_are_read(script):
    data = read_script(ROOT / "scripts" / script)
    run = run_dir_of(script)
    (training,) = commands(script, "train", "--seed", "my seed")
    assert training == [
        *("torchrun", "--nproc_per_node", str(data.processes), "main.py", *data.train),
        *("-j", "4", "--output_dir", run, "--resume", "auto", "--seed", "my seed"),
    ]
    for mode, test in data.tests.items():
        folder = f"{run}/{mode.replace('test', 'scores')}"
        command = ["python", f"{test.entry_point}.py", *test.arguments]
        command += ["--output_dir", folder, "--dry_run"]
        assert commands(script, mode, "--dry_run") == [command]
        assert value_of(test.arguments, "--weights") == f"{run}/best.pth"
        results = commands(script, mode)[1:]
        assert len(results) == ("tdn/" in script)  # TDN computes its results with another command
        for command in results:
            assert command[1] == "pkl_to_results.py"
            assert value_of(command, "--num_clips") == value_of(test.arguments, "--clips", "1")
            assert value_of(command, "--test_crops") == value_of(test.arguments, "--test_crops")
            assert value_of(command, "--output_dir") == folder


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
    data = read_script(ROOT / "scripts" / script)
    dataset, modality, *flags = data.train
    module = script.split("/")[0]
    assert value_of(flags, "--module") == module
    assert modality == modality_of(script)
    if module in T_IN_WEIGHTS:
        assert int(value_of(flags, "--num_segments")) == segments_of(script)
    batch = int(value_of(flags, "--batch-size"))
    assert int(value_of(flags, "--lr_batch")) == 8 * batch
    lr = value_of(flags, "--lr")
    note = rf"effective batch {8 * batch} = 8 processes x {batch} videos, lr {lr}\b"
    assert re.search(note, comment_of(script))
    own = [
        *lists[modality == "Flow"],
        "--train_list",
        value_of(lists[modality == "Flow"], "--val_list"),
    ]
    own += ["--batch-size", "2"]  # the list is short
    if "--tune_from" in flags:  # a dry run reads it
        own += ["--tune_from", released(400, module="tsm", arch="resnet50")]
    assert call("main", dataset, modality, *flags, *own, "--dry_run") == 0
    out = capsys.readouterr().out
    assert f"3 train videos, 3 val videos, {CLASSES[dataset]} classes; nothing was trained" in out
    assert ("non-local" in out) == ("_nl_" in script)
    assert ("--dense_sample" in flags) == ("dense" in script)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("script", "mode"),
    [(script, mode) for script in RECIPES for mode in read_script(ROOT / "scripts" / script).tests],
)
def test_test_arguments(script, mode, lists, released, capsys):
    test = read_script(ROOT / "scripts" / script).tests[mode]
    dataset, *flags = test.arguments
    out = check_test(script, test.entry_point, dataset, flags, lists, released, capsys)
    protocol = re.search(r"\d+ frames? x \d+ crops? x \d+ clips?, \d+", out)[0]
    assert protocol in comment_of(script)


@pytest.mark.slow
def test_test_arguments_of_three_crops_of_an_ensemble(lists, released, capsys):
    script = "tdn/sthv2_r101_8f16f_3crops.sh"
    for _, file, dataset, *flags in commands(script, "--dry_run"):
        assert file == "test_models_three_crops.py"
        check_test(script, "test_models_three_crops", dataset, flags, lists, released, capsys)


def check_test(script, entry_point, dataset, flags, lists, released, capsys):
    """Dry-run a test of a script; returns what it printed."""
    module, modality = script.split("/")[0], value_of(flags, "--modality", "RGB")
    assert modality == modality_of(script)
    weights = released(
        CLASSES[dataset],
        segments_of(script) if module in T_IN_WEIGHTS else 8,
        module=module,
        arch=value_of(flags, "--archs"),
        modality=modality,
        non_local="_nl_" in script,
    )
    own = [*lists[modality == "Flow"], "--weights", weights, "--dry_run"]
    assert call(entry_point, dataset, *flags, *own) == 0
    out = capsys.readouterr().out
    assert f"3/3 videos, {AVERAGE[MODULES[module].average]}; nothing was scored" in out
    dense = "--dense_sample" in flags or value_of(flags, "--sample", "").startswith("dense")
    assert dense == ("dense" in script)
    return out


def test_scores_of_two_streams_are_fused():
    rgb, flow, fusion = commands("tsn/ucf101_rgb_flow.sh", SPLIT="3")
    folders = [value_of(command, "--output_dir") for command in (rgb, flow)]
    assert fusion == ["python", "pkl_to_results.py", *folders, "--score_weights", "1", "1.5"]
    assert value_of(rgb, "--val_list").endswith("ucf101_rgb_val_split_3.txt")
    assert value_of(flow, "--val_list").endswith("ucf101_flow_val_split_3.txt")


def test_each_split_has_its_own_lists_and_folder():
    for script in (
        "tsm/ucf101_r50_8f.sh",
        "tsn/ucf101_rgb.sh",
        "tsn/ucf101_flow.sh",
        "tsn/ucf101_rgbdiff.sh",
    ):
        one, two = (commands(script, "train", **env)[0] for env in ({}, {"SPLIT": "2"}))
        assert [re.sub("split(_?)1", r"split\g<1>2", arg) for arg in one] == two
        assert [one[i - 1] for i in range(len(one)) if one[i] != two[i]] == [
            "--train_list",
            "--val_list",
            "--output_dir",
        ]
        run = run_script(script, "train", SPLIT="4")
        assert run.returncode == 2 and "SPLIT=4 is not 1, 2 or 3" in run.stderr


def test_pretrain_in_the_environment_names_the_weights():
    (command,) = commands("tsn/ucf101_rgb.sh", "train", PRETRAIN="my weights.pth")
    assert value_of(command, "--pretrain") == "my weights.pth"


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
