"""Prepare the next batch while a network works on the current one."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Generic, TypeVar

Batch = TypeVar("Batch")


class Prefetcher(Generic[Batch]):
    """Makes batches one step ahead, on a thread.

    Each step's batch must be asked for once, in order.

    Args:
        make: Returns the batch of a step.
        steps: Number of steps; no batch is made beyond the last one.
        thread: Where `make` runs. By default the prefetcher has a thread of its own.
    """

    def __init__(
        self, make: Callable[[int], Batch], steps: int, thread: ThreadPoolExecutor | None = None
    ) -> None:
        self._make = make
        self._steps = steps
        self._owns_thread = thread is None
        self._thread = thread or ThreadPoolExecutor(1)
        self._next: Future[Batch] | None = None

    def __call__(self, step: int) -> Batch:
        """Return the batch of a step, and start to make the next one."""
        current = self._next or self._thread.submit(self._make, step)
        batch = current.result()

        has_next = step + 1 < self._steps
        self._next = self._thread.submit(self._make, step + 1) if has_next else None
        return batch

    def close(self) -> None:
        """Stop, after the batch that is being made."""
        if self._next is not None and not self._next.cancel():
            wait([self._next])
        if self._owns_thread:
            self._thread.shutdown()
