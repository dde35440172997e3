"""The entry point of `detector-serve`."""

from __future__ import annotations

from detector.commands.launch import launch


def detector_serve() -> int:
    """Run `detector-serve` and return its exit code."""
    return launch("service.command")
