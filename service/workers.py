"""Processes that decode images and propose regions, apart from the event loop.

If a process dies, by a crash in a decoder or a lack of memory, or takes too long, only the image
that it had in work fails. A new process then takes its place.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable

from detector.batch.workers import default_workers
from detector.common.worker_pool import TaskTooLarge, WorkerDied, WorkerPool, WorkerUnstartable
from detector.errors import ExcessiveImage, LostWorker
from detector.image_types import PreprocessedImage
from detector.preprocessing import OUT_OF_MEMORY, Preprocessor, use_one_opencv_thread
from service.memory import return_freed_images
from service.metrics import Metrics

logger = logging.getLogger(__name__)

IMAGE_NAME = "image"
"""Name of a request's image in errors."""

_Task = tuple[Preprocessor, bytes]
"""The preprocessor of the detector that a request chose, and the bytes of an image file."""


class Workers:
    """Worker processes. Images wait in line for a free one.

    Args:
        count: Number of processes. By default one less than there are cores.
        metrics: Counts the processes that died.
    """

    def __init__(self, count: int | None, metrics: Metrics) -> None:
        self._metrics = metrics
        self._pool: WorkerPool[_Task, PreprocessedImage] = WorkerPool(
            count or default_workers(), _prepare
        )

    @property
    def ready(self) -> bool:
        """Whether there are processes, or could be as soon as an image needs one."""
        return self._pool.ready

    async def start(self) -> None:
        """Start all processes and wait until they run."""
        self._pool.start()
        await asyncio.to_thread(self._pool.wait_until_started)

    async def preprocess(self, preprocessor: Preprocessor, data: bytes) -> PreprocessedImage:
        """Decode an image and propose boxes, in a worker process.

        Args:
            preprocessor: The preprocessor of the detector that the request chose.
            data: The bytes of an image file.

        Raises:
            ImageError: The image cannot be used, needs too much, or the process that worked on it
                died.
        """
        work = self._pool.submit((preprocessor, data), preprocessor.limits)
        try:
            return await asyncio.wrap_future(work)
        except TaskTooLarge as error:
            self._count_lost("an image needed too much")
            raise ExcessiveImage(IMAGE_NAME, str(error)) from error
        except WorkerDied as error:
            self._count_lost("a worker process died and is replaced")
            message = "the process that worked on it died: try again"
            raise LostWorker(IMAGE_NAME, message) from error
        except WorkerUnstartable as error:
            logger.warning("no worker process can be started: %s", error)
            message = "no process can be started for it: try again"
            raise LostWorker(IMAGE_NAME, message) from error
        except LostWorker as error:
            logger.warning("an image could not be worked on: %s", error)
            raise

    def close(self) -> None:
        """End the processes."""
        self._pool.close()

    def _count_lost(self, message: str) -> None:
        logger.warning(message)
        self._metrics.lost.inc()


def _prepare() -> Callable[[_Task], PreprocessedImage]:
    """Set up a process, and return what it does with an image."""
    # Image libraries print their complaints to stderr, which is the service's log.
    null_device = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null_device, 2)
    os.close(null_device)

    return_freed_images()
    use_one_opencv_thread()
    return _preprocess


def _preprocess(task: _Task) -> PreprocessedImage:
    preprocessor, data = task
    try:
        return preprocessor.preprocess(data)
    except OUT_OF_MEMORY as error:
        message = "out of memory, or an error of a library: try again"
        raise LostWorker(IMAGE_NAME, message) from error
