"""Where the temporal modules are inserted, and which combinations are refused."""

import pytest
import torch
from torch import nn

from ops.backbones import build_backbone
from ops.models import TSN
from ops.temporal import MODULES, TemporalModule, resolve_options
from ops.temporal.difference import LongTermDifference
from ops.temporal.insertion import insert
from ops.temporal.non_local import NonLocal
from ops.temporal.pooling import TemporalPool
from ops.temporal.shift import TemporalShift
from ops.utils.errors import UserError


def build(arch, module="tsm", segments=4, **options):
    with torch.device("meta"):
        return TSN(5, segments, arch=arch, module=module, **options)


def blocks_with(model, kind, slot):
    """(stage from 1, block from 0) of the blocks with a module of this kind in the slot."""
    return [
        (number, index)
        for number, stage in enumerate(model.backbone.stages(), 1)
        for index, block in enumerate(stage)
        if isinstance(getattr(block, slot, None), kind)
    ]


@pytest.mark.parametrize(
    ("arch", "blocks"),
    [
        ("resnet18", (2, 2, 2, 2)),
        ("resnet50", (3, 4, 6, 3)),
        ("resnext50_32x4d", (3, 4, 6, 3)),
        ("wide_resnet50_2", (3, 4, 6, 3)),
    ],
)
def test_every_block_is_shifted(arch, blocks):
    expected = [(stage, block) for stage, count in enumerate(blocks, 1) for block in range(count)]
    assert blocks_with(build(arch), TemporalShift, "before_conv1") == expected
    assert blocks_with(build(arch, shift_place="block"), TemporalShift, "before_block") == expected
    assert not blocks_with(build(arch, shift_place="block"), TemporalShift, "before_conv1")


@pytest.mark.parametrize(
    ("arch", "blocks"),
    [
        ("resnet101", (3, 4, 23, 3)),
        ("resnet152", (3, 8, 36, 3)),
        ("resnext101_32x8d", (3, 4, 23, 3)),
    ],
)
def test_every_second_block_of_deep_networks_is_shifted(arch, blocks):
    expected = [
        (stage, block) for stage, count in enumerate(blocks, 1) for block in range(0, count, 2)
    ]
    assert blocks_with(build(arch), TemporalShift, "before_conv1") == expected
    whole = blocks_with(build(arch, shift_place="block"), TemporalShift, "before_block")
    assert len(whole) == sum(blocks)  # only the residual place skips blocks


def test_shifts_of_the_other_backbones():
    assert blocks_with(build("mobilenetv2"), TemporalShift, "before_conv1") == [
        (1, 0),
        (2, 0),
        (2, 1),
        (3, 0),
        (3, 1),
        (3, 2),
        (4, 0),
        (4, 1),
        (5, 0),
        (5, 1),
    ]
    assert (
        len(blocks_with(build("BNInception", shift_place="block"), TemporalShift, "before_block"))
        == 11
    )


def test_a_shift_sees_the_channels_and_segments_of_its_place():
    model = build("resnet50", segments=6, shift_div=4)
    first, second = (block.before_conv1 for block in model.backbone.stages()[0][:2])
    assert (first.moves, second.moves) == (((0, 16, 1), (16, 32, -1)), ((0, 64, 1), (64, 128, -1)))
    assert first.num_segments == 6
    assert build("resnet50", shift_direction="past").backbone.layer1[0].before_conv1.moves == (
        (0, 8, -1),
    )


@pytest.mark.parametrize(
    ("arch", "expected"),
    [
        ("resnet50", [(2, 0), (2, 2), (3, 0), (3, 2), (3, 4)]),
        ("resnet18", [(2, 0), (3, 0)]),
        ("resnet101", [(2, 0), (2, 2), *((3, block) for block in range(0, 23, 2))]),
    ],
)
@pytest.mark.parametrize("module", MODULES)
def test_non_local_blocks_sit_behind_every_second_block(arch, expected, module):
    model = build(arch, module, non_local=True)
    assert blocks_with(model, NonLocal, "after_block") == expected
    assert bool(blocks_with(model, TemporalShift, "before_conv1")) == (module == "tsm")


def test_temporal_pool_halves_the_segments_of_what_comes_later():
    model = build("resnet50", segments=8, temporal_pool=True, non_local=True)
    assert isinstance(model.backbone.before_stage2, TemporalPool) and model.scored_segments == 4
    stages = model.backbone.stages()
    assert [block.before_conv1.num_segments for stage in stages for block in stage] == [8] * 3 + [
        4
    ] * 13
    assert stages[1][0].after_block.num_segments == 4
    tdn = build("resnet50", "tdn", segments=8, temporal_pool=True)
    assert tdn.backbone.stages()[1][0].before_conv2.num_segments == 4
    assert isinstance(tdn.backbone.stages()[1][0].before_conv2, LongTermDifference)


def test_videos_are_not_mixed():
    """What happens in one video of a batch does not reach another one."""
    torch.manual_seed(0)
    model = TSN(3, 4, arch="resnet18", module="tsm", temporal_pool=True, non_local=True).eval()
    nn.init.ones_(model.backbone.layer2[0].after_block.expand_bn.weight)
    clip = torch.randint(256, (3, 4, 3, 64, 64), dtype=torch.uint8)
    with torch.no_grad():
        together = model(clip)
        alone = torch.cat([model(one) for one in clip.split(1)])
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-5)
    assert together.shape == (3, 3) and (together[0] - together[1]).abs().max() > 1e-4


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"module": "tsm", "arch": "BNInception"},
            "--module tsm on BNInception needs --shift_place block$",
        ),
        (
            {"module": "tsm", "arch": "mobilenetv2", "shift_place": "block"},
            "--module tsm on mobilenetv2 needs --shift_place blockres$",
        ),
        (
            {"module": "tdn", "arch": "mobilenetv2"},
            "--module tdn .*mobilenetv2 works with tsn, tsm, tin$",
        ),
        ({"module": "tam", "arch": "mobilenetv2"}, "--module tam .* works with tsn, tsm, tin$"),
        ({"module": "tin", "arch": "BNInception"}, "--module tin .* works with tsn, tsm$"),
        (
            {"module": "tdn", "modality": "Flow"},
            "--module tdn takes RGB only; for Flow use --module tsn, tsm, tam",
        ),
        (
            {"module": "tsn", "arch": "BNInception", "non_local": True},
            "--non_local .*BNInception",
        ),
        (
            {"module": "tsn", "arch": "mobilenetv2", "temporal_pool": True},
            "--temporal_pool needs a ResNet",
        ),
        (
            {"module": "tsm", "temporal_pool": True, "num_segments": 5},
            "--temporal_pool halves the segments: 5 is odd",
        ),
        (
            {"module": "tsm", "shift_place": "inplace"},
            "--shift_place inplace: unknown; known are blockres, block",
        ),
        ({"module": "tsm", "shift_direction": "future"}, "--shift_direction future: unknown"),
        ({"module": "tsm", "shift_div": 1}, "--shift_div 1: must be a whole number from 2"),
        ({"module": "tsm", "shift_div": 2.5}, "--shift_div 2.5: must be a whole number"),
        ({"module": "tsn", "shift_div": 8}, "--shift_div 8: tsn has no such option"),
    ],
)
def test_what_cannot_be_is_refused_with_the_reason(options, message):
    with pytest.raises(UserError, match=message), torch.device("meta"):
        TSN(5, **{"num_segments": 4, "arch": "resnet18", **options})


def test_options_of_no_module_are_an_error_of_the_caller():
    with pytest.raises(TypeError, match="no temporal module has an option warp"):
        resolve_options("tsm", {"warp": 1})
    assert resolve_options("tsm", {"shift_div": None})["shift_div"] == 8
    assert resolve_options("tdn", {"shift_div": None}) == {}


def test_a_sixth_module_is_one_row(monkeypatch):
    class Mine(nn.Module):
        def __init__(self, channels, num_segments):
            super().__init__()
            self.sizes = (channels, num_segments)

        def forward(self, x):
            return x

    monkeypatch.setitem(
        MODULES, "mine", TemporalModule(slot="after_block", stages=(4,), module_class=Mine)
    )
    backbone = build_backbone("resnet18")
    insert("mine", backbone, 3)
    assert [block.after_block.sizes for block in backbone.layer4] == [(512, 3), (512, 3)]
