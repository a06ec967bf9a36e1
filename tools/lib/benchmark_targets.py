"""What ``benchmark.py`` compares with: networks that have a baseline, targets, published sizes.

A target is the least ratio of the original's time to ours, or the largest share of TSN's time.
Those of networks hold on CPUs, for ResNet-50 with 8 segments of 224 x 224.
"""

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
# The temporal shift alone, forward and backward.
SHIFT = 5.0
# The largest share of the time of a training step of TSN, which runs in the same way.
TSN_SHARE = {"tsm": 1.08, "tam": 1.3, "tin": 1.3}
TSN_SHARE_WAYS = ("NCHW fp32", "channels-last fp32")

# 30 views of a video: reading them as TDN and as TSM do, and a whole test of TSM.
VIEWS = {"TDN, 8 x 5 frames": 25.0, "TSM, 8 frames": 25.0}
WHOLE_TEST = {"ours, --fuse_bn --amp bf16": 3.0}

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
