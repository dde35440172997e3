"""Limits on the size of a body, and of all bodies together, enforced while they stream in."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from http import HTTPStatus
from typing import NoReturn

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.problems import Problem

DISCARD_SECONDS = 5.0
"""Longest time in which the rest of a refused body is read and discarded."""

DISCARD_FACTOR = 4
"""The rest of a refused body is discarded up to this multiple of the limit."""


class BodyLimitMiddleware:
    """ASGI middleware that refuses a body as soon as it is known to be too large.

    A body counts until its request is answered. A connection whose body was not read to its end is
    closed after the answer, or it would stay open as long as its client sends.

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

        headers = Headers(scope=scope)
        length = headers.get("content-length", "0")
        declared = int(length) if length.isdecimal() else 0
        reserved = 0
        received = 0
        ended = declared == 0 and "transfer-encoding" not in headers

        async def refuse(problem: Problem) -> NoReturn:
            # To receive from a client that expects "100 Continue" would tell it to go on.
            if not ended and (received or "expect" not in headers):
                await _discard_body(receive, self._limit)
            raise problem

        def reserve(size: int) -> bool:
            """Count a body of this size, if there is room; one body alone always has room."""
            nonlocal reserved
            others = self._held - reserved
            if others and others + size > self._total:
                return False
            self._held = others + size
            reserved = size
            return True

        async def receive_limited() -> Message:
            nonlocal received, ended
            if declared > self._limit:
                await refuse(self._oversized())
            if not reserve(max(declared, received)):
                await refuse(self._busy())

            message = await receive()
            received += len(message.get("body", b""))
            ended = not message.get("more_body", False)
            if received > self._limit:
                await refuse(self._oversized())
            if not reserve(max(declared, received)):
                await refuse(self._busy())
            return message

        async def send_and_close(message: Message) -> None:
            if message["type"] == "http.response.start" and not ended:
                closing = (b"connection", b"close")
                message = {**message, "headers": [*message.get("headers", ()), closing]}
            await send(message)

        try:
            await self._app(scope, receive_limited, send_and_close)
        finally:
            self._held -= reserved

    def _oversized(self) -> Problem:
        detail = f"more than the {self._limit:,} bytes allowed"
        return Problem(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "oversized-body", detail)

    def _busy(self) -> Problem:
        detail = f"bodies of {self._held:,} bytes are in work already"
        return Problem(HTTPStatus.SERVICE_UNAVAILABLE, "busy", detail, retry_after=2)


async def _discard_body(receive: Receive, limit: int) -> None:
    """Read on for a while, because a client that still sends would not see the answer."""
    discarded = 0
    more = True
    with suppress(TimeoutError):
        async with asyncio.timeout(DISCARD_SECONDS):
            while more and discarded < DISCARD_FACTOR * limit:
                message = await receive()
                discarded += len(message.get("body", b""))
                more = message.get("more_body", False)
