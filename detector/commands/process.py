"""The process of a command: its standard streams, and what Ctrl-C and SIGTERM do to it.

This module imports nothing heavy, because a command is prepared before it imports the rest.
"""

from __future__ import annotations

import io
import os
import signal
import sys
import threading
from types import FrameType
from typing import Any

INTERRUPTED = 130
"""Exit code of an interrupted command."""

SECONDS_TO_END = 5.0
"""Time in which an interrupted command tidies up. After that, it ends as it is."""


def prepare_streams() -> None:
    """Make the standard streams safe to write to, whatever the shell made of them.

    A closed stream becomes the null device. Otherwise the next file that is opened would get its
    number, and messages of libraries would end up in that file. Messages that stderr cannot take,
    because its disk is full or its reader has gone, are dropped: the work is worth more.
    """
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(descriptor)

    if sys.stdout is None:
        sys.stdout = _text(io.FileIO(1, "wb", closefd=False))
    if sys.stderr is None or sys.stderr is sys.__stderr__:
        sys.stderr = _text(_DroppingWriter(2, "wb", closefd=False))
    for stream in (sys.stdout, sys.stderr):  # names of files need not be UTF-8
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def hide_ignored_interrupts() -> None:
    """Print nothing of a Ctrl-C that comes where Python can only ignore it, as in a destructor."""
    show = sys.unraisablehook

    def show_others(ignored: Any) -> None:
        if not issubclass(ignored.exc_type, KeyboardInterrupt):
            show(ignored)

    sys.unraisablehook = show_others


def drop_unwritable_output() -> None:
    """Drop what standard output cannot take, so that the end of the process does not try again."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


class Interruption:
    """What SIGINT and SIGTERM do: the first interrupts the command, the next one ends the process.

    The process also ends if tidying up takes longer than `SECONDS_TO_END`. Worker processes end
    with it.
    """

    def __init__(self) -> None:
        self._previous: dict[int, Any] = {}
        self._timer: threading.Timer | None = None

    @classmethod
    def in_force(cls) -> Interruption | None:
        """Return what handles SIGINT now, if it is one of these."""
        owner = getattr(signal.getsignal(signal.SIGINT), "__self__", None)
        return owner if isinstance(owner, cls) else None

    @property
    def came(self) -> bool:
        """Whether a signal came. A library may have turned it into another error."""
        return self._timer is not None

    def install(self) -> None:
        """Handle the signals from now on, if this is the main thread and nothing handles them."""
        if threading.current_thread() is not threading.main_thread():
            return
        for number in (signal.SIGINT, signal.SIGTERM):
            if signal.getsignal(number) in (signal.default_int_handler, signal.SIG_DFL):
                self._previous[number] = signal.signal(number, self._handle)

    def uninstall(self) -> None:
        """Handle the signals as before, in a process that goes on after the command."""
        if self._timer is not None:
            self._timer.cancel()
        for number, previous in self._previous.items():
            signal.signal(number, previous)

    def _handle(self, signal_number: int, frame: FrameType | None) -> None:
        if self._timer is not None:
            os._exit(INTERRUPTED)
        self._timer = threading.Timer(SECONDS_TO_END, os._exit, [INTERRUPTED])
        self._timer.daemon = True
        self._timer.start()
        raise KeyboardInterrupt


class _DroppingWriter(io.FileIO):
    """A file that drops what it cannot write."""

    def write(self, data: Any, /) -> int:
        try:
            return super().write(data) or len(data)
        except OSError:
            return len(data)


def _text(raw: io.FileIO) -> io.TextIOWrapper:
    buffered = io.BufferedWriter(raw)
    return io.TextIOWrapper(
        buffered, encoding="utf-8", errors="backslashreplace", line_buffering=True
    )
