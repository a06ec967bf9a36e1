"""Every flag of the fronts, in groups they share. Defaults are shown by ``--help`` and saved with the run."""
import argparse

from ops.backbones import ARCHS
from ops.data.datasets import KNOWN
from ops.data.readers import DECODERS
from ops.models import CHANNELS
from ops.optim import POLICIES, SCHEDULERS
from ops.temporal import MODULES

AMP = ("none", "bf16", "fp16")


class _Help(argparse.ArgumentDefaultsHelpFormatter, argparse.RawDescriptionHelpFormatter):
    pass


def _positive(text):
    """A flag's whole number from 1."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{value} is not a positive number")
    return value


def _count(text):
    """A flag's whole number from 0."""
    value = int(text)
    if value < 0:
        raise argparse.ArgumentTypeError(f"{value} is negative")
    return value


def _share(text):
    """A flag's number in [0, 1)."""
    value = float(text)
    if not 0 <= value < 1:
        raise argparse.ArgumentTypeError(f"{value} is not in [0, 1)")
    return value


def _rate(text):
    """A flag's number above 0."""
    value = float(text)
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{value} is not a positive number")
    return value


def _parser(description):
    # No abbreviations: an unknown flag is an error, today and after new flags have come.
    parser = argparse.ArgumentParser(description=description, formatter_class=_Help, allow_abbrev=False)
    parser.add_argument("dataset", help=f"{', '.join(KNOWN)}, or a name of your own with the list flags below")
    return parser


def _add_data(parser, lists):
    group = parser.add_argument_group("data (each flag overrides what is known of the data set)")
    for name, meaning in lists:
        group.add_argument(f"--{name}", metavar="FILE", help=meaning)
    group.add_argument("--root_path", metavar="DIR", help="folder that the paths of a list are relative to")
    group.add_argument("--num_class", type=_positive, metavar="N", help="number of classes")
    group.add_argument("--class_names", metavar="FILE", help="class names, one a line, in label order")
    group.add_argument("--image_tmpl", metavar="TMPL", help="file names in a frame folder, such as img_{:05d}.jpg")
    group.add_argument("--decoder", choices=tuple(DECODERS), default="pyav", help="library that decodes video files")
    group.add_argument("-j", "--workers", type=_count, default=4, metavar="N", help="loader processes of each process")
    group.add_argument("--timeout", type=_count, default=300, metavar="SECONDS",
                       help="give up when a loader process is silent for so long; 0 waits for ever")


def _add_runtime(parser):
    group = parser.add_argument_group("machine")
    group.add_argument("--device", metavar="NAME", help="cpu, cuda, cuda:1; the GPU if there is one, else the CPU")
    group.add_argument("--amp", choices=AMP, default="none", help="automatic mixed precision")
    group.add_argument("--channels_last", action=argparse.BooleanOptionalAction, default=True,
                       help="hold activations channels-last: faster, same numbers to rounding")
    group.add_argument("--compile", action="store_true", help="torch.compile the model; minutes at the start")
    group.add_argument("--local-rank", "--local_rank", type=int, metavar="N",
                       help="set by python -m torch.distributed.launch; torchrun needs no flag")
    group.add_argument("--seed", type=_count, default=0, metavar="N", help="seed of every random draw")
    group.add_argument("--dry_run", action="store_true", help="parse, build the model, count the lists, and stop")


def training_parser(description):
    """Flags of ``main.py``."""
    parser = _parser(description)
    parser.add_argument("modality", choices=tuple(CHANNELS), help="what a frame is")
    _add_data(parser, (("train_list", "videos to train on"), ("val_list", "videos to validate on")))
    parser.add_argument("--missing", choices=("stop", "skip"), default="stop",
                        help="listed training videos that are not on disk: refuse to start, or train without them")

    group = parser.add_argument_group("model")
    group.add_argument("--module", choices=tuple(MODULES), default="tdn", help="temporal module; tsn is none")
    group.add_argument("--arch", choices=ARCHS, default="resnet50", help="backbone")
    group.add_argument("--num_segments", type=_positive, default=8, metavar="T", help="segments of a clip")
    group.add_argument("--input_size", type=_positive, default=224, metavar="PIXELS", help="side of the crops")
    group.add_argument("--consensus_type", choices=("avg",), default="avg", help="how segments' scores become a video's")
    group.add_argument("--dropout", "--do", type=_share, default=0.5, metavar="P", help="dropout before the classifier")
    group.add_argument("--pretrain", default="imagenet", metavar="WHAT",
                       help="start of the backbone: imagenet (torchvision's weights), none, or a file of such weights")
    group.add_argument("--npb", "--no_partialbn", dest="partial_bn", action="store_false", default=None,
                       help="train every BatchNorm (default for tdn)")
    group.add_argument("--partial_bn", dest="partial_bn", action="store_true", default=None,
                       help="train only the first BatchNorm (default for tsn with pretrained weights)")

    group = parser.add_argument_group("optimisation")
    group.add_argument("--epochs", type=_positive, default=60, metavar="N", help="epochs to train")
    group.add_argument("-b", "--batch-size", "--batch_size", type=_positive, default=8, metavar="N",
                       help="videos of a batch, PER PROCESS")
    group.add_argument("--accumulate", type=_positive, default=1, metavar="N", help="batches of one optimiser step")
    group.add_argument("--lr", type=_rate, default=0.01, help="learning rate for the total batch")
    group.add_argument("--lr_scheduler", choices=SCHEDULERS, default="step", help="course of the learning rate")
    group.add_argument("--lr_steps", type=float, nargs="+", default=[30, 45, 55], metavar="EPOCH",
                       help="epochs at which step multiplies the rate")
    group.add_argument("--lr_decay_rate", type=_rate, default=0.1, metavar="F", help="what step multiplies by")
    group.add_argument("--warmup_epoch", type=_count, default=0, metavar="N", help="epochs of linear warm-up")
    group.add_argument("--warmup_multiplier", type=_rate, default=100, metavar="F", help="warm-up starts at lr / F")
    group.add_argument("--lr_policy", choices=POLICIES,
                       help="TSN's multipliers by kind of parameter, or one rate for all (default: groups for tsn, "
                            "flat for tdn, as each was trained)")
    group.add_argument("--fc_lr5", action=argparse.BooleanOptionalAction, default=True,
                       help="with groups: the classifier learns 5 times as fast")
    group.add_argument("--momentum", type=_share, default=0.9, help="momentum of SGD")
    group.add_argument("--wd", "--weight-decay", "--weight_decay", dest="weight_decay", type=float, default=5e-4,
                       help="weight decay")
    group.add_argument("--gd", "--clip-gradient", dest="clip_gradient", type=_rate, metavar="NORM",
                       help="clip the gradient to this norm")

    group = parser.add_argument_group("run")
    group.add_argument("--output_dir", metavar="DIR", help="logs and checkpoints (default: runs/ and the run's name)")
    group.add_argument("--suffix", metavar="TEXT", help="added to the run's name")
    group.add_argument("--resume", metavar="WHAT", help="auto (the last checkpoint of output_dir, if any) or a file")
    group.add_argument("-e", "--evaluate", action="store_true", help="validate the --resume checkpoint and stop")
    group.add_argument("--eval-freq", "-ef", "--eval_freq", type=_positive, default=1, metavar="N",
                       help="validate every N epochs, and after the last")
    group.add_argument("--print-freq", "-p", "--print_freq", type=_positive, default=20, metavar="N",
                       help="a line to the log every N steps")
    _add_runtime(parser)
    return parser


def testing_parser(description, crops):
    """Flags of the two test fronts; crops: default of ``--test_crops``."""
    parser = _parser(description)
    _add_data(parser, (("val_list", "videos to score"),))
    parser.add_argument("--test_list", dest="val_list", metavar="FILE", help="the same as --val_list")

    group = parser.add_argument_group("model")
    group.add_argument("--weights", required=True, metavar="FILE", help="checkpoint: ours or a published one")
    group.add_argument("--archs", choices=ARCHS, help="backbone; checked against the checkpoint")
    group.add_argument("--test_segments", type=_positive, metavar="T",
                       help="segments of a clip (default: what the checkpoint was trained with)")
    group.add_argument("--fuse_bn", action="store_true", help="fold BatchNorms into the convs: same scores to rounding")

    group = parser.add_argument_group("protocol")
    group.add_argument("--test_crops", type=int, choices=(1, 3, 5, 10), default=crops, help="crops of a frame")
    group.add_argument("--clip_index", type=_count, default=0, metavar="K", help="which clip of a video, from 0")
    group.add_argument("--test_sampling", choices=("center", "random"),
                       help="center: the one clip of segment centres; random: clip K is drawn from (seed, video, K) "
                            "(default: random for kinetics, else center)")
    group.add_argument("--full_res", action="store_true", help="crops as large as the scaled short side (256)")
    group.add_argument("--scale_size", type=_positive, metavar="PIXELS",
                       help="short side of a scaled frame (default: the crop size * 256 / 224)")
    group.add_argument("--on-error", "--on_error", choices=("stop", "count-wrong"), default="stop",
                       help="an unreadable video: stop, or count it as wrong and name it")

    group = parser.add_argument_group("run")
    group.add_argument("--output_dir", default="scores", metavar="DIR", help="folder of the score files")
    group.add_argument("--batch_size", "-b", type=_positive, default=1, metavar="N", help="videos of a batch")
    group.add_argument("--gpus", type=int, nargs="+", metavar="N",
                       help="the GPU to use; for several start one process for each with torchrun")
    _add_runtime(parser)
    return parser
