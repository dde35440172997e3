"""How long work tells what it does: a report for each stretch of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol


class Report(Protocol):
    """Is told about progress."""

    def __call__(self, finished: int, computed: int, note: str = "") -> None:
        """So many items are finished, so many of them were computed now; `note` says more."""
        ...


Reports = Callable[[int, str], AbstractContextManager[Report]]
"""A report on so many items of a kind, such as 3,508 of "photo"."""


@contextmanager
def silence(total: int, unit: str) -> Iterator[Report]:
    """Tell nobody."""
    yield lambda finished, computed, note="": None
