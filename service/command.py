"""`detector-serve`: detection over HTTP."""

from __future__ import annotations

import argparse
import asyncio
import logging
import logging.config
import math
import signal
import sys
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

import uvicorn

from detector.commands.options import DONE, Arguments, add_detector_options, main, make_parser
from detector.errors import SettingsError
from service.keys import read_keys
from service.settings import ServeSettings, ServiceSettings

if TYPE_CHECKING:
    from fastapi import FastAPI

    from service.service import Service

MARGIN = 2
"""Seconds for the answers to requests that were too late, before the server gives them up."""

LOGGING: dict[str, Any] = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"json": {"()": "service.request_log.JsonLines"}},
    "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "json"}},
    "root": {"handlers": ["stderr"], "level": "WARNING"},
    "loggers": {"service": {"level": "INFO"}, "uvicorn.error": {"level": "INFO"}},
}
"""A line of JSON for each record, on stderr."""


def command(arguments: Arguments = None) -> int:
    """The entry point; returns the exit code."""
    return main(_serve, _parser().parse_args(arguments))


def _parser() -> argparse.ArgumentParser:
    parser = make_parser("detector-serve", "Find objects in images that are sent over HTTP.")
    add = parser.add_argument_group("service").add_argument
    add("--host", default="127.0.0.1", help="the address to listen on (127.0.0.1)")
    add("--port", type=_port, default=8000, help="the port to listen on (8000); 0 takes any")
    add("--api-keys", type=Path, metavar="FILE", help="keys, a line each; also $DETECTOR_API_KEYS")
    add_detector_options(parser)
    return parser


def _port(text: str) -> int:
    if not text.isdecimal() or int(text) > 65535:
        raise argparse.ArgumentTypeError(f"{text!r} must be a port, 0 to 65535")
    return int(text)


def _serve(arguments: argparse.Namespace) -> int:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(DONE))  # process 1 has no default
    from detector.bundles.bundle import Bundle

    bundle = Bundle.load(arguments.bundle)

    def read(preset: str) -> ServeSettings:
        return ServeSettings.read(
            preset=preset,
            config=arguments.config,
            assignments=arguments.assignments,
            base=bundle.manifest.settings,
        )

    settings = read(arguments.preset)
    if arguments.print_config:
        print(settings.to_toml(), end="")
        return DONE
    keys = read_keys(arguments.api_keys)
    from detector.detector import Detector
    from service.app import create_app

    most = settings.detector().replace(classifier={"members": "all"})
    detector = Detector(bundle, most, device=arguments.device, backend=arguments.backend)
    service = settings.service
    names = dict.fromkeys((arguments.preset, *service.presets))
    presets = {name: read(name).detector() for name in names}
    app = create_app(lambda: detector, service, presets=presets, keys=keys)
    config = uvicorn.Config(
        app,
        host=arguments.host,
        port=arguments.port,
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_keep_alive=75,  # longer than a proxy's, which would meet a closed connection
        timeout_graceful_shutdown=math.ceil(service.drain) + MARGIN,
    )
    server = Server(config, app, service)
    if not arguments.quiet:
        logging.config.dictConfig(LOGGING)
    signal.signal(signal.SIGTERM, lambda *_: None)  # the server raises it again at its end
    try:
        server.run()
    except SystemExit as error:
        raise SettingsError(f"cannot serve on {arguments.host}:{arguments.port}") from error
    if not server.started:
        raise SettingsError("the service could not start: the errors above say why")
    return DONE


class Server(uvicorn.Server):
    """A server that on SIGTERM first says that it is not ready, and closes a little later.

    A second signal closes it without that notice; after that, Ctrl-C ends it at once.

    Args:
        app: the application, whose state has the service.
        settings: how long each takes.
    """

    def __init__(self, config: uvicorn.Config, app: FastAPI, settings: ServiceSettings) -> None:
        super().__init__(config)
        self._app, self._settings = app, settings

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """What a signal does."""
        service: Service | None = getattr(self._app.state, "service", None)
        if service is None or self.should_exit:
            super().handle_exit(sig, frame)
            return
        notice = 0 if service.leaving else self._settings.drain_notice
        service.leaving = True
        loop = asyncio.get_running_loop()  # which sleeps, and a signal alone does not wake it
        loop.call_soon_threadsafe(loop.call_later, notice, self._close, service, sig, frame)

    def _close(self, service: Service, sig: int, frame: FrameType | None) -> None:
        if not self.should_exit:  # a second signal was quicker
            service.close_within(self._settings.drain)
            super().handle_exit(sig, frame)


if __name__ == "__main__":
    raise SystemExit(command())
