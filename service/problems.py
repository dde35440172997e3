"""Errors as RFC 9457's problem details."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from detector.errors import (
    ExcessiveImage,
    ImageError,
    LostWorker,
    OversizedImage,
    UnsupportedImage,
)
from service.schemas import ProblemDetails

MEDIA_TYPE = "application/problem+json"

SCHEMA_NAME = "Problem"
"""Name of the schema of all problems in the OpenAPI description."""

STATUS_OF_ERROR: Mapping[type[ImageError], HTTPStatus] = {
    ExcessiveImage: HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    OversizedImage: HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    UnsupportedImage: HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
    LostWorker: HTTPStatus.SERVICE_UNAVAILABLE,
}
"""Status of each error about an image. All others are 400."""


class Problem(Exception):
    """An error that is a request's answer.

    Args:
        status: The HTTP status.
        code: The problem's `type`, which never changes.
        detail: One line that says what was wrong and what is allowed.
        retry_after: Seconds after which the client should try again.
    """

    def __init__(
        self, status: HTTPStatus, code: str, detail: str, *, retry_after: int | None = None
    ) -> None:
        super().__init__(status, code, detail)
        self.status = status
        self.code = code
        self.detail = detail
        self.headers: dict[str, str] = {}
        if retry_after is not None:
            self.headers["retry-after"] = str(retry_after)
        if status is HTTPStatus.UNAUTHORIZED:
            self.headers["www-authenticate"] = "Bearer"

    @classmethod
    def from_image_error(cls, error: ImageError) -> Problem:
        """Translate an error about the image."""
        status = STATUS_OF_ERROR.get(type(error), HTTPStatus.BAD_REQUEST)
        retry_after = 1 if status is HTTPStatus.SERVICE_UNAVAILABLE else None
        return cls(status, error.code, error.message, retry_after=retry_after)

    def response(self, request_id: str) -> JSONResponse:
        """Return the answer to a request."""
        details = ProblemDetails(
            type=self.code,
            title=self.status.phrase,
            status=self.status.value,
            detail=self.detail,
            request_id=request_id,
        )
        return JSONResponse(
            details.model_dump(),
            self.status.value,
            headers=self.headers,
            media_type=MEDIA_TYPE,
        )


def closing_problem() -> Problem:
    """Return the answer (503) to a request that arrives during shutdown."""
    detail = "the service is closing"
    return Problem(HTTPStatus.SERVICE_UNAVAILABLE, "closing", detail, retry_after=5)


def request_id(request: Request) -> str:
    """Return the id that `RequestLogMiddleware` gave to a request."""
    return str(request.scope.get("state", {}).get("request_id", ""))


def document_problems(*statuses: HTTPStatus) -> dict[int | str, dict[str, Any]]:
    """Return the OpenAPI description of the problems that an operation may answer with."""
    schema = {"$ref": f"#/components/schemas/{SCHEMA_NAME}"}
    return {
        status.value: {
            "description": status.phrase,
            "content": {MEDIA_TYPE: {"schema": schema}},
        }
        for status in statuses
    }


def add_problem_handlers(app: FastAPI) -> None:
    """Make an application answer all errors with problem details."""
    app.exception_handler(Problem)(_answer_problem)
    app.exception_handler(RequestValidationError)(_answer_bad_parameter)
    app.exception_handler(HTTPException)(_answer_http_exception)


async def _answer_problem(request: Request, error: Problem) -> Response:
    return error.response(request_id(request))


async def _answer_bad_parameter(request: Request, error: RequestValidationError) -> Response:
    first = error.errors()[0]
    detail = f"{first['loc'][-1]}: {first['msg']}"
    problem = Problem(HTTPStatus.UNPROCESSABLE_ENTITY, "bad-parameter", detail)
    return problem.response(request_id(request))


async def _answer_http_exception(request: Request, error: HTTPException) -> Response:
    """Answer an error of the framework, such as an unknown path."""
    status = HTTPStatus(error.status_code)
    code = status.phrase.lower().replace(" ", "-")
    problem = Problem(status, code, str(error.detail))
    problem.headers |= dict(error.headers or {})
    return problem.response(request_id(request))
