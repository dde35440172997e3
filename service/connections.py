"""Connections that end, and that leave file descriptors for worker processes.

Uvicorn alone would wait for ever for a request's head and for a client that does not read its
answer, and would accept connections until no descriptor is left.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import resource
import time
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol

logger = logging.getLogger(__name__)

HEAD_SECONDS = 20.0
"""Longest time from a connection's start, or from the first byte of a further request, to the end
of the request's head."""

ANSWER_SECONDS = 20.0
"""Time that a client has to read an answer, besides what `ANSWER_RATE` adds for a large one."""

ANSWER_RATE = 50_000
"""Slowest rate in bytes a second at which a client may read a large answer."""

MAX_UNREAD_BYTES = 100 * 2**20
"""Largest size of all unread answers together. Beyond it, the slowest reader is cut off."""

SECONDS_BETWEEN_COMPLAINTS = 10.0
"""Time between two lines in the log about connections that cannot be accepted."""

REFUSAL = (
    b"HTTP/1.1 503 Service Unavailable\r\nretry-after: 2\r\nconnection: close\r\n"
    b"content-length: 0\r\n\r\n"
)
"""Answer to a connection for which there is no descriptor to spare."""

OUT_OF_DESCRIPTORS = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
"""Errors of the system when it cannot accept a connection."""


class BoundedProtocol(H11Protocol):
    """Uvicorn's protocol for HTTP/1.1, with an end to all waiting and a limit on connections."""

    _head_timer: asyncio.TimerHandle | None = None
    _answer_timer: asyncio.TimerHandle | None = None
    _answer_since = 0.0

    def connection_made(self, transport: Any) -> None:
        """Start to wait for the first request."""
        super().connection_made(transport)
        if transport.get_extra_info("socket").fileno() >= _descriptors_for_connections():
            transport.write(REFUSAL)
            transport.close()
            return
        # Whatever the system does not take at once is an answer that nobody reads yet.
        transport.set_write_buffer_limits(high=0)
        self._watch_head()

    def data_received(self, data: bytes) -> None:
        """Take bytes of a request."""
        super().data_received(data)
        self._watch_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop waiting."""
        self._stop_head_timer()
        self._stop_answer_timer()
        super().connection_lost(exc)

    def send_400_response(self, msg: str) -> None:
        """Refuse bytes that are no HTTP. A request that they interrupt has lost its client."""
        if self.cycle is not None and not self.cycle.response_complete:
            self.cycle.disconnected = True
            self.cycle.message_event.set()
            if self.cycle.response_started:
                self.transport.abort()
                return
        super().send_400_response(msg)

    def pause_writing(self) -> None:
        """Start to wait for the client to read."""
        super().pause_writing()
        size = self.transport.get_write_buffer_size()
        seconds = ANSWER_SECONDS + size / ANSWER_RATE
        self._stop_answer_timer()
        self._answer_timer = self.loop.call_later(seconds, self.transport.abort)
        self._answer_since = time.monotonic()
        self._bound_unread_answers()

    def resume_writing(self) -> None:
        """Stop waiting for the client to read."""
        super().resume_writing()
        self._stop_answer_timer()

    def _bound_unread_answers(self) -> None:
        """Cut off the slowest readers while all unread answers are too large together."""
        waiting = [each for each in self.connections if isinstance(each, BoundedProtocol)]
        waiting = [each for each in waiting if each._answer_timer is not None]
        waiting.sort(key=lambda each: each._answer_since)
        unread = sum(each.transport.get_write_buffer_size() for each in waiting)
        while unread > MAX_UNREAD_BYTES and len(waiting) > 1:
            slowest = waiting.pop(0)
            unread -= slowest.transport.get_write_buffer_size()
            slowest.transport.abort()

    def _watch_head(self) -> None:
        has_request = self.cycle is not None and not self.cycle.response_complete
        if has_request:
            self._stop_head_timer()
        elif self._head_timer is None:
            self._head_timer = self.loop.call_later(HEAD_SECONDS, self._close)

    def _close(self) -> None:
        if self.cycle is None or self.cycle.response_complete:
            self.transport.close()

    def _stop_head_timer(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _stop_answer_timer(self) -> None:
        if self._answer_timer is not None:
            self._answer_timer.cancel()
            self._answer_timer = None


class LoopErrors:
    """Handler of the event loop's errors: connections that cannot be accepted are a line each time.

    By default asyncio logs some thousand tracebacks a second then.
    """

    def __init__(self) -> None:
        self._next_complaint = 0.0

    def __call__(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """Log an error that nothing caught."""
        error = context.get("exception")
        if not isinstance(error, OSError) or error.errno not in OUT_OF_DESCRIPTORS:
            loop.default_exception_handler(context)
            return
        if time.monotonic() >= self._next_complaint:
            self._next_complaint = time.monotonic() + SECONDS_BETWEEN_COMPLAINTS
            logger.warning("no connection can be accepted: %s", error.strerror)


def _descriptors_for_connections() -> int:
    """Return how many descriptors may be in use when a connection is accepted.

    A new descriptor has the lowest free number, so its number tells how many are in use. The rest
    is for worker processes, each of which needs a few to start.
    """
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if limit == resource.RLIM_INFINITY:
        return 2**31
    return limit - min(64, max(16, limit // 8))
