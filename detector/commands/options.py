"""What all commands share: their options, and how errors and interruptions end them."""

from __future__ import annotations

import argparse
import logging
import os
import sys
import traceback
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from detector import __version__
from detector.bundles.bundle import Bundle
from detector.commands.process import (
    INTERRUPTED,
    Interruption,
    drop_unwritable_output,
    prepare_streams,
)
from detector.commands.progress_bar import ProgressBar
from detector.common.progress import ShowProgress
from detector.common.text_files import one_line
from detector.errors import DetectorError, install_hint
from detector.formats.records import Failure
from detector.settings import PRESETS, Settings

if TYPE_CHECKING:
    from detector.detector import Detector

DONE = 0
SOME_FAILED = 1
WRONG_CALL = 2

LARGEST_COUNT = 1024
"""Largest number of processes or networks that an option can ask for."""

EXTRA_OF_PACKAGE = {
    "boto3": "ray",
    "fastapi": "serve",
    "fastapi_offline": "serve",
    "prometheus_client": "serve",
    "pyarrow": "ray",
    "ray": "ray",
    "python_multipart": "serve",
    "scipy": "train",
    "selectivesearch": "baselines",
    "starlette": "serve",
    "torch": "torch",
    "uvicorn": "serve",
}
"""The extra that installs each optional package."""

Arguments = Sequence[str] | None
"""Arguments without argv[0]; None means `sys.argv[1:]`."""


class Parser(argparse.ArgumentParser):
    """A parser whose errors are one line, like all other errors."""

    def error(self, message: str) -> NoReturn:
        """Print the message and exit."""
        self.exit(WRONG_CALL, f"error: {message}; --help lists what is allowed\n")


def make_parser(name: str, description: str) -> Parser:
    """Return a parser with the options that every command has."""
    parser = Parser(prog=name, description=description, allow_abbrev=False)
    parser.set_defaults(how_to_continue="", extra=None)
    _add_common_options(parser, default=False)
    parser.add_argument("--version", action="version", version=f"{name} {__version__}")
    return parser


def add_action(
    actions: argparse._SubParsersAction[Parser],
    name: str,
    action: Callable[[argparse.Namespace], int],
    description: str,
) -> Parser:
    """Return the parser of one action of a command, with the options that every command has."""
    parser = actions.add_parser(name, help=description, description=description, allow_abbrev=False)
    parser.set_defaults(action=action)
    # An option that stands before the action must not be reset by the action's default.
    _add_common_options(parser, default=argparse.SUPPRESS)
    return parser


def _add_common_options(parser: Parser, *, default: bool | str) -> None:
    for option, description in (
        ("--quiet", "print errors only"),
        ("--debug", "show where an error came from"),
    ):
        parser.add_argument(option, action="store_true", default=default, help=description)


def add_detector_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that choose a detector and its settings."""
    group = parser.add_argument_group("detector")
    add = group.add_argument
    add("--bundle", metavar="DIR|NAME", help="networks and classes (default: voc20)")
    add("--preset", default="default", metavar="NAME", help=f"settings: {', '.join(PRESETS)}")
    add("--config", type=Path, metavar="FILE.toml", help="settings that override the preset's")
    add_backend_option(group)
    add_settings_options(group)


def add_backend_option(parser: argparse._ActionsContainer) -> None:
    """Add the option that chooses the library which runs the classifiers."""
    names = ("auto", "torch", "openvino")
    parser.add_argument("--backend", choices=names, default="auto", help="what runs the networks")


def add_settings_options(parser: argparse._ActionsContainer) -> None:
    """Add the options about settings and devices, which training has as well."""
    add = parser.add_argument
    add(
        "--set",
        action="append",
        default=[],
        metavar="TABLE.KEY=VALUE",
        dest="assignments",
        help="one setting; may be repeated",
    )
    add("--device", default="auto", metavar="auto|cpu|cuda[:N]", help="where the networks run")
    add("--print-config", action="store_true", help="print the resulting settings and exit")


def read_settings(
    arguments: argparse.Namespace, bundle: Bundle, *, scoring: bool = False
) -> Settings:
    """Return the settings that the options choose; see `Settings.read`."""
    return Settings.read(
        preset=arguments.preset,
        config=arguments.config,
        assignments=arguments.assignments,
        base=bundle.manifest.settings,
        scoring=scoring,
    )


def load_detector(arguments: argparse.Namespace, bundle: Bundle, settings: Settings) -> Detector:
    """Load the networks that the settings need, on the device and backend of the options."""
    from detector.detector import Detector, load_networks, resolve_runtime

    runtime = resolve_runtime(bundle, settings, device=arguments.device, backend=arguments.backend)
    return Detector(load_networks(bundle, settings, runtime), settings)


def progress_bars(*, quiet: bool) -> ShowProgress:
    """Return what shows progress on stderr."""
    return lambda total, unit: ProgressBar(total, unit=unit, quiet=quiet)


def positive_integer(text: str) -> int:
    """Parse the value of an option that counts something.

    Raises:
        argparse.ArgumentTypeError: It is not a whole number from 1 to `LARGEST_COUNT`.
    """
    is_number = text.isascii() and text.isdecimal() and len(text) <= len(str(LARGEST_COUNT))
    if not is_number or not 1 <= int(text) <= LARGEST_COUNT:
        raise argparse.ArgumentTypeError(
            f"{text[:40]!r} must be a whole number from 1 to {LARGEST_COUNT}"
        )
    return int(text)


def main(command: Callable[[argparse.Namespace], int], arguments: argparse.Namespace) -> int:
    """Run a command and return its exit code; an error becomes one line on stderr."""
    _set_up_process()
    in_force = Interruption.in_force()
    interruption = in_force or Interruption()
    interruption.install()
    try:
        code = command(arguments)
        sys.stdout.flush()
        return code
    except BrokenPipeError:  # the reader has gone, as in `detector-bundle show | head`
        return WRONG_CALL
    except (Exception, KeyboardInterrupt) as error:
        if arguments.debug:
            traceback.print_exc()

        # A library may have turned a KeyboardInterrupt into another error.
        if isinstance(error, KeyboardInterrupt) or interruption.came:
            message = ": ".join(filter(None, ("interrupted", arguments.how_to_continue)))
            print(message, file=sys.stderr)
            return INTERRUPTED

        if not isinstance(error, DetectorError | OSError | ModuleNotFoundError):
            raise
        print(f"error: {one_line(_describe(error, arguments))}", file=sys.stderr)
        return WRONG_CALL
    finally:
        if in_force is None:
            interruption.uninstall()
        drop_unwritable_output()


def _describe(error: Exception, arguments: argparse.Namespace) -> str:
    """Return the line that an error becomes."""
    if isinstance(error, ModuleNotFoundError):
        error = _missing_package(error, arguments.extra)
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    return str(error)


def _missing_package(error: ModuleNotFoundError, extra: str | None) -> DetectorError:
    """Turn a failed import into an error that names the extra of the missing package.

    Args:
        error: The failed import.
        extra: The extra that the command needs as a whole, if there is one.

    Raises:
        ModuleNotFoundError: The package belongs to no extra, so the installation is broken.
    """
    package = (error.name or "").partition(".")[0]
    if package not in EXTRA_OF_PACKAGE:
        raise error
    hint = install_hint(extra or EXTRA_OF_PACKAGE[package])
    return DetectorError(f"{package} is missing: {hint}")


def _set_up_process() -> None:
    prepare_streams()
    logging.basicConfig(format="%(message)s", level=logging.WARNING)
    # PyTorch's waiting threads sleep instead of spinning, because worker processes need the same
    # cores. It has an effect only before torch is imported.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


def print_failures(failures: Iterable[Failure]) -> None:
    """Print a line to stderr for each image that could not be used."""
    for failure in failures:
        print(one_line(f"failed: {failure.file}: {failure.message}"), file=sys.stderr)
