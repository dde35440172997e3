"""Worker processes of this machine, which preprocess images ahead of the networks."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future
from functools import partial
from pathlib import Path
from typing import NamedTuple

from detector.common.cpu import available_cores
from detector.common.object_storage import StoredFile
from detector.common.worker_pool import (
    Limits,
    TaskTooLarge,
    WorkerDied,
    WorkerPool,
    WorkerUnstartable,
)
from detector.errors import ExcessiveImage, LostWorker, WorkerError
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

    A crash in a decoder or a lack of memory can kill a worker. The image that it worked on is tried
    once more; if its worker dies again, the image fails with `LostWorker`. An image that needs more
    time or memory than the settings allow fails with `ExcessiveImage`.

    Args:
        preprocessor: What the workers do.
        tasks: The files.
        workers: Number of processes. By default one less than there are cores.
        ahead: Number of images that may wait to be taken, besides one in each worker.

    Raises:
        WorkerError: Processes cannot be started at all.
    """
    workers = workers or default_workers()
    pool = make_pool(preprocessor, workers)
    waiting: deque[tuple[Task, Future[PreprocessedImage | FailedImage]]] = deque()
    source = iter(tasks)
    try:
        while True:
            while len(waiting) < workers + ahead and (task := next(source, None)) is not None:
                waiting.append((task, pool.submit(task, preprocessor.limits)))
            if not waiting:
                return
            task, future = waiting.popleft()
            yield task, wait_for(pool, task, future, preprocessor.limits)
    finally:
        pool.close()


def default_workers() -> int:
    """Return one process less than there are cores for this program, and at least one."""
    return max(1, available_cores() - 1)


def make_pool(
    preprocessor: Preprocessor, workers: int
) -> WorkerPool[Task, PreprocessedImage | FailedImage]:
    """Return processes that preprocess files."""
    return WorkerPool(workers, partial(_prepare, preprocessor))


def wait_for(
    pool: WorkerPool[Task, PreprocessedImage | FailedImage],
    task: Task,
    future: Future[PreprocessedImage | FailedImage],
    limits: Limits,
) -> PreprocessedImage | FailedImage:
    """Return the outcome of a task, after a second attempt if its process died.

    Raises:
        WorkerError: Processes cannot be started at all.
    """
    try:
        try:
            return future.result()
        except WorkerDied:
            return pool.submit(task, limits).result()
    except WorkerDied:
        return FailedImage(LostWorker(task.name, "the process that worked on it died"))
    except TaskTooLarge as error:
        return FailedImage(ExcessiveImage(task.name, str(error)))
    except WorkerUnstartable as error:
        raise WorkerError(
            f"worker processes cannot start ({error}); a script must call this under "
            'if __name__ == "__main__":'
        ) from error


def _prepare(preprocessor: Preprocessor) -> Callable[[Task], PreprocessedImage | FailedImage]:
    """Set up a process that preprocesses images, and return what it does with a task."""
    use_one_opencv_thread()
    return lambda task: preprocessor.preprocess_file(task.path, task.name)
