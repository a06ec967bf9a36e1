"""Exact frames from video files through FFmpeg."""

import os
from bisect import bisect_left, bisect_right
from collections import deque
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager, suppress
from itertools import chain, islice, pairwise
from operator import attrgetter
from typing import NamedTuple

import av
import numpy as np
from av.stream import Disposition
from av.video.reformatter import VideoReformatter

from ops.data.readers.base import Opener, Reader, UnreadableVideo, check_file
from ops.data.readers.containers import open_container
from ops.data.readers.orientation import orientation_of
from ops.data.readers.packets import picture_test, shown_in_order
from ops.data.readers.pictures import to_rgb

# What one reader may hold of packets, or of decoded frames, to save a second pass through the file.
KEPT_BYTES = 256 * 2**20

# Elsewhere packets lack exact times (AVI, MPEG-PS), or often hold no picture or two (VP8, packed MPEG-4).
_INDEXED_CONTAINERS = ("mov", "matroska")
_INDEXED_CODECS = ("h264", "hevc", "vp9", "libdav1d")
_REORDERING_CODECS = ("h264", "hevc")
_PROGRESSIVE = 1  # AV_FIELD_PROGRESSIVE
_CONTEXT = 20  # packets; more than the 16 pictures that may wait to be shown


@contextmanager
def _ffmpeg_errors(path: str) -> Iterator[None]:
    try:
        yield
    except av.FFmpegError as error:
        raise UnreadableVideo(path, error.strerror) from None


class _Damaged(Exception):
    """The decoder has met damage."""


class _Index(NamedTuple):
    """What the packets tell of the frames before any is decoded. A position is a place in decoding order."""

    pts: list[int]  # of the packet at each position
    keys: list[int]  # positions where decoding can start
    shown: list[int]  # pts of frame i; ends early where a truncated file leaves the rest unknown
    position: dict[int, int]  # pts of a shown and undamaged packet -> position
    length: int

    def runs(self, wanted: Iterable[int]) -> list[tuple[int, int]]:
        """The stretches ``(first, last)`` of positions to decode for the frames with the pts `wanted`, in order."""
        runs: list[tuple[int, int]] = []
        for first, last in sorted((self._start(pts), self.position[pts]) for pts in wanted):
            if runs and first <= runs[-1][1] + 1:
                runs[-1] = (runs[-1][0], max(runs[-1][1], last))
            else:
                runs.append((first, last))
        return runs

    def _start(self, pts: int) -> int:
        key = bisect_right(self.keys, self.position[pts]) - 1
        while (
            self.pts[self.keys[key]] > pts
        ):  # a leading picture of an open GOP depends on the GOP before, too
            key -= 1
        return self.keys[key]


def _suspect_stretches(pts: list[int], keys: list[int]) -> Iterator[tuple[int, int, set[int]]]:
    """The groups of pictures whose times do not show that any picture is reordered.

    Args:
        pts: of the packet at each position.
        keys: the positions that begin a group.

    Returns:
        Stretches ``(first, end, compared)`` of positions: groups and some packets after them,
        which may be groups of another kind; `compared` are the packets of the groups, without
        the first one of each, counted from `first`.
    """
    first = end = 0
    compared: set[int] = set()
    for start, stop in pairwise([*keys, len(pts)]):
        group = pts[start:stop]
        if len(group) < 2 or any(before > after for before, after in pairwise(group)):
            continue
        if start >= end:
            if compared:
                yield first, end, compared
            first, compared = start, set()
        end = min(stop + _CONTEXT, len(pts))
        compared.update(range(start + 1 - first, stop - first))
    if compared:
        yield first, end, compared


class PyAVReader(Reader):
    """A video file through FFmpeg (PyAV), on one thread, rotated and mirrored as the file says.

    Frame i is the i-th frame of a plain sequential decode. mov, mp4, matroska and webm with H.264, HEVC, VP9 or AV1
    are indexed from their packets, and of those only the ones that the frames asked for depend on are decoded; all
    other files are decoded from the start, and as a whole to count their frames. So are files with packets
    that hold no picture, and files whose times do not give the order in which the decoder puts out the frames.

    A damaged stretch is decoded from the start of the file, too, because what conceals the damage depends on all
    frames before it: a frame has the same pixels however it is read.

    The frames that a truncated mov or mp4 has lost still count, and raise UnreadableVideo when asked for; a truncated
    file of another kind is as long as what is left of it. With `opener`, what it opens is read, and `path` only a name.
    """

    def __init__(self, path: str | os.PathLike, opener: Opener | None = None) -> None:
        super().__init__(path)
        self._opener = opener
        if opener is None:
            check_file(self.path)
        # None, not a level: a decoder that logs to Python while it is freed may wait for the GIL for ever (PyAV #751).
        av.logging.set_level(None)
        self._container = None
        self._is_strict: bool | None = None
        self._packets: list[av.Packet] | None = None
        self._frames: list[av.VideoFrame] | None = None
        self._reformatter = VideoReformatter()
        self._error = ""
        try:
            self._prepare()
        except BaseException:
            self.close()  # or the garbage collector decides how long the file stays open
            raise

    def _prepare(self) -> None:
        with _ffmpeg_errors(self.path):
            self._open()
            self._index = self._read_index()
            self._length = self._index.length if self._index else self._count()
        if not self._length:
            raise UnreadableVideo(self.path, f"no frame can be decoded{self._error}")

    def close(self) -> None:
        self._packets = self._frames = None
        if self._container is not None:
            self._container.close()

    def __len__(self) -> int:
        return self._length

    def _open(self) -> None:
        if self._container is not None:
            self._container.close()
        self._container = open_container(self.path, self._opener)
        self._stream = self._container.streams.best("video")
        if self._stream is None or self._stream.disposition & Disposition.attached_pic:
            raise UnreadableVideo(self.path, "no video stream")
        self._decoder = self._stream.codec_context
        if self._decoder is None:
            raise UnreadableVideo(self.path, "no decoder for its video stream")
        self._decoder.thread_count = 1
        self._decoder.thread_type = "NONE"

    def _demux(self) -> Iterator[av.Packet]:
        # A broken file ends where the demuxer cannot go on. IndexError: streams that appear midway confuse PyAV.
        with suppress(av.FFmpegError, IndexError):
            # To the decoder an empty packet means the end of the stream.
            yield from filter(attrgetter("size"), self._container.demux(self._stream))

    def _all_packets(self, strict: bool = False) -> Iterable[av.Packet]:
        """All packets from the first one on, and a decoder for them.

        Args:
            strict: whether the decoder is to stop at damage, in place of concealing it.
        """
        if self._packets is not None and self._decoder.is_open and self._is_strict == strict:
            return self._packets
        if self._packets is None or self._decoder.is_open:
            self._open()
        self._is_strict = strict
        if strict:
            self._decoder.options = {"err_detect": "explode"}
        return self._demux() if self._packets is None else self._packets

    def _read_index(self) -> _Index | None:
        """The index, keeping the packets if they fit; None if the file must be decoded from the start."""
        family, codec = self._container.format.name.split(",")[0], self._decoder.name
        if family not in _INDEXED_CONTAINERS or codec not in _INDEXED_CODECS:
            return None
        # Two packets may be the fields of one interlaced frame; before 18.1 PyAV does not tell.
        if codec == "h264" and getattr(self._decoder, "field_order", _PROGRESSIVE) != _PROGRESSIVE:
            return None
        is_picture = picture_test(codec, self._decoder.extradata)
        all_pts, keys, shown, position, packets, size = [], [], [], {}, [], 0
        for i, packet in enumerate(self._demux()):
            pts = packet.pts
            if pts is None or (all_pts and pts < all_pts[0]) or not is_picture(packet):
                return None
            all_pts.append(pts)
            if packet.is_keyframe:
                keys.append(i)
            if not packet.is_discard:
                shown.append(pts)
                if not packet.is_corrupt:
                    position[pts] = i
            size += packet.size
            if size > KEPT_BYTES:
                packets = None
            if packets is not None:
                packets.append(packet)
        if not shown or keys[:1] != [0] or len(set(shown)) < len(shown):
            return None
        shown.sort()
        self._packets, length = packets, len(shown)
        if codec in _REORDERING_CODECS and not self._has_display_times(all_pts, keys):
            self._packets = None
            return None
        if family == "mov" and len(self._stream.index_entries) > len(all_pts):
            entries, end = self._stream.index_entries, self._container.size
            lost = [
                entry for entry in entries if entry.pos + entry.size > end and not entry.is_discard
            ]
            if lost:
                length = len(position) + len(lost)
                # A lost frame may come before any frame that is shown later than its packet was due.
                shown = shown[: bisect_left(shown, lost[0].timestamp)]
        return _Index(all_pts, keys, shown, position, length)

    def _has_display_times(self, all_pts: list[int], keys: list[int]) -> bool:
        """Whether the order of the packets' times is the one in which the decoder puts out frames.

        Copied without their times, H.264 and HEVC have times in decoding order. Only groups of
        pictures whose times ascend in a stream that may reorder pictures are suspect.
        """
        if not self._decoder.has_b_frames:
            return True
        stretches = list(_suspect_stretches(all_pts, keys))
        if not stretches:
            return True
        packets = iter(self._all_packets())
        position = 0
        for first, end, compared in stretches:
            stretch = self._whole(islice(packets, first - position, end - position))
            if not shown_in_order(stretch, compared, self._stream):
                return False
            deque(stretch, maxlen=0)  # what damage has left of it
            position = end
        return True

    def _count(self) -> int:
        """Decode the whole file, keeping the frames if they fit."""
        frames, size, number = [], 0, 0
        for frame in self._decode(self._all_packets()):
            number += 1
            size += sum(plane.buffer_size for plane in frame.planes)
            if size > KEPT_BYTES:
                frames = None
            if frames is not None:
                frames.append(frame)
        self._frames = frames
        return number

    def _whole(self, packets: Iterable[av.Packet]) -> Iterator[av.Packet]:
        """The packets that are not cut off by the end of the file."""
        # Where transport streams were joined, a whole packet is flagged for its continuity counter.
        if self._container.format.name == "mpegts":
            return iter(packets)
        return (packet for packet in packets if not packet.is_corrupt)

    def _decode(self, packets: Iterable[av.Packet]) -> Iterator[av.VideoFrame]:
        """The frames of consecutive packets that start at a key, in the order of the decoder."""
        self._decoder.flush_buffers()
        self._decoder.skip_frame = "DEFAULT"
        for packet in chain(self._whole(packets), (None,)):
            try:
                yield from self._decoder.decode(packet)
            except av.FFmpegError as error:
                self._error = f" ({error.strerror})"

    def _decode_run(
        self, packets: Iterable[av.Packet], only: Collection[int], key: int
    ) -> Iterator[av.VideoFrame]:
        """Some frames of consecutive packets.

        Args:
            packets: the packets, the first one a key.
            only: pts of the wanted frames; others may be left out.
            key: pts of the first packet.

        Raises:
            _Damaged: at damage that may show in a frame at or after the key.
        """
        # Of H.264 only: a non-reference picture of HEVC may still serve a higher temporal layer.
        skip = self._decoder.name == "h264"
        self._decoder.flush_buffers()
        self._decoder.skip_frame = "DEFAULT"
        for packet in chain(self._whole(packets), (None,)):
            if packet is not None and skip:
                self._decoder.skip_frame = "DEFAULT" if packet.pts in only else "NONREF"
            try:
                yield from self._decoder.decode(packet)
            except av.FFmpegError:
                # A picture shown before the key may depend on those before the run; no later one depends on it.
                if packet is None or packet.pts >= key:
                    raise _Damaged from None

    def _decode_runs(self, wanted: Collection[int]) -> Iterator[av.VideoFrame]:
        """The frames with the pts `wanted`, and others. Raises _Damaged where one may not be as it should."""
        all_packets = self._all_packets(strict=True)
        packets = iter(all_packets) if self._packets is None else None
        done = 0
        for first, last in self._index.runs(wanted):
            if packets is None:
                run = self._packets[first : last + 1]
            else:
                run = islice(packets, first - done, last + 1 - done)
                done = last + 1
            key = self._index.pts[first]
            clean = key not in self._index.position  # hidden by an edit list or damaged: no telling
            for frame in self._decode_run(run, wanted, key):
                clean |= frame.pts == key
                if not clean:
                    # This key only begins an intra refresh, and what follows depends on frames before it.
                    continue
                is_leading = frame.pts is not None and frame.pts < key
                if frame.is_corrupt and not is_leading:
                    raise _Damaged  # the decoder has concealed that a part of it is missing
                yield frame

    def _decode_undamaged(self, wanted: Iterable[int]) -> Iterator[av.VideoFrame]:
        """Those of the frames with the pts `wanted` that no damage shows in, and others.

        A non-reference picture is decoded only if it is wanted, and damage in it may show in what
        comes after it. So where a run of several frames meets damage, each is tried on its own:
        what a frame is like does not depend on what else is wanted.
        """
        groups = [set(wanted)]
        while groups:
            group = groups.pop()
            missing = set(group)
            try:
                for frame in self._decode_runs(group):
                    missing.discard(frame.pts)
                    yield frame
            except _Damaged:
                self._is_strict = None  # not even a flush makes this decoder as good as new
                if not missing or len(group) == 1:
                    continue
                first, last = self._index.runs(missing)[0]
                damaged = {pts for pts in missing if first <= self._index.position[pts] <= last}
                if missing != damaged:
                    groups.append(missing - damaged)
                groups.extend({pts} for pts in damaged)

    def _name(self, index: int) -> int:
        """What tells frame `index` from the others while decoding: its pts, or without an index its number."""
        if self._index is None:
            return index
        shown = self._index.shown
        if index >= len(shown) or shown[index] not in self._index.position:
            raise UnreadableVideo(self.path, f"frame {index} is missing: the file is truncated")
        return shown[index]

    def _passes(self, rows: dict[int, int]) -> Iterator[Iterable[tuple[int, av.VideoFrame]]]:
        if self._index is None:
            yield enumerate(self._frames or self._decode(self._all_packets()))
        else:
            yield ((frame.pts, frame) for frame in self._decode_undamaged(rows))
            # What a start at a key withholds or finds damaged, a decode from the first packet may still give.
            yield ((frame.pts, frame) for frame in self._decode(self._all_packets()))

    def decode(self, wanted: list[int]) -> np.ndarray:
        rows = {self._name(index): row for row, index in enumerate(wanted)}
        left, frames = dict(rows), None
        with _ffmpeg_errors(self.path):
            for name, frame in chain.from_iterable(self._passes(rows)):
                row = left.pop(name, None)
                if row is None:
                    continue
                image = self._image(frame)
                if frames is None:
                    frames = np.empty((len(wanted), *image.shape), np.uint8)
                elif image.shape != frames.shape[1:]:
                    raise UnreadableVideo(
                        self.path, f"the frame size changes at or before frame {wanted[row]}"
                    )
                frames[row] = image
                if not left:
                    return frames
        raise UnreadableVideo(
            self.path, f"frame {wanted[min(left.values())]} cannot be decoded{self._error}"
        )

    def _image(self, frame: av.VideoFrame) -> np.ndarray:
        """uint8 ``[H, W, 3]``, a view of memory that FFmpeg owns."""
        return orientation_of(frame).apply(to_rgb(frame, self._reformatter))
