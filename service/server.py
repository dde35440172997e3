"""The HTTP server: uvicorn with a shutdown in two steps, and a log of JSON lines."""

from __future__ import annotations

import asyncio
import logging
import logging.config
import math
import os
import signal
from types import FrameType
from typing import TYPE_CHECKING, Any

import uvicorn
from fastapi import FastAPI

from detector.commands.process import INTERRUPTED
from detector.errors import SettingsError
from service.connections import ImpatientProtocol
from service.settings import ServiceSettings

if TYPE_CHECKING:
    from service.service import Service

SHUTDOWN_MARGIN = 2
"""Seconds in which answers to interrupted requests are sent, before the server closes."""

KEEP_ALIVE = 75
"""Seconds until an idle connection is closed. It is longer than a proxy's, because a proxy that
sends a request into a closing connection gets no answer."""

LOGGING: dict[str, Any] = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"json": {"()": "service.request_log.JsonLines"}},
    "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "json"}},
    "root": {"handlers": ["stderr"], "level": "WARNING"},
    "loggers": {"service": {"level": "INFO"}, "uvicorn.error": {"level": "INFO"}},
}
"""A line of JSON for each record, on stderr."""


def run_server(
    app: FastAPI, settings: ServiceSettings, *, host: str, port: int, quiet: bool
) -> None:
    """Serve until a signal ends the server.

    Raises:
        SettingsError: The port cannot be used, or the application could not start.
        KeyboardInterrupt: A SIGINT ended the server.
    """
    config = uvicorn.Config(
        app,
        host=host,
        port=port,
        http=ImpatientProtocol,
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_keep_alive=KEEP_ALIVE,
        timeout_graceful_shutdown=math.ceil(settings.drain) + SHUTDOWN_MARGIN,
    )
    server = Server(config, app, settings)
    if not quiet:
        logging.config.dictConfig(LOGGING)

    # The server handles both signals, and raises them once more when it has ended. An exception
    # there would be logged as an error of the application.
    interrupted = False

    def remember(signal_number: int, frame: FrameType | None) -> None:
        nonlocal interrupted
        if not server.should_exit:  # the server has not begun
            raise KeyboardInterrupt
        interrupted = True

    signal.signal(signal.SIGTERM, lambda *_: None)
    before = signal.signal(signal.SIGINT, remember)
    try:
        server.run()
    except SystemExit as error:
        raise SettingsError(f"cannot serve on {host}:{port}") from error
    finally:
        signal.signal(signal.SIGINT, before)
    if interrupted:
        raise KeyboardInterrupt
    if not server.started:
        raise SettingsError("the service could not start: the errors above say why")


class Server(uvicorn.Server):
    """A server that is no longer ready after SIGTERM, and closes a little later.

    A second signal closes it at once, a third one ends the running requests, and a fourth one the
    process. Before the application has started, the second one ends the process.

    Args:
        config: Uvicorn's configuration.
        app: The application, whose state has the service.
        settings: How long notice and shutdown take.
    """

    def __init__(self, config: uvicorn.Config, app: FastAPI, settings: ServiceSettings) -> None:
        super().__init__(config)
        self._app = app
        self._settings = settings
        self._ends_requests = False

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Handle a signal."""
        service: Service | None = getattr(self._app.state, "service", None)
        if self.should_exit:
            self._hurry(service)
            return
        if service is None:
            super().handle_exit(sig, frame)
            return

        notice = 0 if service.shutting_down else self._settings.drain_notice
        service.shutting_down = True
        # The loop may be asleep, and a signal alone does not wake it.
        loop = asyncio.get_running_loop()
        loop.call_soon_threadsafe(loop.call_later, notice, self._close, service, sig, frame)

    def _hurry(self, service: Service | None) -> None:
        """Handle a signal that comes while the server is closing.

        Uvicorn's own way would leave out the application's end, and log that as an error.
        """
        if service is None or self._ends_requests:
            os._exit(INTERRUPTED)
        self._ends_requests = True
        loop = asyncio.get_running_loop()
        loop.call_soon_threadsafe(service.close_within, 0)

    def _close(self, service: Service, sig: int, frame: FrameType | None) -> None:
        if not self.should_exit:  # a second signal may have come first
            service.close_within(self._settings.drain)
            super().handle_exit(sig, frame)
