from __future__ import annotations

import asyncio
import io
import os
import signal
from collections.abc import Coroutine
from typing import Any

import pytest
from PIL import Image as PillowImage

from detector.errors import LostWorker, TruncatedImage
from detector.preparation import Preparation
from detector.settings import Settings
from service.metrics import Metrics
from service.workers import Workers
from tests.conftest import scene


def png(seed: int, width: int, height: int) -> bytes:
    buffer = io.BytesIO()
    PillowImage.fromarray(scene(seed, width, height)).save(buffer, format="PNG")
    return buffer.getvalue()


SLOW, QUICK = png(0, 500, 400), png(1, 120, 12)


def run(work: Any, count: int = 1) -> Metrics:
    """Run a coroutine function with that many workers."""
    metrics = Metrics()

    async def all_of_it() -> None:
        workers = Workers({"default": Preparation(Settings())}, count, metrics)
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
        alone = Preparation(Settings()).source(QUICK)
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
