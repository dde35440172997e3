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

from detector.bundles.bundle import Bundle
from detector.commands.options import DONE, Arguments, add_detector_options, main, make_parser
from detector.errors import SettingsError
from service.keys import read_keys
from service.settings import ServeSettings, ServiceSettings

if TYPE_CHECKING:
    from fastapi import FastAPI

    from detector.networks import Networks
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


def command(arguments: Arguments = None) -> int:
    """Run the command and return its exit code."""
    return main(_serve, _parser().parse_args(arguments))


def _parser() -> argparse.ArgumentParser:
    parser = make_parser("detector-serve", "Find objects in images that are sent over HTTP.")
    add = parser.add_argument_group("service").add_argument
    add("--host", default="127.0.0.1", help="the address to listen on (127.0.0.1)")
    add("--port", type=_port, default=8000, help="the port to listen on (8000); 0 takes any")
    add(
        "--api-keys",
        type=Path,
        metavar="FILE",
        help="a file with one key per line; $DETECTOR_API_KEYS is read, too",
    )
    add_detector_options(parser)
    return parser


def _port(text: str) -> int:
    if not text.isdecimal() or int(text) > 65535:
        raise argparse.ArgumentTypeError(f"{text!r} must be a port, 0 to 65535")
    return int(text)


def _serve(arguments: argparse.Namespace) -> int:
    # Process 1 of a container ignores signals that it has no handler for.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(DONE))

    # Settings and keys are checked before the networks are loaded, which is slow.
    bundle = Bundle.load(arguments.bundle)
    settings = _read_settings(arguments, bundle, arguments.preset)
    if arguments.print_config:
        print(settings.to_toml(), end="")
        return DONE
    keys = read_keys(arguments.api_keys)
    names = dict.fromkeys((arguments.preset, *settings.service.presets))
    presets = {name: _read_settings(arguments, bundle, name).detector() for name in names}

    # These imports are slow, and the options above need none of them.
    from detector.detector import Detector
    from service.app import create_app

    with _load_networks(arguments, bundle, settings) as networks:
        detectors = {name: Detector(networks, preset) for name, preset in presets.items()}
        app = create_app(detectors, settings.service, keys=keys)
        _run_server(app, arguments, settings.service)
    return DONE


def _read_settings(arguments: argparse.Namespace, bundle: Bundle, preset: str) -> ServeSettings:
    return ServeSettings.read(
        preset=preset,
        config=arguments.config,
        assignments=arguments.assignments,
        base=bundle.manifest.settings,
    )


def _load_networks(
    arguments: argparse.Namespace, bundle: Bundle, settings: ServeSettings
) -> Networks:
    """Load all networks of a bundle, because each preset uses others."""
    from detector.detector import check_classes, resolve_runtime
    from detector.networks import Networks

    check_classes(settings, bundle.manifest.classes)
    runtime = resolve_runtime(bundle, settings, device=arguments.device, backend=arguments.backend)
    return Networks.load(bundle, runtime)


def _run_server(app: FastAPI, arguments: argparse.Namespace, settings: ServiceSettings) -> None:
    """Serve until a signal ends the server.

    Raises:
        SettingsError: The port cannot be used, or the application could not start.
    """
    config = uvicorn.Config(
        app,
        host=arguments.host,
        port=arguments.port,
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_keep_alive=KEEP_ALIVE,
        timeout_graceful_shutdown=math.ceil(settings.drain) + SHUTDOWN_MARGIN,
    )
    server = Server(config, app, settings)
    if not arguments.quiet:
        logging.config.dictConfig(LOGGING)

    # The server handles SIGTERM, and raises it once more when it has ended.
    signal.signal(signal.SIGTERM, lambda *_: None)
    try:
        server.run()
    except SystemExit as error:
        raise SettingsError(f"cannot serve on {arguments.host}:{arguments.port}") from error
    if not server.started:
        raise SettingsError("the service could not start: the errors above say why")


class Server(uvicorn.Server):
    """A server that is no longer ready after SIGTERM, and closes a little later.

    A second signal closes it at once. After that, Ctrl-C ends it without waiting for requests.

    Args:
        config: Uvicorn's configuration.
        app: The application, whose state has the service.
        settings: How long notice and shutdown take.
    """

    def __init__(self, config: uvicorn.Config, app: FastAPI, settings: ServiceSettings) -> None:
        super().__init__(config)
        self._app = app
        self._settings = settings

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Handle a signal."""
        service: Service | None = getattr(self._app.state, "service", None)
        if service is None or self.should_exit:
            super().handle_exit(sig, frame)
            return

        notice = 0 if service.shutting_down else self._settings.drain_notice
        service.shutting_down = True
        # The loop may be asleep, and a signal alone does not wake it.
        loop = asyncio.get_running_loop()
        loop.call_soon_threadsafe(loop.call_later, notice, self._close, service, sig, frame)

    def _close(self, service: Service, sig: int, frame: FrameType | None) -> None:
        if not self.should_exit:  # a second signal may have come first
            service.close_within(self._settings.drain)
            super().handle_exit(sig, frame)


if __name__ == "__main__":
    raise SystemExit(command())
