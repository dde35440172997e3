"""ProgressBar on stderr: a bar on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import sys
import time
from typing import Self

from tqdm import tqdm

SECONDS_BETWEEN_LINES = 15.0


class ProgressBar:
    """Counts finished items; the rate and the remaining time are those of the computed ones."""

    def __init__(self, total: int, *, unit: str, quiet: bool) -> None:
        self._total, self._unit = total, unit
        terminal = sys.stderr.isatty()
        self._bar = tqdm(total=total, unit=unit, disable=quiet or not terminal, leave=False)
        self._lines = not quiet and not terminal
        self._started = self._last_line = time.monotonic()

    def __call__(self, finished: int, computed: int, note: str = "") -> None:
        """So many are finished now, and so many of them were computed since the start."""
        self._bar.initial = finished - computed
        self._bar.update(finished - self._bar.n)
        if note:
            self._bar.set_postfix_str(note)
        now = time.monotonic()
        if self._lines and now - self._last_line >= SECONDS_BETWEEN_LINES:
            self._last_line = now
            rate = computed / (now - self._started)
            left = f", {(self._total - finished) / rate:.0f} s left" if rate > 0 else ""
            line = f"{finished} of {self._total} {self._unit}s, {rate:.2f} a second{left}"
            line += f", {note}" if note else ""
            print(line, file=sys.stderr, flush=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.close()
