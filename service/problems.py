"""What goes wrong, as RFC 9457's problem details."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse

from detector.errors import (
    ImageError,
    LostWorker,
    OversizedImage,
    UnsupportedImage,
)

MEDIA_TYPE = "application/problem+json"

STATUS_OF_ERROR: Mapping[type[ImageError], HTTPStatus] = {
    OversizedImage: HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    UnsupportedImage: HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
    LostWorker: HTTPStatus.SERVICE_UNAVAILABLE,
}
"""Of what a detector says of an image; all others are 400."""


class Problem(Exception):
    """An answer that is an error.

    Args:
        code: stable, the problem's `type`.
        detail: a line that says what was wrong and what is allowed.
        retry_after: seconds after which to try again.
    """

    def __init__(
        self, status: HTTPStatus, code: str, detail: str, *, retry_after: int | None = None
    ) -> None:
        super().__init__(status, code, detail)
        self.status, self.code, self.detail = status, code, detail
        self.headers: dict[str, str] = {}
        if retry_after is not None:
            self.headers["retry-after"] = str(retry_after)
        if status is HTTPStatus.UNAUTHORIZED:
            self.headers["www-authenticate"] = "Bearer"

    @classmethod
    def of(cls, error: ImageError) -> Problem:
        """What an error about the image is over HTTP."""
        status = STATUS_OF_ERROR.get(type(error), HTTPStatus.BAD_REQUEST)
        busy = status is HTTPStatus.SERVICE_UNAVAILABLE
        return cls(status, error.code, error.message, retry_after=1 if busy else None)

    def response(self, request_id: str) -> JSONResponse:
        """The answer."""
        content = {
            "type": self.code,
            "title": self.status.phrase,
            "status": self.status.value,
            "detail": self.detail,
            "request_id": request_id,
        }
        return JSONResponse(content, self.status.value, headers=self.headers, media_type=MEDIA_TYPE)


def closing() -> Problem:
    """What a request is told that came too late."""
    detail = "the service is closing"
    return Problem(HTTPStatus.SERVICE_UNAVAILABLE, "closing", detail, retry_after=5)


def request_id(request: Request) -> str:
    """That of a request, which `observing` gave it."""
    return str(request.scope.get("state", {}).get("request_id", ""))


def documented(*statuses: HTTPStatus) -> dict[int | str, dict[str, Any]]:
    """The problems that an operation may answer with, for its OpenAPI description."""
    properties = {
        "type": {"type": "string"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
        "request_id": {"type": "string"},
    }
    schema = {"type": "object", "properties": properties, "required": list(properties)}
    return {
        status.value: {
            "description": status.phrase,
            "content": {MEDIA_TYPE: {"schema": schema}},
        }
        for status in statuses
    }
