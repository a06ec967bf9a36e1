"""Download of published weight files (``python tools/weights.py get NAME``).

A file gets its name when it is complete and its hash is right. Until then it is NAME.part, which
the next call continues. NAME.part.json describes the file of the server that it is the start of.
"""

import contextlib
import errno
import http.client
import json
import os
import re
import shutil
import socket
import ssl
import sys
import time
import urllib.error
import urllib.request
from dataclasses import asdict, dataclass
from http import HTTPStatus
from pathlib import Path
from urllib.parse import urlsplit

from tqdm import tqdm

from ops.checkpoints import manifest
from ops.checkpoints.names import how_to_get
from ops.utils.errors import UserError
from ops.utils.files import atomic_write, is_web_page, sha256
from ops.utils.locks import waiting_lock

_CHUNK = 2**20  # bytes that are read at once
_LONGEST_PAUSE = 30  # seconds between two attempts
_MEGABYTE = 1e6
_DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
# Answers after which the same request may succeed later.
_TEMPORARY = (
    HTTPStatus.REQUEST_TIMEOUT,
    HTTPStatus.TOO_MANY_REQUESTS,
    HTTPStatus.INTERNAL_SERVER_ERROR,
    HTTPStatus.BAD_GATEWAY,
    HTTPStatus.SERVICE_UNAVAILABLE,
    HTTPStatus.GATEWAY_TIMEOUT,
)
_CONTENT_RANGE = re.compile(r"bytes (\d+)-\d+/(\d+)")


class _AddressFailed(Exception):
    """This address does not give the file; the message is the reason."""


class _AttemptFailed(Exception):
    """This connection did not give the whole file; another may. The message is the reason."""


@dataclass
class _Origin:
    """The file of a server that a ``.part`` file is the start of.

    Attributes:
        url: its address.
        size: in bytes; None where the server does not send it.
        validator: its ETag or Last-Modified, which change with the file; None where the server
            sends neither.
    """

    url: str
    size: int | None
    validator: str | None


def fetch(
    entry: dict,
    folder: str | Path | None = None,
    *,
    timeout: float = 30,
    attempts: int = 5,
    pause: float = 1,
    progress: bool = True,
) -> tuple[Path, bool]:
    """Download the file of an entry of the manifest, unless it is there.

    A download that was interrupted is continued. The hash is compared with the published one, or
    with that of the first download, which is recorded in ``sha256.json`` in the same folder. A file
    that exists is never changed. The proxies of the environment (``https_proxy``, ``no_proxy``) are
    used. While another process downloads the same file, this one waits.

    Args:
        entry: an element of ``ops.checkpoints.manifest.read_manifest()``.
        folder: where the file is put; None is ``pretrained/``.
        timeout: seconds without data after which an attempt ends.
        attempts: number of attempts per address; those that bring data do not count.
        pause: seconds before the second attempt, doubled for each further one.
        progress: whether a progress bar is shown (on terminals only).

    Returns:
        The path of the file, and whether this call has downloaded it.

    Raises:
        UserError: the file has no address, cannot be downloaded or written, or has another hash.
    """
    folder = Path(folder or manifest.FOLDER)
    path = folder / entry["file"]
    waiting = f"{path.name}: another process is downloading it; waiting"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with waiting_lock(folder / f".{path.name}.lock", waiting):
            expected = _expected_hash(entry, folder)
            if path.exists():
                _check_existing(path, entry, expected)
                return path, False
            if not entry["url"]:
                raise UserError(f"{entry['id']}: has to be downloaded by hand: {how_to_get(entry)}")
            part = path.with_name(f"{path.name}.part")
            options = (timeout, attempts, pause, progress)
            transfers = [_Transfer(url, part, expected, *options) for url in entry["url"]]
            digest = _first_success(entry, transfers)
            if entry["sha256"] is None:
                manifest.write_record(folder / "sha256.json", path.name, entry["id"], digest)
            os.replace(part, path)
            transfers[0].origin_file.unlink(missing_ok=True)
    except OSError as error:
        raise UserError(_explain_disk(error, path)) from None
    return path, True


def _expected_hash(entry, folder):
    """The recorded hash of an entry, else the published one (or its first digits), else None."""
    record = manifest.read_records(folder / "sha256.json").get(entry["file"])
    if record is not None and record["id"] == entry["id"]:
        return record["sha256"]
    return entry["sha256"]


def _check_existing(path, entry, expected):
    """Raises UserError if an existing file is not the one of the entry."""
    if expected is None:
        return
    digest = sha256(path)
    if not digest.startswith(expected):
        raise UserError(
            f"{path}: exists, but is not {entry['id']}: its sha256 is {digest}, not {expected}; "
            f"remove it and give the command again"
        )


def _first_success(entry, transfers):
    """Complete the ``.part`` file from the first address that works, and return its SHA-256."""
    reasons = []
    for transfer in transfers:
        try:
            return transfer.run()
        except _AddressFailed as error:
            reasons.append(f"{transfer.url}: {error}")
    raise UserError(f"{entry['id']}: cannot be downloaded: {'; '.join(reasons)}")


def _explain_disk(error, path):
    if error.errno in _DISK_FULL:
        return (
            f"{path}: the disk is full; make room and give the command again, which continues the "
            f"download"
        )
    return f"{error.filename or path}: cannot be written ({error.strerror})"


class _Transfer:
    """The transfer of a file from one address into a ``.part`` file."""

    def __init__(self, url, part, expected, timeout, attempts, pause, progress):
        self.url = url
        self.part = part
        self.origin_file = part.with_name(f"{part.name}.json")
        self.expected = expected  # hash, or its first digits, or None
        self.timeout = timeout
        self.attempts = attempts
        self.pause = pause
        self.progress = progress

    def run(self):
        """Complete the ``.part`` file, and return its SHA-256. Raises _AddressFailed."""
        is_continued = self._resumable() is not None
        digest = self._receive()
        if self._is_expected(digest):
            return digest
        self._discard()
        if is_continued:  # the start may be of another file than the rest
            digest = self._receive()
            if self._is_expected(digest):
                return digest
            self._discard()
        raise _AddressFailed(f"wrong hash: its sha256 is {digest}, not {self.expected}")

    def _is_expected(self, digest):
        return self.expected is None or digest.startswith(self.expected)

    def _receive(self):
        """Complete the ``.part`` file, in several attempts, and return its SHA-256."""
        failures = 0
        while True:
            size_before = self._size()
            try:
                self._attempt()
                return sha256(self.part)
            except _AttemptFailed as error:
                reason = error
            failures += 1
            if self._size() > size_before:
                failures = 0
            if failures >= self.attempts:
                raise _AddressFailed(f"{reason}; gave up after {self.attempts} attempts")
            seconds = min(self.pause * 2 ** max(0, failures - 1), _LONGEST_PAUSE)
            print(f"{self.part.name}: {reason}; next attempt in {seconds:g} s", file=sys.stderr)
            time.sleep(seconds)

    def _attempt(self):
        """Append what one connection gives. Raises _AttemptFailed if that is not all."""
        origin = self._resumable()
        start = self._size() if origin else 0
        if origin and start == origin.size:
            return
        with self._open(start, origin) as response:
            if response.status != HTTPStatus.PARTIAL_CONTENT:
                start = 0
                origin = self._origin_of(response)
            elif not self._continues(response, start, origin):
                self._discard()
                raise _AttemptFailed("the file on the server has changed")
            self._check_space(origin, start)
            self._copy(response, start, origin)
        size = self._size()
        if origin.size is not None and size < origin.size:
            raise _AttemptFailed(f"connection closed after {size} of {origin.size} bytes")

    def _open(self, start, origin):
        """The response of the server to a request for the file, or for its rest."""
        headers = {"User-Agent": "temporal-action-recognition", "Accept-Encoding": "identity"}
        if start:
            headers["Range"] = f"bytes={start}-"
            if origin.validator:
                headers["If-Range"] = origin.validator
        request = urllib.request.Request(self.url, headers=headers)
        try:
            # urlopen() would keep the proxies of the first call in this process.
            response = urllib.request.build_opener().open(request, timeout=self.timeout)
        except urllib.error.HTTPError as error:
            error.close()
            if error.code == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
                self._discard()
                raise _AttemptFailed("the file on the server has changed") from None
            reason = f"the server answers {error.code} {error.reason}"
            if error.code in _TEMPORARY:
                raise _AttemptFailed(reason) from None
            raise _AddressFailed(reason) from None
        except (OSError, http.client.HTTPException) as error:
            raise self._connection_error(error) from None
        self._check_response(response)
        return response

    def _check_response(self, response):
        """Raises _AddressFailed for what cannot be the file."""
        if self.url.startswith("https:") and not response.geturl().startswith("https:"):
            response.close()
            raise _AddressFailed(f"leads to {response.geturl()}, which is not encrypted")
        if response.headers.get_content_type() == "text/html":
            response.close()
            raise _AddressFailed("the server sends a web page instead of the file")

    def _connection_error(self, error):
        """The exception to raise for one of urllib or of a socket."""
        reason = error
        if isinstance(error, urllib.error.URLError):
            reason = error.reason
        host = urlsplit(self.url).hostname
        if isinstance(reason, TimeoutError):
            return _AttemptFailed(f"no data from {host} within {self.timeout:g} s")
        if isinstance(reason, socket.gaierror):
            return _AddressFailed(
                f"no network, or {host} does not exist; behind a proxy, set https_proxy"
            )
        if isinstance(reason, ssl.SSLCertVerificationError):
            return _AddressFailed(f"invalid certificate of {host} ({reason.verify_message})")
        text = getattr(reason, "strerror", None) or str(reason) or type(reason).__name__
        return _AttemptFailed(f"no connection to {host} ({text})")

    def _origin_of(self, response):
        """The :class:`_Origin` of a whole file. Raises _AddressFailed if it could end unnoticed."""
        size = None
        length = response.headers.get("Content-Length", "")
        if length.isdecimal():
            size = int(length)
        if size is None and self.expected is None:
            raise _AddressFailed("the server does not send the size, and the hash is not known")
        validator = response.headers.get("ETag")
        if validator is None or validator.startswith("W/"):  # not the same bytes
            validator = response.headers.get("Last-Modified")
        return _Origin(self.url, size, validator)

    def _continues(self, response, start, origin):
        """Whether a response is the rest of the file that the ``.part`` file is the start of."""
        match = _CONTENT_RANGE.fullmatch(response.headers.get("Content-Range", ""))
        return match is not None and (int(match[1]), int(match[2])) == (start, origin.size)

    def _check_space(self, origin, start):
        """Raises UserError if the rest of the file does not fit on the disk."""
        if origin.size is None:
            return
        missing = origin.size - start
        free = shutil.disk_usage(self.part.parent).free
        if missing > free:
            raise UserError(
                f"{self.part.parent}: the file needs {missing / _MEGABYTE:.0f} MB, and "
                f"{free / _MEGABYTE:.0f} MB are free; make room and give the command again"
            )

    def _copy(self, response, start, origin):
        """Write what a response gives to the ``.part`` file, from ``start`` on."""
        bar = tqdm(
            desc=self.part.name.removesuffix(".part"),
            total=origin.size,
            initial=start,
            unit="B",
            unit_scale=True,
            disable=not self.progress or None,  # None: shown on a terminal only
        )
        mode = "ab" if start else "wb"
        with bar, self.part.open(mode) as file:
            self._write_origin(origin)
            while chunk := self._read(response):
                if file.tell() == 0 and is_web_page(chunk):
                    raise _AddressFailed("the server sends a web page instead of the file")
                file.write(chunk)
                bar.update(len(chunk))
            file.flush()
            os.fsync(file.fileno())

    def _read(self, response):
        try:
            return response.read1(_CHUNK)
        except (OSError, http.client.HTTPException) as error:
            raise self._connection_error(error) from None

    def _size(self):
        """Bytes of the ``.part`` file."""
        try:
            return self.part.stat().st_size
        except FileNotFoundError:
            return 0

    def _resumable(self):
        """The :class:`_Origin` of the ``.part`` file; None if it cannot be continued from here."""
        try:
            origin = _Origin(**json.loads(self.origin_file.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError):
            return None
        if origin.url != self.url or origin.size is None or not 0 < self._size() <= origin.size:
            return None
        if origin.validator is None and self.expected is None:
            return None  # a change of the file would not be noticed
        return origin

    def _write_origin(self, origin):
        with atomic_write(self.origin_file, "w") as file:
            json.dump(asdict(origin), file)

    def _discard(self):
        for file in (self.part, self.origin_file):
            with contextlib.suppress(FileNotFoundError):
                file.unlink()
