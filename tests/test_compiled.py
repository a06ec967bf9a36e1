"""ops/utils/compiled.py, and a whole training with --compile."""

import pytest
import torch
from helpers.datasets import make_motion
from helpers.launch import launch
from torch import nn

from ops.utils.compiled import CompiledNetwork, run_eagerly

RECOMPILED = "Recompiling function"  # in the output under TORCH_LOGS=recompiles
TRAINED = "epoch 1/2: loss"


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


@pytest.mark.slow
def test_a_whole_training_compiles_once(tmp_path, monkeypatch):
    """With an unreadable video, an incomplete batch of the validation, and a resumed run."""
    data = make_motion(tmp_path)
    train_list = data[data.index("--train_list") + 1]
    with open(train_list, "a") as file:
        file.write("broken.mp4 0\n")
    root = data[data.index("--root_path") + 1]
    (root / "broken.mp4").write_bytes(b"not a video")
    monkeypatch.setenv("TORCH_LOGS", "recompiles")
    common = ["motion", "RGB", *data, "--device", "cpu", "-j", 0]
    small = ["--module", "tsm", "--arch", "resnet18", "--pretrain", "none", "--num_segments", 2]
    small += ["--input_size", 32, "--batch-size", 3, "--lr", 1e-4, "--gd", 1]

    def train(out, *flags):
        run = launch("main.py", *common, *small, "--output_dir", tmp_path / out, *flags)
        assert run.returncode == 0, run.stderr
        return run.stdout + run.stderr

    first = train("compiled", "--compile", "--epochs", 1)
    assert first.count(RECOMPILED) <= 1  # the validation, beside the training
    resumed = train("compiled", "--compile", "--epochs", 3, "--resume", "auto")
    assert resumed.count(RECOMPILED) <= 1
    train("eager", "--epochs", 3)
    networks = []
    for out in ("compiled", "eager"):
        checkpoint = torch.load(tmp_path / out / "last.pth", weights_only=True)
        assert checkpoint["epoch"] == 3
        networks.append(checkpoint["state_dict"])
    for name, value in networks[1].items():
        assert torch.allclose(networks[0][name].float(), value.float(), atol=1e-3), name
