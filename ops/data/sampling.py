"""Which frames of a video make a clip. Pure functions of numbers, 0-based, numpy only.

``n`` is the number of frames of the video, ``T`` the number of segments, ``L`` the number of consecutive frames taken
in a segment (TDN 5, TSN 1). An offset is the first frame of its segment. The formulas are those of TDN ops/dataset.py,
which for ``L = 1`` are those of TSN and TSM (training, and validation with uniform sampling), less the 1 added there.
"""

from hashlib import blake2b

import numpy as np


def clip_rng(seed: int, epoch: int, video: str, clip: int) -> np.random.Generator:
    """The source of randomness of one clip: a pure function of its arguments, the same in every process.

    ``hash()`` would differ between processes. The 128 bits of a digest are the key of a counter-based generator
    (Philox), so different arguments give independent streams; about 10 us.
    """
    key = blake2b(f"{seed}\0{epoch}\0{clip}\0{video}".encode(), digest_size=16).digest()
    return np.random.Generator(np.random.Philox(key=int.from_bytes(key, "little")))


def train_offsets(n: int, T: int, L: int, rng: np.random.Generator) -> np.ndarray:
    """Random offsets for training: one in each of T equal segments. TDN ops/dataset.py ``_sample_indices``; TSN
    section 3.1.

    Videos too short for segments give sorted random offsets, or T times 0 if ``n <= T``. Returns int64 ``[T]`` in
    ``[0, n)``. Raises ValueError if ``n < 1``.
    """
    _check(n)
    starts = n - L + 1
    if starts < T:
        starts = n - 5 + 1  # TDN's constant, whatever L is
    duration = starts // T
    if duration > 0:
        return np.arange(T) * duration + rng.integers(duration, size=T)
    if n > T:
        return np.sort(rng.integers(max(starts, 1), size=T))
    return np.zeros(T, dtype=np.int64)


def center_offsets(n: int, T: int, L: int) -> np.ndarray:
    """The middle of each of T equal segments, for validation and one-clip tests. TDN ops/dataset.py
    ``_get_val_indices``.

    Videos with ``n <= T + L - 1`` give T times 0, as there. Returns int64 ``[T]`` in ``[0, n)``. Raises ValueError if
    ``n < 1``.
    """
    _check(n)
    if n <= T + L - 1:
        return np.zeros(T, dtype=np.int64)
    tick = (n - L + 1) / T
    return (tick / 2.0 + tick * np.arange(T)).astype(np.int64)


def random_clip_offsets(n: int, T: int, L: int, *, seed: int, video: str, clip: int) -> np.ndarray:
    """Offsets of clip number ``clip`` of a many-clip test (Kinetics): the training formula, as in TDN ops/dataset.py
    ``_get_test_indices``, drawn from ``(seed, video, clip)`` alone. Returns int64 ``[T]`` in ``[0, n)``."""
    return train_offsets(n, T, L, clip_rng(seed, 0, video, clip))


def frame_indices(offsets: np.ndarray, L: int, n: int) -> np.ndarray:
    """L consecutive frames from each offset, the last frame of the video repeated at its end. Returns int64 ``[T, L]``
    in ``[0, n)``. Raises ValueError if ``n < 1``."""
    _check(n)
    return np.clip(np.asarray(offsets, dtype=np.int64)[:, None] + np.arange(L), 0, n - 1)


def _check(n: int) -> None:
    if n < 1:
        raise ValueError(f"a video of {n} frames has none to sample")
