import os

import pytest
import torch
import torchvision
from small_models import assert_same_weights, refused, saved, small

from ops.checkpoints import export_state_dict, fill, load_model, save_checkpoint
from ops.errors import UserError
from ops.weight_files import read_checkpoint

# Files of this project.

@pytest.mark.parametrize("module", ["tdn", "tsn"])
def test_round_trip(tmp_path, module):
    model = small(module, dropout=0.3, input_size=112).train()
    clip = torch.randint(256, (2, 4, model.frame_channels, 32, 32), dtype=torch.uint8)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    model(clip).square().sum().backward()
    optimizer.step()
    path = tmp_path / "last.pth"
    save_checkpoint(path, model, optimizer=optimizer, class_names=["a", "b", "c", "d", "é"], recipe={"lr": 0.1},
                    epoch=3, metrics={"top1": 50.0})
    again = load_model(path, quiet=True)
    assert_same_weights(again, model)
    assert again.spec == model.spec and again.class_names == ["a", "b", "c", "d", "é"]
    assert not again.training and again.dropout.p == 0.3 and again.input_size == 112
    with torch.no_grad():
        assert torch.equal(again(clip), model.eval()(clip))
    content = read_checkpoint(path)
    assert content["epoch"] == 3 and content["recipe"] == {"lr": 0.1} and content["metrics"] == {"top1": 50.0}
    assert content["versions"]["torch"] == torch.__version__.split("+")[0] and content["format"] == 1
    # Tensors and plain values only: torch names nothing in it as foreign, and the optimiser goes on from it.
    assert torch.serialization.get_unsafe_globals_in_checkpoint(str(path)) == []
    other = torch.optim.SGD(again.parameters(), lr=0.1, momentum=0.9)
    other.load_state_dict(content["optimizer"])
    for p, q in zip(model.parameters(), again.parameters(), strict=True):
        assert torch.equal(optimizer.state[p]["momentum_buffer"], other.state[q]["momentum_buffer"])


def test_a_checkpoint_of_a_channels_last_model_is_the_same(tmp_path):
    plain, model = small(), small().to_channels_last()
    save_checkpoint(tmp_path / "a.pth", model)
    assert all(value.is_contiguous() for value in read_checkpoint(tmp_path / "a.pth")["state_dict"].values())
    again = load_model(tmp_path / "a.pth", quiet=True)
    assert_same_weights(again, plain)
    assert all(p.is_contiguous() for p in again.parameters()) and not again.channels_last


def test_loading_and_saving_leave_the_model_alone(tmp_path):
    model = small()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    again = load_model(model.state_dict(), num_segments=4, quiet=True)
    with torch.no_grad():
        for p in again.parameters():
            p.add_(1)
    assert_same_weights(model, before)


def test_the_report_is_printed(tmp_path, capsys):
    save_checkpoint(tmp_path / "a.pth", small())
    model = load_model(tmp_path / "a.pth")
    line = capsys.readouterr().out.strip()
    count = len(model.state_dict())
    assert line == model.report == (f"{tmp_path / 'a.pth'}: ours layout, tdn resnet18, 4 segments; "
                                    f"loaded {count}, unexpected 0, missing 0")
    load_model(tmp_path / "a.pth", quiet=True)
    assert capsys.readouterr().out == ""


def test_number_of_segments(tmp_path):
    model = small()
    save_checkpoint(tmp_path / "a.pth", model)
    assert load_model(tmp_path / "a.pth", quiet=True).num_segments == 4
    assert load_model(tmp_path / "a.pth", num_segments=16, quiet=True).num_segments == 16
    bare = load_model(model.state_dict(), quiet=True)
    assert bare.num_segments == 8 and "8 segments (assumed: the file does not tell)" in bare.report
    told = load_model(model.state_dict(), num_segments=8, quiet=True)
    assert "8 segments; " in told.report and told.class_names is None


@pytest.mark.parametrize("layout", ["ours", "tdn"])
def test_another_number_of_classes_gives_a_new_head(layout):
    model = small(num_class=5)
    state = export_state_dict(model, layout)
    torch.manual_seed(1)
    other = load_model(state, num_class=7, quiet=True)
    backbone = len(model.backbone.state_dict())
    assert other.report.endswith(f"loaded {backbone}, head new (5 -> 7), unexpected 0, missing 0")
    assert other.head.weight.shape == (7, 512) and 0 < other.head.weight.abs().max() < 0.01
    assert not other.head.bias.any()
    assert_same_weights(other.backbone, model.backbone)
    same = load_model(state, num_class=5, quiet=True)
    assert "head new" not in same.report and torch.equal(same.head.weight, model.head.weight)


def test_overrides_win(tmp_path):
    model = small()
    save_checkpoint(tmp_path / "a.pth", model)
    other = load_model(tmp_path / "a.pth", dropout=0.1, consensus="identity", partial_bn=True, quiet=True)
    assert other.dropout.p == 0.1 and other.partial_bn and other.spec["consensus"] == "identity"
    assert other(torch.zeros(1, 4, 15, 32, 32)).shape == (1, 4, 5)


def test_the_precision_is_the_files(tmp_path):
    double = small().double()
    save_checkpoint(tmp_path / "a.pth", double)
    again = load_model(tmp_path / "a.pth", quiet=True)
    assert_same_weights(again, double)
    assert {p.dtype for p in again.parameters()} == {torch.float64}
    half = {key: value.half() if value.is_floating_point() else value for key, value in small().state_dict().items()}
    single = load_model(half, num_segments=4, quiet=True)
    assert {p.dtype for p in single.parameters()} == {torch.float32}
    assert torch.equal(single.head.weight, half["head.weight"].float())


# What is wrong is named.

def test_missing_unexpected_and_misshapen_weights_are_named():
    state = small().state_dict()
    key = "backbone.layer3.0.before_conv2.squeeze.weight"
    refused({k: v for k, v in state.items() if k != key}, "1 weights missing", key, "tdn resnet18")
    refused({**state, "backbone.extra.weight": torch.ones(1)}, "1 weights unexpected", "backbone.extra.weight")
    refused({**state, key: torch.ones(3, 3)}, "1 weights of another shape", key)
    gone = {k: v for k, v in state.items() if ".before_conv2.fine_bn." not in k}
    message = refused(gone, "weights missing", "backbone.layer2.0.before_conv2.fine_bn.weight", ", ...")
    assert f"{len(state) - len(gone) - 6} weights missing" in message  # the batch counters of 6 blocks may be absent


def test_batch_counters_may_be_absent_as_in_old_files():
    state = small().state_dict()
    old = {key: value for key, value in state.items() if not key.endswith("num_batches_tracked")}
    model = load_model(old, num_segments=4, quiet=True)
    assert_same_weights(model, state)
    assert f"loaded {len(old)}," in model.report


def test_a_file_of_ours_without_its_head(tmp_path):
    content = {"model": small().spec, "state_dict": {k: v for k, v in small().state_dict().items() if "head" not in k}}
    refused(saved(tmp_path, content), "2 weights missing", "head.weight, head.bias")
    model = load_model(content, num_class=9, quiet=True)
    assert "head new (5 -> 9)" in model.report
    refused(content["state_dict"], "with a classifier")


def test_files_of_other_systems_are_refused_with_names():
    refused({"features.0.weight": torch.ones(1)}, "unknown layout of weights (first key: features.0.weight)")
    with torch.device("meta"):
        wide = torchvision.models.wide_resnet50_2()
    refused(wide.state_dict(), "looks like the torchvision layout", "fit no known backbone")
    state = torchvision.models.resnet18().state_dict()
    headless = {k: v for k, v in state.items() if not k.startswith("fc.")}
    refused(headless, "fit no known backbone with a classifier")
    # A TSM file: the shifted conv is called net there.
    tsm = {f"module.base_model.{k.replace('0.conv1.weight', '0.conv1.net.weight')}": v for k, v in headless.items()}
    tsm.update({"module.new_fc.weight": state["fc.weight"], "module.new_fc.bias": state["fc.bias"]})
    refused(tsm, "weights missing", "backbone.layer1.0.conv1.weight")


def test_an_option_of_another_version_is_named(tmp_path):
    model = small()
    content = {"model": {**model.spec, "fourier": 3}, "state_dict": model.state_dict()}
    refused(saved(tmp_path, content), "an option this version does not know", "fourier")
    refused(model.state_dict(), "an option this version does not know", "shift", shift=3)
    refused({**content, "model": {**model.spec, "module": "warp"}}, "--module warp: unknown")
    # A dictionary that is no specification of a model does not stand in the way of the weights.
    assert load_model({**content, "model": {"note": "hello"}}, num_segments=4, quiet=True).spec == model.spec


@pytest.mark.parametrize("content", [
    [1, 2], "text", torch.ones(3), {}, {"epoch": 3}, {"state_dict": {}}, {1: torch.ones(2)}, None,
])
def test_a_file_without_weights(tmp_path, content):
    path = saved(tmp_path, content)
    refused(path, path, "holds no weights")


def test_fill_is_strict():
    model = small()
    with pytest.raises(UserError, match=r"here: .* weights missing"):
        fill(model, {}, "here")
    assert fill(model, model.state_dict(), "here") == f"loaded {len(model.state_dict())}, unexpected 0, missing 0"


# torchvision's files.

@pytest.mark.parametrize("legacy", [False, True])
def test_a_plain_torchvision_file(tmp_path, legacy):
    torch.manual_seed(0)
    theirs = torchvision.models.resnet18(weights=None).eval()
    for name, buffer in theirs.named_buffers():
        if "running" in name:
            buffer.uniform_(0.5, 1.5)
    path = saved(tmp_path, theirs.state_dict(), _use_new_zipfile_serialization=not legacy)
    model = load_model(path, num_segments=3, quiet=True)
    assert model.spec["module"] == "tsn" and model.spec["arch"] == "resnet18" and model.num_class == 1000
    frames = torch.randn(2, 3, 3, 64, 64)
    with torch.no_grad():
        expected = theirs(frames.flatten(0, 1)).unflatten(0, (2, 3)).mean(1)
        torch.testing.assert_close(model(frames), expected, rtol=1e-5, atol=1e-5)


# Files as other projects release them.

def test_a_write_that_fails_leaves_the_previous_file(tmp_path, monkeypatch):
    path = tmp_path / "last.pth"
    model = small("tsn")
    save_checkpoint(path, model, epoch=1)
    before = path.read_bytes()
    real = torch.save

    def disk_full(content, file):
        real(content, file)
        raise OSError("No space left on device")

    def stopped(content, file):
        file.write(b"half a")
        raise KeyboardInterrupt

    for failure, error in ((disk_full, OSError), (stopped, KeyboardInterrupt)):
        monkeypatch.setattr(torch, "save", failure)
        with pytest.raises(error):
            save_checkpoint(path, model, epoch=2)
        assert path.read_bytes() == before and os.listdir(tmp_path) == ["last.pth"]
    monkeypatch.undo()
    save_checkpoint(path, model, epoch=2)
    assert read_checkpoint(path)["epoch"] == 2 and os.listdir(tmp_path) == ["last.pth"]
