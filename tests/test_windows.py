import numpy as np
import pytest

from ops.data.readers.stream import StreamedFrame
from ops.data.sampling import center_offsets, frame_indices
from ops.data.windows import WindowCollector


def cut(times, length, step, T, L, *, end=None, unit="seconds"):
    """The frame numbers of each clip, ``[T, L]``, the windows, and what was prepared."""
    prepared = []
    frames = [StreamedFrame(i, time, lambda i=i: i) for i, time in enumerate(times)]
    by_time = unit == "seconds"
    end = end or (times[-1] + times[1] - times[0] if by_time else len(times))
    collector = WindowCollector(
        length,
        step,
        T,
        L,
        lambda image: prepared.append(image) or image,
        lambda frame: frame.time if by_time else frame.index,
    )
    windows = list(collector.windows(iter(frames), lambda: end))
    clips = [[segment.frames for segment in window.segments] for window in windows]
    return np.array(clips), windows, prepared


def naive(times, start, length, T, L):
    """The clip of a window, from all times at once."""
    times = np.asarray(times)
    targets = start + (np.arange(T) + 0.5) * length / T
    middle = np.searchsorted(times, targets + 1e-6, side="right") - 1
    first = np.maximum(0, middle - (L - 1) // 2)
    return frame_indices(first, L, len(times))


RNG = np.random.default_rng(0)
CONSTANT = np.arange(300) / 30
VARIABLE = np.concatenate([[0], np.cumsum(RNG.choice([0.01, 0.033, 0.3], 300))])


@pytest.mark.parametrize("times", [CONSTANT, VARIABLE], ids=["constant", "variable"])
@pytest.mark.parametrize("T, L", [(8, 1), (4, 5), (3, 6), (1, 1)])
@pytest.mark.parametrize("length, step", [(2.5, 0.5), (1.0, 1.0), (0.5, 1.7), (2.5, 0.05)])
def test_clips_equal_those_chosen_with_all_times_known(times, T, L, length, step):
    clips, windows, prepared = cut(times, length, step, T, L)
    for clip, window in zip(clips, windows, strict=True):
        assert window.start == pytest.approx(window.index * step)
        assert np.array_equal(clip, naive(times, window.start, length, T, L))
    assert len(prepared) == len(set(prepared)), "a frame was prepared twice"
    # Besides, only frames of windows that turn out to reach too far past the end.
    others = set(prepared) - set(clips.ravel())
    assert all(times[number] > times[-1] - length - 1 for number in others)


def test_a_window_is_sampled_like_the_center_of_a_test():
    for T in (1, 3, 8, 16):
        clips, _, _ = cut(CONSTANT, 2.5, 2.5, T, 1)
        assert np.array_equal(clips[0][:, 0], center_offsets(75, T, 1))


def test_windows_in_frames():
    clips, windows, _ = cut(VARIABLE, 64, 16, 8, 1, unit="frames")
    for clip, window in zip(clips[:10], windows, strict=False):
        assert np.array_equal(clip[:, 0], window.index * 16 + center_offsets(64, 8, 1))


def test_shared_segments_are_the_same_object():
    _, windows, _ = cut(CONSTANT, 64 / 30, 16 / 30, 8, 1)
    first = {id(segment) for segment in windows[0].segments}
    assert len(first & {id(segment) for segment in windows[1].segments}) == 6


def test_the_end_of_a_video():
    clips, windows, _ = cut(CONSTANT, 4.0, 2.0, 4, 1)  # 10 s
    assert [window.start for window in windows] == [0, 2, 4, 6, 8]
    assert windows[-1].end == pytest.approx(10)
    assert clips[-1].ravel().tolist() == [255, 285, 299, 299]
    _, windows, _ = cut(CONSTANT[:10], 4.0, 2.0, 4, 1)
    assert len(windows) == 1 and windows[0].end == pytest.approx(1 / 3)


def test_one_frame():
    clips, windows, _ = cut([0.0], 2.5, 0.5, 4, 5, end=0.04)
    assert clips.ravel().tolist() == [0] * 20 and windows[0].end == 0.04


def test_only_recent_frames_are_held():
    import gc
    import weakref

    class Image:
        pass

    held = []

    def frames():
        for index in range(2000):
            yield StreamedFrame(index, index / 30, Image)

    def prepare(image):
        held.append(weakref.ref(image))
        return image

    collector = WindowCollector(2.5, 0.5, 8, 5, prepare, lambda frame: frame.time)
    most = 0
    for _ in collector.windows(frames(), lambda: 2000 / 30):
        gc.collect(0)
        most = max(most, sum(reference() is not None for reference in held))
    assert len(held) > 1000 and most < 300


@pytest.mark.parametrize("length, step", [(0, 1), (1, 0), (-1, 1)])
def test_windows_that_are_not_positive_raise(length, step):
    with pytest.raises(ValueError):
        cut(CONSTANT, length, step, 4, 1)
