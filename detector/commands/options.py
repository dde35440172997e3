"""What all commands have in common: their options, and what an error or an interruption does."""

from __future__ import annotations

import argparse
import logging
import os
import sys
import traceback
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from detector import __version__
from detector.errors import DetectorError
from detector.formats.native import Failure
from detector.settings import PRESETS

DONE, SOME_FAILED, WRONG_CALL, INTERRUPTED = 0, 1, 2, 130
"""Exit codes."""

Arguments = Sequence[str] | None
"""Of a command line, without the command's own name; None means the process's."""


def parser(name: str, description: str) -> argparse.ArgumentParser:
    """A parser with the options that every command has."""
    made = argparse.ArgumentParser(prog=name, description=description, allow_abbrev=False)
    made.add_argument("--quiet", action="store_true", help="print errors only")
    made.add_argument("--debug", action="store_true", help="show where an error came from")
    made.add_argument("--version", action="version", version=f"{name} {__version__}")
    return made


def add_detector_options(to: argparse.ArgumentParser) -> None:
    """The options that choose a detector and its settings."""
    add = to.add_argument_group("detector").add_argument
    add("--bundle", metavar="DIR|NAME", help="networks and classes (default: voc20)")
    add("--preset", default="default", metavar="NAME", help=f"settings: {', '.join(PRESETS)}")
    add("--config", type=Path, metavar="FILE.toml", help="settings laid over the preset's")
    add(
        "--set",
        action="append",
        default=[],
        metavar="TABLE.KEY=VALUE",
        dest="assignments",
        help="one setting; may be repeated",
    )
    add("--device", default="auto", metavar="auto|cpu|cuda[:N]", help="where the networks run")
    add("--backend", choices=("auto", "torch"), default="auto", help="what runs the networks")
    add("--print-config", action="store_true", help="print the settings in force, and end")


def main(command: Callable[[argparse.Namespace], int], arguments: argparse.Namespace) -> int:
    """Run a command: errors become one line, an interruption a notice, both an exit code."""
    logging.basicConfig(format="%(message)s", level=logging.WARNING)
    try:
        return command(arguments)
    except DetectorError as error:
        if arguments.debug:
            traceback.print_exc()
        print(f"error: {error}", file=sys.stderr)
        return WRONG_CALL
    except KeyboardInterrupt:
        if arguments.debug:
            traceback.print_exc()
        print("interrupted: the same command goes on from here", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:  # of `detector-run --print-config | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return DONE


def name_failures(failures: Iterable[Failure]) -> None:
    """A line on stderr for each image that could not be used."""
    for failure in failures:
        line = f"failed: {failure.file}: {failure.message}"
        print(line.encode(errors="backslashreplace").decode(), file=sys.stderr)
