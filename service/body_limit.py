"""Limits on the size of a body, and of all bodies together, enforced while they stream in."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from http import HTTPStatus

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.problems import Problem

DISCARD_SECONDS = 5.0
"""Longest time in which the rest of an oversized body is read and discarded."""

DISCARD_FACTOR = 4
"""The rest of an oversized body is discarded up to this multiple of the limit."""


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
        """Bytes of the bodies of all requests that are not answered."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle a request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        headers = Headers(scope=scope)
        declared_length = headers.get("content-length", "0")
        oversized = Problem(
            HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
            "oversized-body",
            f"more than the {self._limit:,} bytes allowed",
        )
        received = 0
        ended = declared_length == "0" and "transfer-encoding" not in headers

        async def receive_limited() -> Message:
            nonlocal received, ended
            if declared_length.isdecimal() and int(declared_length) > self._limit:
                # To receive from a client that expects "100 Continue" would tell it to go on.
                if "expect" not in headers:
                    await _discard_body(receive, self._limit)
                raise oversized

            message = await receive()
            size = len(message.get("body", b""))
            received += size
            self._held += size
            ended = not message.get("more_body", False)
            if received > self._limit:
                if not ended:
                    await _discard_body(receive, self._limit)
                raise oversized
            if self._held > max(self._total, received):  # one body alone is always allowed
                detail = f"bodies of {self._held:,} bytes are in work already"
                raise Problem(HTTPStatus.SERVICE_UNAVAILABLE, "busy", detail, retry_after=2)
            return message

        async def send_and_close(message: Message) -> None:
            if message["type"] == "http.response.start" and not ended:
                closing = (b"connection", b"close")
                message = {**message, "headers": [*message.get("headers", ()), closing]}
            await send(message)

        try:
            await self._app(scope, receive_limited, send_and_close)
        finally:
            self._held -= received


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
