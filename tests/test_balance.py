import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from ops.data.balance import balanced_order
from ops.data.loader import TrainSampler


def order_of(labels, seed=0):
    return balanced_order(labels, np.random.default_rng(seed))


@given(labels=st.lists(st.integers(0, 9), min_size=1, max_size=60), seed=st.integers(0, 3))
def test_classes_and_their_videos_occur_equally_often(labels, seed):
    labels = np.array(labels)
    positions, repeats = order_of(labels, seed)
    assert len(positions) == len(repeats) == len(labels)
    classes = np.unique(labels)
    of_class = np.bincount(labels[positions], minlength=10)[classes]
    assert np.ptp(of_class) <= 1
    times = np.bincount(positions, minlength=len(labels))
    for label in classes:
        assert np.ptp(times[labels == label]) <= 1
    for position in np.unique(positions):  # the repeats of a video are 0, 1, 2, ...
        own = np.sort(repeats[positions == position])
        assert own.tolist() == list(range(times[position]))


def test_the_order_is_random_and_a_function_of_the_draws():
    labels = np.repeat([0, 1, 2], [90, 9, 1])
    first, again, other = (order_of(labels, seed)[0] for seed in (0, 0, 1))
    assert np.array_equal(first, again) and not np.array_equal(first, other)
    assert len(set(labels[first][:10])) > 1  # classes are mixed
    assert set(first[labels[first] == 0]) != set(other[labels[other] == 0])


def keys_of(labels, start=0, **options):
    sampler = TrainSampler(len(labels), 2, seed=5, balanced_labels=labels, **options)
    sampler.set_epoch(3, start)
    return list(sampler)


def test_processes_share_one_balanced_order():
    labels = np.repeat([0, 1], [11, 2])
    whole = keys_of(labels)
    parts = [keys_of(labels, rank=rank, world_size=2) for rank in range(2)]
    assert len(parts[0]) == len(parts[1]) == 6
    together = [key for pair in zip(*parts, strict=True) for key in pair]
    assert together == whole[:12]
    assert {epoch for epoch, _, _ in whole} == {3}
    assert len(set(whole)) == len(whole)  # no clip twice
    assert keys_of(labels, start=4) == whole[4:]
