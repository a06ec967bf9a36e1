import os
import subprocess
import sys
import timeit

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ops.data.sampling import center_offsets, clip_rng, frame_indices, random_clip_offsets, train_offsets

N, T, L = st.integers(1, 400), st.integers(1, 40), st.integers(1, 9)


def rng(seed=0):
    return np.random.Generator(np.random.PCG64(seed))


# 1-based values that the original TSM code gave for T = 8, L = 1.
@pytest.mark.parametrize(
    ("n", "expected"),
    [
        (3, [1] * 8),
        (8, [1] * 8),
        (9, [1, 2, 3, 4, 6, 7, 8, 9]),
        (30, [2, 6, 10, 14, 17, 21, 25, 29]),
        (300, [19, 57, 94, 132, 169, 207, 244, 282]),
    ],
)
def test_center_golden(n, expected):
    offsets = center_offsets(n, 8, 1)
    assert offsets.dtype == np.int64 and (offsets + 1).tolist() == expected


@given(n=N, t=T, length=L)
def test_center_is_the_formula_of_tdn(n, t, length):
    if n > t + length - 1:
        tick = (n - length + 1) / float(t)
        expected = [int(tick / 2.0 + tick * x) for x in range(t)]
    else:
        expected = [0] * t
    assert center_offsets(n, t, length).tolist() == expected


def tdn_train(n, t, length, randint):
    """The branches of TDN ops/dataset.py, 0-based, with its random calls in its order."""
    starts = n - 5 + 1 if n - length + 1 < t else n - length + 1
    duration = starts // t
    if duration > 0:
        return np.multiply(list(range(t)), duration) + randint(duration, t)
    if n > t:
        return np.sort(randint(max(starts, 1), t))
    return np.zeros(t)


@given(n=N, t=T, length=L, seed=st.integers(0, 9))
def test_train_is_the_formula_of_tdn(n, t, length, seed):
    source = rng(seed)
    offsets = train_offsets(n, t, length, rng(seed))
    assert offsets.dtype == np.int64 and offsets.shape == (t,)
    assert offsets.tolist() == tdn_train(n, t, length, lambda high, size: source.integers(high, size=size)).tolist()


@given(n=N, t=T, seed=st.integers(0, 9))
def test_train_of_one_frame_is_the_formula_of_tsn(n, t, seed):
    offsets = train_offsets(n, t, 1, rng(seed))
    duration = n // t
    if duration == 0:
        assert (offsets == 0).all()
    else:
        assert (offsets // duration == np.arange(t)).all()


def test_train_reaches_every_frame_of_a_segment():
    source = rng()
    drawn = np.array([train_offsets(40, 8, 1, source) for _ in range(300)])
    for segment in range(8):
        assert sorted(set(drawn[:, segment].tolist())) == list(range(5 * segment, 5 * segment + 5))


@given(n=N, t=T, length=L, seed=st.integers(0, 99))
def test_no_index_outside_the_video(n, t, length, seed):
    for offsets in (train_offsets(n, t, length, rng(seed)), center_offsets(n, t, length)):
        assert (np.diff(offsets) >= 0).all()
        indices = frame_indices(offsets, length, n)
        assert indices.shape == (t, length) and indices.dtype == np.int64
        assert indices.min() >= 0 and indices.max() < n
        assert (indices[:, 0] == offsets).all()
        assert np.isin(np.diff(indices, axis=1), (0, 1)).all()


def test_last_frame_is_repeated():
    assert frame_indices(np.array([0, 4, 8]), 5, 10).tolist() == [[0, 1, 2, 3, 4], [4, 5, 6, 7, 8], [8, 9, 9, 9, 9]]


def test_no_frames():
    for call in (lambda: train_offsets(0, 8, 1, rng()), lambda: center_offsets(0, 8, 1),
                 lambda: frame_indices(np.zeros(8, int), 1, 0)):
        with pytest.raises(ValueError, match="0 frames"):
            call()


def test_random_clips_depend_on_seed_video_and_clip_only():
    def clip(**change):
        return random_clip_offsets(300, 8, 5, **{"seed": 0, "video": "a", "clip": 0, **change}).tolist()

    assert clip() == clip()
    assert len({tuple(clip(**c)) for c in ({}, {"seed": 1}, {"video": "b"}, {"clip": 1})}) == 4
    clips = {tuple(clip(clip=k)) for k in range(10)}
    assert len(clips) == 10


def test_clip_rng_separates_its_arguments():
    args = [(1, 2, "a", 3), (12, 3, "a", 3), (1, 23, "a", 3), (1, 2, "a", 33), (1, 2, "3a", 3), (1, 2, "a3", 3),
            (-1, 2, "a", 3), (1, 2, "视频", 3)]
    assert len({clip_rng(*a).integers(1 << 62) for a in args}) == len(args)


def test_clip_rng_is_the_same_in_every_process():
    code = (
        "from ops.data.sampling import clip_rng\n"
        "print(clip_rng(7, 3, 'abseiling/x y.mp4:12', 1).integers(1000, size=5).tolist())"
    )
    outputs = [
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True,
                       env={**os.environ, "PYTHONHASHSEED": value}).stdout
        for value in ("1", "2")
    ]
    assert outputs[0] == outputs[1] == "[268, 653, 620, 697, 660]\n"


def test_clip_rng_is_cheap():
    assert min(timeit.repeat(lambda: clip_rng(0, 1, "some/video.mp4:1234", 0), number=500, repeat=5)) / 500 < 100e-6
