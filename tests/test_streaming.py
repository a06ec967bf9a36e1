import copy

import pytest
import torch
from helpers.models import assert_same_weights, pixels, saved, small_model

from ops.backbones import BACKBONES
from ops.checkpoints import export_state_dict, load_model
from ops.models import TSN, fuse_batch_norm
from ops.streaming import StreamingTSN, stepping_obstacle
from ops.utils.errors import UserError

SMALL = ("resnet18", "mobilenetv2", "BNInception")
DOUBLE = 1e-12  # largest relative error of the logits
SINGLE = 1e-6  # of two videos; the CPU computes single frames by other kernels
SINGLE_ALONE = 1e-5


def causal(arch="mobilenetv2", num_segments=4, *, module="tsm", **options):
    """A network that can run frame by frame, with the scores of every frame."""
    if module == "tsm":
        options["shift_direction"] = "past"
        if arch == "BNInception":
            options["shift_place"] = "block"
    return small_model(module, 5, num_segments, arch=arch, consensus="identity", **options)


@torch.no_grad()
def steps(stream, clip, state=None):
    """Scores ``[B, T, classes]`` of the frames of a clip, one at a time, and the last state."""
    scores = []
    for frame in clip.unbind(1):
        own, state = stream(frame, state)
        scores.append(own)
    return torch.stack(scores, 1), state


@torch.no_grad()
def relative_error(model, clip):
    """Of the steps of the stream of a model, compared with the model itself."""
    expected = model(clip)
    scores, _ = steps(StreamingTSN(model), clip)
    return ((scores - expected).abs().max() / expected.abs().max()).item()


@pytest.mark.parametrize(
    "arch",
    [pytest.param(arch, marks=[] if arch in SMALL else pytest.mark.slow) for arch in BACKBONES],
)
def test_steps_equal_the_clip_network(arch):
    model = causal(arch).double()
    clip = pixels(model, batch=2, size=32)
    assert relative_error(model, clip) < DOUBLE
    assert relative_error(model.float(), clip) < SINGLE
    assert relative_error(model, clip[:1]) < SINGLE_ALONE


@pytest.mark.parametrize(
    "options",
    [
        {"arch": "resnet18", "shift_place": "block"},
        {"num_segments": 20},
        {"shift_div": 3},
        {"shift_div": 40},  # the narrow blocks shift no channel
        {"module": "tsn"},
        {"module": "tsn", "arch": "resnet18", "modality": "RGBDiff"},
        {"arch": "resnet18", "modality": "Flow"},
    ],
    ids=str,
)
def test_steps_equal_the_clip_network_with_options(options):
    model = causal(**options).double()
    assert relative_error(model, pixels(model, batch=1, size=32)) < DOUBLE


def test_normalized_frames_and_channels_last():
    model = causal().double()
    clip = torch.randn(2, 4, 3, 32, 32, dtype=torch.float64)
    assert relative_error(model, clip) < DOUBLE
    assert relative_error(model.to_channels_last(), clip) < DOUBLE
    assert relative_error(fuse_batch_norm(model), clip) < DOUBLE


def test_the_state_carries_the_past():
    model = causal()
    clip = pixels(model, batch=1, size=32)
    stream = StreamingTSN(model)
    scores, _ = steps(stream, clip)
    fresh, _ = stream(clip[:, -1])
    assert (scores[:, -1] - fresh).abs().max() > 0.02 * scores.abs().max()
    zeros = stream.initial_state(clip[:, 0])
    assert torch.equal(steps(stream, clip, zeros)[0], scores)
    first, state = steps(stream, clip[:, :2])
    kept = [part.clone() for part in state]
    second, _ = steps(stream, clip[:, 2:], state)
    assert torch.equal(torch.cat([first, second], 1), scores)
    # A step writes into no state: one may be kept and continued from again.
    assert all(torch.equal(part, before) for part, before in zip(state, kept, strict=True))


def test_the_file_of_the_online_demo_has_the_states_of_the_original(tmp_path):
    """online_demo/main.py: ten buffers at 224 x 224, all zero at the start."""
    state = export_state_dict(TSN(27, 8, arch="mobilenetv2", module="tsm"), "mobilenetv2")
    path = saved(tmp_path, state, "mobilenetv2_jester_online.pth.tar")
    stream = StreamingTSN(load_model(path, quiet=True))
    states = stream.initial_state(torch.zeros(1, 3, 224, 224, dtype=torch.uint8))
    assert [tuple(part.shape) for part in states] == [
        (1, 3, 56, 56),
        *[(1, 4, 28, 28)] * 2,
        *[(1, 8, 14, 14)] * 3,
        *[(1, 12, 14, 14)] * 2,
        *[(1, 20, 7, 7)] * 2,
    ]
    assert not any(part.any() for part in states)


def test_a_plain_tsn_has_no_state():
    stream = StreamingTSN(causal(module="tsn"))
    frame = torch.zeros(1, 3, 32, 32, dtype=torch.uint8)
    assert stream(frame)[1] == () and stream.initial_state(frame) == ()


def test_the_model_itself_is_unchanged():
    model = causal().train()
    before = copy.deepcopy(model.state_dict())
    clip = pixels(model.eval(), batch=1, size=32)
    expected = model(clip)
    model.train()
    stream = StreamingTSN(model)
    stream.double()
    assert model.training and not stream.network.training
    assert_same_weights(model, before)
    assert torch.equal(model.eval()(clip), expected)


def test_the_weights_are_in_the_memory_of_the_model():
    model = causal()
    stream = StreamingTSN(model)
    clip = pixels(model, batch=1, size=32)
    before, _ = stream(clip[:, 0])
    with torch.no_grad():
        model.head.weight.mul_(2)
        model.head.bias.mul_(2)
    torch.testing.assert_close(stream(clip[:, 0])[0], 2 * before)


@pytest.mark.parametrize(
    "options",
    [
        {"module": "tsm"},
        {"module": "tsm", "arch": "mobilenetv2"},
        {"module": "tam"},
        {"module": "tin"},
        {"module": "tdn"},
        {"module": "tsn", "non_local": True},
        {"module": "tsn", "temporal_pool": True},
        {"module": "tsm", "shift_direction": "past", "non_local": True},
    ],
    ids=str,
)
def test_other_networks_are_refused(options):
    model = small_model(**options)
    reason = stepping_obstacle(model)
    assert reason
    with pytest.raises(UserError) as error:
        StreamingTSN(model)
    assert reason in str(error.value) and "\n" not in str(error.value)


def test_a_frame_or_state_of_another_network_is_refused():
    stream = StreamingTSN(causal())
    frame = torch.zeros(1, 3, 32, 32, dtype=torch.uint8)
    with pytest.raises(ValueError, match=r"\[B, 3, H, W\]"):
        stream(frame[0])
    with pytest.raises(ValueError, match=r"\[B, 3, H, W\]"):
        stream(torch.zeros(1, 6, 32, 32, dtype=torch.uint8))
    with pytest.raises(ValueError, match="10 tensors"):
        stream(frame, (frame,))
