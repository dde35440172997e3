"""The id, the log line and the count of each request.

All middleware here is pure ASGI, because middleware that wraps requests and answers in tasks of
its own hides that a client has left.
"""

from __future__ import annotations

import json
import logging
import re
import time
import uuid
from http import HTTPStatus
from typing import Any

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.metrics import Metrics
from service.problems import Problem

logger = logging.getLogger("service.requests")

REQUEST_ID_HEADER = "x-request-id"
VALID_REQUEST_ID = re.compile(r"[\w.-]{1,64}", re.ASCII)
"""Ids that a client may choose. Others are replaced."""

QUIET_PATHS = frozenset({"/healthz", "/readyz", "/metrics"})
"""Paths that are requested every few seconds and would fill the log."""

CLIENT_LEFT = 499
"""Status in metrics and log of a request whose client went away. Nobody receives it."""

INTERNAL_ERROR = Problem(
    HTTPStatus.INTERNAL_SERVER_ERROR, "internal", "an error of the service; it is logged"
)


class RequestLogMiddleware:
    """ASGI middleware that logs and counts requests, and answers errors that nothing caught.

    Args:
        app: The application.
        metrics: Counts the requests.
    """

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle a request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        request_id = _choose_request_id(scope)
        scope.setdefault("state", {})["request_id"] = request_id
        started = time.perf_counter()
        status = CLIENT_LEFT

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                MutableHeaders(scope=message)[REQUEST_ID_HEADER] = request_id
            await send(message)

        try:
            await self._app(scope, receive, send_with_id)
        except Exception:
            logger.exception("request failed", extra={"fields": {"request_id": request_id}})
            if status != CLIENT_LEFT:
                # The answer has begun, so there can be no other: the server cuts it off.
                raise
            await INTERNAL_ERROR.response(request_id)(scope, receive, send_with_id)
        finally:
            self._record(scope, request_id, status, time.perf_counter() - started)

    def _record(self, scope: Scope, request_id: str, status: int, seconds: float) -> None:
        """Count and log a request that has ended."""
        route = scope.get("route")
        path = getattr(route, "path", "other")
        self._metrics.requests.labels(path, str(status)).inc()

        fields = {
            "request_id": request_id,
            "method": scope["method"],
            "path": scope["path"],
            "status": status,
            "seconds": round(seconds, 4),
        }
        level = logging.DEBUG if path in QUIET_PATHS else logging.INFO
        logger.log(level, "request", extra={"fields": fields})


def _choose_request_id(scope: Scope) -> str:
    """Return the id that the client chose, if it is valid, or a new one."""
    chosen = Headers(scope=scope).get(REQUEST_ID_HEADER, "")
    return chosen if VALID_REQUEST_ID.fullmatch(chosen) else uuid.uuid4().hex


class JsonLines(logging.Formatter):
    """Formats each record as a line of JSON."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line of a record."""
        content: dict[str, Any] = {
            "time": self.formatTime(record, "%Y-%m-%dT%H:%M:%S%z"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        content |= getattr(record, "fields", {})
        if record.exc_info:
            content["traceback"] = self.formatException(record.exc_info)
        return json.dumps(content, ensure_ascii=False)
