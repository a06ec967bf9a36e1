"""The index of a video: its frames and what they depend on, from packets that are not decoded."""

from bisect import bisect_right
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from itertools import pairwise
from typing import NamedTuple

import av
from av.index import IndexEntry
from av.video.stream import VideoStream

# Packets after a stretch that are inspected with it: more than the 16 pictures that a decoder may
# hold back.
_CONTEXT = 20


class PacketIndex(NamedTuple):
    """The frames of a video in terms of its packets.

    A position is the number of a packet in decoding order. A time is a presentation timestamp
    (pts), in units of the stream's time base; it identifies a frame.

    Attributes:
        pts: the time of the packet at each position.
        keys: positions of the keyframes, where decoding can start.
        display_pts: the time of each frame in display order. Shorter than `length` if a truncated
            file does not contain the times of the last frames.
        position: time of a displayed, undamaged packet -> its position.
        length: number of frames.
    """

    pts: list[int]
    keys: list[int]
    display_pts: list[int]
    position: dict[int, int]
    length: int

    def runs(self, wanted: Iterable[int]) -> list[tuple[int, int]]:
        """The packets to decode for some frames.

        Args:
            wanted: times of the frames.

        Returns:
            Runs ``(first, last)`` of positions, ascending and disjoint. Each begins at a key.
        """
        runs: list[tuple[int, int]] = []
        for first, last in sorted((self._start(pts), self.position[pts]) for pts in wanted):
            if runs and first <= runs[-1][1] + 1:
                previous_first, previous_last = runs[-1]
                runs[-1] = (previous_first, max(previous_last, last))
            else:
                runs.append((first, last))
        return runs

    def _start(self, pts: int) -> int:
        """The position of the key at which decoding must start for a frame."""
        key = bisect_right(self.keys, self.position[pts]) - 1
        # A picture that is displayed before its key (open GOP) depends on the group before as well.
        while self.pts[self.keys[key]] > pts:
            key -= 1
        return self.keys[key]


def index_packets(
    packets: Iterable[av.Packet], is_picture: Callable[[av.Packet], bool]
) -> PacketIndex | None:
    """Index a stream by its packets.

    Args:
        packets: all packets of the stream.
        is_picture: whether a packet begins a picture that is displayed (packets.picture_test).

    Returns:
        The index; None if the packets do not determine the frames.
    """
    all_pts: list[int] = []
    keys: list[int] = []
    display_pts: list[int] = []
    position: dict[int, int] = {}
    for number, packet in enumerate(packets):
        pts = packet.pts
        if pts is None or not is_picture(packet):
            return None
        all_pts.append(pts)
        if pts < all_pts[0]:
            return None
        if packet.is_keyframe:
            keys.append(number)
        if packet.is_discard:  # hidden by an edit list
            continue
        display_pts.append(pts)
        if not packet.is_corrupt:
            position[pts] = number
    begins_with_key = keys[:1] == [0]
    has_equal_times = len(set(display_pts)) < len(display_pts)
    if not display_pts or not begins_with_key or has_equal_times:
        return None
    display_pts.sort()
    return PacketIndex(all_pts, keys, display_pts, position, len(display_pts))


def lost_entries(stream: VideoStream, end: int) -> list[IndexEntry]:
    """The entries of the table of a mov or mp4 whose data a truncated file has lost.

    Args:
        stream: the video stream.
        end: size of the file in bytes.
    """
    entries = stream.index_entries
    return [entry for entry in entries if entry.pos + entry.size > end and not entry.is_discard]


@dataclass
class Stretch:
    """Consecutive packets whose display order is to be verified.

    Attributes:
        first, end: positions, `end` excluded.
        compared: the packets to compare with the one before them, counted from `first`.
    """

    first: int
    end: int
    compared: set[int] = field(default_factory=set)


def suspect_stretches(index: PacketIndex) -> list[Stretch]:
    """The groups of pictures whose times do not show that any picture is reordered.

    Files that were copied without their timestamps have times in decoding order, which is wrong if
    the encoder reorders pictures. Some packets after each group are part of its stretch.
    """
    stretches: list[Stretch] = []
    end = len(index.pts)
    for start, stop in pairwise([*index.keys, end]):
        group = index.pts[start:stop]
        ascends = all(before <= after for before, after in pairwise(group))
        if len(group) < 2 or not ascends:
            continue
        if not stretches or start >= stretches[-1].end:
            stretches.append(Stretch(start, stop))
        stretch = stretches[-1]
        stretch.end = min(stop + _CONTEXT, end)
        # The first packet of a group is a key, which nothing of the group precedes.
        stretch.compared.update(range(start + 1 - stretch.first, stop - stretch.first))
    return stretches
