"""Worker processes of this machine, which preprocess images ahead of the networks.

Workers are spawned, end when their parent dies, and are replaced when one of them dies.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
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
from detector.image_types import FailedImage, PreprocessedImage
from detector.preprocessing import Preprocessor, use_one_opencv_thread

AHEAD = 2
"""Number of images that may wait for the networks, besides one in each worker. It bounds the
memory."""


class Task(NamedTuple):
    """A file to preprocess."""

    path: Path | StoredFile
    name: str
    """The file's name in errors and results."""


def preprocess_ahead(
    preprocessor: Preprocessor,
    tasks: Iterable[Task],
    *,
    workers: int | None = None,
    ahead: int = AHEAD,
) -> Generator[tuple[Task, PreprocessedImage | FailedImage]]:
    """Preprocess files in worker processes, and yield them in their order.

    A crash in a decoder or a lack of memory can kill a worker. The first image that was in work
    then is tried again alone; if its worker dies again, the image fails with `LostWorker`.

    Args:
        preprocessor: What the workers do.
        tasks: The files.
        workers: Number of processes. By default one less than there are cores.
        ahead: Number of images that may wait to be taken, besides one in each worker.

    Raises:
        WorkerError: Processes cannot be started at all.
    """
    workers = workers or default_workers()
    pool = _start_pool(preprocessor, workers)
    waiting: deque[tuple[Task, Future[PreprocessedImage | FailedImage]]] = deque()
    source = iter(tasks)
    try:
        while True:
            while len(waiting) < workers + ahead and (task := next(source, None)) is not None:
                waiting.append((task, _submit(pool, task)))
            if not waiting:
                return

            task, future = waiting.popleft()
            try:
                image = future.result()
            except BrokenProcessPool:
                # Every future of a broken pool fails: submit the unfinished ones to a new one.
                pool.shutdown(wait=False, cancel_futures=True)
                image = _preprocess_alone(preprocessor, task)
                pool = _start_pool(preprocessor, workers)
                waiting = deque(
                    (other, old if _is_done(old) else _submit(pool, other))
                    for other, old in waiting
                )
            yield task, image
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def default_workers() -> int:
    """Return one process less than there are cores for this program, and at least one."""
    return max(1, available_cores() - 1)


def prepare_worker() -> None:
    """Set up a process that preprocesses images."""
    use_one_opencv_thread()
    # Ctrl-C reaches the whole group of processes; the parent decides what it means.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _submit(pool: ProcessPoolExecutor, task: Task) -> Future[PreprocessedImage | FailedImage]:
    try:
        return pool.submit(_preprocess, task)
    except BrokenProcessPool as error:
        failed: Future[PreprocessedImage | FailedImage] = Future()
        failed.set_exception(error)
        return failed


def _is_done(future: Future[PreprocessedImage | FailedImage]) -> bool:
    return future.done() and future.exception() is None


def _preprocess_alone(preprocessor: Preprocessor, task: Task) -> PreprocessedImage | FailedImage:
    """Preprocess an image in a process of its own.

    Raises:
        WorkerError: No process can be started, so the image is not the reason.
    """
    with _start_pool(preprocessor, 1) as pool:
        try:
            pool.submit(os.getpid).result()
        except BrokenProcessPool as error:
            raise WorkerError(
                "worker processes cannot start; a script must call this under "
                'if __name__ == "__main__":'
            ) from error

        try:
            return pool.submit(_preprocess, task).result()
        except BrokenProcessPool:
            return FailedImage(LostWorker(task.name, "the process that worked on it died"))


def _start_pool(preprocessor: Preprocessor, workers: int) -> ProcessPoolExecutor:
    return ProcessPoolExecutor(
        workers,
        multiprocessing.get_context("spawn"),
        initializer=_initialize,
        initargs=(preprocessor,),
    )


_preprocessor: Preprocessor
"""The preprocessor of a worker process, set when it starts."""


def _initialize(preprocessor: Preprocessor) -> None:
    global _preprocessor
    _preprocessor = preprocessor
    prepare_worker()


def _preprocess(task: Task) -> PreprocessedImage | FailedImage:
    return _preprocessor.preprocess_file(task.path, task.name)


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
