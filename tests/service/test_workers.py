from __future__ import annotations

import asyncio
import errno
import io
import os
import signal
from multiprocessing.context import SpawnProcess
from typing import Any

import cv2
import pytest
from PIL import Image as PillowImage

import service.workers
from detector.errors import LostWorker, TruncatedImage
from detector.image_types import PreprocessedImage
from detector.preprocessing import Preprocessor
from detector.settings import Settings
from service.metrics import Metrics
from service.workers import Workers
from tests.support.images import scene


def png(seed: int, width: int, height: int) -> bytes:
    buffer = io.BytesIO()
    PillowImage.fromarray(scene(seed, width, height)).save(buffer, format="PNG")
    return buffer.getvalue()


SLOW = png(0, 500, 400)
QUICK = png(1, 120, 12)

PREPROCESSOR = Preprocessor(Settings())


def run(work: Any, count: int = 1) -> Metrics:
    """Run a coroutine function with that many workers."""
    metrics = Metrics()

    async def all_of_it() -> None:
        workers = Workers(count, metrics)
        await workers.start()
        try:
            await work(workers)
        finally:
            workers.close()

    asyncio.run(all_of_it())
    return metrics


async def preprocess(workers: Workers, data: bytes) -> PreprocessedImage:
    return await workers.preprocess(PREPROCESSOR, data)


def processes(workers: Workers) -> list[int]:
    return [worker.process.pid or 0 for worker in workers._pool._workers]


def test_preprocesses_as_the_preprocessor_does() -> None:
    async def work(workers: Workers) -> None:
        image = await preprocess(workers, QUICK)
        alone = PREPROCESSOR.preprocess(QUICK)
        assert image.proposals.boxes.tolist() == alone.proposals.boxes.tolist()
        assert (image.pixels == alone.pixels).all()

    run(work)


def test_errors_about_the_image_come_through() -> None:
    async def work(workers: Workers) -> None:
        with pytest.raises(TruncatedImage):
            await preprocess(workers, QUICK[:-30])

    run(work)


def test_a_killed_process_fails_its_image_alone_and_is_replaced() -> None:
    async def work(workers: Workers) -> None:
        victim, survivor = (asyncio.ensure_future(preprocess(workers, SLOW)) for _ in range(2))
        waiting = asyncio.ensure_future(preprocess(workers, QUICK))
        await asyncio.sleep(0.1)
        os.kill(processes(workers)[0], signal.SIGKILL)
        with pytest.raises(LostWorker, match="died"):
            await victim
        assert (await survivor).pixels.shape == (400, 500, 3)
        assert (await waiting).pixels.shape == (12, 120, 3)
        for _ in range(4):  # both processes work
            assert (await preprocess(workers, QUICK)).pixels.shape == (12, 120, 3)

    metrics = run(work, count=2)
    assert metrics.registry.get_sample_value("detector_lost_workers_total") == 1


def test_a_process_killed_while_idle_is_replaced() -> None:
    async def work(workers: Workers) -> None:
        await preprocess(workers, QUICK)
        (pid,) = processes(workers)
        os.kill(pid, signal.SIGKILL)
        await asyncio.sleep(0.3)
        image = await preprocess(workers, QUICK)
        assert image.pixels.shape == (12, 120, 3)
        assert processes(workers) != [pid]

    run(work)


def test_a_process_that_cannot_be_started(monkeypatch: pytest.MonkeyPatch) -> None:
    start = SpawnProcess.start
    allowed = True

    def start_or_fail(process: SpawnProcess) -> None:
        if not allowed:
            raise OSError(errno.EMFILE, "Too many open files")
        start(process)

    async def work(workers: Workers) -> None:
        nonlocal allowed
        monkeypatch.setattr(SpawnProcess, "start", start_or_fail)
        allowed = False
        os.kill(processes(workers)[0], signal.SIGKILL)
        await asyncio.sleep(0.3)
        assert not workers.ready, "before any image needs the process"
        with pytest.raises(LostWorker, match="no process can be started"):
            await preprocess(workers, QUICK)

        allowed = True
        async with asyncio.timeout(20):
            while not workers.ready:  # it tries again by itself
                await asyncio.sleep(0.1)
        assert (await preprocess(workers, QUICK)).pixels.shape == (12, 120, 3)

    run(work)


def test_what_a_library_says_stays_inside(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> None:
        raise cv2.error("/a/path of this machine")

    monkeypatch.setattr(Preprocessor, "preprocess", fail)
    with pytest.raises(LostWorker) as lost:
        service.workers._preprocess((PREPROCESSOR, b""))
    assert "path" not in str(lost.value)


def test_an_image_nobody_waits_for_gives_its_process_back() -> None:
    async def work(workers: Workers) -> None:
        left = asyncio.ensure_future(preprocess(workers, SLOW))
        await asyncio.sleep(0.05)
        left.cancel()
        assert (await preprocess(workers, QUICK)).pixels.shape == (12, 120, 3)

    run(work)


def test_many_wait_in_line() -> None:
    async def work(workers: Workers) -> None:
        every = [preprocess(workers, png(seed, 120, 12)) for seed in range(12)]
        for seed, image in enumerate(await asyncio.gather(*every)):
            assert (image.pixels == scene(seed, 120, 12)).all()

    run(work, count=2)
