"""Make the lists of a dataset from its published annotations, or from a folder of class folders.

    python tools/make_lists.py somethingv2 annotations \\
        --root_path data/somethingv2/20bn-something-something-v2-frames
    python tools/make_lists.py kinetics annotations --root_path /data/k400 --out lists
    python tools/make_lists.py folder videos --val_share 0.2 --out lists

For each video of the annotations, searches a video file or a folder of frames below the root, at
any depth: videos may be in class folders or in several parts. A file gets a line `path label`, a
folder a line `path num_frames label` with its frames counted. Missing videos are written to
missing_train.txt and missing_val.txt beside the list, one per line with the reason, and counted.
Nothing is written before everything was read and checked.

    kinetics     train.csv, val.csv or validate.csv, for 400, 600 or 700 classes; videos or folders
                 are named ID_000012_000022 or ID_12; classes in the order of *label_map*.txt if it
                 exists, otherwise in alphabetical order
    something    something-something-v1-labels.csv, ...-train.csv, ...-validation.csv
    jester       jester-v1-labels.csv, ...-train.csv, ...-validation.csv
    somethingv2  something-something-v2-labels.json, ...-train.json, ...-validation.json
    ucf101       classInd.txt, trainlist01.txt ... testlist03.txt: the lists of all three splits
    hmdb51       CLASS_test_split1.txt ...: the lists of all three splits
    folder       ROOT/CLASS/video.mp4 and ROOT/CLASS/video/img_00001.jpg; or the same below
                 ROOT/train, ROOT/val (valid, validation) and ROOT/test. Hidden folders, system
                 folders (__MACOSX, @eaDir) and empty folders are not classes

Without --out, lists and class names are written where main.py looks for those of the dataset.

The labels must be those of the weights that are tested or fine-tuned: with another order the
accuracy is at chance. Classes are numbered in alphabetical order (UCF101: as in classInd.txt), as
in almost all published weights. --order official: as in MMAction2's weights of Something-Something
V1 and Jester; --order tsn: as in TSN's lists of HMDB51, where kick_ball is before kick and
sword_exercise before sword. --labels FILE: in the order of that file.
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from lib.arguments import command_parser
from lib.lists.list_sources import FILES
from lib.lists.video_search import KINDS
from ops.cli.types import fraction, positive_int
from ops.data.label_orders import DEFAULT_ORDER, LABEL_ORDERS
from ops.utils.errors import run_cli


def main() -> None:
    args = parser().parse_args()
    from lib.lists.list_making import make_lists  # not needed for --help

    print("\n".join(make_lists(args)))


def parser() -> argparse.ArgumentParser:
    top = command_parser(__doc__)
    datasets = top.add_subparsers(dest="dataset", metavar="DATASET", required=True)
    for name, files in FILES.items():
        sub = datasets.add_parser(name, allow_abbrev=False)
        add_annotation_flags(sub, name, files)
        add_common_flags(sub)
    sub = datasets.add_parser("folder", allow_abbrev=False, help="a folder of class folders")
    add_folder_flags(sub)
    add_common_flags(sub)
    return top


def add_annotation_flags(sub: argparse.ArgumentParser, name: str, files: dict[str, str]) -> None:
    """Add the flags of a dataset with published annotations."""
    patterns = ", ".join(files.values()) or "CLASS_test_split1.txt ..."
    sub.add_argument(
        "annotations",
        metavar="ANNOTATIONS",
        help=f"folder of the published annotations ({patterns})".replace("%", "%%"),
    )
    sub.add_argument(
        "--root_path", metavar="DIR", help="folder of the videos (default: that of main.py)"
    )
    sub.add_argument(
        "--out",
        metavar="DIR",
        help="folder for the lists (default: where main.py looks for them)",
    )
    if "train" in files:
        sub.add_argument("--train", metavar="FILE", help="file of the training split")
        sub.add_argument("--val", metavar="FILE", help="file of the validation split")
        sub.add_argument(
            "--test",
            metavar="FILE",
            help="file of the test split, to make a list of it too (label 0 if it has no labels)",
        )
    if name in LABEL_ORDERS:
        orders = [f"{order}: {users}" for order, (_, users) in LABEL_ORDERS[name].items()]
        sub.add_argument(
            "--order",
            choices=tuple(LABEL_ORDERS[name]),
            help=f"class order; {'; '.join(orders)} (default: {DEFAULT_ORDER}, or that of "
            "--labels)",
        )


def add_folder_flags(sub: argparse.ArgumentParser) -> None:
    """Add the flags of a folder of class folders."""
    sub.add_argument(
        "root_path",
        metavar="ROOT",
        help="folder of class folders, or of train and val with class folders",
    )
    sub.add_argument(
        "--out",
        required=True,
        metavar="DIR",
        help="folder for the lists, classes.txt and the dataset file NAME.toml, NAME being the "
        "name of the folder",
    )
    sub.add_argument(
        "--val_share",
        type=fraction,
        help="part of each class to split off for validation (default: 0.2)",
    )
    sub.add_argument(
        "--seed",
        type=int,
        default=0,
        help="another seed splits off other videos (default: 0)",
    )


def add_common_flags(sub: argparse.ArgumentParser) -> None:
    """Add the flags that all datasets have."""
    sub.add_argument(
        "--labels",
        metavar="FILE",
        help="class names, in label order unless --order is given",
    )
    sub.add_argument(
        "--num_class",
        type=positive_int,
        help="expected number of classes (default: that of the dataset)",
    )
    sub.add_argument(
        "--image_tmpl",
        help="file names in a folder of frames (default: those of the dataset)",
    )
    sub.add_argument(
        "--modality",
        choices=("RGB", "Flow"),
        default="RGB",
        help="input modality (default: RGB)",
    )
    sub.add_argument(
        "--kind",
        choices=KINDS,
        default="auto",
        help="search video files only or folders of frames only (default: both)",
    )
    sub.add_argument(
        "--missing",
        choices=("skip", "stop"),
        default="skip",
        help="what to do about missing videos and folders with a gap in their frames (default: "
        "skip, and list them in missing_*.txt)",
    )
    sub.add_argument(
        "--force", action="store_true", help="overwrite lists and class names that differ"
    )
    sub.add_argument(
        "--threads",
        type=positive_int,
        default=16,
        help="number of threads that search files (default: 16)",
    )


if __name__ == "__main__":
    run_cli(main)
