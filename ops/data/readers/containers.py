"""Open video files with FFmpeg, restricted to the file itself.

FFmpeg chooses a demuxer by the content of a file, whatever its name. Playlists (HLS, DASH,
ffconcat, SDP, ...) name other files and addresses, which it would read in their place.
"""

from contextlib import suppress

import av

from ops.data.readers.base import Opener, UnreadableVideo
from ops.utils.files import open_regular

# Formats of videos whose demuxers read one file only. One of the names that FFmpeg gives a demuxer
# ("mov,mp4,m4a,3gp,3g2,mj2") is enough.
_CONTAINERS = (
    "asf asf_o avi cine dhav dv flv gxf ivf kux live_flv lmlm4 matroska mov mpeg mpegts mxf nsv "
    "nut nuv obu ogg pva rm ser swf ty wtv yuv4mpegpipe"
)
_RAW_STREAMS = (
    "av1 avs2 avs3 cavsvideo dirac dnxhd evc h261 h263 h264 hevc ingenient m4v jpeg_pipe mjpeg "
    "mjpeg_2000 mpegvideo vc1 vc1test vvc"
)
_ANIMATIONS = "apng gif"
_FORMATS = [*_CONTAINERS.split(), *_RAW_STREAMS.split(), *_ANIMATIONS.split()]
_OPTIONS = {
    "format_whitelist": ",".join(_FORMATS),
    "enable_drefs": "0",  # mov: no media from other files
}
_FILE_ONLY = "file"
_NO_PROTOCOL = "none"

# How much of a file FFmpeg reads to determine its format (its PROBE_BUF_MAX).
_PROBED_BYTES = 2**20
_FIRST_BYTES = 2**12
_PLAYLIST_STARTS = (
    b"#extm3u",
    b"#vobsub",
    b"# vobsub",
    b"ffconcat",
    b"[playlist]",
    b"<asx",
    b"<smil",
    b"v=0",
)
_PLAYLIST_PARTS = (b"<mpd", b"dash:profile", b"c=in ip")
_PLAYLIST = "a playlist or a description of a stream, not a video; list the files that it names"
_ID3_HEADER_BYTES = 10
_ID3_HAS_FOOTER = 0x10


def open_container(path: str, opener: Opener | None = None) -> av.container.InputContainer:
    """Open a video with PyAV.

    Args:
        path: the file; with `opener` only a name.
        opener: opens the content in place of `path`.

    Raises:
        UnreadableVideo: a playlist, or another format that is no video file.
        av.FFmpegError: FFmpeg cannot open it.
    """
    if opener is None:
        # "file:" because FFmpeg would interpret what precedes a colon in the name as a protocol.
        source = f"file:{path}"
        protocol = _FILE_ONLY
    else:
        source = opener()
        protocol = _NO_PROTOCOL
    try:
        return av.open(
            source,
            metadata_errors="replace",
            container_options=_OPTIONS | {"protocol_whitelist": protocol},
        )
    except av.FFmpegError as error:
        with suppress(OSError):  # for a file that cannot be read, FFmpeg's error is better
            if is_playlist(path, opener):
                raise UnreadableVideo(path, _PLAYLIST) from None
        if isinstance(error, av.ArgumentError):  # the format is not on the list
            raise UnreadableVideo(path, "not in the format of a video file") from None
        raise


def is_playlist(path: str, opener: Opener | None = None) -> bool:
    """Whether FFmpeg may interpret a file as a text that names other files or addresses."""
    with open_regular(path) if opener is None else opener() as content:
        head = content.read(_FIRST_BYTES)
        if b"\0" not in _without_id3(head):  # most videos have one; reading 1 MB may be slow
            head += content.read(_PROBED_BYTES - _FIRST_BYTES)
    text = _without_id3(head).partition(b"\0")[0].removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    return text.startswith(_PLAYLIST_STARTS) or any(part in text for part in _PLAYLIST_PARTS)


def _without_id3(data: bytes) -> bytes:
    """The data after ID3v2 tags, which FFmpeg skips before any format (ID3v2.4.0, section 3.1)."""
    while data.startswith(b"ID3") and len(data) > _ID3_HEADER_BYTES:
        size = _ID3_HEADER_BYTES
        for place, byte in enumerate(data[9:5:-1]):
            size += (byte & 0x7F) << 7 * place
        if data[5] & _ID3_HAS_FOOTER:
            size += _ID3_HEADER_BYTES
        data = data[size:]
    return data


def open_checked(path: str, opener: Opener | None = None) -> av.container.InputContainer:
    """Open a video with PyAV to inspect it for a reader that cannot be restricted in this way.

    Args:
        path, opener: as of `open_container`.

    Raises:
        UnreadableVideo: `open_container` cannot open it, or an older FFmpeg may take it for a
            playlist.
    """
    try:
        if is_playlist(path, opener):
            raise UnreadableVideo(path, _PLAYLIST)
        return open_container(path, opener)
    except (av.FFmpegError, OSError) as error:
        raise UnreadableVideo(path, error.strerror) from None
