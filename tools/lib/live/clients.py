"""The streams of the pages that send frames: one per page, for as long as it sends."""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from ops.streaming import LiveResult

IDLE_SECONDS = 60.0  # after which the stream of a page that sends nothing is dropped
MOST_CLIENTS = 16
# When there is no room, a page that has sent nothing for so long gives way to a new one.
GIVES_WAY_SECONDS = 2.0


class Stream(Protocol):
    """What a client's frames go into: ``ops.streaming.LiveStream``."""

    def push_crop(self, frame: np.ndarray, seconds: float) -> LiveResult | None: ...

    def close(self) -> object: ...


class TooManyClients(Exception):
    """Every place is taken by a page that is sending frames."""


@dataclass
class _Client:
    stream: Stream
    last_frame: float  # time of the client's last frame, in the client's seconds
    last_seen: float  # time of its last request, in seconds of the server's clock


class Clients:
    """The streams of the pages, by the name that each page gave itself.

    Thread-safe. One frame is processed at a time: the network uses all cores already, and the
    frames of a page stay in order.
    """

    def __init__(
        self, new_stream: Callable[[], Stream], clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Create it without clients.

        Args:
            new_stream: makes the stream of a new client.
            clock: seconds, for tests.
        """
        self._new_stream = new_stream
        self._clock = clock
        self._lock = threading.Lock()
        self._clients: dict[str, _Client] = {}

    def __len__(self) -> int:
        with self._lock:
            return len(self._clients)

    def push(self, name: str, frame: np.ndarray, seconds: float) -> LiveResult | None:
        """Put a frame into the stream of a client, which is made for its first frame.

        Args:
            name: of the client.
            frame: uint8 ``[3, S, S]``.
            seconds: its time on the client's clock. A frame that is not later than one before it
                was overtaken on its way, and is left out.

        Returns:
            The stream's result, or None for a frame that was left out.

        Raises:
            TooManyClients: there is no place for a new client.
        """
        with self._lock:
            client = self._client(name)
            if seconds <= client.last_frame:
                return None
            client.last_frame = seconds
            return client.stream.push_crop(frame, seconds)

    def remove(self, name: str) -> None:
        """Forget a client; an unknown name is ignored."""
        with self._lock:
            if name in self._clients:
                self._drop(name)

    def _client(self, name: str) -> _Client:
        now = self._clock()
        client = self._clients.get(name)
        if client is None:
            self._make_room(now)
            client = _Client(self._new_stream(), float("-inf"), now)
            self._clients[name] = client
        client.last_seen = now
        return client

    def _make_room(self, now: float) -> None:
        """Drop the clients that are gone, and one that is idle if every place is taken."""
        for name, client in list(self._clients.items()):
            if now - client.last_seen > IDLE_SECONDS:
                self._drop(name)
        if len(self._clients) < MOST_CLIENTS:
            return
        oldest = min(self._clients, key=lambda name: self._clients[name].last_seen)
        if now - self._clients[oldest].last_seen < GIVES_WAY_SECONDS:
            raise TooManyClients
        self._drop(oldest)

    def _drop(self, name: str) -> None:
        self._clients.pop(name).stream.close()
