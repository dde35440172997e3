"""Processes that decode images and propose regions, apart from the event loop.

Each is a pool of its own, so that the death of one, by a crash in a decoder or for want of memory,
fails the image that it had in work and no other. It is then replaced.
"""

from __future__ import annotations

import asyncio
import logging
import multiprocessing
import os
from collections.abc import Mapping
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool

import cv2

from detector.batch.workers import default_workers, start_worker
from detector.errors import LostWorker
from detector.preprocessing import Prepared, Preprocessor
from service.memory import give_back_large
from service.metrics import Metrics

logger = logging.getLogger(__name__)

NAME = "image"
"""What errors call a request's image."""


class Workers:
    """The processes. Images wait in line for a free one.

    Args:
        preparations: by the names of presets.
        count: of processes.
    """

    def __init__(
        self, preparations: Mapping[str, Preprocessor], count: int | None, metrics: Metrics
    ) -> None:
        self._preparations, self._metrics = dict(preparations), metrics
        self._pools = [self._pool() for _ in range(count or default_workers())]
        self._free: asyncio.Queue[int] = asyncio.Queue()
        for number in range(len(self._pools)):
            self._free.put_nowait(number)

    async def start(self) -> None:
        """Start all processes and wait until they are there."""
        loop = asyncio.get_running_loop()
        await asyncio.gather(*(loop.run_in_executor(pool, _ready) for pool in self._pools))

    async def __call__(self, preset: str, data: bytes) -> Prepared:
        """Prepare an encoded image as a preset says.

        Raises:
            ImageError: it cannot be used, or the process that had it in work died.
        """
        number = await self._free.get()
        work = self._submit(number, preset, data)
        loop = asyncio.get_running_loop()

        def free(done: Future[Prepared]) -> None:
            broken = not done.cancelled() and isinstance(done.exception(), BrokenProcessPool)
            loop.call_soon_threadsafe(self._release, number, broken)

        work.add_done_callback(free)  # also when nobody waits for the image any more
        try:
            return await asyncio.wrap_future(work)
        except BrokenProcessPool as error:
            raise LostWorker(NAME, "the process that worked on it died: try again") from error
        except LostWorker as error:
            logger.warning("an image could not be worked on", exc_info=error)
            raise

    def close(self) -> None:
        """End the processes."""
        for pool in self._pools:
            pool.shutdown(wait=True, cancel_futures=True)

    def _submit(self, number: int, preset: str, data: bytes) -> Future[Prepared]:
        for _ in range(2):
            try:
                return self._pools[number].submit(_prepare, preset, data)
            except (RuntimeError, OSError) as error:  # it died idle, or cannot be started
                reason = error
                self._replace(number)
        self._free.put_nowait(number)
        raise LostWorker(NAME, "no process can be started for it: try again") from reason

    def _release(self, number: int, broken: bool) -> None:
        if broken:
            self._replace(number)
        self._free.put_nowait(number)

    def _replace(self, number: int) -> None:
        logger.warning("a worker process died and is replaced")
        self._metrics.lost.inc()
        self._pools[number].shutdown(wait=False)
        self._pools[number] = self._pool()

    def _pool(self) -> ProcessPoolExecutor:
        return ProcessPoolExecutor(
            1,
            multiprocessing.get_context("spawn"),
            initializer=_start,
            initargs=(self._preparations,),
        )


_preparations: Mapping[str, Preprocessor]
"""Of a worker process, set when it starts."""


def _start(preparations: Mapping[str, Preprocessor]) -> None:
    global _preparations
    _preparations = preparations
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)  # libraries write there what they think of an image
    os.close(nowhere)
    give_back_large()
    start_worker()


def _ready() -> None:
    """What a process does to show that it is there."""


def _prepare(preset: str, data: bytes) -> Prepared:
    try:
        return _preparations[preset].source(data)
    except (MemoryError, cv2.error) as error:
        message = "out of memory, or an error of a library: try again"
        raise LostWorker(NAME, message) from error
