import argparse
import sys

import pytest

from ops.cli import test_args
from ops.cli.test_args import testing_parser as make_testing_parser
from ops.cli.train_args import parse_training, resolve_module, training_arguments
from ops.cli.train_flags import training_parser as make_training_parser
from ops.utils.errors import UserError

TDN_README = """something RGB --arch resnet50 --num_segments 8 --gd 20 --lr 0.01 --lr_scheduler
    step --lr_steps 30 45 55
    --epochs 60 --batch-size 8 --wd 5e-4 --dropout 0.5 --consensus_type=avg --eval-freq=1 -j 4
    --npb"""
TDN_README_TEST = """kinetics --archs=resnet50 --weights w.pth --test_segments=8 --test_crops=3
    --batch_size=16 --full_res
    --gpus 0 --output_dir out -j 4 --clip_index 9"""


def test_the_readmes_commands_parse():
    args = training(TDN_README)
    assert (args.arch, args.num_segments, args.clip_gradient, args.lr, args.lr_steps) == (
        "resnet50",
        8,
        20,
        0.01,
        [30, 45, 55],
    )
    assert (args.batch_size, args.weight_decay, args.partial_bn, args.workers, args.module) == (
        8,
        5e-4,
        False,
        4,
        "tdn",
    )
    args = make_testing_parser("", 3).parse_args(TDN_README_TEST.split())
    assert (args.test_crops, args.full_res, args.clip_index) == ([3], True, 9)


TSM_README = """kinetics RGB --arch resnet50 --num_segments 8 --gd 20 --lr 0.02 --wd 1e-4
    --lr_steps 20 40 --epochs 50
    --batch-size 128 -j 16 --dropout 0.5 --consensus_type=avg --eval-freq=1 --shift
    --shift_div=8 --shift_place=blockres
    --npb"""
TSM_README_TUNE = """ucf101 RGB --arch resnet50 --num_segments 8 --gd 20 --lr 0.001 --lr_steps
    10 20 --epochs 25 --batch-size 64
    -j 16 --dropout 0.8 --consensus_type=avg --eval-freq=1 --shift --shift_div=8
    --shift_place=blockres --tune_from=w.pth"""
TSM_README_TEST = """something --weights=a.pth,b.pth --test_segments=16,8 --test_crops=1
    --batch_size=8 -j 10 --full_res
    --twice_sample --csv_file out.csv --softmax --coeff 1,1.5"""
TSN_README = """ucf101 Flow train.txt val.txt --arch BNInception --num_segments 3 --gd 20 --lr
    0.001 --lr_steps 190 300
--epochs 340
    -b 128 -j 8 --dropout 0.7 --snapshot_pref ucf101_bninception_ --flow_pref flow_ --pretrain
    none"""
TSN_README_TEST = """ucf101 RGB val.txt w.pth.tar --arch BNInception --save_scores out.npz
    --test_segments 25 --test_crops 10"""


def training(text):
    argv, sys.argv = sys.argv, ["main.py", *text.split()]
    try:
        return training_arguments("")
    finally:
        sys.argv = argv


def for_test(text):
    argv, sys.argv = sys.argv, ["test_models_center_crop.py", *text.split()]
    try:
        return test_args.testing_arguments("", 1)
    finally:
        sys.argv = argv


def test_tsms_commands():
    args = training(TSM_README)
    assert (args.module, args.shift_div, args.shift_place, args.shift_direction) == (
        "tsm",
        8,
        "blockres",
        "both",
    )
    assert (args.lr_policy, args.partial_bn, args.fc_lr5, args.sampling) == (
        "groups",
        False,
        None,
        "uniform",
    )
    args = training(TSM_README_TUNE)
    assert (args.pretrain, args.tune_from, args.partial_bn) == ("none", "w.pth", True)
    assert (
        training("something RGB --shift --dense_sample --lr_type cos").lr_scheduler
        == "cosine-epoch"
    )
    assert training("something RGB --shift --dense_sample --non_local").output_dir.endswith(
        "_nl_dense"
    )
    args = for_test("kinetics --weights a.pth --sample dense-10 --full_res")
    assert (args.models[0].test_sampling, args.clips) == ("dense", 10)
    args = for_test(TSM_README_TEST)
    assert [
        (m.weights, m.test_segments, m.coeff, m.test_crops, m.test_sampling) for m in args.models
    ] == [("a.pth", 16, 1.0, 1, "twice"), ("b.pth", 8, 1.5, 1, "twice")]
    assert args.full_res and args.softmax and args.csv_file == "out.csv"


def test_tsn_pytorchs_commands():
    args = training(TSN_README)
    assert (args.train_list, args.val_list, args.image_tmpl) == (
        "train.txt",
        "val.txt",
        "flow_{}_{:05d}.jpg",
    )
    assert (args.module, args.output_dir) == ("tsn", "runs/ucf101_bninception_flow")
    assert args.fc_lr5 is False  # tsn-pytorch has one rate for the classifier and the rest
    assert training(TSN_README + " --fc_lr5").fc_lr5 is True
    args = for_test(TSN_README_TEST)
    model = args.models[0]
    assert (model.modality, model.val_list, model.weights, model.archs) == (
        "RGB",
        "val.txt",
        "w.pth.tar",
        "BNInception",
    )
    assert (model.test_segments, model.test_crops, args.save_scores) == (25, 10, "out.npz")
    args = for_test("ucf101 RGB val.txt w.pth.tar --save_scores out")  # its defaults
    model = args.models[0]
    assert (model.test_segments, model.test_crops, model.test_sampling) == (25, 10, "center")
    assert args.save_scores == "out.npz"
    args = for_test("ucf101 RGB val.txt w.pth.tar --test_segments 3 --test_crops 1")
    assert (args.models[0].test_segments, args.models[0].test_crops) == (3, 1)


def test_one_network_may_have_commas_in_its_paths():
    args = for_test("x --weights a.pth --root_path /data,old --test_list l,1.txt")
    assert (args.models[0].root_path, args.models[0].val_list) == ("/data,old", "l,1.txt")
    args = for_test(
        "x --weights a.pth,b.pth --root_path /rgb,/flow "
        "--image_tmpl {:05d}.jpg,{}_{:05d}.jpg --archs resnet18"
    )
    assert [(m.root_path, m.archs) for m in args.models] == [
        ("/rgb", "resnet18"),
        ("/flow", "resnet18"),
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x", "--weights is missing"),
        ("x RGB list.txt", "RGB list.txt: "),
        ("x --weights a.pth --resume_path b", "--resume_path b and --weights a.pth"),
        ("x --weights a.pth --tin --module tsm", "tin, tsm"),
        ("x --weights a.pth --random_crops 4", "--random_crops 4"),
        ("x RGB list.txt w --weights v", "then no --modality"),
        ("x --weights a.pth,b.pth --coeff 1,2,3", "--coeff: 3 values for 2"),
        ("x --weights a.pth --sample dense-10 --clips 3", "--sample sets"),
        ("x --weights a.pth --test_segments 8,16", "--test_segments: 2 values for 1"),
        ("x --weights a.pth --clips 3 --clip_index 3", "last is 2"),
    ],
)
def test_exclusive_test_flags_raise(text, message):
    with pytest.raises(UserError, match=message):
        for_test(text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x RGB --shift --module tdn", "several temporal modules \\(tdn, tsm\\)"),
        ("x RGB --module tsn --shift_div 8", "tsn has no such option"),
        ("x RGB --shift --shift_div 1", "--shift_div 1: must be"),
        ("x Flow --flow_prefix a --image_tmpl b", "--flow_prefix and --image_tmpl"),
        ("x RGB a.txt b.txt --val_list c.txt", "--val_list c.txt and b.txt"),
        ("x RGB --resume a --resume_path b", "--resume_path b and --resume a"),
        ("x RGB --start-epoch 5", "--start-epoch 5"),
        ("x RGB --scale_size 300", "--scale_size 300"),
        ("x RGB --gpus 0 --device cpu", "--gpus and --device cpu"),
    ],
)
def test_exclusive_training_flags_raise(text, message):
    with pytest.raises(UserError, match=message):
        training(text)


def notes_of(text):
    return parse_training("", text.split())


@pytest.mark.parametrize(
    ("flags", "module", "reason"),
    [
        ("something RGB", "tdn", "by default"),
        ("mine Flow", "tsn", "RGB only"),
        ("mine RGBDiff", "tsn", "RGB only"),
        ("mine RGB --arch BNInception", "tsn", "does not run on"),
        ("mine RGB --arch mobilenetv2", "tsn", "does not run on"),
        ("mine RGB --snapshot_pref x_", "tsn", "tsn-pytorch"),
        ("mine RGB train.txt val.txt", "tsn", "tsn-pytorch"),
        ("mine Flow --shift", "tsm", None),
        ("mine RGB --arch resnext50_32x4d", "tdn", "by default"),
    ],
)
def test_choice_of_the_module_is_reported(flags, module, reason):
    args, notes = notes_of(flags)
    assert args.module == module
    if reason is None:
        assert notes == []
    else:
        assert f"module {module}" in notes[0] and reason in notes[0] and "--module" in notes[0]


def test_module_is_that_of_the_checkpoint_without_a_flag():
    args = argparse.Namespace(module=None, tune_from="w.pth", arch="resnet50", modality="RGB")
    module, note = resolve_module(args, "tsm")
    assert module == "tsm" and "w.pth" in note
    args.module = "tsn"
    assert resolve_module(args, "tsm") == ("tsn", None)


def test_folders_and_names_of_the_originals():
    args, notes = notes_of("x RGB --tam --root_log logs --root_model models --store_name mine")
    assert args.output_dir == "models/mine" and args.module == "tam"
    assert all(flag in notes[0] for flag in ("--root_log", "--root_model", "--store_name"))
    assert notes_of("x RGB --tam --root_log logs")[0].output_dir.startswith("logs/x_RGB_tam_")
    args, notes = notes_of("x RGB --tam --root_model models --output_dir out")
    assert args.output_dir == "out" and "ignored" in notes[0]
    # What is saved with a run holds flags of this project only.
    assert vars(args).keys() == vars(notes_of("x RGB")[0]).keys()


def test_one_gpu_is_used_and_several_get_a_command(monkeypatch):
    args, notes = notes_of("x RGB --shift --gpus 0")
    assert "--gpus" in notes[0]
    with pytest.raises(UserError) as caught:
        notes_of("x RGB --shift --batch-size 48 --gpus 0 1 2 3 --lr 0.01")
    command = "torchrun --nproc_per_node 4 main.py x RGB --shift --batch-size 48 --lr 0.01"
    assert f"{command} --batch-size 12" in str(caught.value)
    with pytest.raises(UserError, match="CUDA_VISIBLE_DEVICES=2,3 torchrun --nproc_per_node 2"):
        notes_of("x RGB --shift --gpus 2 3")
    monkeypatch.setenv("WORLD_SIZE", "2")
    args, notes = notes_of("x RGB --shift --gpus 1")
    assert args.device is None and "ignored" in notes[0]
    assert notes_of("x RGB --shift --gpus 0 1")[0].device is None


def test_gpus_of_a_test_script(monkeypatch):
    """Under a launcher each process has a GPU of its own, whatever --gpus names."""
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)

    def testing(text):
        return test_args.testing_arguments("", 1, text.split())

    assert testing("x --weights w.pth --gpus 1").device == "cuda:1"
    with pytest.raises(UserError, match="torchrun --nproc_per_node 2 "):
        testing("x --weights w.pth --gpus 0 1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    for gpus in ("0", "0 1"):
        args = testing(f"x --weights w.pth --gpus {gpus}")
        assert args.device is None and "--gpus" in args.notes[0]


def test_tins_schedule_and_resuming():
    args, notes = notes_of("x RGB --tin --lr_type cos --use_warmup --warmup_epochs 2 --resume")
    assert (args.lr_scheduler, args.min_lr) == ("cosine", 0)
    assert (args.warmup_epoch, args.warmup_multiplier) == (2, 10)
    assert args.resume == "auto" and "--lr_scheduler cosine" in notes[0]
    args, notes = notes_of("x RGB --tin --warmup_epochs 2")
    assert args.warmup_epoch == 0 and "--use_warmup" in notes[0]
    assert notes_of("x RGB --tin --resume --resume_path a.pth")[0].resume == "a.pth"
    assert notes_of("x RGB --tin --resume=True --resume_path a.pth")[0].resume == "a.pth"
    assert notes_of("x RGB --tin --lr_type step")[0].lr_scheduler == "step"
    assert notes_of("x RGB --tin --crop_size 160 --scale_size 182")[0].input_size == 160
    assert notes_of("x RGB --multi_class True --loss_type bce")[0].multi_label is True
    args, notes = notes_of("x RGB --k 3 --img_feature_dim 256 --dense_sample_rate 2")
    assert all(flag in notes[1] for flag in ("--k", "--img_feature_dim", "--dense_sample_rate"))


TIN_README_TEST = """something RGB --arch resnet50 --num_segments 8 --gd 20 --lr 0.01 --lr_steps
    10 20 --epochs 50
    --batch-size 8 -j 8 --dropout 0.8 --consensus_type=avg --eval-freq=1 --shift_div=4 --tin
    --resume=True
    --resume_path=w.pth --random_crops=3 --temporal_clips=5 --crop_size=256"""


def test_tins_test_command():
    args = for_test(TIN_README_TEST)
    model = args.models[0]
    assert (model.weights, model.modality, model.archs) == ("w.pth", "RGB", "resnet50")
    assert (model.test_segments, model.test_crops, model.test_sampling) == (8, 3, "center+random")
    assert (args.clips, args.batch_size, args.crop_size, args.module) == (5, 8, 256, "tin")
    assert all(flag in args.notes[0] for flag in ("--resume_path", "--temporal_clips", "--gd"))
    args = for_test("x RGB --resume_path a.pth --temporal_clips 1")
    assert (args.models[0].test_sampling, args.clips) == ("center", None)
    args = for_test("x --weights a.pth --pretrain imagenet --num_clips 10 --crop_fusion_type avg")
    assert "--pretrain" in args.notes[0] and for_test("x --weights a.pth").notes == []


def test_flags_of_the_originals_are_not_in_the_help():
    for parser in (make_training_parser(""), make_testing_parser("", 1)):
        text = parser.format_help()
        assert "docs/original_commands.md" in text
        assert not any(
            flag in text for flag in ("--root_log", "--img_feature_dim", "--resume_path")
        )


def test_the_old_launcher_passes_its_rank_in_either_spelling():
    for flag in ("--local-rank=1", "--local_rank=1"):
        assert make_training_parser("").parse_args(["x", "RGB", flag]).local_rank == 1


@pytest.mark.parametrize(
    "flags",
    [
        "--no_such_flag",
        "--num_seg 8",
        "--batch-size 0",
        "--lr fast",
        "--dropout 1.5",
        "--momentum -1",
        "--lr 0",
        "--modality Flow",
        "--lr_type sin",
        "--shift_place inplace",
        "--dense",
        "a b c",
    ],
)
def test_unknown_flags_abbreviations_and_invalid_values_raise(flags, capsys):
    with pytest.raises(SystemExit) as stop:
        make_training_parser("").parse_args(["something", "RGB", *flags.split()])
    assert stop.value.code == 2 and "error: " in capsys.readouterr().err


@pytest.mark.parametrize("parser", [make_training_parser("x"), make_testing_parser("x", 1)])
def test_every_flag_has_help(parser):
    assert all(action.help for action in parser._actions)
    assert "default: " in parser.format_help()


def test_a_comma_in_a_path_of_weights(tmp_path, monkeypatch):
    """A path that exists as a whole is one file; a part that exists with its comma, too."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "lr=0,01").mkdir()
    for path in ("lr=0,01/best.pth", "b.pth"):
        (tmp_path / path).write_text("")

    def weights(text):
        return [model.weights for model in for_test(f"something --weights {text}").models]

    assert weights("lr=0,01/best.pth") == ["lr=0,01/best.pth"]
    assert weights("lr=0,01/best.pth,b.pth") == ["lr=0,01/best.pth", "b.pth"]
    assert weights("b.pth,lr=0,01/best.pth") == ["b.pth", "lr=0,01/best.pth"]
    assert weights("lr=0,01,b.pth") == ["lr=0,01/best.pth", "b.pth"]  # a folder of a run
    assert weights("x.pth,y.pth") == ["x.pth", "y.pth"]  # there is neither
    with pytest.raises(UserError, match="without best"):
        weights(str(tmp_path))


@pytest.mark.parametrize(
    "flag, value",
    [
        ("-j", 5000),
        ("--seed", 2**64),
        ("--num_segments", 100_000),
        ("--wd", "nan"),
        ("--lr_steps", "nan"),
        ("--cutmix", "1e-320"),
        ("--mixup", "1e+300"),
    ],
)
def test_numbers_out_of_range_raise(capsys, flag, value):
    with pytest.raises(SystemExit) as stop:
        training_arguments("", ["something", "RGB", flag, str(value)])
    line = capsys.readouterr().err
    assert stop.value.code == 2 and line.count("\n") == 1
    assert flag in line and str(value) in line


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ("--compile --checkpoint_activations", "--checkpoint_activations.*--compile"),
        ("--freeze backbone --precise_bn 9", "--precise_bn.*--freeze backbone"),
        ("--multi_label --balanced_sampling", "--balanced_sampling.*--multi_label"),
        ("--multi_label --class_weights balanced", "--class_weights.*--multi_label"),
    ],
)
def test_options_that_exclude_each_other_raise(flags, message):
    with pytest.raises(UserError, match=message):
        training(f"something RGB --module tsn {flags}")


def test_a_frozen_backbone_trains_on_single_values():
    flags = "something RGB --module tsn --npb --num_segments 1 --batch-size 1 --input_size 32"
    assert training(f"{flags} --freeze backbone").freeze == "backbone"
    with pytest.raises(UserError, match="--batch-size 1"):
        training(f"{flags} --freeze stem")


def test_a_measured_batch_size_stays_a_word_until_the_network_is_there():
    assert training("something RGB --module tsn --npb --batch-size auto").batch_size == "auto"
    with pytest.raises(UserError, match=r"type torchrun .* --batch_size auto$"):
        training("something RGB --shift --batch_size auto --gpus 0 1")
