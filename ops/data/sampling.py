"""Which frames of a video make a clip. Pure functions of numbers, 0-based, numpy only.

``n`` is the number of frames of the video, ``T`` the number of segments, ``L`` the number of consecutive frames taken
in a segment (TDN 5, TSN 1). An offset is the first frame of its segment, and a clip can start at ``n - L + 1`` frames.
The formulas are those of TSN, TSM and TDN (ops/dataset.py of each), less the 1 added there. With ``compat`` they treat
short videos as the originals do; without it such videos spread over their frames as well.
"""

from collections.abc import Sequence
from hashlib import blake2b

import numpy as np

from ops.utils.errors import UserError

TRAIN_SAMPLINGS = ("uniform", "dense")
# The samplings of a test, and their usual numbers of clips.
TEST_SAMPLINGS = {
    "center": 1,
    "random": 10,
    "dense": 10,
    "twice": 2,
    "uniform": 1,
    "caffe": 1,
    "center+random": 10,
}
WINDOW = 64  # frames that a clip of dense sampling spans


def clip_rng(seed: int, epoch: int, video: str, clip: int) -> np.random.Generator:
    """The source of randomness of one clip: a pure function of its arguments, the same in every process.

    ``hash()`` would differ between processes. The 128 bits of a digest are the key of a counter-based generator
    (Philox), so different arguments give independent streams; about 10 us.
    """
    key = blake2b(f"{seed}\0{epoch}\0{clip}\0{video}".encode(), digest_size=16).digest()
    return np.random.Generator(np.random.Philox(key=int.from_bytes(key, "little")))


def train_offsets(
    n: int, T: int, L: int, rng: np.random.Generator, *, compat: bool = False
) -> np.ndarray:
    """Random offsets for training: one in each of T equal segments. ``_sample_indices`` of the originals; TSN section
    3.1.

    Where a segment holds no whole frame, each offset is drawn from its T-th of the starts. ``compat``: sorted draws
    from all starts, or T times 0 if ``n <= T``. Returns int64 ``[T]``, ascending, in ``[0, n)``. Raises ValueError if
    ``n < 1``.
    """
    starts = _starts(n, L)
    duration = starts // T
    if duration > 0:
        return np.arange(T) * duration + rng.integers(duration, size=T)
    if not compat:
        return np.minimum((np.arange(T) + rng.random(T)) * starts / T, starts - 1).astype(np.int64)
    if n > T:
        return np.sort(rng.integers(starts, size=T))
    return np.zeros(T, dtype=np.int64)


def center_offsets(n: int, T: int, L: int, *, compat: bool = False) -> np.ndarray:
    """The middle of each of T equal segments, for validation and one-clip tests. TSM ops/dataset.py
    ``_get_test_indices``.

    ``compat``: T times 0 if ``n <= T + L - 1``, as ``_get_val_indices`` of all originals. Returns int64 ``[T]``,
    ascending, in ``[0, n)``. Raises ValueError if ``n < 1``.
    """
    starts = _starts(n, L)
    if compat and n <= T + L - 1:
        return np.zeros(T, dtype=np.int64)
    tick = starts / T
    return (tick / 2.0 + tick * np.arange(T)).astype(np.int64)


def edge_offsets(n: int, T: int, L: int) -> np.ndarray:
    """The first start of each of T equal segments: the second clip of TSM's ``twice_sample``. Returns int64 ``[T]``,
    ascending, in ``[0, n)``. Raises ValueError if ``n < 1``."""
    return (_starts(n, L) / T * np.arange(T)).astype(np.int64)


def uniform_offsets(
    n: int, T: int, L: int, clip: int, clips: int, *, compat: bool = False
) -> np.ndarray:
    """Number ``clip`` of ``clips`` clips that start at different places of their segments: TAM's ``uniform-M`` (ops/dataset.py
    ``_get_test_indices``). A single one is center_offsets.

    ``compat``: where a segment is shorter than a frame, the last clip starts before the video and takes its end first, as
    there. Returns int64 ``[T]`` in ``[0, n)``. Raises ValueError if ``n < 1``.
    """
    if clips == 1:
        return center_offsets(n, T, L)
    tick = _starts(n, L) / T
    first = int(np.floor(np.linspace(0, tick - 1 if compat else max(0, tick - 1), clips))[clip])
    return (first + tick * np.arange(T)).astype(np.int64) % n


def caffe_offsets(n: int, T: int, L: int) -> np.ndarray:
    """T offsets from the first frame on, a whole number of frames apart, or T times 0 if there are fewer starts than
    that takes: TSN (Caffe) tools/eval_net.py. Returns int64 ``[T]``, ascending, in ``[0, n)``. Raises ValueError if
    ``n < 1``."""
    _check(n)
    return np.arange(T) * max((n - L) // max(T - 1, 1), 0)


def dense_stride(T: int, stride: int | None = None) -> int:
    """The distance of the T frames of a clip of dense sampling: ``stride`` if given, else 64 // T. Raises UserError if
    then ``T > 64``."""
    if stride is not None:
        return stride
    if T > WINDOW:
        raise UserError(
            f"dense sampling spreads at most {WINDOW} segments, not {T}; give fewer --num_segments (in a test, "
            "--test_segments)"
        )
    return WINDOW // T


def dense_train_offsets(
    n: int, T: int, rng: np.random.Generator, *, compat: bool = False, stride: int | None = None
) -> np.ndarray:
    """T frames spread over a random window of 64 (TSM ``dense_sample``, I3D), whatever L is.

    Shorter videos begin anew at their end, so that the offsets are not ascending, as there. ``compat``: the last window
    is never drawn. ``stride``: distance of the frames, whose window is then T times that (TIN ops/dataset.py: 2).
    Returns int64 ``[T]`` in ``[0, n)``. Raises UserError if ``T > 64``, ValueError if ``n < 1``.
    """
    _check(n)
    last = max(0, n - _span(T, stride))
    return _window(n, T, int(rng.integers(max(1, last) if compat else last + 1)), stride)


def dense_offsets(
    n: int, T: int, clip: int, clips: int, *, stride: int | None = None
) -> np.ndarray:
    """T frames spread over a window of 64: number ``clip`` of ``clips`` windows evenly spread over the video (TSM
    ``_get_test_indices``); a single one lies in the middle, where TSM's validation drew it at random.

    ``stride`` as there. Returns int64 ``[T]`` in ``[0, n)``, of short videos as dense_train_offsets. Raises as it does.
    """
    _check(n)
    last = max(0, n - _span(T, stride))
    if clips == 1:
        start = (last + 1) // 2
    else:
        start = int(np.linspace(0, last, clips, dtype=int)[clip])
    return _window(n, T, start, stride)


def test_offsets(
    sampling: str,
    n: int,
    T: int,
    L: int,
    *,
    clip: int,
    clips: int,
    seed: int,
    video: str,
    compat: bool = False,
    stride: int | None = None,
) -> np.ndarray:
    """Offsets of clip number ``clip`` of the ``clips`` of a test, int64 ``[T]`` in ``[0, n)``. ``sampling``:

    "center": center_offsets. "random": the training formula, as TDN tests Kinetics, drawn from (seed, video, clip)
    alone. "dense": dense_offsets. "twice": center_offsets, then edge_offsets. "uniform": uniform_offsets. "caffe":
    caffe_offsets. "center+random": center_offsets for clip 0, the others as "random": TIN test.py, which draws them anew
    in every run. ``stride``: of dense_offsets.
    Raises ValueError for another sampling or if ``n < 1``, UserError as check_sampling does.
    """
    check_sampling(sampling, T, clips=[clip], num_clips=clips)
    if sampling == "random" or (sampling == "center+random" and clip > 0):
        return train_offsets(n, T, L, clip_rng(seed, 0, video, clip), compat=compat)
    if sampling == "dense":
        return dense_offsets(n, T, clip, clips, stride=stride)
    if sampling == "uniform":
        return uniform_offsets(n, T, L, clip, clips, compat=compat)
    if sampling == "caffe":
        return caffe_offsets(n, T, L)
    if clip == 1:
        return edge_offsets(n, T, L)
    return center_offsets(
        n, T, L, compat=compat and sampling == "center"
    )  # TSM's "twice" has no other rule


def check_sampling(
    sampling: str,
    T: int,
    *,
    clips: Sequence[int],
    num_clips: int | None,
    stride: int | None = None,
) -> int:
    """How many clips a test of this sampling has: ``num_clips``, or what is usual if that is None.

    Raises ValueError for another sampling; UserError if it has not so many clips, no clips of the numbers ``clips``, or
    cannot give T frames.
    """
    if sampling not in TEST_SAMPLINGS:
        raise ValueError(f"sampling is {sampling!r}, not one of {', '.join(TEST_SAMPLINGS)}")
    if sampling == "dense":
        dense_stride(T, stride)
    usual = TEST_SAMPLINGS[sampling]
    count = usual if num_clips is None else num_clips
    if count < 1 or (
        count != usual and sampling not in ("dense", "random", "uniform", "center+random")
    ):
        raise UserError(
            f"{sampling} sampling cannot have {count} clips; its usual number is {usual}"
        )
    for clip in clips:
        # A random clip is a function of its own number, not of how many there are.
        if clip < 0 or (clip >= count and "random" not in sampling):
            known = "clip 0 only" if count == 1 else f"clips 0 to {count - 1}"
            raise UserError(
                f"clip {clip}: {sampling} sampling has {known}; give another clip or sampling"
            )
    return count


def frame_indices(offsets: np.ndarray, L: int, n: int) -> np.ndarray:
    """L consecutive frames from each offset, the last frame of the video repeated at its end. Returns int64
    ``[..., T, L]`` in ``[0, n)`` for offsets ``[..., T]``. Raises ValueError if ``n < 1``."""
    _check(n)
    return np.clip(np.asarray(offsets, dtype=np.int64)[..., None] + np.arange(L), 0, n - 1)


def _span(T: int, stride: int | None) -> int:
    """Frames of a window of dense sampling."""
    return WINDOW if stride is None else T * stride


def _window(n: int, T: int, start: int, stride: int | None) -> np.ndarray:
    return (start + np.arange(T) * dense_stride(T, stride)) % n


def _starts(n: int, L: int) -> int:
    _check(n)
    return max(1, n - L + 1)


def _check(n: int) -> None:
    if n < 1:
        raise ValueError(f"a video of {n} frames has none to sample")
