import pytest
import torch

from ops.models import TSN
from ops.temporal.stochastic_depth import StochasticDepth
from ops.utils.errors import UserError


def test_a_clip_is_dropped_as_a_whole_and_the_mean_stays():
    torch.manual_seed(0)
    layer, x = StochasticDepth(0.25, 3), torch.ones(3000, 2, 1, 1)
    clips = layer(x).unflatten(0, (-1, 3)).flatten(1)
    assert (clips == clips[:, :1]).all() and clips.unique().tolist() == pytest.approx([0, 4 / 3])
    assert clips.mean().item() == pytest.approx(1, abs=0.05)
    assert layer.eval()(x) is x


def test_the_memory_format_is_kept():
    x = torch.randn(6, 8, 5, 5).to(memory_format=torch.channels_last)
    assert StochasticDepth(0.5, 3)(x).is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize(
    ("arch", "module"), [("resnet18", "tsm"), ("resnet50", "tdn"), ("mobilenetv2", "tin")]
)
def test_the_chance_grows_linearly_and_testing_is_without(arch, module):
    plain, dropping = ({"arch": arch, "module": module, "stochastic_depth": p} for p in (0.0, 0.4))
    options = {"shift_div": 2} if module == "tin" else {}
    torch.manual_seed(0)
    plain = TSN(3, 4, **plain, **options).eval()
    dropping = TSN(3, 4, **dropping, **options).eval()
    dropping.load_state_dict(plain.state_dict())  # it has no weights
    chances = [m.probability for m in dropping.modules() if isinstance(m, StochasticDepth)]
    count = {"resnet18": 8, "resnet50": 16, "mobilenetv2": 10}[arch]
    assert chances == pytest.approx([0.4 * block / count for block in range(1, count + 1)])
    clip = torch.randint(256, (1, 4, plain.frame_channels, 64, 64), dtype=torch.uint8)
    with torch.no_grad():
        assert torch.equal(plain(clip), dropping(clip))
    dropping.train()(clip).sum().backward()
    assert all(p.grad is not None for p in dropping.parameters() if p.requires_grad)


def test_later_stages_know_that_the_segments_are_halved():
    model = TSN(3, 4, arch="resnet18", module="tsm", temporal_pool=True, stochastic_depth=0.1)
    assert [m.num_segments for m in model.modules() if isinstance(m, StochasticDepth)] == [
        4,
        4,
        2,
        2,
        2,
        2,
        2,
        2,
    ]


def test_a_backbone_without_residual_blocks_is_refused():
    with pytest.raises(UserError, match=r"--stochastic_depth .*BNInception"):
        TSN(3, 4, arch="BNInception", module="tsn", stochastic_depth=0.1)
