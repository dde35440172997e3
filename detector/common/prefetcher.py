"""Batches made while a network works on the one before."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Generic, TypeVar

Batch = TypeVar("Batch")


class Ahead(Generic[Batch]):
    """The batches of steps, each of which is asked for once, in order.

    Args:
        make: the batch of a step.
        steps: their number; no batch is made ahead of the last one.
        thread: which makes them; one of its own, if not given.
    """

    def __init__(
        self, make: Callable[[int], Batch], steps: int, thread: ThreadPoolExecutor | None = None
    ) -> None:
        self._make, self._steps = make, steps
        self._thread = thread or ThreadPoolExecutor(1)
        self._owns_thread = thread is None
        self._next: Future[Batch] | None = None

    def __call__(self, step: int) -> Batch:
        """The batch of a step, while that of the next one is begun."""
        batch = self._next or self._thread.submit(self._make, step)
        done = batch.result()
        more = step + 1 < self._steps
        self._next = self._thread.submit(self._make, step + 1) if more else None
        return done

    def close(self) -> None:
        """Make no more."""
        if self._next is not None and not self._next.cancel():
            wait([self._next])
        if self._owns_thread:
            self._thread.shutdown()
