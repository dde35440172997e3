"""A signal to the whole group of processes does not reach the workers, not even as they start."""

from __future__ import annotations

import signal
from collections.abc import Callable

from detector.common.worker_pool import Limits, WorkerPool


def prepare() -> Callable[[None], list[int]]:
    # No signal, but those that were blocked when the process started.
    return lambda _: sorted(signal.pthread_sigmask(signal.SIG_BLOCK, ()))


def test_signals_are_blocked_from_the_start() -> None:
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    pool = WorkerPool(1, prepare)
    try:
        blocked = pool.submit(None, Limits(60, 2**40)).result()
    finally:
        pool.close()
    assert {signal.SIGINT, signal.SIGTERM} <= set(blocked)
    assert signal.pthread_sigmask(signal.SIG_BLOCK, ()) == before
