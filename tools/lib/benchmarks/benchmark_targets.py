"""What ``benchmark.py`` compares with: baselines, targets, published sizes; and the set of ``all``.

A target is the least ratio of the original's time to ours, or the largest share of TSN's time.
Those of networks hold on CPUs, for ResNet-50 with 8 segments of 224 x 224.
"""

from typing import NamedTuple

# Those that baselines_model.py builds.
ARCHS = ("resnet50", "resnet101")
MODULES = ("tsn", "tsm", "tdn", "tam", "tin")

# Inputs of a training clip: (source, frames per segment) -> target
DATA = {("video", 5): 2.0, ("video", 1): 1.7, ("frame folder", 5): 3.5, ("frame folder", 1): 2.5}

# (module, training) -> how ours runs (benchmark_model.WAYS) -> target
MODEL = {
    ("tsm", True): {"channels-last bf16": 2.1},
    ("tdn", False): {"channels-last fp32": 1.25, "channels-last bf16": 2.1},
    ("tdn", True): {"channels-last bf16": 1.6},
}
STANDARD = {"arch": "resnet50", "segments": 8, "size": 224, "device": "cpu"}


def is_standard(args) -> bool:
    """Whether a benchmark measures the network that the targets are for."""
    return all(getattr(args, name, value) == value for name, value in STANDARD.items())


# The temporal shift alone, forward and backward.
SHIFT = 5.0
# The largest share of the time of a training step of TSN, which runs in the same way.
TSN_SHARE = {"tsm": 1.08, "tam": 1.08, "tin": 1.08}
TSN_SHARE_WAYS = ("NCHW fp32", "channels-last fp32")

# 30 views of a video: reading them as TDN and as TSM do, and a whole test of TSM.
VIEWS = {"TDN, 8 x 5 frames": 25.0, "TSM, 8 frames": 25.0}
WHOLE_TEST = {"ours, --fuse_bn --amp bf16": 3.0}

# What an epoch reads: video files, or folders of frames.
SOURCES = ("videos", "folders")
# Whole epochs, on either source: (module, --amp) -> target.
EPOCH = {
    ("tsm", "fp32"): 1.3,
    ("tsm", "bf16"): 2.4,
    ("tdn", "fp32"): 1.3,
    ("tdn", "bf16"): 2.4,
}

# Whole tests with folded BatchNorms.
SCORE = {"fp32": 1.35, "bf16": 2.7, "onnxruntime": 1.4, "onnxruntime-int8": 3.0}

# Largest share of a data-loading worker's time outside decoding and resizing, and seconds from the
# command to the first step with long lists.
LOADER_SHARE = 0.10
START_SECONDS = 8.0

# benchmark.py predict: largest ratio, seconds, shares and megabytes; least gain of sharing.
PREDICT = {"network": 1.05, "start": 4.0, "difference": 1e-5, "reading": 0.10, "growth": 100.0}
PREDICT_SHARING = 3.0

# benchmark.py export: backbone -> row -> least gain, most milliseconds, or largest share; on a CPU,
# one thread, with so many frames of this size.
EXPORT_STANDARD = (8, 224)
_INT8 = {"onnxruntime / int8": 1.7, "int8 file / fp32 file": 0.35}
EXPORT = {
    "resnet50": {"torch / onnxruntime": 1.25, **_INT8},
    "resnet18": _INT8,
    "mobilenetv2": {
        "torch / onnxruntime": 2.5,
        "step in onnxruntime, ms": 12.0,
        "clip / step": 6.0,
        "int8 file / fp32 file": 0.35,
    },
}

# benchmark.py explain: largest time of an explanation as a multiple of a prediction's.
EXPLAIN = 1.5

# (module, segments) -> GMACs and millions of parameters, as TSM (arXiv 1811.08383) and TDN (arXiv
# 2012.10071) print them.
PAPERS = {
    ("tsn", 8): ("33", "24.3"),
    ("tsn", 16): ("65", "24.3"),
    ("tsm", 8): ("33", "24.3"),
    ("tsm", 16): ("65", "24.3"),
    ("tdn", 8): ("36", ""),
    ("tdn", 16): ("72", ""),
}


class Part(NamedTuple):
    """One benchmark of the set.

    Attributes:
        arguments: of benchmark.py.
        devices: whether it has the flag --device.
        in_set: whether it belongs to the set that is run by default.
    """

    arguments: tuple[str, ...]
    devices: bool
    in_set: bool


def _part(command: str, *, devices: bool = True, in_set: bool = True) -> Part:
    return Part(tuple(command.split()), devices, in_set)


# Name of a section of docs/performance.md -> how it is measured. All that is in the set takes about
# 25 minutes on two cores, more than half of it the originals.
PARTS = {
    "data": _part("data --rounds 5", devices=False),
    "epoch": _part("epoch"),
    "score": _part("score"),
    "share": _part("model --modules tam tin --train --batch 1 --threads 2 --rounds 3"),
    "loader": _part("loader", devices=False),
    "start": _part("start", devices=False),
    "flops": _part("flops", devices=False),
    "epoch_sources": _part("epoch --sources videos folders", in_set=False),
    "inference": _part("model --modules tdn --rounds 5", in_set=False),
    "training": _part("model --modules tdn tsm --train --rounds 3", in_set=False),
    "compile": _part("model --modules tsm --train --compile --rounds 3", in_set=False),
    "views": _part("views --videos 8", devices=False, in_set=False),
    "predict": _part("predict", in_set=False),
    "export": _part("export", devices=False, in_set=False),
    "explain": _part("explain", devices=False, in_set=False),
    "worker": _part("worker --epochs 4 --lines 1000000", devices=False, in_set=False),
}
