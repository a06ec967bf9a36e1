"""Exact frames of video files through FFmpeg (PyAV)."""

import os
from bisect import bisect_left
from collections import deque
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager, suppress
from fractions import Fraction
from itertools import chain, islice

import av
import numpy as np
from av.stream import Disposition
from av.video.reformatter import VideoReformatter

from ops.data.readers.base import Opener, Reader, UnreadableVideo, check_file
from ops.data.readers.containers import open_container
from ops.data.readers.orientation import orientation_of
from ops.data.readers.packet_index import (
    PacketIndex,
    index_packets,
    lost_entries,
    suspect_stretches,
)
from ops.data.readers.packets import is_in_display_order, picture_test
from ops.data.readers.rgb import to_rgb

# The bytes of packets, or of decoded frames, that a reader may hold to avoid a second pass through
# the file.
KEPT_BYTES = 256 * 2**20

# Packets of other containers lack exact times (AVI, MPEG-PS), and those of other codecs often hold
# no picture or two (VP8, packed MPEG-4).
_INDEXED_CONTAINERS = ("mov", "matroska")
_INDEXED_CODECS = ("h264", "hevc", "vp9", "libdav1d")
_REORDERING_CODECS = ("h264", "hevc")
_PROGRESSIVE = 1  # AV_FIELD_PROGRESSIVE
_DEFAULT_RATE = Fraction(25)


class _Damaged(Exception):
    """The decoder has reported damage."""


class PyAVReader(Reader):
    """A video file through FFmpeg, on one thread, rotated and mirrored as its metadata require.

    Frame i is the i-th frame of a sequential decode of the whole file. How it is found:

    * mov, mp4, matroska and webm with H.264, HEVC, VP9 or AV1 are indexed by their packets. Only
      the packets that the requested frames depend on are decoded.
    * All other files are decoded from the start, and as a whole to count their frames. So are files
      with packets that hold no picture, and files whose times do not give the display order.
    * Damaged stretches are decoded from the start as well: what conceals the damage depends on all
      frames before it. So a frame has the same pixels whatever is requested with it.

    The frames that a truncated mov or mp4 has lost still count, and requesting one raises
    UnreadableVideo. A truncated file of another kind ends where its data end.

    Attributes:
        is_indexed: whether the file is indexed by its packets.
    """

    def __init__(self, path: str | os.PathLike, opener: Opener | None = None) -> None:
        """Open a video and count its frames.

        Args:
            path: the file; with `opener` only a name.
            opener: opens the content in place of `path`.

        Raises:
            UnreadableVideo: not a video, or none of its frames can be decoded.
        """
        super().__init__(path)
        if opener is None:
            check_file(self.path)
        # None, not a level: a decoder that logs to Python while it is freed may wait for the GIL
        # for ever (PyAV #751).
        av.logging.set_level(None)
        self._opener = opener
        self._container = None
        self._is_strict: bool | None = None  # mode of the open decoder; None: it must be reopened
        self._packets: list[av.Packet] | None = None
        self._frames: list[av.VideoFrame] | None = None
        self._reformatter = VideoReformatter()
        self._error = ""  # the last one of the decoder, for messages
        try:
            self._prepare()
        except BaseException:
            self.close()  # or the garbage collector decides how long the file stays open
            raise

    def _prepare(self) -> None:
        with self._ffmpeg_errors():
            self._open()
            self._index = self._read_index()
            if self._index is not None:
                self._length = self._index.length
            else:
                self._length = self._count_frames()
        if self._length == 0:
            raise UnreadableVideo(self.path, f"no frame can be decoded{self._error}")

    @property
    def is_indexed(self) -> bool:
        return self._index is not None

    @property
    def rate(self) -> Fraction:
        """Frames per second; 25 if the file does not contain it."""
        return self._stream.average_rate or self._stream.guessed_rate or _DEFAULT_RATE

    @property
    def pixel_aspect(self) -> Fraction:
        """The width of a pixel over its height, which decoding does not apply."""
        return self._stream.sample_aspect_ratio or Fraction(1)

    @property
    def time_base(self) -> Fraction:
        """The unit of the times of `frames`, in seconds."""
        if self._index is None:
            return 1 / self.rate
        return self._stream.time_base

    def close(self) -> None:
        self._packets = None
        self._frames = None
        if self._container is not None:
            self._container.close()

    def __len__(self) -> int:
        return self._length

    def decode(self, indices: list[int]) -> np.ndarray:
        rows = {self._identity(index): row for row, index in enumerate(indices)}
        missing = dict(rows)
        images = None
        with self._ffmpeg_errors():
            for identity, frame in self._decoded_frames(rows):
                if identity not in missing:
                    continue
                row = missing.pop(identity)
                image = orientation_of(frame).apply(to_rgb(frame, self._reformatter))
                if images is None:
                    images = np.empty((len(indices), *image.shape), np.uint8)
                elif image.shape != images.shape[1:]:
                    raise UnreadableVideo(
                        self.path, f"the frame size changes at or before frame {indices[row]}"
                    )
                images[row] = image  # a copy: the image is in memory that FFmpeg owns
                if not missing:
                    return images
        first_missing = indices[min(missing.values())]
        raise UnreadableVideo(self.path, f"frame {first_missing} cannot be decoded{self._error}")

    def frames(self) -> Iterator[av.VideoFrame]:
        """Decode all frames in order, without holding them.

        Returns:
            Frames neither rotated nor mirrored, with ascending times in units of `time_base`.

        Raises:
            UnreadableVideo: a frame is missing, or differs in size from the first one.
        """
        index = 0
        size = None
        with self._ffmpeg_errors():
            for identity, frame in self._decode_from_start():
                if index == len(self) or identity != self._identity(index):
                    continue  # hidden by an edit list
                if size is None:
                    size = (frame.width, frame.height)
                if size != (frame.width, frame.height):
                    raise UnreadableVideo(self.path, f"the frame size changes at frame {index}")
                if self._index is None:  # the times in the file may be missing, or not ascend
                    frame.pts = index
                yield frame
                index += 1
        if index < len(self):
            raise UnreadableVideo(self.path, f"frame {index} cannot be decoded{self._error}")

    def _identity(self, index: int) -> int:
        """What identifies a frame while decoding: its pts; in a file without index its number."""
        if self._index is None:
            return index
        times = self._index.display_pts
        if index >= len(times) or times[index] not in self._index.position:
            raise UnreadableVideo(self.path, f"frame {index} is missing: the file is truncated")
        return times[index]

    def _decoded_frames(self, wanted: Collection[int]) -> Iterator[tuple[int, av.VideoFrame]]:
        """Identities and frames, at least those of `wanted` that can be decoded at all."""
        if self._index is not None:
            for frame in self._decode_undamaged(wanted):
                yield frame.pts, frame
        # Also for frames that a start at a key cannot give, or gives damaged.
        yield from self._decode_from_start()

    def _decode_from_start(self) -> Iterator[tuple[int, av.VideoFrame]]:
        """Identities and frames of a sequential decode."""
        if self._index is None:
            yield from enumerate(self._frames or self._decode(self._all_packets()))
            return
        for frame in self._decode(self._all_packets()):
            yield frame.pts, frame

    # The file and its packets

    @contextmanager
    def _ffmpeg_errors(self) -> Iterator[None]:
        try:
            yield
        except av.FFmpegError as error:
            raise UnreadableVideo(self.path, error.strerror) from None

    def _open(self) -> None:
        """Open the file anew, with a new decoder that has not decoded anything."""
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
        # A damaged file ends where the demuxer cannot continue. IndexError: streams that appear
        # midway confuse PyAV.
        with suppress(av.FFmpegError, IndexError):
            for packet in self._container.demux(self._stream):
                if packet.size:  # to the decoder an empty packet means the end of the stream
                    yield packet

    def _keep(self, packets: Iterable[av.Packet]) -> Iterator[av.Packet]:
        """Pass packets on, and keep them for later if all of them fit."""
        kept: list[av.Packet] | None = []
        size = 0
        for packet in packets:
            size += packet.size
            if size > KEPT_BYTES:
                kept = None
            if kept is not None:
                kept.append(packet)
            yield packet
        self._packets = kept

    def _all_packets(self, strict: bool = False) -> Iterable[av.Packet]:
        """All packets from the first one on, and a decoder ready for them.

        Args:
            strict: the decoder reports damage as an error instead of concealing it.
        """
        if self._packets is not None and self._decoder.is_open and self._is_strict == strict:
            return self._packets
        if self._packets is None or self._decoder.is_open:
            self._open()
        self._is_strict = strict
        if strict:
            self._decoder.options = {"err_detect": "explode"}
        if self._packets is None:
            return self._demux()
        return self._packets

    def _whole(self, packets: Iterable[av.Packet]) -> Iterator[av.Packet]:
        """The packets that are not cut off by the end of the file."""
        # Where transport streams were joined, a whole packet is flagged for its continuity counter.
        if self._container.format.name == "mpegts":
            return iter(packets)
        return (packet for packet in packets if not packet.is_corrupt)

    # The index

    def _read_index(self) -> PacketIndex | None:
        """Index the file by its packets; None if it must be decoded from the start."""
        family = self._container.format.name.split(",")[0]
        codec = self._decoder.name
        if family not in _INDEXED_CONTAINERS or codec not in _INDEXED_CODECS:
            return None
        # Two packets may be the fields of one interlaced frame; PyAV reports it from 18.1 on.
        field_order = getattr(self._decoder, "field_order", _PROGRESSIVE)
        if codec == "h264" and field_order != _PROGRESSIVE:
            return None
        is_picture = picture_test(codec, self._decoder.extradata)
        index = index_packets(self._keep(self._demux()), is_picture)
        if index is None or (codec in _REORDERING_CODECS and not self._has_display_times(index)):
            self._packets = None
            return None
        if family == "mov":
            return self._count_lost_frames(index)
        return index

    def _has_display_times(self, index: PacketIndex) -> bool:
        """Whether the order of the packets' times is that in which the decoder outputs frames."""
        if not self._decoder.has_b_frames:
            return True
        stretches = suspect_stretches(index)
        if not stretches:
            return True
        packets = iter(self._all_packets())
        position = 0
        for stretch in stretches:
            part = self._whole(islice(packets, stretch.first - position, stretch.end - position))
            if not is_in_display_order(part, stretch.compared, self._stream):
                return False
            deque(part, maxlen=0)  # skips what is left after damage
            position = stretch.end
        return True

    def _count_lost_frames(self, index: PacketIndex) -> PacketIndex:
        """The index of a mov or mp4 with the frames whose packets a truncated file has lost."""
        if len(self._stream.index_entries) <= len(index.pts):
            return index
        lost = lost_entries(self._stream, self._container.size)
        if not lost:
            return index
        # A lost frame may be displayed before any frame that is later than its packet was due.
        known = bisect_left(index.display_pts, lost[0].timestamp)
        return index._replace(
            display_pts=index.display_pts[:known], length=len(index.position) + len(lost)
        )

    def _count_frames(self) -> int:
        """Decode the whole file, and keep the frames if they fit."""
        kept: list[av.VideoFrame] | None = []
        size = 0
        count = 0
        for frame in self._decode(self._all_packets()):
            count += 1
            size += sum(plane.buffer_size for plane in frame.planes)
            if size > KEPT_BYTES:
                kept = None
            if kept is not None:
                kept.append(frame)
        self._frames = kept
        return count

    # Decoding

    def _decode(self, packets: Iterable[av.Packet]) -> Iterator[av.VideoFrame]:
        """The frames of consecutive packets that start at a key; errors are skipped."""
        self._decoder.flush_buffers()
        self._decoder.skip_frame = "DEFAULT"
        for packet in chain(self._whole(packets), (None,)):  # None flushes the decoder
            try:
                yield from self._decoder.decode(packet)
            except av.FFmpegError as error:
                self._error = f" ({error.strerror})"

    def _decode_undamaged(self, wanted: Iterable[int]) -> Iterator[av.VideoFrame]:
        """The wanted frames in which no damage is visible, and others.

        A non-reference picture is decoded only if it is wanted, and damage in it may be visible in
        what follows. So where a run for several frames is damaged, each frame is tried on its own:
        the pixels of a frame do not depend on what else is requested.

        Args:
            wanted: times of the frames.
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
                self._is_strict = None  # after an error even a flushed decoder is not like new
                if not missing or len(group) == 1:
                    continue
                first, last = self._index.runs(missing)[0]
                damaged = {pts for pts in missing if first <= self._index.position[pts] <= last}
                if missing != damaged:
                    groups.append(missing - damaged)
                groups.extend({pts} for pts in damaged)

    def _decode_runs(self, wanted: Collection[int]) -> Iterator[av.VideoFrame]:
        """The frames at the times `wanted`, and others.

        Raises:
            _Damaged: a wanted frame may be damaged.
        """
        packets = iter(self._all_packets(strict=True))
        done = 0  # packets taken from the iterator
        for first, last in self._index.runs(wanted):
            if self._packets is not None:
                run = self._packets[first : last + 1]
            else:
                run = islice(packets, first - done, last + 1 - done)
                done = last + 1
            yield from self._decode_run(run, wanted, self._index.pts[first])

    def _decode_run(
        self, packets: Iterable[av.Packet], wanted: Collection[int], key: int
    ) -> Iterator[av.VideoFrame]:
        """The undamaged frames of one run.

        Args:
            packets: consecutive packets, the first one a key.
            wanted: times of the wanted frames.
            key: time of the first packet.

        Raises:
            _Damaged: a frame at or after the key may be damaged.
        """
        # A key that an edit list hides, or that is damaged, is never output.
        key_was_output = key not in self._index.position
        for frame in self._decode_strictly(packets, wanted, key):
            if frame.pts == key:
                key_was_output = True
            if not key_was_output:
                # The key only begins an intra refresh: what follows depends on frames before it.
                continue
            is_leading = frame.pts is not None and frame.pts < key
            if frame.is_corrupt and not is_leading:
                raise _Damaged  # a part is missing, and the decoder has concealed it
            yield frame

    def _decode_strictly(
        self, packets: Iterable[av.Packet], wanted: Collection[int], key: int
    ) -> Iterator[av.VideoFrame]:
        """Decode one run; arguments and exceptions as of `_decode_run`."""
        # Of H.264 only: a non-reference picture of HEVC may still serve a higher temporal layer.
        skips_non_reference = self._decoder.name == "h264"
        self._decoder.flush_buffers()
        self._decoder.skip_frame = "DEFAULT"
        for packet in chain(self._whole(packets), (None,)):  # None flushes the decoder
            if packet is not None and skips_non_reference:
                self._decoder.skip_frame = "DEFAULT" if packet.pts in wanted else "NONREF"
            try:
                yield from self._decoder.decode(packet)
            except av.FFmpegError:
                # A picture that is displayed before the key may depend on pictures before the run,
                # and no later one depends on it.
                if packet is None or packet.pts >= key:
                    raise _Damaged from None
