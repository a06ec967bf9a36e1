"""Flags in TOML files, with the parsers of main.py and of the test scripts."""

import os
import tomllib

import pytest
from helpers.launch import ROOT, call, refused

from ops.cli.config import parse_with_config
from ops.cli.flags import Effect
from ops.cli.test_args import testing_arguments as parse_testing
from ops.cli.train_args import args_toml, parse_training
from ops.cli.train_flags import training_parser
from ops.utils.errors import UserError

RECIPE = """\
dataset = "something"   # for both commands

[train]
modality = "RGB"
module = "tsm"
"batch-size" = 4
lr_steps = [20, 40.5]
npb = true
nesterov = true
resume = true

[test]
weights = "a.pth,b.pth"
test_segments = "8,16"
full_res = true
channels_last = false
"""


@pytest.fixture
def write(tmp_path):
    def write(text, name="recipe.toml"):
        path = tmp_path / name
        path.write_text(text)
        return str(path)

    return write


def train(*words):
    return parse_training("", [*map(str, words)])[0]


def test_keys_are_flags_of_the_command_of_their_section(write):
    path = write(RECIPE)
    args = train("--config", path)
    assert (args.dataset, args.modality, args.module, args.batch_size) == (
        "something",
        "RGB",
        "tsm",
        4,
    )
    assert args.lr_steps == [20.0, 40.5] and args.nesterov and args.partial_bn is False
    assert args.resume == "auto" and args.config == [path]
    args = parse_testing("", 1, ["--config", path])
    assert args.dataset == "something" and args.full_res and not args.channels_last
    assert [model.weights for model in args.models] == ["a.pth", "b.pth"]
    assert [model.test_segments for model in args.models] == [8, 16]


def test_a_section_can_be_named(write):
    path = write('dataset = "mine"\n[test]\nweights = "a.pth"\n[test1]\nweights = "b.pth"\n')
    for name, weights in ((path, "a.pth"), (f"{path}:test1", "b.pth")):
        assert parse_testing("", 1, ["--config", name]).weights == weights


def test_a_section_wins_over_the_keys_above_it(write):
    path = write('dataset = "mine"\nlr = 0.1\noverwrite = true\n[train]\nlr = 0.2\nresume = true\n')
    args = train("--config", path, "mine", "RGB")
    assert (args.lr, args.resume, args.overwrite) == (0.2, "auto", False)


def test_values_are_those_of_the_command_line(write):
    """Without a file the same arguments have the same values and types."""
    words = ["mine", "Flow", "--module", "tsm", "--lr", "0.02", "--lr_steps", "1", "2.5"]
    words += ["--sampling", "dense", "--save_every", "5m", "--no-fc_lr5", "--wd", "1e-4"]
    path = write(
        'dataset = "mine"\nmodality = "Flow"\nmodule = "tsm"\nlr = 2e-2\nlr_steps = [1, 2.5]\n'
        'dense_sample = true\nsave_every = "5m"\nfc_lr5 = false\nweight_decay = "1e-4"\n'
    )
    assert {**vars(train(*words)), "config": [path]} == vars(train("--config", path))


def test_later_files_win_and_the_command_line_wins_over_all(write):
    first = write(
        'dataset = "a"\nmodality = "RGB"\nlr = 0.1\nepochs = 5\nwd = 1e-3\n', "first.toml"
    )
    second = write("lr = 0.2\nepochs = 6\n", "second.toml")
    words = ("--config", first, "--config", second, "--lr", "0.3")
    args = train(*words)
    assert (args.lr, args.epochs, args.weight_decay, args.dataset) == (0.3, 6, 1e-3, "a")
    assert train("b", *words).dataset == "b"
    args = train("b", "Flow", "--module", "tsn", *words)
    assert (args.dataset, args.modality) == ("b", "Flow")


@pytest.mark.parametrize(
    ("line", "flags", "expected"),
    [
        ("nesterov = true", ["--no-nesterov"], {"nesterov": False}),
        ("fc_lr5 = true", ["--no-fc_lr5"], {"fc_lr5": False}),
        ("partial_bn = true", ["--npb"], {"partial_bn": False}),
        ('module = "tdn"', ["--tam"], {"module": "tam"}),
        ('resume = "auto"', ["--overwrite"], {"resume": None, "overwrite": True}),
        ("overwrite = true", ["--resume"], {"resume": "auto", "overwrite": False}),
        ('sampling = "dense"', ["--sampling", "uniform"], {"sampling": "uniform"}),
        ('lr_scheduler = "cosine"', ["--lr_type", "step"], {"lr_scheduler": "step"}),
        ('image_tmpl = "a_{}.jpg"', ["--flow_prefix", "b"], {"image_tmpl": None}),
        ('train_list = "a.txt"', ["b.txt", "c.txt"], {"train_list": "b.txt"}),
        ('output_dir = "a"', ["--root_model", "b", "--store_name", "c"], {"output_dir": "b/c"}),
    ],
)
def test_other_forms_of_a_flag_also_win_over_files(write, line, flags, expected):
    args = vars(train("mine", "RGB", *flags, "--config", write(line)))
    assert {name: args[name] for name in expected} == expected


def test_flags_that_exclude_each_other_are_still_refused(write):
    with pytest.raises(UserError, match="tam, tdn"):
        train("mine", "RGB", "--module", "tdn", "--tam", "--config", write("lr = 1\n"))


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("lrr = 1", ":3: unknown key 'lrr'; did you mean lr?"),
        ("batch_sise = 1", "did you mean batch_size?"),
        ('lr = "fast"', ":3: lr: 'fast' is not a number"),
        ("epochs = 1.0", ":3: epochs: '1.0' is not a whole number"),
        ("lr = true", ":3: lr: "),
        ("epochs = [1, 2]", ":3: epochs: "),
        ("output_dir = 1979-05-27", ":3: output_dir: "),
        ("nesterov = 1", ":3: nesterov: write true or false"),
        ("npb = false", ":3: npb: only true is possible; leave it out, or give partial_bn"),
        ('optimizer = "sgdd"', "invalid choice: 'sgdd' (choose from 'sgd', 'adamw'"),
        ("wd = 1\nweight_decay = 2", ":4: weight_decay and wd"),
        ('lr_type = "cos"', ":3: lr_type is for the command line only"),
        ("tam = true", "the same as --module tam"),
        ('config = "x.toml"', ":3: config is for the command line only"),
        ('root_path = "$NOT_SET/x"', "NOT_SET is not set"),
        ("lr =", ":3: not TOML"),
        ("[test]\nlr = 1", "no section [train]"),
        ("[trian]\nlr = 1", ":3: unknown section [trian]"),
    ],
)
def test_invalid_files_are_refused_with_their_line(write, capsys, line, message):
    path = write(f"# flags\n\n{line}\n")
    assert message in refused(capsys, "main", "mine", "RGB", "--config", path)


def test_missing_arguments_and_files_are_refused(write, capsys, tmp_path):
    path = write('dataset = "mine"\n')
    assert "modality" in refused(capsys, "main", "--config", path)
    assert f"{tmp_path}/no.toml" in refused(capsys, "main", "--config", tmp_path / "no.toml")
    assert "[test2]" in refused(capsys, "test_models_center_crop", "--config", f"{path}:test2")


def test_help_is_that_of_the_command(write, capsys):
    assert call("main", "--config", write('dataset = "mine"\n'), "--help") == 0
    assert "--lr_scheduler" in capsys.readouterr().out


def test_variables_of_the_environment(write, monkeypatch):
    path = write(
        'dataset = "mine"\nmodality = "RGB"\ntrain_list = "${LISTS:-lists}/$SPLIT.txt"\n'
        'suffix = "5$$"\n'
    )
    monkeypatch.setenv("SPLIT", "2")
    args = train("--config", path)
    assert args.train_list == "lists/2.txt" and args.output_dir.endswith("5$")
    monkeypatch.setenv("LISTS", "/data")
    assert train("--config", path).train_list == "/data/2.txt"


COMMANDS = [
    ["mine", "RGB"],
    ["kinetics", "RGB", "--tin", "--lr_type", "cos", "--use_warmup", "--crop_size", "192"],
    [
        "mine",
        "Flow",
        "a.txt",
        "b.txt",
        "--flow_prefix",
        "f_",
        "--snapshot_pref",
        "x",
        "--dropout",
        "0",
    ],
    [
        "mine",
        "RGB",
        "--module",
        "tsm",
        "--shift_div",
        "4",
        "--shift_place",
        "block",
        "--partial_bn",
    ],
    ["mine", "RGB", "--root_path", 'it\'s "$5" \\ ü\x7f', "--resume", "--no-channels_last"],
    ["something", "RGB", "--lr", "1e-5", "--lr_steps", "1", "2.5", "--gd", "20", "--ema", "0.999"],
]


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_args_toml_repeats_the_arguments_of_a_run(write, words):
    args = train(*words)
    text = args_toml(args, processes=2)
    assert "torchrun --nproc_per_node 2" in text.splitlines()[0]
    repeated = train("--config", write(text))
    not_repeated = {"config", "resume", "suffix", "snapshot_pref", "flow_prefix"}
    for name in vars(args).keys() - not_repeated:
        assert vars(repeated)[name] == vars(args)[name], name
    assert repeated.resume is None
    tomllib.loads(text)


def test_args_toml_names_what_toml_cannot_contain(write):
    args = train("mine", "RGB", "--root_path", os.fsdecode(b"v\xff"))
    text = args_toml(args, processes=1)
    assert "# root_path is not UTF-8" in text
    assert train("--config", write(text)).root_path is None


def test_every_flag_of_the_help_is_a_key(write):
    """All but forms of other flags: those of modules, and lists without a flag."""
    parser = training_parser("")
    unknown = []
    for flag in parser.flags:
        if flag.settings["help"].startswith(("==", "the same as --module", "flags in a file")):
            continue
        if flag.action.nargs == "?" and flag.is_positional:
            continue
        key = flag.names[-1].lstrip("-") if len(flag.names[-1]) > 3 else flag.names[0].lstrip("-")
        path = write(f"{key} = 1979-05-27\n")
        with pytest.raises(UserError) as error:
            parse_with_config(training_parser(""), ["mine", "RGB", "--config", path], "train")
        if f"recipe.toml:1: {key}: " not in str(error.value):
            unknown.append(str(error.value))
    assert unknown == [] and len(parser.names_of(*Effect)) > 50


def test_paths_are_relative_to_the_working_directory(write, monkeypatch, tmp_path, capsys):
    (tmp_path / "sub").mkdir()
    path = write('dataset = "mine"\nmodality = "RGB"\ntrain_list = "train.txt"\nnum_class = 2\n')
    monkeypatch.chdir(tmp_path / "sub")
    line = refused(capsys, "main", "--config", path, "--val_list", "v", "--root_path", ROOT)
    assert "train.txt: no such file" in line and str(tmp_path) not in line
