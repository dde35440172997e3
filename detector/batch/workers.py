"""Preprocessor in worker processes of this machine, ahead of the classifier.

Workers are spawned, end when their parent dies, and are replaced when one of them dies.
"""

from __future__ import annotations

import multiprocessing
import os
import threading
from collections import deque
from collections.abc import Generator, Iterable
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import NamedTuple

from detector.common.cpu import available_cores
from detector.common.object_storage import StoredFile
from detector.errors import LostWorker, WorkerError
from detector.preprocessing import Prepared, Preprocessor, single_threaded

AHEAD = 2
"""Images that may wait for the classifier, beside one in work in each process: a bound of the
memory."""


class Task(NamedTuple):
    """A file to prepare and the name that errors give it."""

    path: Path | StoredFile
    name: str


def prepare_ahead(
    preparation: Preprocessor,
    tasks: Iterable[Task],
    *,
    workers: int | None = None,
    ahead: int = AHEAD,
) -> Generator[tuple[Task, Prepared]]:
    """Prepare files in `workers` processes; they come out in the order in which they go in.

    When a process dies, which a crash in a decoder or a lack of memory can cause, the first image
    that was in work is tried again alone; if that happens again, it is reported as `LostWorker`.

    Raises:
        WorkerError: processes cannot be started at all.
    """
    workers = workers or default_workers()
    pool = _pool(preparation, workers)
    waiting: deque[tuple[Task, Future[Prepared]]] = deque()
    source = iter(tasks)
    try:
        while True:
            while len(waiting) < workers + ahead and (task := next(source, None)) is not None:
                waiting.append((task, _submit(pool, task)))
            if not waiting:
                return
            task, future = waiting.popleft()
            try:
                prepared = future.result()
            except BrokenProcessPool:
                pool.shutdown(wait=False, cancel_futures=True)
                prepared = _alone(preparation, task)
                pool = _pool(preparation, workers)
                waiting = deque(
                    (other, old if _is_done(old) else _submit(pool, other))
                    for other, old in waiting
                )
            yield task, prepared
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _submit(pool: ProcessPoolExecutor, task: Task) -> Future[Prepared]:
    try:
        return pool.submit(_prepare, task)
    except BrokenProcessPool as error:
        failed: Future[Prepared] = Future()
        failed.set_exception(error)
        return failed


def _is_done(future: Future[Prepared]) -> bool:
    return future.done() and future.exception() is None


def _alone(preparation: Preprocessor, task: Task) -> Prepared:
    with _pool(preparation, 1) as pool:
        try:
            pool.submit(os.getpid).result()
        except BrokenProcessPool as error:
            raise WorkerError(
                "worker processes cannot start; a script must call this under "
                'if __name__ == "__main__":'
            ) from error
        try:
            return pool.submit(_prepare, task).result()
        except BrokenProcessPool:
            lost = LostWorker(task.name, "the process that worked on it died")
            return Prepared({}, error=lost)


def _pool(preparation: Preprocessor, workers: int) -> ProcessPoolExecutor:
    return ProcessPoolExecutor(
        workers,
        multiprocessing.get_context("spawn"),
        initializer=_start,
        initargs=(preparation,),
    )


def default_workers() -> int:
    """One process less than there are cores for this program, and at least one."""
    return max(1, available_cores() - 1)


_preparation: Preprocessor
"""Of a worker process, set when it starts."""


def _start(preparation: Preprocessor) -> None:
    global _preparation
    _preparation = preparation
    start_worker()


def start_worker() -> None:
    """What every process that prepares images does first."""
    single_threaded()
    _ignore_interrupts()
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _ignore_interrupts() -> None:
    """Ctrl-C reaches the whole group of processes: the parent decides what it means."""
    import signal

    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _prepare(task: Task) -> Prepared:
    return _preparation.file(*task)
