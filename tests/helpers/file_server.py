"""A small HTTP server of one file on the loopback interface, which misbehaves on request."""

import contextlib
import re
import threading
import time
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class Served:
    """What a server sends, and what it was asked.

    Attributes:
        url: address of the file.
        content: bytes of the file.
        headers: sent with the file, such as an ETag.
        has_ranges: whether requests for a part are answered with a part.
        checks_if_range: whether the whole file is sent when ``If-Range`` is another ETag.
        status: of all answers, in place of 200 and 206.
        content_type: of the answers.
        sends_size: whether there is a Content-Length.
        claimed_size: the Content-Length, in place of the size.
        cut_after: bytes after which each of the next connections is closed.
        stall: seconds that each chunk takes.
        requests: headers of the requests, in order.
    """

    url: str = ""
    content: bytes = b""
    headers: dict = field(default_factory=dict)
    has_ranges: bool = True
    checks_if_range: bool = True
    status: int = 0
    content_type: str = "application/octet-stream"
    sends_size: bool = True
    claimed_size: int = 0
    cut_after: list = field(default_factory=list)
    stall: float = 0
    requests: list = field(default_factory=list)


@contextlib.contextmanager
def file_server(content=b"", **options):
    """A :class:`Served`, while the context lasts."""
    served = Served(content=content, **options)

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_):
            pass

        def do_GET(self):
            served.requests.append({"path": self.path, **self.headers})
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                _answer(self, served)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    served.url = f"http://127.0.0.1:{server.server_port}/file.pth"
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield served
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _answer(request, served):
    content, start, status = served.content, 0, 200
    wanted = re.fullmatch(r"bytes=(\d+)-", request.headers.get("Range", ""))
    validator = request.headers.get("If-Range")
    is_same = validator in (None, *served.headers.values())
    if wanted and served.has_ranges and (is_same or not served.checks_if_range):
        start, status = int(wanted[1]), 206
    if start >= len(content) > 0:
        status = 416
    request.send_response(served.status or status)
    request.send_header("Content-Type", served.content_type)
    for name, value in served.headers.items():
        request.send_header(name, value)
    if status == 206:
        request.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
    if status == 416:
        request.send_header("Content-Range", f"bytes */{len(content)}")
        content = b""
    if served.sends_size:
        request.send_header("Content-Length", str(served.claimed_size or len(content) - start))
    request.end_headers()
    end = len(content)
    if served.cut_after:
        end = min(end, start + served.cut_after.pop(0))
    step = 1000 if served.stall else max(end, 1)
    for position in range(start, end, step):
        request.wfile.write(content[position : min(position + step, end)])
        request.wfile.flush()
        time.sleep(served.stall)
