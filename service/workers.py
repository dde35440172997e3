"""Processes that decode images and propose regions, apart from the event loop.

Each process is a pool of its own. If it dies, by a crash in a decoder or a lack of memory, only the
image that it had in work fails. A new process then takes its place.
"""

from __future__ import annotations

import asyncio
import logging
import multiprocessing
import os
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool

from detector.batch.workers import default_workers, prepare_worker
from detector.errors import LostWorker
from detector.image_types import PreprocessedImage
from detector.preprocessing import OUT_OF_MEMORY, Preprocessor
from service.memory import return_freed_images
from service.metrics import Metrics

logger = logging.getLogger(__name__)

IMAGE_NAME = "image"
"""Name of a request's image in errors."""


class Workers:
    """Worker processes. Images wait in line for a free one.

    Args:
        count: Number of processes. By default one less than there are cores.
        metrics: Counts the processes that died.
    """

    def __init__(self, count: int | None, metrics: Metrics) -> None:
        self._metrics = metrics
        self._pools = [_make_pool() for _ in range(count or default_workers())]
        self._free: asyncio.Queue[int] = asyncio.Queue()
        """Indices of the pools that have no work."""
        for index in range(len(self._pools)):
            self._free.put_nowait(index)

    async def start(self) -> None:
        """Start all processes and wait until they run."""
        loop = asyncio.get_running_loop()
        await asyncio.gather(*(loop.run_in_executor(pool, _do_nothing) for pool in self._pools))

    async def preprocess(self, preprocessor: Preprocessor, data: bytes) -> PreprocessedImage:
        """Decode an image and propose boxes, in a worker process.

        Args:
            preprocessor: The preprocessor of the detector that the request chose.
            data: The bytes of an image file.

        Raises:
            ImageError: The image cannot be used, or the process that worked on it died.
        """
        index = await self._free.get()
        work = self._submit(index, preprocessor, data)
        loop = asyncio.get_running_loop()

        def release(done: Future[PreprocessedImage]) -> None:
            is_broken = not done.cancelled() and isinstance(done.exception(), BrokenProcessPool)
            loop.call_soon_threadsafe(self._release, index, is_broken)

        # The callback frees the process, also when nobody waits for the image any more.
        work.add_done_callback(release)
        try:
            return await asyncio.wrap_future(work)
        except BrokenProcessPool as error:
            message = "the process that worked on it died: try again"
            raise LostWorker(IMAGE_NAME, message) from error
        except LostWorker as error:
            logger.warning("an image could not be worked on", exc_info=error)
            raise

    def close(self) -> None:
        """End the processes."""
        for pool in self._pools:
            pool.shutdown(wait=True, cancel_futures=True)

    def _submit(
        self, index: int, preprocessor: Preprocessor, data: bytes
    ) -> Future[PreprocessedImage]:
        for _ in range(2):
            try:
                return self._pools[index].submit(_preprocess, preprocessor, data)
            except (RuntimeError, OSError) as error:  # it died idle, or cannot be started
                reason = error
                self._replace(index)
        self._free.put_nowait(index)
        raise LostWorker(IMAGE_NAME, "no process can be started for it: try again") from reason

    def _release(self, index: int, is_broken: bool) -> None:
        if is_broken:
            self._replace(index)
        self._free.put_nowait(index)

    def _replace(self, index: int) -> None:
        logger.warning("a worker process died and is replaced")
        self._metrics.lost.inc()
        self._pools[index].shutdown(wait=False)
        self._pools[index] = _make_pool()


def _make_pool() -> ProcessPoolExecutor:
    return ProcessPoolExecutor(
        1, multiprocessing.get_context("spawn"), initializer=_initialize_worker
    )


def _initialize_worker() -> None:
    # Image libraries print their complaints to stderr, which is the service's log.
    null_device = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null_device, 2)
    os.close(null_device)

    return_freed_images()
    prepare_worker()


def _do_nothing() -> None:
    """Show that the process runs."""


def _preprocess(preprocessor: Preprocessor, data: bytes) -> PreprocessedImage:
    try:
        return preprocessor.preprocess(data)
    except OUT_OF_MEMORY as error:
        message = "out of memory, or an error of a library: try again"
        raise LostWorker(IMAGE_NAME, message) from error
