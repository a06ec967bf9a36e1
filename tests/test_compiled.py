"""ops/utils/compiled.py, and a whole training with --compile."""

import os
import subprocess
import sys

import pytest
import torch
from helpers.datasets import make_motion
from helpers.launch import ROOT, run_ranks
from helpers.runs import assert_same_training
from torch import nn

from ops import distributed
from ops.utils.compiled import CompiledNetwork, run_eagerly

RECOMPILED = "Recompiling function"  # in the output under TORCH_LOGS=recompiles


def toy(batch_size):
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Dropout(0.5), nn.Linear(8, 3))
    return network, CompiledNetwork(network, batch_size)


def test_the_wrapper_shares_everything_with_the_network():
    network, compiled = toy(4)
    assert [id(p) for p in compiled.parameters()] == [id(p) for p in network.parameters()]
    assert len(compiled.state_dict()) == len(network.state_dict())
    compiled.eval()
    assert not network.training


@pytest.mark.slow
def test_only_batches_of_one_size_are_compiled_and_nothing_is_compiled_again():
    network, compiled = toy(4)
    batches = [torch.randn(size, 4) for size in (4, 4, 3, 2, 4)]
    for mode in (True, False):
        compiled.train(mode)
        with run_eagerly(compiled):
            compiled(batches[0])  # does not compile
        torch.manual_seed(1)
        compiled(batches[0])
        with torch.compiler.set_stance("fail_on_recompile"):
            for batch in batches:
                torch.manual_seed(1)
                value = compiled(batch)
                torch.manual_seed(1)
                assert torch.allclose(value, network(batch), atol=1e-5)
        # The sizes above were no accident: the compiled function does depend on them.
        with torch.compiler.set_stance("fail_on_recompile"), pytest.raises(RuntimeError):
            compiled._compiled(batches[2])


def start_training(flags, cache):
    """Start ``main.py`` with one thread; standard error, with recompilations, is in its output."""
    environment = {
        **os.environ,
        "CUDA_VISIBLE_DEVICES": "",
        "OMP_NUM_THREADS": "1",
        "PYTHONUNBUFFERED": "1",
        "TORCHINDUCTOR_CACHE_DIR": str(cache),
        # The same kernels in half the time: g++ does not optimize, and is not started by further
        # processes that import torch.
        "TORCHINDUCTOR_COMPILE_THREADS": "1",
        "TORCHINDUCTOR_DEBUG_COMPILE": "1",
        "TORCH_LOGS": "recompiles",
    }
    return subprocess.Popen(
        [sys.executable, "main.py", *map(str, flags)],
        cwd=ROOT,
        env=environment,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )


@pytest.mark.slow
def test_a_training_compiles_once_and_resumes_bit_identically(tmp_path):
    """With an unreadable video and an incomplete batch of the validation."""
    data = make_motion(tmp_path)
    train_list = data[data.index("--train_list") + 1]
    with open(train_list, "a") as file:
        file.write("broken.mp4 0\n")
    root = data[data.index("--root_path") + 1]
    (root / "broken.mp4").write_bytes(b"not a video")
    common = ["motion", "RGB", *data, "--device", "cpu", "-j", 0, "--print-freq", 1]
    common += ["--module", "tsm", "--arch", "resnet18", "--pretrain", "none", "--num_segments", 2]
    common += ["--input_size", 32, "--batch-size", 3, "--lr", 1e-4, "--gd", 1, "--save_every", 1]

    def start(out, *flags):
        # What one run has compiled is in the cache of the next one.
        return start_training([*common, "--output_dir", tmp_path / out, *flags], tmp_path / "cache")

    def train(out, *flags):
        process = start(out, *flags)
        text, _ = process.communicate(timeout=600)
        assert process.returncode == 0, text
        return text

    first_epoch, second_epoch = train("whole", "--compile", "--epochs", 2).split("1 epoch to go")
    assert first_epoch.count(RECOMPILED) <= 1  # the validation, beside the training
    assert second_epoch.count(RECOMPILED) == 0

    with start("killed", "--compile", "--epochs", 1) as process:
        assert any("epoch 1 [2/5]" in line for line in process.stdout)
        process.kill()
    within_epoch = train("killed", "--compile", "--epochs", 1, "--resume", "auto")
    assert "resumed" in within_epoch and "[1/5]" not in within_epoch
    after_epoch = train("killed", "--compile", "--epochs", 2, "--resume", "auto")
    assert after_epoch.count(RECOMPILED) <= 1
    assert_same_training(tmp_path / "killed", tmp_path / "whole")

    train("eager", "--epochs", 2)
    networks = []
    for out in ("whole", "eager"):
        checkpoint = torch.load(tmp_path / out / "last.pth", weights_only=True)
        networks.append(checkpoint["state_dict"])
    for name, value in networks[1].items():
        assert torch.allclose(networks[0][name].float(), value.float(), atol=1e-3), name


STEPS = 3
PART = 4  # examples of a process


def wide_network():
    """A network whose gradients DDP exchanges in more than one bucket (the first has 1 MiB)."""
    torch.manual_seed(0)
    layers = [nn.Linear(4, 512), nn.BatchNorm1d(512), nn.ReLU()]
    layers += [nn.Linear(512, 512), nn.Linear(512, 512), nn.Linear(512, 3)]
    return nn.Sequential(*layers)


def train_parts(model, parts):
    """Train on some parts of each batch, without a recompilation after the first step.

    Args:
        model: the wide network, perhaps compiled or in DDP.
        parts: numbers of the parts, whose gradients are averaged.
    """
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    stance = "default"
    for step in range(STEPS):
        with torch.compiler.set_stance(stance):
            for part in parts:
                generator = torch.Generator().manual_seed(2 * step + part)
                examples = torch.randn(PART, 4, generator=generator)
                (model(examples).square().mean() / len(parts)).backward()
        optimizer.step()
        optimizer.zero_grad()
        stance = "fail_on_recompile"


def train_in_parallel(folder):
    """Main function of each of two processes."""
    with distributed.start("cpu") as world:
        network = wide_network()
        train_parts(world.data_parallel(CompiledNetwork(network, PART)), [world.rank])
        torch.save(network.state_dict(), folder / f"{world.rank}.pth")


@pytest.mark.slow
def test_two_processes_compile_once_and_train_as_one(tmp_path):
    for end in run_ranks(tmp_path, *[(train_in_parallel, tmp_path)] * 2):
        assert end.status == 0, end.text
    ranks = [torch.load(tmp_path / f"{rank}.pth", weights_only=True) for rank in range(2)]
    compiled, eager = wide_network(), wide_network()
    train_parts(CompiledNetwork(compiled, PART), [0, 1])
    train_parts(eager, [0, 1])
    for name, value in compiled.named_parameters():
        assert torch.equal(ranks[0][name], ranks[1][name]), name
        assert torch.allclose(ranks[0][name], value, atol=1e-5), name
        assert torch.allclose(ranks[0][name], eager.get_parameter(name), atol=1e-5), name
    initial = wide_network()
    assert not torch.allclose(compiled[0].weight, initial[0].weight, atol=1e-3)  # it did train
