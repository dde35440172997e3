"""Interruptions of a training: they wait for the end of a step, so that its result can be saved."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, Self


class PostponedSignals:
    """Postpones SIGINT and SIGTERM, in a block, until `admitted` or the end of the block.

    They then do what they would have done before. Code that must not be torn apart by them, such as
    a step of a training, can so be finished first.

    Args:
        once: Whether a second signal does at once what it would have done without this block.
            Otherwise all signals wait.
    """

    def __init__(self, *, once: bool) -> None:
        self._once = once
        self._received: int | None = None
        self._previous: dict[int, Any] = {}

    @property
    def received(self) -> bool:
        """Whether a signal has come, and waits."""
        return self._received is not None

    @contextmanager
    def admitted(self) -> Iterator[None]:
        """Let signals do at once, inside this block, what they would do without this object."""
        self._restore()
        self._deliver()
        yield
        self._postpone()

    def __enter__(self) -> Self:
        self._postpone()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._restore()
        if kind is not KeyboardInterrupt:
            self._deliver()

    def _postpone(self) -> None:
        """Handle the signals from now on, if this is the main thread."""
        if threading.current_thread() is not threading.main_thread():
            return
        for number in (signal.SIGINT, signal.SIGTERM):
            if signal.getsignal(number) not in (signal.SIG_IGN, None):
                self._previous[number] = signal.signal(number, self._handle)

    def _restore(self) -> None:
        """Handle the signals as before."""
        for number, previous in self._previous.items():
            signal.signal(number, previous)
        self._previous.clear()

    def _deliver(self) -> None:
        """Let a signal that waits do what it would have done."""
        if self._received is not None:
            signal.raise_signal(self._received)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        self._received = number
        if self._once:
            self._restore()
