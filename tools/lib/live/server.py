"""The server of the page of tools/live.py: HTTP on 127.0.0.1, from Python's standard library.

The page sends frames, and each answer is what the network makes of one. Nobody else may: a request
must name this machine (``Host``, against DNS rebinding), come from the page itself (``Origin``) and
carry the token that only the page contains (against other pages in the same browser). All checks
precede the body, whose size is known beforehand.
"""

import contextlib
import hmac
import json
import math
import os
import re
import secrets
import sys
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from lib.live.clients import Clients, Stream, TooManyClients
from ops.streaming import LiveResult
from ops.utils.errors import UserError
from ops.utils.files import open_regular

WEB = Path(__file__).resolve().parents[2] / "web"
VENDOR = WEB / "vendor"
ADDRESS = "127.0.0.1"
SETTINGS_PATH = "/settings"
FRAMES_PATH = "/frames"
REPORT_PATH = "/report"
CHANNELS_SENT = 4  # a canvas gives RGBA

_TYPES = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".mjs": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
    ".wasm": "application/wasm",
}
_BINARY = "application/octet-stream"
_VIDEO_TYPES = {".mp4": "video/mp4", ".m4v": "video/mp4", ".webm": "video/webm"}
_TOKEN_MARK = b"{{token}}"
# A Host header names the host and the port, which differs behind a tunnel (ssh -L).
_HOST = re.compile(r"(localhost|127\.0\.0\.1|\[::1\])(:\d{1,5})?", re.IGNORECASE)
_CLIENT = re.compile(r"[0-9a-zA-Z-]{1,64}")
_RANGE = re.compile(r"bytes=(\d{1,18})-(\d{0,18})")
_DIGITS = re.compile(r"\d{1,12}")
_LARGEST_REPORT = 2**22  # bytes
_DECIMALS = 7  # of the numbers that are sent
_BLOCK = 2**18  # bytes of a file that are sent at once
_SOCKET_SECONDS = 20.0
_POLL_SECONDS = 0.1

_CONTENT_POLICY = (
    "default-src 'none'",
    "worker-src 'self'",
    "style-src 'self'",
    "img-src 'self'",
    "media-src 'self' blob:",
    "connect-src 'self'",
    "base-uri 'none'",
    "form-action 'none'",
    "frame-ancestors 'none'",
)
_HEADERS = {
    "Cache-Control": "no-store",
    # These three isolate the page, which lets WebAssembly use threads, and keep other pages from
    # loading anything of it.
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Embedder-Policy": "require-corp",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(self), microphone=(), geolocation=()",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


@dataclass(frozen=True)
class Page:
    """What the page is about.

    Attributes:
        size: S, the side of the square frames that the network takes.
        settings: of the page, see ``lib.live.page``.
        new_stream: makes the stream of one page, an ``ops.streaming.LiveStream``; None if the page
            runs the network itself.
        files: address -> file, beside those of the page: ``/video``, ``/step.onnx``.
        on_report: called with each report of a page, a dict that comes from outside; raises
            ValueError if it is none.
    """

    size: int
    settings: Mapping[str, Any]
    new_stream: Callable[[], Stream] | None
    files: Mapping[str, Path] = field(default_factory=dict)
    on_report: Callable[[dict], None] = lambda report: None


class PageServer(ThreadingHTTPServer):
    """The server; ``serve`` runs it and ``url`` is where.

    Attributes:
        page: what it serves.
        token: that the page contains and its requests carry.
        clients: the streams, one per page that sends frames; None if none does.
        files: address -> file: a fixed table, so no address leads anywhere else.
        content_policy: what the browser lets the page load and run.
    """

    daemon_threads = True
    block_on_close = False

    def __init__(self, page: Page, port: int, patience: float = _SOCKET_SECONDS) -> None:
        """Listen.

        Args:
            page: what to serve.
            port: 0 takes any free one.
            patience: seconds after which a client that sends nothing, or reads nothing, is cut off.

        Raises:
            UserError: the port cannot be used.
        """
        self.page = page
        self.patience = patience
        self.token = secrets.token_urlsafe(24)
        self.clients = Clients(page.new_stream) if page.new_stream else None
        self.files = {**_page_files(), **page.files}
        scripts = "script-src 'self'"
        if page.new_stream is None:
            scripts += " 'wasm-unsafe-eval'"  # to compile WebAssembly, and nothing else
        self.content_policy = "; ".join((*_CONTENT_POLICY, scripts))
        try:
            super().__init__((ADDRESS, port), _Handler)
        except OSError as error:
            reason = error.strerror or error
            raise UserError(
                f"--port {port}: {reason}; give another --port, or 0 for any free one"
            ) from None

    @property
    def url(self) -> str:
        return f"http://{ADDRESS}:{self.server_port}/"

    def serve(self, stopped: Callable[[], object]) -> None:
        """Serve until it is asked to stop.

        Args:
            stopped: called several times per second; whether to end now.
        """
        self.timeout = _POLL_SECONDS  # of the wait for a connection
        while not stopped():
            self.handle_request()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of a connection that broke: browsers close them as they like."""
        if not isinstance(sys.exception(), OSError):
            super().handle_error(request, client_address)


def _page_files() -> dict[str, Path]:
    """Address -> file of the page, and of the runtime if it is there."""
    files = {f"/{path.name}": path for path in WEB.iterdir() if path.suffix in _TYPES}
    files["/"] = files.pop("/index.html")
    if VENDOR.is_dir():
        runtime = (path for path in VENDOR.iterdir() if path.suffix in _TYPES)
        files.update({f"/vendor/{path.name}": path for path in runtime})
    return files


class _Refused(Exception):
    """A request that is not answered: a status and one line."""

    def __init__(self, status: HTTPStatus, reason: str) -> None:
        super().__init__(reason)
        self.status = status
        self.reason = reason


class _Handler(BaseHTTPRequestHandler):
    server: PageServer
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1  # an answer is sent in one piece
    server_version = "live"
    sys_version = ""

    def setup(self) -> None:
        self.timeout = self.server.patience
        super().setup()

    def log_message(self, *_: Any) -> None:
        """Print nothing: thirty requests come each second."""

    def do_GET(self) -> None:
        self._answer(self._get)

    def do_POST(self) -> None:
        self._answer(self._post)

    def _answer(self, method: Callable[[], None]) -> None:
        try:
            self._check_host()
            method()
        except _Refused as refusal:
            self._refuse(refusal)
        except OSError:
            # The client is gone, or too slow.
            self.close_connection = True
        except UserError as error:
            self._refuse(_Refused(HTTPStatus.INTERNAL_SERVER_ERROR, str(error)))
        except Exception:
            traceback.print_exc()
            self._refuse(
                _Refused(
                    HTTPStatus.INTERNAL_SERVER_ERROR,
                    "the network failed on this frame; the terminal shows why",
                )
            )

    def _get(self) -> None:
        path = self.path.partition("?")[0]
        if path == SETTINGS_PATH:
            self._check_token()
            self._send_json(self.server.page.settings)
            return
        file = self.server.files.get(path)
        if file is None:
            raise _Refused(HTTPStatus.NOT_FOUND, "no such address")
        if path == "/":
            self._send_page(file)
            return
        self._send_file(file)

    def _post(self) -> None:
        self._check_origin()
        self._check_token()
        if self.path == FRAMES_PATH and self.server.clients is not None:
            self._post_frame()
        elif self.path == REPORT_PATH:
            self._post_report()
        else:
            raise _Refused(HTTPStatus.NOT_FOUND, "no such address")

    def _post_frame(self) -> None:
        size = self.server.page.size
        name = self.headers.get("X-Client", "")
        if not _CLIENT.fullmatch(name):
            raise _Refused(HTTPStatus.BAD_REQUEST, "X-Client: not a name of letters and digits")
        seconds = _parse_seconds(self.headers.get("X-Seconds", ""))
        length = size * size * CHANNELS_SENT
        body = self._read_body(most=length)
        if len(body) != length:
            raise _Refused(
                HTTPStatus.BAD_REQUEST, f"a frame has {size}x{size} RGBA pixels, {length} bytes"
            )
        pixels = np.frombuffer(body, np.uint8).reshape(size, size, CHANNELS_SENT)
        frame = np.ascontiguousarray(pixels[..., :3].transpose(2, 0, 1))
        try:
            result = self.server.clients.push(name, frame, seconds)
        except TooManyClients:
            raise _Refused(
                HTTPStatus.SERVICE_UNAVAILABLE, "too many pages send frames; close some of them"
            ) from None
        self._send_json(_to_json(result))

    def _post_report(self) -> None:
        try:
            report = json.loads(self._read_body(most=_LARGEST_REPORT))
        except (ValueError, RecursionError):
            report = None
        if not isinstance(report, dict):
            raise _Refused(HTTPStatus.BAD_REQUEST, "a report is an object of JSON")
        if self.server.clients is not None:
            self.server.clients.remove(str(report.get("client")))
        try:
            self.server.page.on_report(report)
        except ValueError as error:
            raise _Refused(HTTPStatus.BAD_REQUEST, str(error)) from None
        self._send_json({})

    def _check_host(self) -> None:
        if not _HOST.fullmatch(self.headers.get("Host", "")):
            port = self.server.server_port
            raise _Refused(
                HTTPStatus.FORBIDDEN,
                f"this page is for the machine that serves it: open {self.server.url} there. On "
                f"another machine, run ssh -L {port}:{ADDRESS}:{port} HOST and open "
                f"http://localhost:{port}/",
            )

    def _check_origin(self) -> None:
        """A browser states the origin of every POST, and no page can change it."""
        if self.headers.get("Origin", "") != f"http://{self.headers['Host']}":
            raise _Refused(HTTPStatus.FORBIDDEN, "requests of other pages are refused")

    def _check_token(self) -> None:
        token = self.headers.get("X-Token", "").encode()
        if not hmac.compare_digest(token, self.server.token.encode()):
            raise _Refused(HTTPStatus.UNAUTHORIZED, "not the token of this page; reload it")

    def _read_body(self, most: int) -> bytes:
        """The body of the request, of at most so many bytes."""
        stated = self.headers.get("Content-Length", "")
        if not _DIGITS.fullmatch(stated) or "Transfer-Encoding" in self.headers:
            raise _Refused(HTTPStatus.LENGTH_REQUIRED, "Content-Length is missing")
        if int(stated) > most:
            raise _Refused(
                HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"{stated} bytes; at most {most} are taken"
            )
        body = self.rfile.read(int(stated))
        if len(body) < int(stated):
            raise ConnectionAbortedError
        return body

    def _send_json(self, content: Any) -> None:
        self._send(HTTPStatus.OK, "application/json", json.dumps(content).encode())

    def _send_page(self, file: Path) -> None:
        page = file.read_bytes().replace(_TOKEN_MARK, self.server.token.encode())
        self._send(HTTPStatus.OK, _TYPES[".html"], page)

    def _refuse(self, refusal: _Refused) -> None:
        # The body of the request was perhaps not read: nothing can follow on this connection.
        self.close_connection = True
        headers = {}
        if refusal.status == HTTPStatus.UNAUTHORIZED:
            headers["WWW-Authenticate"] = "Token"
        text = f"{refusal.reason}\n".encode()
        with contextlib.suppress(OSError):
            self._send(refusal.status, "text/plain; charset=utf-8", text, headers)

    def _send(
        self, status: HTTPStatus, content_type: str, content: bytes, headers: Mapping = {}
    ) -> None:
        self._send_head(status, content_type, len(content), headers)
        self.wfile.write(content)
        self.wfile.flush()

    def _send_file(self, path: Path) -> None:
        """Send a file, or the part that the request asks for: players seek that way."""
        try:
            file = open_regular(path)
        except OSError as error:
            raise _Refused(HTTPStatus.NOT_FOUND, f"{path.name}: {error.strerror}") from None
        with file:
            total = file.seek(0, os.SEEK_END)
            part = _requested_part(self.headers.get("Range", ""), total)
            status = HTTPStatus.OK
            headers = {"Accept-Ranges": "bytes"}
            if part is not None:
                status = HTTPStatus.PARTIAL_CONTENT
                headers["Content-Range"] = f"bytes {part.start}-{part.stop - 1}/{total}"
            else:
                part = range(total)
            self._send_head(status, _content_type(path), len(part), headers)
            file.seek(part.start)
            _copy(file, self.wfile, len(part))
            self.wfile.flush()

    def _send_head(
        self, status: HTTPStatus, content_type: str, length: int, headers: Mapping = {}
    ) -> None:
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(length))
        self.send_header("Content-Security-Policy", self.server.content_policy)
        for name, value in {**_HEADERS, **headers}.items():
            self.send_header(name, value)
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()


def _parse_seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not math.isfinite(seconds):
        raise _Refused(HTTPStatus.BAD_REQUEST, "X-Seconds: not a time")
    return seconds


def _to_json(result: LiveResult | None) -> dict[str, Any] | None:
    """What the page is answered about a frame."""
    if result is None:
        return None
    return {
        "scores": np.round(result.logits.astype(np.float64), _DECIMALS).tolist(),
        "probabilities": np.round(result.probabilities, _DECIMALS).tolist(),
        "label": result.label,
        "latency": round(result.latency * 1000, 2),
    }


def _requested_part(header: str, total: int) -> range | None:
    """The bytes that a ``Range`` header asks for; None if it asks for none, or for several parts.

    Raises:
        _Refused: the file has no such bytes.
    """
    match = _RANGE.fullmatch(header)
    if match is None:
        return None
    start = int(match[1])
    last = int(match[2] or total - 1)
    if start >= total or last < start:
        raise _Refused(HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE, f"the file has {total} bytes")
    return range(start, min(last + 1, total))


def _content_type(path: Path) -> str:
    suffix = path.suffix.lower()
    return _TYPES.get(suffix) or _VIDEO_TYPES.get(suffix, _BINARY)


def _copy(source: BinaryIO, target: BinaryIO, count: int) -> None:
    """Copy so many bytes; a source that ends before has been cut, and so is the connection."""
    while count > 0:
        block = source.read(min(count, _BLOCK))
        if not block:
            raise ConnectionAbortedError
        target.write(block)
        count -= len(block)
