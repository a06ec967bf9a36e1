"""The device of the tests of this folder: ``--device cuda``, or ``cpu`` for a dry run."""

import os

import pytest
import torch

from ops.distributed import choose_device

# cuBLAS reads it before its first use, whichever test that is in.
os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")


@pytest.fixture(scope="session")
def device(pytestconfig):
    name = pytestconfig.getoption("--device")
    if name.startswith("cuda") and not torch.cuda.is_available():
        pytest.skip("PyTorch finds no NVIDIA GPU")
    return choose_device(name)


@pytest.fixture
def cuda(device):
    """The device of a test that has no meaning on a CPU. The peak of its memory starts anew."""
    if device.type != "cuda":
        pytest.skip("needs an NVIDIA GPU")
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats(device)
    return device


@pytest.fixture(autouse=True)
def exact_float32():
    """No TensorFloat-32: its 10 bits would hide errors. PyTorch uses it in convolutions."""
    with torch.backends.cudnn.flags(allow_tf32=False):
        yield


@pytest.fixture
def deterministic():
    """Algorithms that give the same bits in every run, or raise an error."""
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)
