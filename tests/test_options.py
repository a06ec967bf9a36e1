import pytest

from ops.testing_options import testing_parser as make_testing_parser
from ops.options import training_parser as make_training_parser

TDN_README = """something RGB --arch resnet50 --num_segments 8 --gd 20 --lr 0.01 --lr_scheduler step --lr_steps 30 45 55
    --epochs 60 --batch-size 8 --wd 5e-4 --dropout 0.5 --consensus_type=avg --eval-freq=1 -j 4 --npb"""
TDN_README_TEST = """kinetics --archs=resnet50 --weights w.pth --test_segments=8 --test_crops=3 --batch_size=16 --full_res
    --gpus 0 --output_dir out -j 4 --clip_index 9"""


def test_the_readmes_commands_parse():
    args = make_training_parser("").parse_args(TDN_README.split())
    assert (args.arch, args.num_segments, args.clip_gradient, args.lr, args.lr_steps) == ("resnet50", 8, 20, 0.01, [30, 45, 55])
    assert (args.batch_size, args.weight_decay, args.partial_bn, args.workers, args.module) == (8, 5e-4, False, 4, "tdn")
    args = make_testing_parser("", 3).parse_args(TDN_README_TEST.split())
    assert (args.test_crops, args.full_res, args.gpus, args.clip_index) == (3, True, [0], 9)


def test_the_old_launcher_passes_its_rank_in_either_spelling():
    for flag in ("--local-rank=1", "--local_rank=1"):
        assert make_training_parser("").parse_args(["x", "RGB", flag]).local_rank == 1


@pytest.mark.parametrize("flags", ["--no_such_flag", "--num_seg 8", "--batch-size 0", "--lr fast", "--dropout 1.5",
                                   "--momentum -1", "--lr 0", "--modality Flow"])
def test_unknown_flags_abbreviations_and_impossible_values_are_errors(flags, capsys):
    with pytest.raises(SystemExit) as stop:
        make_training_parser("").parse_args(["something", "RGB", *flags.split()])
    assert stop.value.code == 2 and "error: " in capsys.readouterr().err


@pytest.mark.parametrize("parser", [make_training_parser("x"), make_testing_parser("x", 1)])
def test_every_flag_has_help(parser):
    assert all(action.help for action in parser._actions)
    assert "default: " in parser.format_help()
