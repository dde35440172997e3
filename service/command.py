"""`detector-serve`: detection over HTTP."""

from __future__ import annotations

import argparse
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from detector.bundles.bundle import Bundle
from detector.commands.options import DONE, Arguments, add_detector_options, main, make_parser
from service.settings import ServeSettings

if TYPE_CHECKING:
    from detector.networks import Networks


def command(arguments: Arguments = None) -> int:
    """Run the command and return its exit code."""
    return main(_serve, _parser().parse_args(arguments))


def _parser() -> argparse.ArgumentParser:
    parser = make_parser("detector-serve", "Find objects in images that are sent over HTTP.")
    parser.set_defaults(extra="serve")
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
    from service.keys import read_keys

    keys = read_keys(arguments.api_keys)
    names = dict.fromkeys((arguments.preset, *settings.service.presets))
    presets = {name: _read_settings(arguments, bundle, name).detector() for name in names}

    # These imports are slow, and the options above need none of them.
    from detector.detector import Detector
    from service.app import create_app
    from service.memory import return_freed_images
    from service.server import run_server

    return_freed_images()

    with _load_networks(arguments, bundle, settings) as networks:
        detectors = {name: Detector(networks, preset) for name, preset in presets.items()}
        app = create_app(detectors, settings.service, keys=keys)
        run_server(
            app,
            settings.service,
            host=arguments.host,
            port=arguments.port,
            quiet=arguments.quiet,
        )
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


if __name__ == "__main__":
    raise SystemExit(command())
