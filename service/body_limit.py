"""The limit on the size of a request's body, enforced while the body streams in."""

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

    Args:
        app: The application.
        limit: Largest size in bytes.
    """

    def __init__(self, app: ASGIApp, limit: int) -> None:
        self._app = app
        self._limit = limit

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

        async def receive_limited() -> Message:
            nonlocal received
            if declared_length.isdecimal() and int(declared_length) > self._limit:
                # To receive from a client that expects "100 Continue" would tell it to go on.
                if "expect" not in headers:
                    await _discard_body(receive, self._limit)
                raise oversized

            message = await receive()
            received += len(message.get("body", b""))
            if received > self._limit:
                if message.get("more_body"):
                    await _discard_body(receive, self._limit)
                raise oversized
            return message

        await self._app(scope, receive_limited, send)


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
