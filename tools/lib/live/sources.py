"""What --source names: a camera, an address in the network, a video file.

PyAV is imported when a source is opened: a window must be opened before (``lib.live.display``).
"""

from __future__ import annotations

import glob
import os
import re
import stat
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from ops.utils.errors import UserError
from ops.utils.text import counted

if TYPE_CHECKING:
    from av.container import InputContainer

    from ops.data.readers.stream import VideoStream

CAMERA = "camera"
NETWORK = "network"
FILE = "file"

_OPEN_SECONDS = 10.0  # longest wait for a connection
_READ_SECONDS = 5.0  # longest wait for the next frame, after which a source counts as lost
# What addresses may lead to; a playlist must not read files of this machine.
_PROTOCOLS = "rtsp,rtsps,rtp,srtp,udp,tcp,tls,http,https,httpproxy,crypto,rtmp,rtmps,rtmpt,srt"
_RTSP_OPTIONS = {"rtsp_transport": "tcp"}  # whole frames where UDP loses packets
# avfoundation refuses its own default of 29.97 frames per second on most cameras.
_MAC_RATE = "30"
_DEVICE_PATTERN = "/dev/video*"


class SourceError(Exception):
    """A source cannot be opened; the message is the reason in a few words."""


@dataclass(frozen=True)
class Source:
    """A source of live video, not open yet.

    Attributes:
        kind: ``CAMERA``, ``NETWORK`` or ``FILE``.
        name: for messages, without passwords.
        path: what FFmpeg opens.
        format: FFmpeg's name of the input device, or None.
        options: of the format.
    """

    kind: str
    name: str
    path: str
    format: str | None = None
    options: tuple[tuple[str, str], ...] = ()

    def check(self) -> None:
        """Check that a file or a camera of Linux exists, without opening it.

        Raises:
            SourceError: it does not.
        """
        if self.kind == NETWORK or self.format not in (None, "v4l2"):
            return
        try:
            os.stat(self.path)
        except OSError as error:
            raise SourceError(self._reason(error)) from None

    def open(self) -> VideoStream:
        """Open the source.

        Raises:
            SourceError: it does not exist, or cannot be opened.
        """
        import av

        from ops.data.readers.base import UnreadableVideo
        from ops.data.readers.stream import VideoStream

        try:
            if self.kind == FILE:
                return VideoStream(self.path)
            return VideoStream(self.name, self._open_container())
        except UnreadableVideo as error:
            raise SourceError(error.reason) from None
        except (av.FFmpegError, OSError) as error:
            raise SourceError(self._reason(error)) from None

    def _open_container(self) -> InputContainer:
        import av

        av.logging.set_level(None)  # FFmpeg's messages about single packets
        return av.open(
            self.path,
            format=self.format,
            options=dict(self.options),
            timeout=(_OPEN_SECONDS, _READ_SECONDS),
        )

    def _reason(self, error: OSError) -> str:
        reason = error.strerror or str(error)
        if self.kind != CAMERA:
            return reason
        if isinstance(error, PermissionError):
            return f"{reason}: another program uses it, or this user is not in the group video"
        found = cameras()
        if isinstance(error, FileNotFoundError) and found is not None:
            return f"no such camera; this machine has {found or 'none'}"
        return reason


def find_source(text: str, size: str | None = None) -> Source:
    """The source that a user names; arguments as of `parse_source`.

    Raises:
        UserError: as `parse_source` does, or it does not exist.
    """
    source = parse_source(text, size)
    try:
        source.check()
    except SourceError as error:
        raise UserError(f"--source {source.name}: {error}") from None
    return source


def parse_source(text: str, size: str | None = None) -> Source:
    """The source that a user names.

    Args:
        text: a number of a camera, a device (``/dev/video2``), an address (``rtsp://...``) or a
            video file.
        size: of the pictures of a camera, ``640x480``; None: what the camera has chosen.

    Raises:
        UserError: a size for something else than a camera, or a platform whose cameras are not
            supported.
    """
    source = _camera(text, size)
    if source is not None:
        return source
    if size is not None:
        raise UserError(f"--camera_size is for cameras; {_without_password(text)} is none")
    if re.match("[A-Za-z][A-Za-z0-9+.-]+://", text):
        options = {"protocol_whitelist": _PROTOCOLS}
        if text.lower().startswith("rtsp"):
            options |= _RTSP_OPTIONS
        return Source(NETWORK, _without_password(text), text, options=tuple(options.items()))
    return Source(FILE, text, text)


def cameras() -> str | None:
    """The cameras of this machine, for messages; None where they cannot be listed."""
    if not sys.platform.startswith("linux"):
        return None
    return ", ".join(sorted(glob.glob(_DEVICE_PATTERN)))


def _camera(text: str, size: str | None) -> Source | None:
    options = {}
    if size is not None:
        options["video_size"] = size
    if re.fullmatch("[0-9]{1,3}", text):
        for prefix, describe in _PLATFORMS.items():
            if sys.platform.startswith(prefix):
                return describe(int(text), options)
        raise UserError(f"--source {text}: cameras of {sys.platform} are not supported")
    if _is_device(text):
        return Source(CAMERA, text, text, "v4l2", tuple(options.items()))
    return None


def _linux_camera(number: int, options: dict[str, str]) -> Source:
    path = f"/dev/video{number}"
    return Source(CAMERA, f"camera {number} ({path})", path, "v4l2", tuple(options.items()))


def _mac_camera(number: int, options: dict[str, str]) -> Source:
    options = {"framerate": _MAC_RATE, **options}
    name = f"camera {number}"
    return Source(CAMERA, name, f"{number}:none", "avfoundation", tuple(options.items()))


def _windows_camera(number: int, options: dict[str, str]) -> Source:
    """dshow has names in place of numbers."""
    import av

    try:
        names = [device.name for device in av.enumerate_input_devices("dshow")]
    except (av.FFmpegError, ValueError) as error:
        raise UserError(f"--source {number}: the cameras cannot be listed ({error})") from None
    if number >= len(names):
        raise UserError(f"--source {number}: this machine has {counted(len(names), 'camera')}")
    path = f"video={names[number]}"
    return Source(CAMERA, names[number], path, "dshow", tuple(options.items()))


_PLATFORMS: dict[str, Callable[[int, dict[str, str]], Source]] = {
    "linux": _linux_camera,
    "darwin": _mac_camera,
    "win32": _windows_camera,
}


def _is_device(path: str) -> bool:
    """Whether a path is a device file, such as /dev/video2 or a link to it."""
    try:
        return stat.S_ISCHR(os.stat(path).st_mode)
    except (OSError, ValueError):
        return path.startswith("/dev/video")


def _without_password(address: str) -> str:
    """An address without the password that it may contain: ``rtsp://admin:***@host/1``."""
    parts = urlsplit(address)
    if parts.password is None:
        return address
    hidden = parts.netloc.replace(f":{parts.password}@", ":***@")
    return parts._replace(netloc=hidden).geturl()
