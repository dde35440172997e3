"""The HTTP server: uvicorn with a shutdown in two steps, and a log of JSON lines."""

from __future__ import annotations

import asyncio
import logging
import logging.config
import math
import os
import signal
import socket
import threading
from functools import partial
from types import FrameType
from typing import TYPE_CHECKING, Any

import uvicorn
from fastapi import FastAPI

from detector.commands.process import INTERRUPTED, SECONDS_TO_END
from detector.errors import SettingsError
from service.connections import BoundedProtocol, LoopErrors
from service.settings import ServiceSettings

if TYPE_CHECKING:
    from service.service import Service

ANSWER_MARGIN = 1.5
"""Seconds in which answers to interrupted requests are sent, before connections are cut off."""

SHUTDOWN_MARGIN = 2
"""Seconds after which uvicorn cancels what still runs, which it logs as an error."""

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
        http=BoundedProtocol,
        ws="none",
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

    A second signal ends the running requests and the server, within seconds, and a third one the
    process at once.
    Before the application has started, the second one ends the process.

    Args:
        config: Uvicorn's configuration.
        app: The application, whose state has the service.
        settings: How long notice and shutdown take.
    """

    def __init__(self, config: uvicorn.Config, app: FastAPI, settings: ServiceSettings) -> None:
        super().__init__(config)
        self._app = app
        self._settings = settings
        self._signals = 0

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start the application, and listen."""
        asyncio.get_running_loop().set_exception_handler(LoopErrors())
        await super().startup(sockets)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Handle a signal."""
        self._signals += 1
        service: Service | None = getattr(self._app.state, "service", None)
        if self._signals > 2 or (service is None and self.should_exit):
            os._exit(INTERRUPTED)
        if service is None:
            super().handle_exit(sig, frame)
            return

        service.shutting_down = True
        is_first = self._signals == 1
        if not is_first:
            # What the classifier has in hand may take longer than a person waits.
            timer = threading.Timer(SECONDS_TO_END, os._exit, [INTERRUPTED])
            timer.daemon = True
            timer.start()
        notice = self._settings.drain_notice if is_first else 0
        drain = self._settings.drain if is_first else 0
        # The loop may be asleep, and a signal alone does not wake it.
        loop = asyncio.get_running_loop()
        close = partial(self._close, service, drain, sig, frame)
        loop.call_soon_threadsafe(loop.call_later, notice, close)

    def _close(self, service: Service, drain: float, sig: int, frame: FrameType | None) -> None:
        """Stop listening, and end what still runs after some seconds."""
        service.close_within(drain)
        if not self.should_exit:  # a second SIGINT would leave out the application's end
            super().handle_exit(sig, frame)
        # Clients that do not read their answers would keep the server.
        loop = asyncio.get_running_loop()
        loop.call_later(drain + ANSWER_MARGIN, self._cut_off)

    def _cut_off(self) -> None:
        for connection in list(self.server_state.connections):
            connection.transport.abort()
