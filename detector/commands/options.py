"""What all commands have in common: their options, and what an error or an interruption does."""

from __future__ import annotations

import argparse
import io
import logging
import os
import sys
import traceback
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import NoReturn

from detector import __version__
from detector.errors import DetectorError
from detector.formats.records import Failure
from detector.settings import PRESETS

DONE, SOME_FAILED, WRONG_CALL, INTERRUPTED = 0, 1, 2, 130
"""Exit codes."""

Arguments = Sequence[str] | None
"""Of a command line, without the command's own name; None means the process's."""


class Parser(argparse.ArgumentParser):
    """A parser whose errors are one line, as all others are."""

    def error(self, message: str) -> NoReturn:
        """Print the message and end."""
        self.exit(WRONG_CALL, f"error: {message}; --help lists what is allowed\n")


def parser(name: str, description: str) -> Parser:
    """A parser with the options that every command has."""
    made = Parser(prog=name, description=description, allow_abbrev=False)
    made.set_defaults(goes_on="")
    _add_common_options(made, default=False)
    made.add_argument("--version", action="version", version=f"{name} {__version__}")
    return made


def add_action(
    actions: argparse._SubParsersAction[Parser],
    name: str,
    action: Callable[[argparse.Namespace], int],
    description: str,
) -> Parser:
    """The parser of one of a command's actions, with the options that every command has."""
    made = actions.add_parser(name, help=description, description=description, allow_abbrev=False)
    made.set_defaults(action=action)
    _add_common_options(made, default=argparse.SUPPRESS)  # what stands before the action counts
    return made


def _add_common_options(to: Parser, *, default: bool | str) -> None:
    for option, text in (
        ("--quiet", "print errors only"),
        ("--debug", "show where an error came from"),
    ):
        to.add_argument(option, action="store_true", default=default, help=text)


def add_detector_options(to: argparse.ArgumentParser) -> None:
    """The options that choose a detector and its settings."""
    group = to.add_argument_group("detector")
    add = group.add_argument
    add("--bundle", metavar="DIR|NAME", help="networks and classes (default: voc20)")
    add("--preset", default="default", metavar="NAME", help=f"settings: {', '.join(PRESETS)}")
    add("--config", type=Path, metavar="FILE.toml", help="settings laid over the preset's")
    add_backend_option(group)
    add_settings_options(group)


def add_backend_option(to: argparse._ActionsContainer) -> None:
    """What runs the networks that classify."""
    names = ("auto", "torch", "openvino")
    to.add_argument("--backend", choices=names, default="auto", help="what runs the networks")


def add_settings_options(to: argparse._ActionsContainer) -> None:
    """The options about settings, and where networks run, that training has as well."""
    add = to.add_argument
    add(
        "--set",
        action="append",
        default=[],
        metavar="TABLE.KEY=VALUE",
        dest="assignments",
        help="one setting; may be repeated",
    )
    add("--device", default="auto", metavar="auto|cpu|cuda[:N]", help="where the networks run")
    add("--print-config", action="store_true", help="print the settings in force, and end")


def at_least_1(text: str) -> int:
    """The type of options that count something.

    Raises:
        argparse.ArgumentTypeError: it is not a whole number from 1 on.
    """
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} must be a whole number from 1 on")
    return int(text)


def main(command: Callable[[argparse.Namespace], int], arguments: argparse.Namespace) -> int:
    """Run a command: errors become one line, an interruption a notice, both an exit code."""
    logging.basicConfig(format="%(message)s", level=logging.WARNING)
    for stream in (sys.stdout, sys.stderr):  # names of files need not be UTF-8
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        return command(arguments)
    except BrokenPipeError:  # nobody reads on, as in `detector-bundle show | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return WRONG_CALL
    except (DetectorError, OSError, KeyboardInterrupt) as error:
        if arguments.debug:
            traceback.print_exc()
        if isinstance(error, KeyboardInterrupt):
            print(": ".join(filter(None, ("interrupted", arguments.goes_on))), file=sys.stderr)
            return INTERRUPTED
        print(f"error: {error}", file=sys.stderr)
        return WRONG_CALL


def name_failures(failures: Iterable[Failure]) -> None:
    """A line on stderr for each image that could not be used."""
    for failure in failures:
        print(f"failed: {failure.file}: {failure.message}", file=sys.stderr)
