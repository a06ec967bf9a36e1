import copy
import threading
import time

import numpy as np
import pytest
import torch
from helpers.models import assert_same_weights, pixels, saved, small_model
from helpers.videos import encode, textured_frames

from ops.backbones import BACKBONES
from ops.checkpoints import export_state_dict, load_model
from ops.data.readers.stream import VideoStream
from ops.data.transforms import TestTransform
from ops.models import TSN, fuse_batch_norm
from ops.predict import Predictor
from ops.streaming import LiveStream, Smoother, StreamingTSN, stepping_obstacle
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


# LiveStream.


def live_network(module="tsm", num_segments=4, **options):
    """A network of 32 x 32 pixels whose scores differ between frames."""
    if module == "tsm":
        options.setdefault("shift_direction", "past")
    model = small_model(module, 5, num_segments, input_size=32, **options)
    torch.nn.init.normal_(model.head.weight)
    return model


def play(stream, frames, rate=30.0, start=0.0):
    """The results of frames at a constant rate."""
    results = [stream.push(frame, start + number / rate) for number, frame in enumerate(frames)]
    return [result for result in results if result is not None]


def test_a_stream_of_steps_has_the_scores_of_predictions(tmp_path):
    """The mean over T frames of a causal network is what it predicts for these frames."""
    path = encode(tmp_path / "four.mp4", textured_frames(4))
    model = live_network()
    frames = [frame.image() for frame in VideoStream(path)]
    results = play(LiveStream(model, fps=30), frames)
    expected = Predictor(model, "cpu")(path).logits
    mean = np.mean([result.logits for result in results], axis=0)
    assert len(results) == 4
    np.testing.assert_allclose(mean, expected, rtol=1e-4, atol=1e-5 * abs(expected).max())


@pytest.mark.parametrize("module", ["tsm", "tdn", "tam"])
def test_other_networks_predict_the_windows_of_a_video(tmp_path, module):
    path = encode(tmp_path / "long.mp4", textured_frames(60))
    model = live_network(module, **({"shift_direction": "both"} if module == "tsm" else {}))
    with VideoStream(path) as video:
        frames = [(frame.image(), frame.time) for frame in video]
    stream = LiveStream(model, window=0.8, step=0.4)
    assert not stream.steps
    results = [stream.push(*frame) for frame in frames]
    results = [result.logits for result in results if result]
    windows = list(Predictor(model, "cpu").windows(path, 0.8, 0.4))
    assert len(results) >= 3
    for result, window in zip(results, windows, strict=False):
        np.testing.assert_allclose(result, window.logits, rtol=1e-4, atol=1e-5)


def test_frames_are_sampled_by_their_times():
    frames = textured_frames(60)
    stream = LiveStream(live_network(), fps=12)
    times = [result.seconds for result in play(stream, frames, rate=30)]
    assert times == pytest.approx([0, 3 / 30, 5 / 30, 8 / 30, 10 / 30, *times[5:]])
    assert len(times) == 24  # of two seconds
    assert len(play(LiveStream(live_network(), fps=12), frames[:10], rate=5)) == 10
    late = [0.0, 0.01, 3.0, 3.01]  # a slow source is not caught up with
    stream.restart()
    assert [stream.push(frames[0], time) is None for time in late] == [False, True, False, True]


def test_cropped_frames_give_the_same_scores():
    frames = textured_frames(3)
    model = live_network()
    first, second = LiveStream(model), LiveStream(model)
    transform = TestTransform(model.scale_size, 32, 1)
    for number, frame in enumerate(frames):
        cropped = transform.views_of_frame(frame)[0].numpy()
        expected = first.push(frame, number)
        assert np.array_equal(second.push_crop(cropped, number).logits, expected.logits)
    for wrong in (cropped[:, 1:], cropped.astype(np.float32), frame):
        with pytest.raises(ValueError, match=r"\[3, 32, 32\]"):
            second.push_crop(wrong, 4)


def test_a_segment_of_differences_is_a_frame_and_those_before_it():
    model = live_network("tsn", modality="RGBDiff")
    frames = textured_frames(20)
    results = play(LiveStream(model, fps=5), frames)
    transform = TestTransform(model.scale_size, 32, 1)
    crops = [transform.views_of_frame(frame)[0] for frame in frames]
    with torch.inference_mode():
        expected, _ = StreamingTSN(model)(torch.cat(crops[7:13])[None])
    np.testing.assert_allclose(results[2].logits, expected[0], rtol=1e-5)


def test_a_restart_forgets_the_past():
    frames = textured_frames(8)
    stream = LiveStream(live_network(), list("abcde"), fps=30, rule=Smoother(tau=0, on=0.01, off=0))
    first = play(stream, frames)
    assert any(event.end is None for result in first for event in result.events)
    (ended,) = stream.restart()
    assert ended.name in "abcde" and ended.end == pytest.approx(7 / 30)
    second = play(stream, frames, start=100)
    assert [result.seconds for result in second] == pytest.approx(
        [100 + result.seconds for result in first]
    )
    third = play(stream, frames)  # times begin again: a new stream without a call
    for again in (second, third):
        for result, expected in zip(again, first, strict=True):
            assert np.array_equal(result.logits, expected.logits)
    assert third[0].events[0].end == pytest.approx(100 + 7 / 30)


def test_a_window_after_a_gap_has_none_of_the_frames_before():
    model = live_network("tam")
    frames = textured_frames(60)
    stream = LiveStream(model, window=0.5, step=0.5)
    play(stream, frames[:40])
    after = play(stream, frames[30:], start=1000)
    expected = play(LiveStream(model, window=0.5, step=0.5), frames[30:])
    assert len(after) == len(expected) > 0
    for result, own in zip(after, expected, strict=True):
        assert np.array_equal(result.logits, own.logits)


class HeldNetwork:
    """An exported network of clips that gives no scores until it is let."""

    kind = "clip"
    modality = "RGB"
    num_segments = 4
    frames_per_segment = 1
    input_size = 32
    scale_size = 36

    def __init__(self):
        self.let = threading.Semaphore(0)
        self.clips = []

    def __call__(self, clip):
        assert self.let.acquire(timeout=60)
        self.clips.append(clip[0])
        return torch.zeros(1, 5)


def wait_for_result(stream, frame, seconds):
    """Push a frame again and again, as a thread is computing."""
    for _ in range(6000):
        result = stream.push(frame, seconds)
        if result:
            return result
        time.sleep(0.01)
    raise AssertionError("no result within a minute")


def test_in_the_background_no_frame_is_missed_and_only_the_last_window_waits():
    network = HeldNetwork()
    stream = LiveStream(network, window=0.4, step=0.1, background=True)
    frames = textured_frames(40)
    assert play(stream, frames[:30]) == []  # the network computes the first window
    network.let.release()
    first = wait_for_result(stream, frames[30], 1.0)
    network.let.release()
    second = wait_for_result(stream, frames[31], 31 / 30)
    assert first.seconds < 0.5 and second.seconds > 0.9
    expected = [TestTransform(36, 32, 1).views_of_frame(frames[i])[0] for i in (19, 22, 25, 28)]
    assert torch.equal(network.clips[1], torch.stack(expected))
    stream.close()


def test_invalid_streams_raise():
    with pytest.raises(UserError, match="Flow"):
        LiveStream(live_network("tsn", modality="Flow"))
    for options in ({"fps": 0}, {"window": 0}, {"step": -1}):
        (name,) = options
        with pytest.raises(UserError, match=f"--{name}"):
            LiveStream(live_network(), **options)
    model = live_network()
    model.head.bias.data.fill_(float("nan"))
    with pytest.raises(UserError, match="not finite"):
        play(LiveStream(model), textured_frames(1))


def test_a_result_names_its_classes():
    result = play(LiveStream(live_network(), list("abcde")), textured_frames(1))[0]
    assert result.label is None and result.name is None and result.events == []
    names, probabilities = zip(*result.top(5), strict=True)
    assert set(names) == set("abcde") and sorted(probabilities, reverse=True) == list(probabilities)
    assert sum(probabilities) == pytest.approx(1)
    assert play(LiveStream(live_network()), textured_frames(1))[0].top(1)[0][0].startswith("label")
