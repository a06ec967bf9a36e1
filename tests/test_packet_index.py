"""Which packets a frame needs, and where the display order is uncertain."""

from fractions import Fraction

import av
import pytest

from ops.data.readers.packet_index import PacketIndex, Stretch, index_packets, suspect_stretches


def packet(pts, key=False):
    made = av.Packet(b"0")
    made.pts = pts
    made.time_base = Fraction(1, 25)
    made.is_keyframe = key
    return made


def index_of(pts, keys):
    positions = {time: position for position, time in enumerate(pts)}
    return PacketIndex(pts, keys, sorted(pts), positions, len(pts))


def test_runs_leave_out_what_no_wanted_frame_needs():
    # Two groups, the second one open: its pictures 4 and 5 are displayed before its key 6.
    index = index_of([0, 2, 1, 3, 6, 4, 5, 8, 7], keys=[0, 4])
    assert index.runs([1]) == [(0, 2)]
    assert index.runs([7]) == [(4, 8)]
    assert index.runs([1, 7]) == [(0, 2), (4, 8)]
    assert index.runs([3, 6]) == [(0, 4)]
    assert index.runs([5]) == [(0, 6)]
    assert index.runs([8, 4]) == [(0, 7)]


def test_index_of_packets():
    packets = [packet(0, key=True), packet(2), packet(1), packet(3, key=True)]
    index = index_packets(packets, lambda packet: True)
    assert index == PacketIndex([0, 2, 1, 3], [0, 3], [0, 1, 2, 3], {0: 0, 2: 1, 1: 2, 3: 3}, 4)


@pytest.mark.parametrize(
    "packets",
    [
        [],
        [packet(0)],
        [packet(0, key=True), packet(None)],
        [packet(1, key=True), packet(0)],
        [packet(0, key=True), packet(1), packet(1)],
    ],
)
def test_packets_that_do_not_determine_the_frames(packets):
    assert index_packets(packets, lambda packet: True) is None


def test_packets_without_a_picture_are_not_indexed():
    assert index_packets([packet(0, key=True)], lambda packet: False) is None


def test_stretches_are_groups_in_decoding_order():
    reordered = [0, 2, 1, 3]
    ascending = [10, 11, 12]
    index = index_of(reordered + ascending + [100, 101], keys=[0, 4, 7])
    assert suspect_stretches(index) == [Stretch(4, 9, {1, 2, 4})]
    assert suspect_stretches(index_of(reordered, keys=[0])) == []
