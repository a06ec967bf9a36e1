"""Every flag states what it affects."""

import argparse

import pytest

from ops.cli.flags import Effect, FlagParser, SuggestingParser
from ops.cli.results_args import results_parser
from ops.cli.test_args import testing_parser as make_testing_parser
from ops.cli.train_args import fixed_options
from ops.cli.train_flags import training_parser
from ops.cli.types import positive_float, positive_int

PARSERS = {
    "main.py": (training_parser(""), ["mine", "RGB"]),
    "test_models_*.py": (make_testing_parser("", 1), ["mine"]),
    "pkl_to_results.py": (results_parser(""), []),
}


@pytest.mark.parametrize("command", PARSERS)
def test_every_argument_has_an_effect(command):
    parser, arguments = PARSERS[command]
    assert vars(parser.parse_args(arguments)).keys() <= parser.effects.keys()


def test_flags_of_one_argument_have_the_same_effect():
    parser = FlagParser("")
    parser.add_flag("--lr", effect=Effect.RESULT)
    with pytest.raises(ValueError, match="--rate"):
        parser.add_flag("--rate", dest="lr", effect=Effect.NONE)
    with pytest.raises(TypeError, match="effect"):
        parser.add_flag("--other")


def test_groups_pass_their_flags_to_the_parser():
    parser = FlagParser("")
    parser.group("machine").add_flag("--device", effect=Effect.NONE, help="where it runs")
    assert parser.names_of(Effect.NONE) == {"device"}
    assert parser.names_of(Effect.RESULT, Effect.NOISE) == set()
    assert "machine:" in parser.format_help()


def test_a_resumed_run_may_change_what_does_not_affect_the_result():
    fixed = fixed_options()
    assert {"lr", "module", "num_segments", "seed", "amp", "loss", "batch_size"} <= fixed
    free = {"epochs", "workers", "device", "print_freq", "output_dir", "root_path", "keep"}
    assert not free & fixed


def test_a_command_line_wins_over_other_values():
    def parse(argv, **values):
        parser = FlagParser("")
        parser.add_flag("dataset", effect=Effect.RESULT)
        parser.add_flag("--lr", effect=Effect.RESULT, type=float, default=0.1)
        parser.add_flag("--nesterov", effect=Effect.RESULT, action="store_true")
        parser.add_flag("--resume", effect=Effect.NONE)
        parser.add_flag("--overwrite", effect=Effect.NONE, replaces=["resume"], action="store_true")
        return vars(parser.parse_with_values(argv, values))

    default = {"lr": 0.1, "nesterov": False, "resume": None, "overwrite": False}
    assert parse(["a"]) == {**default, "dataset": "a"}
    assert parse(["a"], lr=0.2, dataset="b") == {**default, "dataset": "a", "lr": 0.2}
    # The default is given: it wins as well.
    assert parse(["--lr", "0.1"], lr=0.2, dataset="b") == {**default, "dataset": "b"}
    assert not parse(["a", "--no-nesterov"], nesterov=True)["nesterov"]
    assert parse(["a", "--overwrite"], resume="x")["resume"] is None
    assert parse(["a", "--no-overwrite"], resume="x")["resume"] == "x"
    with pytest.raises(SystemExit):
        parse([], lr=0.2)


def test_errors_of_flags_are_one_line(capsys):
    parser = FlagParser("")
    parser.add_flag("--lr", effect=Effect.RESULT, type=float)
    with pytest.raises(SystemExit) as stop:
        parser.parse_args(["--lr", "fast"])
    assert stop.value.code == 2
    line = capsys.readouterr().err
    assert line.startswith("error: argument --lr") and line.count("\n") == 1


@pytest.mark.parametrize(
    ("word", "suggested"),
    [
        ("--batchsize", "--batch-size"),
        ("--batch_size=4", "--batch-size"),
        ("--no-batch-size", "--batch-size"),
        ("--hidden_flag", None),
        ("--color", None),
        ("lr", None),
    ],
)
def test_a_flag_is_suggested_for_an_unknown_one(word, suggested, capsys):
    for parser in (FlagParser(""), SuggestingParser()):
        parser.add_argument("-b", "--batch-size", type=int, help="videos of a batch")
        parser.add_argument("--hidden-flag", help=argparse.SUPPRESS)
        with pytest.raises(SystemExit) as stop:
            parser.parse_args([word])
        assert stop.value.code == 2
        error = capsys.readouterr().err
        assert word in error
        assert ("did you mean" in error) == (suggested is not None)
        assert suggested is None or f"{suggested}?" in error


@pytest.mark.parametrize("type", [positive_int, positive_float])
def test_text_in_place_of_a_number_is_named(type, capsys):
    parser = FlagParser("")
    parser.add_flag("--lr", effect=Effect.RESULT, type=type)
    with pytest.raises(SystemExit):
        parser.parse_args(["--lr", "fast"])
    line = capsys.readouterr().err
    assert "'fast' is not a" in line and type.__name__ not in line
