"""A request's id, its line in the log, and its count.

Pure ASGI, as everything around the application here: what wraps requests and answers in tasks of
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

HEADER = "x-request-id"
QUIET = frozenset({"/healthz", "/readyz", "/metrics"})
"""Paths that are asked for every few seconds."""

GIVEN = re.compile(r"[\w.-]{1,64}", re.ASCII)
"""What a client may call its request."""

LEFT = 499
"""The status, for counts and the log, of a request whose client went away: nobody gets it."""

UNFORESEEN = Problem(
    HTTPStatus.INTERNAL_SERVER_ERROR, "internal", "an error of the service; it is logged"
)


class RequestLogMiddleware:
    """ASGI middleware around all else; an error that nothing has caught ends here."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app, self._metrics = app, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle a request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        given = Headers(scope=scope).get(HEADER, "")
        request_id = given if GIVEN.fullmatch(given) else uuid.uuid4().hex
        scope.setdefault("state", {})["request_id"] = request_id
        started = time.perf_counter()
        status = LEFT

        async def observed(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                MutableHeaders(scope=message)[HEADER] = request_id
            await send(message)

        try:
            await self._app(scope, receive, observed)
        except Exception:
            logger.exception("request failed", extra={"fields": {"request_id": request_id}})
            if status != LEFT:  # too late for another answer: the server cuts this one off
                raise
            await UNFORESEEN.response(request_id)(scope, receive, observed)
        finally:
            route = scope.get("route")
            path = getattr(route, "path", "other")
            self._metrics.requests.labels(path, str(status)).inc()
            logger.log(
                logging.DEBUG if path in QUIET else logging.INFO,
                "request",
                extra={
                    "fields": {
                        "request_id": request_id,
                        "method": scope["method"],
                        "path": scope["path"],
                        "status": status,
                        "seconds": round(time.perf_counter() - started, 4),
                    }
                },
            )


class JsonLines(logging.Formatter):
    """A line of JSON for each record."""

    def format(self, record: logging.LogRecord) -> str:
        """The line."""
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
