"""The limit on a request's bytes, held while they stream in, and the content types allowed."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from http import HTTPStatus

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import Field, File, create_form_parser
from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.problems import Problem

FIELD = "image"
PATIENCE = 5.0
"""Seconds."""

FIELDS = 8
"""That a form may have, beside the image."""


class BodyLimit:
    """ASGI middleware: a body of more bytes is refused as soon as that is known.

    Args:
        limit: bytes.
    """

    def __init__(self, app: ASGIApp, limit: int) -> None:
        self._app, self._limit = app, limit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle a request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        declared = headers.get("content-length", "0")
        oversized = Problem(
            HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
            "oversized-body",
            f"more than the {self._limit:,} bytes allowed",
        )
        read = 0

        async def limited() -> Message:
            nonlocal read
            if declared.isdecimal() and int(declared) > self._limit:
                if "expect" not in headers:  # to receive is to say "go on"
                    await _discard(receive, self._limit)
                raise oversized
            message = await receive()
            read += len(message.get("body", b""))
            if read > self._limit:
                if message.get("more_body"):
                    await _discard(receive, self._limit)
                raise oversized
            return message

        await self._app(scope, limited, send)


async def _discard(receive: Receive, limit: int) -> None:
    """Read on for a while: a client that still sends sees a lost connection and no answer."""
    read, more = 0, True
    with suppress(TimeoutError):
        async with asyncio.timeout(PATIENCE):
            while more and read < 4 * limit:
                message = await receive()
                read += len(message.get("body", b""))
                more = message.get("more_body", False)


async def read_image(request: Request, limit: int) -> bytes:
    """The bytes of the image that a request carries: its body, or its form's field `image`.

    Raises:
        Problem: the body is neither, or a broken form.
    """
    content_type = request.headers.get("content-type", "application/octet-stream")
    kind = content_type.partition(";")[0].strip().lower()
    if kind == "multipart/form-data":
        return await _image_of_form(request, limit)
    if kind.startswith("image/") or kind == "application/octet-stream":
        return await request.body()
    raise Problem(
        HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
        "unsupported-content-type",
        f"{kind[:80]!r}: allowed are image/…, application/octet-stream, and multipart/form-data "
        f"with a field {FIELD!r}",
    )


async def _image_of_form(request: Request, limit: int) -> bytes:
    found: list[bytes] = []
    others = 0

    def count(_: Field | File) -> None:
        nonlocal others
        others += 1
        if others > FIELDS:
            detail = f"more than {FIELDS} fields beside the image"
            raise Problem(HTTPStatus.BAD_REQUEST, "bad-form", detail)

    def keep(file: File) -> None:
        if file.field_name != FIELD.encode():
            count(file)
        else:
            file.file_object.seek(0)
            found.append(file.file_object.read())

    headers = {"Content-Type": request.headers["content-type"].encode("latin-1")}
    config = {"MAX_MEMORY_FILE_SIZE": limit + 1}  # nothing goes to disk
    try:
        parser = create_form_parser(headers, count, keep, config)
        async for chunk in request.stream():
            parser.write(chunk)
        parser.finalize()
    except FormParserError as error:
        raise Problem(HTTPStatus.BAD_REQUEST, "bad-form", f"not a form: {error}") from error
    if len(found) == 1:
        return found[0]
    raise Problem(
        HTTPStatus.UNPROCESSABLE_ENTITY,
        "missing-image" if not found else "several-images",
        f"the form needs one file in its field {FIELD!r}, not {len(found)}",
    )
