"""Limits on the size of a body, and of all bodies together, enforced while they stream in."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from http import HTTPStatus

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.problems import Problem

IDLE_SECONDS = 10.0
"""Longest time without a byte of a body."""

DISCARD_SECONDS = 5.0
"""Longest time in which the rest of a refused body is read and discarded."""

DISCARD_IDLE_SECONDS = 0.5
"""Longest time without a byte of a refused body."""

DISCARD_FACTOR = 4
"""The rest of a refused body is discarded up to this multiple of the limit."""


class BodyLimitMiddleware:
    """ASGI middleware that refuses a body as soon as it is known to be too large or too slow.

    A body counts until its request is answered. What the application has not read of it is
    discarded before the answer, because a client that still sends would not see the answer. If it
    does not end soon, the connection is closed.

    Args:
        app: The application.
        limit: Largest size of a body in bytes.
        total: Largest size of all bodies together in bytes.
    """

    def __init__(self, app: ASGIApp, limit: int, total: int) -> None:
        self._app = app
        self._limit = limit
        self._total = total
        self._held = 0
        """Bytes of the bodies of all requests that are not answered, also those still to come."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle a request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        body = _Body(Headers(scope=scope), receive)

        async def receive_limited() -> Message:
            if body.ended:  # the application waits for the client to leave
                return await receive()
            self._count(body)
            message = await body.receive()
            self._count(body)
            return message

        async def send_after_body(message: Message) -> None:
            if message["type"] == "http.response.start" and not body.ended:
                await body.discard(DISCARD_FACTOR * self._limit)
                if not body.ended:
                    closing = (b"connection", b"close")
                    message = {**message, "headers": [*message.get("headers", ()), closing]}
            await send(message)

        try:
            await self._app(scope, receive_limited, send_after_body)
        finally:
            self._held -= body.counted

    def _count(self, body: _Body) -> None:
        """Count a body, if there is room; one body alone always has room.

        Raises:
            Problem: 413, because it is too large, or 503, because all bodies are together.
        """
        if body.size > self._limit:
            detail = f"more than the {self._limit:,} bytes allowed"
            raise Problem(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "oversized-body", detail)

        others = self._held - body.counted
        if others and others + body.size > self._total:
            detail = f"bodies of {self._held:,} bytes are in work already"
            raise Problem(HTTPStatus.SERVICE_UNAVAILABLE, "busy", detail, retry_after=2)
        self._held = others + body.size
        body.counted = body.size


class _Body:
    """The body of a request, as it arrives.

    Args:
        headers: The request's headers.
        receive: Receives the next part.
    """

    def __init__(self, headers: Headers, receive: Receive) -> None:
        self._receive = receive
        length = headers.get("content-length", "0")
        self.size = int(length) if length.isdecimal() else 0
        """Bytes that its head declares, or that have arrived if that is more."""
        self.counted = 0
        """Bytes that count towards the limit on all bodies."""
        self.ended = self.size == 0 and "transfer-encoding" not in headers
        """Whether all of it has arrived, or its client has left."""
        self._received = 0
        # To receive from a client that expects "100 Continue" tells it to go on.
        self._may_discard = "expect" not in headers

    async def receive(self) -> Message:
        """Return the next part.

        Raises:
            Problem: 408, because nothing comes.
        """
        try:
            return await self._next(IDLE_SECONDS)
        except TimeoutError as error:
            detail = f"no byte of the body came for {IDLE_SECONDS:g} seconds"
            raise Problem(HTTPStatus.REQUEST_TIMEOUT, "slow-upload", detail) from error

    async def discard(self, size: int) -> None:
        """Read the rest for a while, up to this number of bytes."""
        if not self._may_discard:
            return
        end = self._received + size
        with suppress(TimeoutError):
            async with asyncio.timeout(DISCARD_SECONDS):
                while not self.ended and self._received < end:
                    await self._next(DISCARD_IDLE_SECONDS)

    async def _next(self, seconds: float) -> Message:
        self._may_discard = True
        async with asyncio.timeout(seconds):
            message = await self._receive()
        self._received += len(message.get("body", b""))
        self.size = max(self.size, self._received)
        self.ended = not message.get("more_body", False)
        return message
