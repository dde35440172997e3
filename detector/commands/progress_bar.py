"""Progress on stderr: a bar on a terminal, and a line every now and then elsewhere."""

from __future__ import annotations

import sys
import time
from typing import Self

from tqdm import tqdm

SECONDS_BETWEEN_LINES = 15.0


class ProgressBar:
    """Counts finished items, and shows the rate and the remaining time of the computed ones.

    Args:
        total: Number of items.
        unit: What is counted, such as "image".
        quiet: Whether to show nothing.
    """

    def __init__(self, total: int, *, unit: str, quiet: bool) -> None:
        self._total = total
        self._unit = unit
        terminal = sys.stderr.isatty()
        self._bar = tqdm(total=total, unit=unit, disable=quiet or not terminal, leave=False)
        self._prints_lines = not quiet and not terminal
        self._started = time.monotonic()
        self._last_line = self._started

    def __call__(self, finished: int, computed: int, note: str = "") -> None:
        """Show the progress; see `detector.common.progress.Progress`."""
        self._bar.initial = finished - computed
        self._bar.update(finished - self._bar.n)
        if note:
            self._bar.set_postfix_str(note)

        now = time.monotonic()
        if self._prints_lines and now - self._last_line >= SECONDS_BETWEEN_LINES:
            self._last_line = now
            self._print_line(finished, computed / (now - self._started), note)

    def _print_line(self, finished: int, rate: float, note: str) -> None:
        left = f", {(self._total - finished) / rate:.0f} s left" if rate > 0 else ""
        line = f"{finished} of {self._total} {self._unit}s, {rate:.2f} a second{left}"
        line += f", {note}" if note else ""
        print(line, file=sys.stderr, flush=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.close()
