"""How long-running work reports its progress, without knowing who listens."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol


class Progress(Protocol):
    """Receives the progress of one piece of work."""

    def __call__(self, finished: int, computed: int, note: str = "") -> None:
        """Take note of the progress.

        Args:
            finished: number of items that are finished.
            computed: number of those that this run computed; an earlier run did the others.
            note: text to show beside the numbers, such as the loss.
        """
        ...


ShowProgress = Callable[[int, str], AbstractContextManager[Progress]]
"""Opens the progress of one piece of work, from its number of items and their unit ("image")."""


@contextmanager
def no_progress(total: int, unit: str) -> Iterator[Progress]:
    """Report nothing."""
    yield lambda finished, computed, note="": None
