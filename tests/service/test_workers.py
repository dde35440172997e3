from __future__ import annotations

import asyncio
import errno
import io
import os
import signal
from collections.abc import Coroutine
from concurrent.futures import ProcessPoolExecutor
from typing import Any

import cv2
import pytest
from PIL import Image as PillowImage

import service.workers
from detector.errors import LostWorker, TruncatedImage
from detector.preprocessing import Preprocessor
from detector.settings import Settings
from service.metrics import Metrics
from service.workers import Workers
from tests.support.images import scene


def png(seed: int, width: int, height: int) -> bytes:
    buffer = io.BytesIO()
    PillowImage.fromarray(scene(seed, width, height)).save(buffer, format="PNG")
    return buffer.getvalue()


SLOW, QUICK = png(0, 500, 400), png(1, 120, 12)


def run(work: Any, count: int = 1) -> Metrics:
    """Run a coroutine function with that many workers."""
    metrics = Metrics()

    async def all_of_it() -> None:
        workers = Workers({"default": Preprocessor(Settings())}, count, metrics)
        await workers.start()
        try:
            await work(workers)
        finally:
            workers.close()

    asyncio.run(all_of_it())
    return metrics


def processes(workers: Workers) -> list[int]:
    return [next(iter(pool._processes)) for pool in workers._pools]


def test_prepares_as_the_preset_says() -> None:
    async def work(workers: Workers) -> None:
        prepared = await workers("default", QUICK)
        alone = Preprocessor(Settings()).source(QUICK)
        assert prepared.proposals is not None
        assert alone.proposals is not None
        assert prepared.proposals.boxes.tolist() == alone.proposals.boxes.tolist()

    run(work)


def test_errors_about_the_image_come_through() -> None:
    async def work(workers: Workers) -> None:
        with pytest.raises(TruncatedImage):
            await workers("default", QUICK[:-30])

    run(work)


def test_a_killed_process_fails_its_image_alone_and_is_replaced() -> None:
    async def work(workers: Workers) -> None:
        victim, survivor = (asyncio.ensure_future(workers("default", SLOW)) for _ in range(2))
        waiting = asyncio.ensure_future(workers("default", QUICK))
        await asyncio.sleep(0.1)
        os.kill(processes(workers)[0], signal.SIGKILL)
        with pytest.raises(LostWorker, match="died"):
            await victim
        assert (await survivor).image is not None
        assert (await waiting).image is not None
        for _ in range(4):  # both places work
            assert (await workers("default", QUICK)).image is not None

    metrics = run(work, count=2)
    assert metrics.registry.get_sample_value("detector_lost_workers_total") == 1


def test_a_process_killed_while_idle_is_replaced() -> None:
    async def work(workers: Workers) -> None:
        await workers("default", QUICK)
        (pid,) = processes(workers)
        os.kill(pid, signal.SIGKILL)
        await asyncio.sleep(0.3)
        prepared = await workers("default", QUICK)
        assert prepared.image is not None
        assert processes(workers) != [pid]

    run(work)


@pytest.mark.parametrize(("failures", "lost"), [(1, 1), (3, 2)])
def test_a_process_that_cannot_be_started(
    monkeypatch: pytest.MonkeyPatch, failures: int, lost: int
) -> None:
    left = failures
    start = ProcessPoolExecutor._adjust_process_count

    def fail(pool: ProcessPoolExecutor) -> None:
        nonlocal left
        left -= 1
        if left >= 0:
            raise OSError(errno.EAGAIN, "no more processes")
        start(pool)

    async def work(workers: Workers) -> None:
        os.kill(processes(workers)[0], signal.SIGKILL)
        await asyncio.sleep(0.3)
        monkeypatch.setattr(ProcessPoolExecutor, "_adjust_process_count", fail)
        for _ in range(lost):
            with pytest.raises(LostWorker, match="no process can be started"):
                await workers("default", QUICK)
        assert (await workers("default", QUICK)).image is not None

    run(work)


def test_what_a_library_says_stays_inside(monkeypatch: pytest.MonkeyPatch) -> None:
    class Failing:
        def source(self, data: bytes) -> None:
            raise cv2.error("/a/path of this machine")

    monkeypatch.setattr(service.workers, "_preparations", {"default": Failing()}, raising=False)
    with pytest.raises(LostWorker) as lost:
        service.workers._prepare("default", b"")
    assert "path" not in str(lost.value)


def test_an_image_nobody_waits_for_gives_its_place_back() -> None:
    async def work(workers: Workers) -> None:
        left = asyncio.ensure_future(workers("default", SLOW))
        await asyncio.sleep(0.05)
        left.cancel()
        assert (await workers("default", QUICK)).image is not None

    run(work)


def test_many_wait_in_line() -> None:
    async def work(workers: Workers) -> None:
        images = [png(seed, 120, 12) for seed in range(12)]
        every: list[Coroutine[Any, Any, Any]] = [workers("default", image) for image in images]
        for seed, prepared in enumerate(await asyncio.gather(*every)):
            assert (prepared.image == scene(seed, 120, 12)).all()

    run(work, count=2)
