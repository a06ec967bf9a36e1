"""Which frames of a video make a clip: pure functions of numbers, 0-based, numpy only.

``n`` is the number of frames of the video, ``T`` the number of segments and ``L`` the number of
consecutive frames of a segment (TDN 5, TSN 1). An offset is the first frame of its segment, and a
segment can start at ``n - L + 1`` frames. The formulas are those of TSN, TSM, TAM and TDN
(ops/dataset.py of each), less the 1 added there. With ``compat`` they sample short videos as the
originals do; without it such videos are spread over all their frames.

A new sampling rule is a function and an entry of :data:`SAMPLINGS`.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from hashlib import blake2b

import numpy as np

from ops.utils.errors import UserError

WINDOW = 64  # frames that a clip of dense sampling spans


def clip_rng(seed: int, epoch: int, video: str, clip: int) -> np.random.Generator:
    """The random generator of one clip: a pure function of its arguments, in every process.

    ``hash()`` would differ between processes. The 128 bits of a digest are the key of a
    counter-based generator (Philox), so different arguments give independent streams. It takes
    about 10 us.
    """
    key = blake2b(f"{seed}\0{epoch}\0{clip}\0{video}".encode(), digest_size=16).digest()
    return np.random.Generator(np.random.Philox(key=int.from_bytes(key, "little")))


def train_offsets(
    n: int, T: int, L: int, rng: np.random.Generator, *, compat: bool = False
) -> np.ndarray:
    """One random offset in each of T equal segments, for training.

    Where a segment has no whole frame, each offset is drawn from its T-th of the starts.
    Source: TSN section 3.1, ``_sample_indices`` of the originals.

    Args:
        n, T, L: see the module.
        rng: random generator.
        compat: for short videos take sorted draws from all starts, or T times 0 if ``n <= T``.

    Returns:
        int64 ``[T]``, ascending, in ``[0, n)``.

    Raises:
        ValueError: ``n < 1``.
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
    """The middle of each of T equal segments, for validation and one-clip tests.

    Source: TSM ops/dataset.py ``_get_test_indices``.

    Args:
        n, T, L: see the module.
        compat: T times 0 if ``n <= T + L - 1``, as ``_get_val_indices`` of all originals.

    Returns:
        int64 ``[T]``, ascending, in ``[0, n)``.

    Raises:
        ValueError: ``n < 1``.
    """
    starts = _starts(n, L)
    if compat and n <= T + L - 1:
        return np.zeros(T, dtype=np.int64)
    tick = starts / T
    return (tick / 2.0 + tick * np.arange(T)).astype(np.int64)


def edge_offsets(n: int, T: int, L: int) -> np.ndarray:
    """The first start of each of T equal segments: the second clip of TSM's ``twice_sample``.

    Returns int64 ``[T]``, ascending, in ``[0, n)``. Raises ValueError if ``n < 1``.
    """
    return (_starts(n, L) / T * np.arange(T)).astype(np.int64)


def uniform_offsets(
    n: int, T: int, L: int, clip: int, clips: int, *, compat: bool = False
) -> np.ndarray:
    """One of several clips that start at different places of their segments: TAM's ``uniform-M``.

    A single clip is :func:`center_offsets`. Source: TAM ops/dataset.py ``_get_test_indices``.

    Args:
        n, T, L: see the module.
        clip: number of the clip, from 0.
        clips: number of clips.
        compat: where a segment is shorter than a frame, the last clip starts before the video and
            takes the end of the video first, as there.

    Returns:
        int64 ``[T]`` in ``[0, n)``.

    Raises:
        ValueError: ``n < 1``.
    """
    if clips == 1:
        return center_offsets(n, T, L)
    tick = _starts(n, L) / T
    last = tick - 1 if compat else max(0, tick - 1)
    first = int(np.floor(np.linspace(0, last, clips))[clip])
    return (first + tick * np.arange(T)).astype(np.int64) % n


def caffe_offsets(n: int, T: int, L: int) -> np.ndarray:
    """T offsets from the first frame on, a whole number of frames apart.

    T times 0 if there are fewer starts than that takes. Source: TSN (Caffe) tools/eval_net.py.
    Returns int64 ``[T]``, ascending, in ``[0, n)``. Raises ValueError if ``n < 1``.
    """
    _check(n)
    return np.arange(T) * max((n - L) // max(T - 1, 1), 0)


def dense_stride(T: int, stride: int | None = None) -> int:
    """The distance of the T frames of a clip of dense sampling.

    Args:
        T: number of segments.
        stride: the distance, where a module sets it; None: ``64 // T``.

    Raises:
        UserError: without a stride, if ``T > 64``.
    """
    if stride is not None:
        return stride
    if T > WINDOW:
        raise UserError(
            f"dense sampling spreads at most {WINDOW} segments, not {T}; give fewer "
            "--num_segments (in a test, --test_segments)"
        )
    return WINDOW // T


def dense_train_offsets(
    n: int, T: int, rng: np.random.Generator, *, compat: bool = False, stride: int | None = None
) -> np.ndarray:
    """T frames spread over a random window of 64 frames, whatever L is.

    Shorter videos start again at their end, so their offsets are not ascending, as in TSM's
    ``dense_sample`` (from I3D).

    Args:
        n, T: see the module.
        rng: random generator.
        compat: never draw the last window.
        stride: distance of the frames; the window is then T times that (TIN ops/dataset.py: 2).

    Returns:
        int64 ``[T]`` in ``[0, n)``.

    Raises:
        UserError: without a stride, if ``T > 64``.
        ValueError: ``n < 1``.
    """
    _check(n)
    last = max(0, n - _span(T, stride))
    windows = max(1, last) if compat else last + 1
    return _window(n, T, int(rng.integers(windows)), stride)


def dense_offsets(
    n: int, T: int, clip: int, clips: int, *, stride: int | None = None
) -> np.ndarray:
    """T frames spread over one of several windows of 64 frames, which are spread over the video.

    A single window lies in the middle, where TSM's validation drew it at random.
    Source: TSM ``_get_test_indices``.

    Args:
        n, T: see the module.
        clip: number of the window, from 0.
        clips: number of windows.
        stride: see :func:`dense_train_offsets`.

    Returns and raises what :func:`dense_train_offsets` does.
    """
    _check(n)
    last = max(0, n - _span(T, stride))
    if clips == 1:
        start = (last + 1) // 2
    else:
        start = int(np.linspace(0, last, clips, dtype=int)[clip])
    return _window(n, T, start, stride)


def frame_indices(offsets: np.ndarray, L: int, n: int) -> np.ndarray:
    """L consecutive frames from each offset; the last frame of the video is repeated at its end.

    Args:
        offsets: int64 ``[..., T]``.
        L, n: see the module.

    Returns:
        int64 ``[..., T, L]`` in ``[0, n)``.

    Raises:
        ValueError: ``n < 1``.
    """
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


@dataclass(frozen=True)
class ClipSpec:
    """One clip of a test, as a sampling rule sees it.

    Attributes:
        n, T, L: see the module.
        index: number of the clip, from 0.
        count: number of clips of the test.
        seed: seed of the run.
        video: id of the video.
        compat: whether short videos are sampled as the originals do.
        stride: distance of the frames of a dense clip, where a module sets it.
    """

    n: int
    T: int
    L: int
    index: int
    count: int
    seed: int = 0
    video: str = ""
    compat: bool = False
    stride: int | None = None


@dataclass(frozen=True)
class Sampling:
    """A sampling rule: an entry of :data:`SAMPLINGS`.

    Attributes:
        help: words for ``--help``.
        train: ``(n, T, L, rng, *, compat, stride) -> int64 [T]``, the offsets of a training clip;
            None for a rule that is for tests only.
        train_help: what the rule does in training.
        validation: the rule by which a training with this one is validated.
        test: ``ClipSpec -> int64 [T]``, the offsets of a clip of a test; None for a rule that is
            for training only.
        num_clips: usual number of clips of a test.
        any_num_clips: whether a test can have another number of clips.
        independent_clips: whether a clip depends on its own number and not on how many there are,
            so that a run scores a single one unless flags say otherwise.
        uses_window: whether T frames are taken from a window (``dense_stride``).
    """

    help: str = ""
    train: Callable[..., np.ndarray] | None = None
    train_help: str = ""
    validation: str = "center"
    test: Callable[[ClipSpec], np.ndarray] | None = None
    num_clips: int = 1
    any_num_clips: bool = False
    independent_clips: bool = False
    uses_window: bool = False

    def clips_per_run(self, num_clips: int | None) -> int:
        """Clips that a run scores unless a flag names one, out of ``num_clips`` (None: usual)."""
        if num_clips is not None:
            return num_clips
        return 1 if self.independent_clips else self.num_clips


def _train_uniform(n, T, L, rng, *, compat, stride):
    return train_offsets(n, T, L, rng, compat=compat)


def _train_dense(n, T, L, rng, *, compat, stride):
    return dense_train_offsets(n, T, rng, compat=compat, stride=stride)


def _test_center(clip):
    return center_offsets(clip.n, clip.T, clip.L, compat=clip.compat)


def _test_random(clip):
    """The training formula, as TDN tests Kinetics, drawn from seed, video and clip alone."""
    rng = clip_rng(clip.seed, 0, clip.video, clip.index)
    return train_offsets(clip.n, clip.T, clip.L, rng, compat=clip.compat)


def _test_dense(clip):
    return dense_offsets(clip.n, clip.T, clip.index, clip.count, stride=clip.stride)


def _test_twice(clip):
    """TSM's ``twice_sample``, which has no other rule for short videos."""
    if clip.index == 1:
        return edge_offsets(clip.n, clip.T, clip.L)
    return center_offsets(clip.n, clip.T, clip.L)


def _test_uniform(clip):
    return uniform_offsets(clip.n, clip.T, clip.L, clip.index, clip.count, compat=clip.compat)


def _test_caffe(clip):
    return caffe_offsets(clip.n, clip.T, clip.L)


def _test_center_and_random(clip):
    """TIN test.py, which draws the random clips anew in every run."""
    if clip.index == 0:
        return center_offsets(clip.n, clip.T, clip.L)
    return _test_random(clip)


SAMPLINGS = {
    "uniform": Sampling(
        help="clips that start at different places of their segments (TAM)",
        train=_train_uniform,
        train_help="one random frame of each of T equal parts",
        test=_test_uniform,
        any_num_clips=True,
    ),
    "dense": Sampling(
        help=f"clips of {WINDOW} frames spread over the video (TSM)",
        train=_train_dense,
        train_help=f"T frames of a random window of {WINDOW}",
        validation="dense",
        test=_test_dense,
        num_clips=10,
        any_num_clips=True,
        uses_window=True,
    ),
    "center": Sampling(help="one clip, the middle of each segment", test=_test_center),
    "random": Sampling(
        help="clip K is drawn from (seed, video, K) (TDN)",
        test=_test_random,
        num_clips=10,
        any_num_clips=True,
        independent_clips=True,
    ),
    "twice": Sampling(
        help="the middle and the start of each segment (TSM)", test=_test_twice, num_clips=2
    ),
    "caffe": Sampling(
        help="one clip, a whole number of frames apart (Caffe TSN)", test=_test_caffe
    ),
    "center+random": Sampling(
        help="center, then random clips (TIN)",
        test=_test_center_and_random,
        num_clips=10,
        any_num_clips=True,
        independent_clips=True,
    ),
}


def samplings_for_training() -> dict[str, Sampling]:
    """The entries of :data:`SAMPLINGS` for training, by name."""
    return {name: entry for name, entry in SAMPLINGS.items() if entry.train}


def samplings_for_tests() -> dict[str, Sampling]:
    """The entries of :data:`SAMPLINGS` for tests, by name."""
    return {name: entry for name, entry in SAMPLINGS.items() if entry.test}


def check_train_sampling(name: str, T: int, stride: int | None = None) -> Sampling:
    """The entry of a sampling rule for training.

    Args:
        name: key of :data:`SAMPLINGS`.
        T: number of segments.
        stride: distance of the frames of a dense clip, where a module sets it.

    Raises:
        ValueError: there is no such rule for training.
        UserError: it cannot give T frames.
    """
    return _checked(name, samplings_for_training(), T, stride)


def check_test_sampling(
    name: str,
    T: int,
    *,
    clips: Sequence[int],
    num_clips: int | None,
    stride: int | None = None,
) -> int:
    """How many clips a test by a sampling rule has: ``num_clips``, or the usual number if None.

    Args:
        name: key of :data:`SAMPLINGS`.
        T: number of segments.
        clips: numbers of the clips that are to be scored.
        num_clips: number of clips of the test, or None.
        stride: distance of the frames of a dense clip, where a module sets it.

    Raises:
        ValueError: there is no such rule for tests.
        UserError: the rule has not so many clips or no such clip, or cannot give T frames.
    """
    entry = _checked(name, samplings_for_tests(), T, stride)
    count = entry.num_clips if num_clips is None else num_clips
    if count < 1 or (count != entry.num_clips and not entry.any_num_clips):
        raise UserError(
            f"{name} sampling cannot have {count} clips; its usual number is {entry.num_clips}"
        )
    for clip in clips:
        if clip < 0 or (clip >= count and not entry.independent_clips):
            known = "clip 0 only" if count == 1 else f"clips 0 to {count - 1}"
            raise UserError(
                f"clip {clip}: {name} sampling has {known}; give another clip or sampling"
            )
    return count


def _checked(name: str, entries: dict[str, Sampling], T: int, stride: int | None) -> Sampling:
    if name not in entries:
        raise ValueError(f"sampling is {name!r}, not one of {', '.join(entries)}")
    if entries[name].uses_window:
        dense_stride(T, stride)
    return entries[name]
