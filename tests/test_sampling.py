"""Every sampling formula against numbers and plain transcriptions of the originals."""

import os
import subprocess
import sys
import timeit

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ops.data.sampling import (
    SAMPLINGS,
    ClipSpec,
    caffe_offsets,
    center_offsets,
    check_test_sampling,
    clip_rng,
    dense_offsets,
    dense_train_offsets,
    edge_offsets,
    frame_indices,
    train_offsets,
    uniform_offsets,
)
from ops.utils.errors import UserError

N, T, L = st.integers(1, 400), st.integers(1, 40), st.integers(1, 9)


def rng(seed=0):
    return np.random.Generator(np.random.PCG64(seed))


def one_based(offsets):
    assert offsets.dtype == np.int64
    return (offsets + 1).tolist()


# Values of the original code, 1-based, for T = 8, L = 1: validation, test, second clip of
# twice_sample.
GOLDEN = {
    3: ([1] * 8, [1, 1, 1, 2, 2, 3, 3, 3], [1, 1, 1, 2, 2, 2, 3, 3]),
    8: ([1] * 8, [1, 2, 3, 4, 5, 6, 7, 8], [1, 2, 3, 4, 5, 6, 7, 8]),
    9: ([1, 2, 3, 4, 6, 7, 8, 9], [1, 2, 3, 4, 6, 7, 8, 9], [1, 2, 3, 4, 5, 6, 7, 8]),
    30: (
        [2, 6, 10, 14, 17, 21, 25, 29],
        [2, 6, 10, 14, 17, 21, 25, 29],
        [1, 4, 8, 12, 16, 19, 23, 27],
    ),
    300: (
        [19, 57, 94, 132, 169, 207, 244, 282],
        [19, 57, 94, 132, 169, 207, 244, 282],
        [1, 38, 76, 113, 151, 188, 226, 263],
    ),
}


@pytest.mark.parametrize("n", GOLDEN)
def test_center_and_twice_golden(n):
    validation, test, second = GOLDEN[n]
    assert one_based(center_offsets(n, 8, 1, compat=True)) == validation
    assert one_based(center_offsets(n, 8, 1)) == test
    assert one_based(edge_offsets(n, 8, 1)) == second


# 1-based, T = 3, L = 5; where the original gave 1 0 -1 for n = 1, the first frame is all there is.
@pytest.mark.parametrize(
    ("n", "expected"), [(12, [2, 5, 7]), (8, [1, 3, 4]), (6, [1, 2, 2]), (1, [1, 1, 1])]
)
def test_center_of_flow_golden(n, expected):
    assert one_based(center_offsets(n, 3, 5)) == expected


@given(n=N, t=T, length=L)
def test_center_is_the_formula_of_the_originals(n, t, length):
    tick = (n - length + 1) / float(t)
    ticks = [int(tick / 2.0 + tick * x) for x in range(t)]
    collapsed = ticks if n > t + length - 1 else [0] * t
    assert center_offsets(n, t, length, compat=True).tolist() == collapsed
    if n >= length:
        assert center_offsets(n, t, length).tolist() == ticks
        assert edge_offsets(n, t, length).tolist() == [int(tick * x) for x in range(t)]
    else:
        assert not center_offsets(n, t, length).any() and not edge_offsets(n, t, length).any()


def original_train(n, t, length, randint, tdn=False):
    """ops/dataset.py of TSN and TSM, or of TDN, 0-based, with its random calls in order."""
    starts = n - length + 1
    if tdn and starts < t:
        starts = n - 5 + 1
    duration = starts // t
    if duration > 0:
        return np.multiply(list(range(t)), duration) + randint(duration, t)
    if n > t:
        return np.sort(randint(max(starts, 1), t))  # max: the original stops here
    return np.zeros(t)


@given(n=N, t=T, length=L, seed=st.integers(0, 9), tdn=st.booleans())
def test_train_is_the_formula_of_the_originals(n, t, length, seed, tdn):
    length = 5 if tdn else length
    source = rng(seed)
    expected = original_train(
        n, t, length, lambda high, size: source.integers(high, size=size), tdn
    )
    offsets = train_offsets(n, t, length, rng(seed), compat=True)
    assert offsets.dtype == np.int64 and offsets.tolist() == expected.tolist()
    if n - length + 1 >= t:
        assert train_offsets(n, t, length, rng(seed)).tolist() == expected.tolist()


@given(n=N, t=T, length=L, seed=st.integers(0, 9))
def test_train_spreads_a_short_video(n, t, length, seed):
    starts = max(1, n - length + 1)
    if n - length + 1 < t:
        offsets = train_offsets(n, t, length, rng(seed))
        below = np.arange(t) * starts / t
        assert (offsets >= np.floor(below)).all() and (offsets <= below + starts / t).all()
        assert (
            len(set(offsets.tolist())) >= starts / 2
        )  # more than a half of the starts, where the original took one


def test_train_reaches_every_frame_of_a_segment():
    source = rng()
    drawn = np.array([train_offsets(40, 8, 1, source) for _ in range(300)])
    for segment in range(8):
        assert sorted(set(drawn[:, segment].tolist())) == list(range(5 * segment, 5 * segment + 5))
    drawn = np.array([train_offsets(5, 4, 3, source) for _ in range(300)])  # 3 starts, 4 segments
    assert [sorted(set(column.tolist())) for column in drawn.T] == [[0], [0, 1], [1, 2], [2]]


@given(n=N, t=T, length=L, seed=st.integers(0, 99), compat=st.booleans())
def test_no_index_outside_the_video(n, t, length, seed, compat):
    for offsets in (
        train_offsets(n, t, length, rng(seed), compat=compat),
        center_offsets(n, t, length, compat=compat),
        edge_offsets(n, t, length),
        caffe_offsets(n, t, length),
    ):
        assert (np.diff(offsets) >= 0).all()
        indices = frame_indices(offsets, length, n)
        assert indices.shape == (t, length) and indices.dtype == np.int64
        assert indices.min() >= 0 and indices.max() < n
        assert (indices[:, 0] == offsets).all()
        assert np.isin(np.diff(indices, axis=1), (0, 1)).all()


# 1-based starts of the ten clips of 300 frames, and clips of T = 8.
def test_dense_golden():
    clips = [one_based(dense_offsets(300, 8, clip, 10)) for clip in range(10)]
    assert [clip[0] for clip in clips] == [1, 27, 53, 79, 105, 132, 158, 184, 210, 237]
    assert clips[0] == [1, 9, 17, 25, 33, 41, 49, 57] and clips[9][-1] == 293
    for clip in range(10):
        assert one_based(dense_offsets(30, 8, clip, 10)) == [1, 9, 17, 25, 3, 11, 19, 27]
    assert dense_offsets(300, 16, 0, 10).tolist() == list(range(0, 64, 4))
    assert dense_offsets(300, 8, 0, 1)[0] == 118  # 118 frames before the window, 118 after it


@given(
    n=N,
    t=st.integers(1, 64),
    seed=st.integers(0, 99),
    compat=st.booleans(),
    clips=st.integers(1, 12),
)
def test_dense_stays_in_a_window(n, t, seed, compat, clips):
    stride = 64 // t
    every = [dense_offsets(n, t, clip, clips) for clip in range(clips)] + [
        dense_train_offsets(n, t, rng(seed), compat=compat)
    ]
    for offsets in every:
        assert (
            offsets.dtype == np.int64
            and offsets.shape == (t,)
            and offsets.min() >= 0
            and offsets.max() < n
        )
        assert offsets.tolist() == [(int(offsets[0]) + i * stride) % n for i in range(t)]
        assert offsets[0] <= max(0, n - 64)
        assert n < 64 or (np.diff(offsets) == stride).all()
    starts = [int(offsets[0]) for offsets in every[:-1]]
    if clips > 1:
        assert starts == [
            int(start) for start in np.linspace(0, max(1, 1 + n - 64) - 1, num=clips, dtype=int)
        ]


def test_dense_training_reaches_every_window_and_compat_all_but_the_last():
    for compat, last in ((False, 6), (True, 5)):
        source = rng()
        starts = {int(dense_train_offsets(70, 8, source, compat=compat)[0]) for _ in range(300)}
        assert starts == set(range(last + 1))
        assert dense_train_offsets(64, 8, source, compat=compat)[0] == 0


@pytest.mark.parametrize(("n", "t"), [(100, 8), (20, 8), (16, 8), (10, 8), (300, 100)])
def test_dense_training_of_tin(n, t):
    """TIN ops/dataset.py: every second frame of a window of 2T frames."""
    positions = max(1, 1 + n - 2 * t)
    source, starts = rng(), set()
    for _ in range(300):
        offsets = dense_train_offsets(n, t, source, stride=2)
        starts.add(int(offsets[0]))
        assert offsets.tolist() == [(2 * i + offsets[0]) % n for i in range(t)]
    assert max(starts) < positions and (len(starts) == positions or positions > 50)
    middle = dense_offsets(n, t, 0, 1, stride=2)
    assert middle[0] == positions // 2
    if t > 64:
        assert check_test_sampling("dense", t, clips=[0], num_clips=1, stride=2) == 1


def test_dense_needs_a_frame_for_every_segment():
    assert dense_offsets(100, 64, 0, 10).tolist() == list(range(64))
    for call in (
        lambda: dense_offsets(100, 65, 0, 10),
        lambda: dense_train_offsets(100, 65, rng()),
        lambda: check_test_sampling("dense", 65, clips=[0], num_clips=None),
    ):
        with pytest.raises(UserError, match="at most 64 segments, not 65"):
            call()


# 1-based, 25 segments; the same for one frame and for five of flow.
@pytest.mark.parametrize(
    ("n", "length", "step"),
    [(164, 1, 6), (164, 5, 6), (300, 1, 12), (300, 5, 12), (24, 1, 0), (3, 5, 0)],
)
def test_caffe_golden(n, length, step):
    ticks = one_based(caffe_offsets(n, 25, length))
    assert ticks == [1 + i * step for i in range(25)]
    assert n != 164 or (ticks[:3], ticks[-1]) == ([1, 7, 13], 145)
    assert n != 300 or ticks[-1] == 289


def test_caffe_of_one_segment_is_the_first_frame():
    assert caffe_offsets(300, 1, 5).tolist() == [0]


def pick(name, n=300, t=8, length=1, clip=0, clips=None, **change):
    entry = SAMPLINGS[name]
    count = clips or entry.num_clips
    return entry.test(ClipSpec(n, t, length, clip, count, **{"video": "a", **change})).tolist()


def test_each_sampling_of_a_test_is_its_formula():
    for n in (7, 30, 300):
        for compat in (False, True):
            assert (
                pick("center", n, compat=compat) == center_offsets(n, 8, 1, compat=compat).tolist()
            )
            assert pick("twice", n, clip=0, compat=compat) == center_offsets(n, 8, 1).tolist()
            assert pick("twice", n, clip=1, compat=compat) == edge_offsets(n, 8, 1).tolist()
            assert pick("caffe", n, length=5, compat=compat) == caffe_offsets(n, 8, 5).tolist()
            assert pick("dense", n, clip=3, compat=compat) == dense_offsets(n, 8, 3, 10).tolist()
            expected = train_offsets(n, 8, 5, clip_rng(4, 0, "v", 2), compat=compat).tolist()
            assert pick("random", n, length=5, clip=2, seed=4, video="v", compat=compat) == expected
    assert pick("dense", clips=1) == dense_offsets(300, 8, 0, 1).tolist()


def test_invalid_clips_raise():
    assert check_test_sampling("dense", 8, clips=[0, 9], num_clips=None) == 10
    assert check_test_sampling("dense", 8, clips=[2], num_clips=3) == 3
    assert (
        check_test_sampling("random", 8, clips=[7], num_clips=3) == 3
    )  # any number: a clip does not depend on how many
    assert check_test_sampling("twice", 8, clips=[0, 1], num_clips=2) == 2
    for name, clip, count, says in (
        ("center", 1, None, "clip 1: center sampling has clip 0 only"),
        ("twice", 2, None, "clips 0 to 1"),
        ("caffe", -1, None, "clip -1"),
        ("random", -1, None, "clip -1"),
        ("dense", 3, 3, "clips 0 to 2"),
        ("center", 0, 10, "cannot have 10 clips; its usual number is 1"),
        ("dense", 0, 0, "cannot have 0 clips"),
    ):
        with pytest.raises(UserError, match=says):
            check_test_sampling(name, 8, clips=[clip], num_clips=count)
    with pytest.raises(ValueError, match="edges"):
        check_test_sampling("edges", 8, clips=[0], num_clips=None)


def test_last_frame_is_repeated():
    assert frame_indices(np.array([0, 4, 8]), 5, 10).tolist() == [
        [0, 1, 2, 3, 4],
        [4, 5, 6, 7, 8],
        [8, 9, 9, 9, 9],
    ]
    assert frame_indices(np.array([[0, 8], [7, 3]]), 2, 9).tolist() == [
        [[0, 1], [8, 8]],
        [[7, 8], [3, 4]],
    ]  # two clips


def test_no_frames():
    for call in (
        lambda: train_offsets(0, 8, 1, rng()),
        lambda: center_offsets(0, 8, 1),
        lambda: edge_offsets(0, 8, 1),
        lambda: caffe_offsets(0, 8, 1),
        lambda: dense_offsets(0, 8, 0, 10),
        lambda: dense_train_offsets(0, 8, rng()),
        lambda: frame_indices(np.zeros(8, int), 1, 0),
    ):
        with pytest.raises(ValueError, match="0 frames"):
            call()


def test_random_clips_depend_on_seed_video_and_clip_only():
    assert pick("random", length=5) == pick("random", length=5)
    changes = ({}, {"seed": 1}, {"video": "b"}, {"clip": 1})
    assert len({tuple(pick("random", length=5, **change)) for change in changes}) == 4
    assert len({tuple(pick("random", length=5, clip=clip)) for clip in range(10)}) == 10


def test_clip_rng_separates_its_arguments():
    args = [
        (1, 2, "a", 3),
        (12, 3, "a", 3),
        (1, 23, "a", 3),
        (1, 2, "a", 33),
        (1, 2, "3a", 3),
        (1, 2, "a3", 3),
        (-1, 2, "a", 3),
        (1, 2, "视频", 3),
    ]
    assert len({clip_rng(*a).integers(1 << 62) for a in args}) == len(args)


def test_clip_rng_is_the_same_in_every_process():
    code = (
        "from ops.data.sampling import clip_rng\n"
        "print(clip_rng(7, 3, 'abseiling/x y.mp4:12', 1).integers(1000, size=5).tolist())"
    )
    outputs = [
        subprocess.run(
            [sys.executable, "-c", code],
            capture_output=True,
            text=True,
            check=True,
            env={**os.environ, "PYTHONHASHSEED": value},
        ).stdout
        for value in ("1", "2")
    ]
    assert outputs[0] == outputs[1] == "[268, 653, 620, 697, 660]\n"


def test_clip_rng_is_cheap():
    assert (
        min(timeit.repeat(lambda: clip_rng(0, 1, "some/video.mp4:1234", 0), number=500, repeat=5))
        / 500
        < 100e-6
    )


# TAM's uniform-M, 1-based, T = 8: what its code gave.
@pytest.mark.parametrize(
    ("n", "clips", "expected"),
    [
        (45, 1, [[3, 9, 15, 20, 26, 31, 37, 43]]),
        (45, 2, [[1, 6, 12, 17, 23, 29, 34, 40], [5, 10, 16, 21, 27, 33, 38, 44]]),
        (5, 1, [[1, 1, 2, 3, 3, 4, 5, 5]]),
        (5, 2, [[1, 1, 2, 2, 3, 4, 4, 5], [5, 1, 1, 1, 2, 3, 3, 4]]),
    ],
)
def test_uniform_golden(n, clips, expected):
    assert [
        one_based(uniform_offsets(n, 8, 1, clip, clips, compat=True)) for clip in range(clips)
    ] == expected
    fixed = [uniform_offsets(n, 8, 1, clip, clips) for clip in range(clips)]
    assert n < 8 or [one_based(offsets) for offsets in fixed] == expected
    assert all((np.diff(offsets) >= 0).all() for offsets in fixed)


@given(
    st.integers(1, 400), st.integers(1, 20), st.integers(1, 6), st.integers(1, 12), st.booleans()
)
def test_uniform_clips_stay_inside(n, T, L, clips, compat):
    for clip in range(clips):
        spec = ClipSpec(n, T, L, clip, clips, video="v", compat=compat)
        offsets = SAMPLINGS["uniform"].test(spec)
        assert len(offsets) == T and offsets.min() >= 0 and offsets.max() < n


# TAM's dense-M, 1-based.
@pytest.mark.parametrize(
    ("n", "T", "clip", "clips", "first", "last"),
    [
        (300, 8, 0, 10, 1, 57),
        (300, 8, 1, 10, 27, 83),
        (300, 8, 9, 10, 237, 293),
        (300, 8, 0, 1, 119, 175),
        (65, 8, 0, 1, 2, 58),
        (300, 16, 1, 10, 27, 87),
        (300, 16, 9, 10, 237, 297),
    ],
)
def test_dense_golden_of_tam(n, T, clip, clips, first, last):
    offsets = one_based(dense_offsets(n, T, clip, clips))
    assert (offsets[0], offsets[-1]) == (first, last) and set(np.diff(offsets)) == {64 // T}


@given(N, T, L, st.integers(1, 5))
def test_tins_clips_are_the_middle_and_random_ones(n, T, L, clip):
    def pick(kind, clip):
        return SAMPLINGS[kind].test(ClipSpec(n, T, L, clip, 6, seed=3, video="v")).tolist()

    assert pick("center+random", 0) == center_offsets(n, T, L).tolist()
    assert pick("center+random", clip) == pick("random", clip)
