"""The entry points of the commands.

Importing a command takes most of a second. An entry point prepares the process first, so that
Ctrl-C at any moment ends it without a traceback.
"""

from __future__ import annotations

import importlib
import sys

from detector.commands.process import (
    INTERRUPTED,
    Interruption,
    hide_ignored_interrupts,
    prepare_streams,
)


def detector_bundle() -> int:
    """Run `detector-bundle` and return its exit code."""
    return launch("detector.commands.bundle")


def detector_eval() -> int:
    """Run `detector-eval` and return its exit code."""
    return launch("detector.commands.eval")


def detector_run() -> int:
    """Run `detector-run` and return its exit code."""
    return launch("detector.commands.run")


def detector_train() -> int:
    """Run `detector-train` and return its exit code."""
    return launch("detector.commands.train")


def launch(module: str) -> int:
    """Import the module of a command, run it, and return its exit code.

    Args:
        module: Name of the module, which has a function `command`.
    """
    prepare_streams()
    hide_ignored_interrupts()
    interruption = Interruption()
    interruption.install()
    try:
        return int(importlib.import_module(module).command())
    except (KeyboardInterrupt, ImportError):  # while it was being imported: nothing was begun
        if not interruption.came:
            raise
        print("interrupted", file=sys.stderr)
        return INTERRUPTED
