"""Exact frames from video files through FFmpeg."""

import os
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from itertools import chain, islice
from operator import attrgetter
from typing import BinaryIO, NamedTuple

import av
import numpy as np
from av.stream import Disposition
from av.video.reformatter import VideoReformatter

from ops.data.reader_base import Reader, UnreadableVideo, check_file

# What one reader may hold of packets, or of decoded frames, to save a second pass through the file.
KEPT_BYTES = 256 * 2**20

# Elsewhere packets lack exact times (AVI, MPEG-PS), or hold no picture or two (VP8, packed MPEG-4).
_INDEXED_CONTAINERS = ("mov", "matroska")
_INDEXED_CODECS = ("h264", "hevc", "vp9", "libdav1d")
_PROGRESSIVE = 1  # AV_FIELD_PROGRESSIVE


@contextmanager
def _ffmpeg_errors(path: str) -> Iterator[None]:
    try:
        yield
    except av.FFmpegError as error:
        raise UnreadableVideo(path, error.strerror) from None


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


class PyAVReader(Reader):
    """A video file through FFmpeg (PyAV), on one thread, rotated as the file says.

    Frame i is the i-th frame of a plain sequential decode. mov, mp4, matroska and webm with H.264, HEVC, VP9 or AV1
    are indexed from their packets, and of those only the ones that the frames asked for depend on are decoded; all
    other files are decoded from the start, and as a whole to count their frames.

    The frames that a truncated mov or mp4 has lost still count, and raise UnreadableVideo when asked for; a truncated
    file of another kind is as long as what is left of it. With `file`, what it opens is read, and `path` only a name.
    """

    def __init__(self, path: str | os.PathLike, file: Callable[[], BinaryIO] | None = None) -> None:
        super().__init__(path)
        self._file = file
        if file is None:
            check_file(self.path)
        # None, not a level: a decoder that logs to Python while it is freed may wait for the GIL for ever (PyAV #751).
        av.logging.set_level(None)
        self._container = None
        self._packets: list[av.Packet] | None = None
        self._frames: list[av.VideoFrame] | None = None
        self._reformatter = VideoReformatter()
        self._error = ""
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
        # "file:" because FFmpeg would take what stands before a colon in the name for a protocol.
        self._container = av.open(
            self._file() if self._file else f"file:{self.path}", metadata_errors="replace"
        )
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

    def _all_packets(self) -> Iterable[av.Packet]:
        if self._packets is not None:
            return self._packets
        self._open()
        return self._demux()

    def _read_index(self) -> _Index | None:
        """The index, keeping the packets if they fit; None if the file must be decoded from the start."""
        family, codec = self._container.format.name.split(",")[0], self._decoder.name
        if family not in _INDEXED_CONTAINERS or codec not in _INDEXED_CODECS:
            return None
        # Two packets may be the fields of one interlaced frame; before 18.1 PyAV does not tell.
        if codec == "h264" and getattr(self._decoder, "field_order", _PROGRESSIVE) != _PROGRESSIVE:
            return None
        all_pts, keys, shown, position, packets, size = [], [], [], {}, [], 0
        for i, packet in enumerate(self._demux()):
            pts = packet.pts
            if pts is None or (all_pts and pts < all_pts[0]):
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

    def _decode(
        self, packets: Iterable[av.Packet], only: dict[int, int] | None = None
    ) -> Iterator[av.VideoFrame]:
        """The frames of consecutive packets that start at a key; with `only`, frames of other pts may be left out."""
        # Of H.264 only: a non-reference picture of HEVC may still serve a higher temporal layer.
        skip = only is not None and self._decoder.name == "h264"
        self._decoder.flush_buffers()
        self._decoder.skip_frame = "DEFAULT"
        for packet in chain(packets, (None,)):
            if packet is not None:
                if packet.is_corrupt:
                    continue
                if skip:
                    self._decoder.skip_frame = "DEFAULT" if packet.pts in only else "NONREF"
            try:
                yield from self._decoder.decode(packet)
            except av.FFmpegError as error:
                self._error = f" ({error.strerror})"

    def _decode_runs(self, rows: dict[int, int]) -> Iterator[av.VideoFrame]:
        packets = iter(self._all_packets()) if self._packets is None else None
        done = 0
        for first, last in self._index.runs(rows):
            if packets is None:
                run = self._packets[first : last + 1]
            else:
                run = islice(packets, first - done, last + 1 - done)
                done = last + 1
            key = self._index.pts[first]
            clean = key not in self._index.position  # hidden by an edit list or damaged: no telling
            for frame in self._decode(run, only=rows):
                clean |= frame.pts == key
                if clean:  # else this key only begins an intra refresh, and what follows depends on frames before it
                    yield frame

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
            yield ((frame.pts, frame) for frame in self._decode_runs(rows))
            # What a start at a key withholds, a decode from the first packet may still give.
            yield ((frame.pts, frame) for frame in self._decode(self._all_packets()))

    def _read(self, wanted: list[int]) -> np.ndarray:
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
        rgb = self._reformatter.reformat(frame, format="rgb24", threads=1)
        plane = rgb.planes[0]
        lines = np.frombuffer(plane, np.uint8).reshape(rgb.height, plane.line_size)
        image = lines[:, : rgb.width * 3].reshape(rgb.height, rgb.width, 3)
        return np.rot90(image, round(frame.rotation / 90))
