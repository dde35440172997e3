from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator

import pytest

from detector.common.worker_pool import (
    Limits,
    TaskTooLarge,
    WorkerDied,
    WorkerPool,
    WorkerUnstartable,
)

AMPLE = Limits(60, 2**40)


def work(task: str) -> object:
    """Do what a task says, in a process of the pool."""
    match task:
        case "tell process":
            return os.getpid()
        case "tell blocked signals":  # nothing is blocked but what was so when the process started
            return sorted(signal.pthread_sigmask(signal.SIG_BLOCK, ()))
        case "fail":
            raise ValueError("the task failed")
        case "die":
            os._exit(3)
        case "take long":
            time.sleep(60)
        case "take memory":
            taken = bytearray(os.urandom(1)) * (600 << 20)
            time.sleep(60)
            return taken[0]
    raise AssertionError(task)


def prepare() -> Callable[[str], object]:
    return work


def fail_to_prepare() -> Callable[[str], object]:
    os._exit(3)


@pytest.fixture
def pool() -> Iterator[WorkerPool[str, object]]:
    pool = WorkerPool(1, prepare)
    yield pool
    pool.close()


def test_signals_are_blocked_from_the_start(pool: WorkerPool[str, object]) -> None:
    """A signal to the whole group does not reach the workers, not even as they start."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    blocked = pool.submit("tell blocked signals", AMPLE).result()
    assert isinstance(blocked, list)
    assert {signal.SIGINT, signal.SIGTERM} <= set(blocked)
    assert signal.pthread_sigmask(signal.SIG_BLOCK, ()) == before


@pytest.mark.parametrize(
    ("task", "limits", "error", "message"),
    [
        ("take long", Limits(0.5, 2**40), TaskTooLarge, "needs more than 0.5 s"),
        ("take memory", Limits(60, 400 << 20), TaskTooLarge, "needs more than 400 MiB"),
        ("die", AMPLE, WorkerDied, "it ended with 3"),
    ],
)
def test_a_task_that_ends_its_process_takes_only_itself(
    pool: WorkerPool[str, object],
    task: str,
    limits: Limits,
    error: type[Exception],
    message: str,
) -> None:
    first = pool.submit("tell process", AMPLE)
    ended = pool.submit(task, limits)
    next_one = pool.submit("tell process", AMPLE)
    with pytest.raises(error, match=message):
        ended.result()
    assert next_one.result() != first.result()
    assert pool.deaths == 1
    assert pool.ready


def test_an_error_of_the_task_leaves_its_process(pool: WorkerPool[str, object]) -> None:
    first = pool.submit("tell process", AMPLE)
    with pytest.raises(ValueError, match="the task failed"):
        pool.submit("fail", AMPLE).result()
    assert pool.submit("tell process", AMPLE).result() == first.result()
    assert pool.deaths == 0


def test_processes_that_die_when_they_start() -> None:
    pool = WorkerPool(1, fail_to_prepare)
    try:
        with pytest.raises(WorkerUnstartable, match="it dies when it starts"):
            pool.submit("tell process", AMPLE).result()
        assert not pool.ready
    finally:
        pool.close()


def test_a_closed_pool_takes_no_task_and_fails_the_running_one() -> None:
    pool = WorkerPool(1, prepare)
    pool.submit("tell process", AMPLE).result()
    running = pool.submit("take long", AMPLE)
    while not running.running():
        time.sleep(0.01)
    waiting = pool.submit("take long", AMPLE)
    pool.close()
    with pytest.raises(WorkerDied, match="the pool was closed"):
        running.result()
    assert waiting.cancelled()
    with pytest.raises(RuntimeError, match="closed"):
        pool.submit("tell process", AMPLE)
