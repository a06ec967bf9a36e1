"""New entries of the public tables: modules, backbones, sampling rules, losses and others."""

import re

import numpy as np
import pytest
import torch
from helpers.datasets import make_motion
from helpers.launch import call, launch
from torch import nn
from torch.nn import functional as F

from ops.backbones import BACKBONES, Backbone, build_backbone
from ops.backbones.infer import infer_arch
from ops.backbones.pixels import IMAGENET
from ops.checkpoints import load_model, save_checkpoint
from ops.checkpoints.io import describe, export_state_dict
from ops.cli import test_args
from ops.cli.train_args import parse_training
from ops.data.loader import Batch
from ops.data.sampling import SAMPLINGS, Sampling
from ops.explain import explain
from ops.models import TSN
from ops.temporal import MODULES, Option, TemporalModule
from ops.training.loss import LOSSES, build_loss
from ops.training.meters import Meters
from ops.training.optim import OPTIMIZERS, build_optimizer, parameter_groups
from ops.training.schedule import SCHEDULERS, Schedule, Scheduler
from ops.training.step import TrainStep
from ops.utils.errors import UserError


class Everything(nn.Module):
    """Norms, a 3D conv, attention over time, bare parameters and a buffer."""

    def __init__(self, channels, num_segments, window=3, mix="add", strength=0.5, causal=False):
        super().__init__()
        self.num_segments = num_segments
        self.settings = (window, mix, strength, causal)
        self.norm = nn.LayerNorm(channels)
        self.groups = nn.GroupNorm(2, channels)
        self.conv = nn.Conv3d(channels, channels, (window, 1, 1), padding=(window // 2, 0, 0))
        self.attention = nn.MultiheadAttention(channels, 2, batch_first=True)
        self.scale = nn.Parameter(torch.full((channels, 1, 1), strength))
        self.gate = nn.Parameter(torch.tensor(0.1))
        self.bn = nn.BatchNorm2d(channels)
        self.register_buffer("position", torch.arange(num_segments).float())

    def forward(self, x):
        clips = x.unflatten(0, (-1, self.num_segments))
        mixed = self.conv(clips.transpose(1, 2)).transpose(1, 2).flatten(0, 1)
        pooled = self.norm(clips.mean((3, 4)) + self.position[:, None])
        attended = self.attention(pooled, pooled, pooled)[0].flatten(0, 1)[..., None, None]
        return x + self.bn(self.scale * self.groups(mixed) + self.gate * attended)


OPTIONS = {
    "window": Option(int, 3, "frames that are mixed", minimum=1),
    "mix": Option(str, "add", "how they are mixed", choices=("add", "gate")),
    "strength": Option(float, 0.5, "initial scale"),
    "causal": Option(bool, False, "whether the future is hidden"),
    "where": Option(str, "late", "slot", slots={"late": "before_sum", "early": "before_block"}),
}


@pytest.fixture
def mine(monkeypatch):
    entry = TemporalModule(
        slot="before_sum",
        stages=(3, 4),
        module_class=Everything,
        options=OPTIONS,
        key_signature=".attention.in_proj_weight",
        infer_options=lambda shapes: {
            "num_segments": next(
                shape[0] for key, shape in shapes.items() if key.endswith(".position")
            )
        },
    )
    monkeypatch.setitem(MODULES, "mine", entry)
    return entry


def trained(num_segments=4, **options):
    """A model after one step of training."""
    torch.manual_seed(0)
    model = TSN(5, num_segments, **{"arch": "resnet18", **options})
    for name in ("sgd", "adamw"):
        optimizer = build_optimizer(
            parameter_groups(model, "groups", weight_decay=1e-4), name, lr=1e-3
        )
        before = {key: p.detach().clone() for key, p in model.named_parameters()}
        clip = torch.randint(256, (2, num_segments, 3, 32, 32), dtype=torch.uint8)
        F.cross_entropy(model(clip), torch.tensor([0, 1])).backward()
        optimizer.step()
        optimizer.zero_grad()
        changed = [key for key, p in model.named_parameters() if not torch.equal(p, before[key])]
        assert "head.weight" in changed
        if options["module"] == "mine":
            assert any(".before_sum." in key for key in changed)
    return model.eval()


def assert_same_scores(model, other):
    clip = torch.randint(256, (2, model.num_segments, 3, 32, 32), dtype=torch.uint8)
    with torch.no_grad():
        assert torch.equal(model(clip), other.eval()(clip))


def test_a_module_trains_saves_loads_and_exports(mine, tmp_path):
    model = trained(module="mine", window=5, strength=0.25)
    assert model.backbone.layer4[0].before_sum.settings == (5, "add", 0.25, False)
    path = tmp_path / "mine.pth"
    save_checkpoint(path, model)
    loaded = load_model(path, quiet=True)
    assert loaded.spec == model.spec and loaded.spec["where"] == "late"
    assert_same_scores(model, loaded)
    assert describe(model.spec) == "mine resnet18, window 5, strength 0.25, 4 segments"
    bare = load_model(export_state_dict(model, "ours"), window=5, strength=0.25, quiet=True)
    assert bare.spec["module"] == "mine"
    assert_same_scores(model, bare)
    with pytest.raises(UserError, match="mine of 4 segments"):
        load_model(path, 8, quiet=True)


def test_an_option_chooses_the_slot(mine):
    with torch.device("meta"):
        model = TSN(5, 4, arch="resnet18", module="mine", where="early")
    assert isinstance(model.backbone.layer4[0].before_block, Everything)
    assert isinstance(model.backbone.layer4[0].before_sum, nn.Identity)
    with pytest.raises(UserError, match="--module mine on BNInception needs --where early"):
        TSN(5, 4, arch="BNInception", module="mine")


def test_partial_bn_trains_the_norms_of_a_new_module(mine):
    with torch.device("meta"):
        model = TSN(5, 4, arch="resnet18", module="mine", partial_bn=True)
    assert model.backbone.layer4[0].before_sum.bn.weight.requires_grad
    assert not model.backbone.layer4[0].bn1.weight.requires_grad


def parsed(*flags):
    return parse_training("", ["something", "RGB", *flags])[0]


def test_flags_and_help_are_derived_from_the_options(mine, capsys):
    flags = ["--window", "5", "--mix", "gate", "--strength", "2", "--causal", "--where", "early"]
    args = parsed("--module", "mine", *flags)
    assert (args.window, args.mix, args.strength, args.causal, args.where) == (
        5,
        "gate",
        2.0,
        True,
        "early",
    )
    args = parsed("--module", "mine")
    assert (args.window, args.causal) == (3, False)
    with pytest.raises(SystemExit):
        parsed("--help")
    printed = " ".join(capsys.readouterr().out.split())
    assert "--window N frames that are mixed (default: 3 for mine)" in printed
    assert "--where {late,early}" in printed
    assert "(default: 8 for tsm, 4 for tin)" in printed


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--module", "mine", "--window", "0"], "--window 0: must be a whole number from 1"),
        (["--module", "tsm", "--window", "3"], "tsm has no such option"),
        (["--module", "mine", "--shift_div", "4"], "mine has no such option"),
    ],
)
def test_invalid_options_of_a_new_module_raise(mine, flags, message):
    with pytest.raises(UserError, match=message):
        parsed(*flags)


def test_options_of_the_same_name_need_the_same_type(mine, monkeypatch):
    other = TemporalModule(options={"window": Option(str, "wide", "another window")})
    monkeypatch.setitem(MODULES, "other", other)
    with pytest.raises(TypeError, match=r"window.*mine, other"):
        parsed("--module", "mine")


class Block(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)
        self.slots = {"before_conv1": channels, "before_sum": channels}
        self.before_conv1 = nn.Identity()
        self.before_sum = nn.Identity()

    def forward(self, x):
        return F.relu(x + self.before_sum(self.conv(self.before_conv1(x))))


class Tiny(nn.Module):
    """A backbone with a layer called ``stem`` that is no slot."""

    pixels = IMAGENET
    first_conv = "stem"
    feature_dim = 16
    network_slots = ()

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 3, stride=4, padding=1)
        self.blocks = nn.ModuleList(Block(16) for _ in range(4))
        self.avgpool = nn.AdaptiveAvgPool2d(1)

    def stages(self):
        return [[block] for block in self.blocks]

    def forward(self, x):
        x = self.stem(x)
        for block in self.blocks:
            x = block(x)
        return self.avgpool(x).flatten(1)


@pytest.fixture
def tiny(monkeypatch):
    monkeypatch.setitem(BACKBONES, "tiny", Backbone(build=Tiny))


@pytest.mark.parametrize("module", ["tsn", "tsm", "tin", "mine"])
def test_a_backbone_trains_saves_loads_and_exports(tiny, mine, module, tmp_path):
    options = {"shift_div": 2} if module == "tin" else {}
    model = trained(arch="tiny", module=module, **options)
    path = tmp_path / "tiny.pth"
    save_checkpoint(path, model)
    assert_same_scores(model, load_model(path, quiet=True))
    state = export_state_dict(model, "ours")
    assert_same_scores(model, load_model(state, 4, module=module, quiet=True, **options))


def test_a_new_backbone_can_be_explained(tiny):
    model = trained(arch="tiny", module="tsm").eval()
    clip = torch.randint(256, (4, 3, 48, 48), dtype=torch.uint8)
    assert explain(model, clip, 0).shape == (4, 48, 48)


def test_a_layer_called_stem_is_not_a_slot(tiny):
    for module in ("tdn", "tam"):
        with pytest.raises(UserError, match=f"{module} does not run on tiny; tiny works with tsn"):
            TSN(5, 4, arch="tiny", module=module)
    with pytest.raises(UserError, match="--temporal_pool"):
        TSN(5, 4, arch="tiny", temporal_pool=True)


def test_the_weights_of_a_new_backbone_are_recognized(tiny):
    shapes = {key: tuple(value.shape) for key, value in build_backbone("tiny").state_dict().items()}
    assert infer_arch(shapes) == "tiny"
    assert infer_arch({**shapes, "stem.weight": (16, 10, 3, 3)}) == "tiny"
    assert infer_arch({**shapes, "blocks.0.conv.weight": (16, 16, 5, 5)}) is None


def test_imagenet_weights_that_do_not_exist(tiny):
    with pytest.raises(UserError, match=r"torchvision has no tiny.*stem\.weight"):
        TSN(5, 4, arch="tiny", pretrain="imagenet")


def first_frames(n, T, L, rng, *, compat, stride):
    return np.arange(T) % n


@pytest.fixture
def first(monkeypatch):
    """A sampling rule for training and tests."""
    entry = Sampling(
        help="the first frames",
        train=first_frames,
        train_help="the first T frames",
        validation="first",
        test=lambda clip: first_frames(clip.n, clip.T, clip.L, None, compat=False, stride=None),
    )
    monkeypatch.setitem(SAMPLINGS, "first", entry)
    return entry


def test_a_new_sampling_rule_is_in_flags_and_help(first, capsys):
    assert parsed("--sampling", "first").sampling == "first"
    with pytest.raises(SystemExit):
        parsed("--help")
    printed = " ".join(capsys.readouterr().out.split())
    assert "first: the first T frames" in printed
    with pytest.raises(SystemExit):
        test_args.testing_arguments("", 1, ["--help"])
    printed = " ".join(capsys.readouterr().out.split())
    assert "first: the first frames" in printed


@pytest.mark.slow
def test_a_new_sampling_rule_trains_and_tests(first, tmp_path):
    data = make_motion(tmp_path / "motion")
    out = tmp_path / "out"
    flags = ["--module", "tsn", "--arch", "resnet18", "--pretrain", "none", "--sampling", "first"]
    flags += ["--num_segments", 2, "--input_size", 32, "--batch-size", 4, "-j", 0, "--epochs", 1]
    flags += ["--device", "cpu", "--output_dir", out]
    assert call("main", "motion", "RGB", *data, *flags) == 0
    scores = tmp_path / "scores"
    flags = ["--weights", out, "--test_sampling", "first", "-j", 0, "--device", "cpu"]
    at = data.index("--train_list")
    lists = [*data[:at], *data[at + 2 :]]
    assert call("test_models_center_crop", "motion", *lists, *flags, "--output_dir", scores) == 0
    assert '"sampling": "first"' in (scores / "scores.json").read_text()


def hinge_loss(args, multi_label, training, class_weights):
    return F.multi_margin_loss


def test_a_new_loss_trains_a_step(monkeypatch):
    monkeypatch.setitem(LOSSES, "hinge", hinge_loss)
    args = parsed("--module", "tsn", "--loss", "hinge")
    torch.manual_seed(0)
    model = TSN(5, 2, arch="resnet18")
    optimizer = build_optimizer(parameter_groups(model, "flat", weight_decay=0), lr=0.01)
    device = torch.device("cpu")
    step = TrainStep(model, optimizer, build_loss(args), device, clip_shape=(2, 3, 32, 32))
    before = model.head.weight.detach().clone()
    clips = torch.randint(256, (2, 2, 3, 32, 32), dtype=torch.uint8)
    meters = Meters(device)
    loss = step.forward_backward(Batch(clips, torch.tensor([0, 1]), torch.arange(2), []), meters)
    assert step.update().isfinite()
    assert loss > 0 and meters.sums[2] == 2
    assert not torch.equal(model.head.weight, before)


def test_a_new_schedule_is_a_choice(monkeypatch):
    entry = Scheduler(lambda schedule, step: schedule.lr / (step + 1), lambda schedule: "1 / step")
    monkeypatch.setitem(SCHEDULERS, "inverse", entry)
    assert parsed("--lr_scheduler", "inverse").lr_scheduler == "inverse"
    schedule = Schedule(lr=0.1, epochs=2, steps_per_epoch=3, scheduler="inverse")
    assert schedule.rate(1) == 0.05 and schedule.describe().startswith("1 / step")


def test_a_new_optimizer_is_a_choice(monkeypatch):
    def adam(groups, lr, *, momentum, nesterov, **implementation):
        return torch.optim.Adam(groups, lr)

    monkeypatch.setitem(OPTIMIZERS, "adam", adam)
    assert parsed("--optimizer", "adam").optimizer == "adam"
    model = TSN(5, 2, arch="resnet18")
    groups = parameter_groups(model, "flat", weight_decay=0)
    assert isinstance(build_optimizer(groups, "adam", lr=0.1), torch.optim.Adam)


@pytest.mark.slow
def test_a_new_module_and_backbone_train_by_the_command(tiny, mine, tmp_path):
    data = make_motion(tmp_path / "motion")
    out = tmp_path / "out"
    flags = ["--module", "mine", "--arch", "tiny", "--pretrain", "none", "--window", 1]
    flags += ["--num_segments", 2, "--input_size", 32, "--batch-size", 4, "-j", 0, "--epochs", 1]
    flags += ["--device", "cpu", "--optimizer", "adamw", "--lr", 0.001, "--output_dir", out]
    assert call("main", "motion", "RGB", *data, *flags) == 0
    assert load_model(out / "best.pth", quiet=True).spec["window"] == 1
    assert "adamw" in (out / "log.txt").read_text()
    assert call("main", "motion", "RGB", *data, *flags, "--resume", "auto") == 0


# Runs pytest with a plugin from tests/helpers.
WITH_SIXTH_MODULE = """
import sys, pytest
sys.path.insert(0, "tests")
sys.exit(pytest.main(["-q", "-p", "helpers.sixth_module", "-p", "no:cacheprovider", *sys.argv[1:]]))
"""


@pytest.mark.slow
def test_no_test_fails_with_a_sixth_module():
    """Those that are parametrized by the table of modules, loop over it, or list its names."""
    files = [f"tests/test_{name}.py" for name in ("temporal", "optim", "models")]
    tests = "sixth or every_parameter or supports or cannot_be"
    run = launch("-c", WITH_SIXTH_MODULE, *files, "-k", tests)
    assert run.returncode == 0, run.stdout[-3000:]
    assert int(re.search(r"(\d+) passed", run.stdout)[1]) > 20
