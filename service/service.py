"""From a request's bytes to its answer: prepared by a worker process, classified among others."""

from __future__ import annotations

import asyncio
import io
import time
from collections.abc import AsyncIterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from detector.detector import Detector
from detector.drawing import MINIMUM_SCORE, draw
from detector.errors import ImageError
from detector.results import Detection
from detector.settings import DetectionSettings, Settings
from proposals import Image, Proposals
from service.metrics import Metrics
from service.problems import Problem, closing
from service.scheduler import Scheduler
from service.settings import ServiceSettings
from service.workers import Workers


@dataclass(frozen=True)
class Answer:
    """What was found in an image."""

    image: Image
    detections: tuple[Detection, ...]
    proposals: Proposals
    seconds: Mapping[str, float]
    """By stage; "total" has the time in waiting lines as well."""


class Service:
    """A detector under load.

    Args:
        detector: with all networks that any preset needs.
        presets: settings by the names that requests may ask for; the first are what a request gets
            that asks for none.
        metrics: told what happens.
    """

    def __init__(
        self,
        detector: Detector,
        settings: ServiceSettings,
        presets: Mapping[str, Settings],
        metrics: Metrics,
    ) -> None:
        self.detector, self.settings, self.metrics = detector, settings, metrics
        self.presets = {name: detector.under(wanted) for name, wanted in presets.items()}
        self.leaving = False
        """It will close soon, and serves until then."""
        self._refuses = False
        self.over = asyncio.Event()
        """What still runs has to end now."""
        self._running = 0
        self._drawing = ThreadPoolExecutor(1)  # pictures are large: one at a time

    @asynccontextmanager
    async def started(self) -> AsyncIterator[None]:
        """Meanwhile there are worker processes and the classifier's thread."""
        preparations = {name: preset.preparation for name, preset in self.presets.items()}
        self._workers = Workers(preparations, self.settings.workers, self.metrics)
        self._scheduler = Scheduler(self.settings, self.metrics)
        try:
            await self._workers.start()
            yield
        finally:
            self.close_within(0)
            await asyncio.to_thread(self._scheduler.close)
            await asyncio.to_thread(self._workers.close)
            self._drawing.shutdown(cancel_futures=True)

    @property
    def ready(self) -> bool:
        """May requests come?"""
        return not self.leaving and self._scheduler.alive

    def close_within(self, seconds: float) -> None:
        """Refuse new requests from now on, and after some time end those that run."""
        self.leaving = self._refuses = True
        asyncio.get_running_loop().call_later(seconds, self.over.set)

    @asynccontextmanager
    async def place(self) -> AsyncIterator[None]:
        """A request's place among those that run.

        Raises:
            Problem: 503, there is none.
        """
        if self._refuses:
            raise closing()
        if self._running >= self.settings.max_requests:
            detail = f"{self._running} images are in work already"
            raise Problem(HTTPStatus.SERVICE_UNAVAILABLE, "busy", detail, retry_after=2)
        self._scheduler.check()
        self._running += 1
        self.metrics.running.set(self._running)
        try:
            yield
        finally:
            self._running -= 1
            self.metrics.running.set(self._running)

    async def detect(self, data: bytes, preset: str, detections: Mapping[str, Any]) -> Answer:
        """Find the objects in an encoded image.

        Args:
            preset: one of those loaded.
            detections: settings of that table that differ from the preset's.

        Raises:
            Problem: the image cannot be used, or there is no room.
        """
        started = time.perf_counter()
        detector = self.presets[preset]
        settings = DetectionSettings.model_validate(
            detector.settings.detections.model_dump() | dict(detections)
        )
        try:
            prepared = await self._workers(preset, data)
        except ImageError as error:
            raise Problem.of(error) from error
        found = await asyncio.wrap_future(self._scheduler.submit(detector, prepared, settings))
        seconds = found.seconds | {"total": time.perf_counter() - started}
        self.metrics.observe(seconds)
        assert prepared.image is not None
        return Answer(prepared.image, found.detections, found.proposals, seconds)

    async def picture(self, answer: Answer, minimum_score: float | None = None) -> bytes:
        """The image with its detections, as PNG; without a minimum, with the strong ones."""
        minimum = MINIMUM_SCORE if minimum_score is None else minimum_score

        def encoded() -> bytes:
            buffer = io.BytesIO()
            picture = draw(answer.image, answer.detections, self.detector.classes, minimum)
            picture.save(buffer, format="PNG", compress_level=1)
            return buffer.getvalue()

        height, width = answer.image.shape[:2]
        self._scheduler.undrawn += height * width
        try:
            return await asyncio.wrap_future(self._drawing.submit(encoded))
        finally:
            self._scheduler.undrawn -= height * width
