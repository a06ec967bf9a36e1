"""Pseudo-random numbers that depend on a name and a shape alone, the same on every machine.

value(i) = splitmix64(crc32(name) * 2**32 + i), mapped to [0, 1) and scaled by the role of the
tensor. The golden files in ``tests/golden`` contain what the original
implementations print for weights and inputs filled this way.
"""

import json
import zlib
from pathlib import Path

import numpy as np
import torch

FOLDER = Path(__file__).parents[1] / "golden"


def uniform01(name, shape):
    """float64 array in [0, 1)."""
    count = int(np.prod(shape)) if len(shape) else 1
    with np.errstate(over="ignore"):
        z = np.arange(count, dtype=np.uint64) + (
            np.uint64(zlib.crc32(name.encode())) << np.uint64(32)
        )
        z = z + np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        z = z ^ (z >> np.uint64(31))
    return (z >> np.uint64(40)).astype(np.float64).reshape(shape) / float(1 << 24)


def parameter(name, shape):
    """Value of a state-dict entry, by the role that its name and rank tell."""
    if name.endswith("num_batches_tracked"):
        return np.zeros(shape, dtype=np.int64)
    u = uniform01(name, shape)
    if name.endswith("running_var"):
        return 0.5 + u
    if name.endswith(("running_mean", "bias")):
        return 0.2 * (u - 0.5)
    if len(shape) <= 1:  # the scale of a BatchNorm
        return 0.5 + u
    return (u - 0.5) * 2.0 * np.sqrt(3.0 / int(np.prod(shape[1:])))


def clip(name, shape):
    """A normalised input in [-2, 2), float64 tensor."""
    return torch.from_numpy((uniform01(name, shape) - 0.5) * 4.0)


def load(file):
    """(golden numbers, config, state dict as a released file holds it) of one of the files."""
    golden = np.load(FOLDER / file)
    keys = [str(key) for key in golden["keys"]]
    shapes = [tuple(json.loads(str(shape))) for shape in golden["shapes"]]
    state = {
        f"module.{key}": torch.from_numpy(np.asarray(parameter(key, shape)))
        for key, shape in zip(keys, shapes, strict=True)
    }
    return golden, json.loads(str(golden["config"])), state


def difference(value, golden):
    """Largest difference relative to the largest golden value."""
    value = np.asarray(value.detach() if isinstance(value, torch.Tensor) else value)
    return float(np.abs(value - golden).max() / np.abs(golden).max())
