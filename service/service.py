"""The way of a request's image: a worker process preprocesses it, the scheduler does the rest."""

from __future__ import annotations

import asyncio
import dataclasses
import io
import time
from collections.abc import AsyncIterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from http import HTTPStatus
from typing import Any, NoReturn

from detector.detector import Detector
from detector.errors import ImageError
from detector.networks import Networks
from detector.results import Result
from service.metrics import Metrics
from service.problems import Problem, closing_problem
from service.scheduler import DetectedImage, Scheduler
from service.settings import ServiceSettings
from service.workers import Workers


class Service:
    """Detectors under load.

    Args:
        detectors: A detector for each preset, all on the same networks. Requests that name no
            preset use the first one.
        settings: Limits under load.
        metrics: Receives counts and times.
        workers: Processes that preprocess images.
        scheduler: The thread that runs the networks.
    """

    def __init__(
        self,
        detectors: Mapping[str, Detector],
        settings: ServiceSettings,
        metrics: Metrics,
        workers: Workers,
        scheduler: Scheduler,
    ) -> None:
        self.detectors = dict(detectors)
        self.settings = settings
        self.metrics = metrics
        self.shutting_down = False
        """Whether the service will close soon. It still serves, but is not ready."""
        self._refuses = False
        self._ended = asyncio.Event()
        """Set when requests that still run have to end."""
        self._running = 0
        self._workers = workers
        self._scheduler = scheduler
        # One thread, because drawing takes memory.
        self._drawing_thread = ThreadPoolExecutor(1)

    @property
    def default_detector(self) -> Detector:
        """The detector of requests that name no preset."""
        return next(iter(self.detectors.values()))

    @property
    def networks(self) -> Networks:
        """The networks that all detectors share."""
        return self.default_detector.networks

    @property
    def ready(self) -> bool:
        """Whether requests may come."""
        return not self.shutting_down and self._scheduler.alive and self._workers.ready

    def make_detector(self, preset: str | None, detections: Mapping[str, Any]) -> Detector:
        """Return the detector of a request.

        Args:
            preset: Name of a preset that was loaded, or None for the first one.
            detections: Settings of the table `detections` that override the preset's.
        """
        detector = self.default_detector if preset is None else self.detectors[preset]
        if not detections:
            return detector
        return Detector(self.networks, detector.settings.replace(detections=detections))

    @asynccontextmanager
    async def slot(self) -> AsyncIterator[None]:
        """Count a request among the running ones.

        Raises:
            Problem: 503, because there are too many or the service is closing.
        """
        if self._refuses:
            raise closing_problem()
        if self._running >= self.settings.max_requests:
            detail = f"{self._running} images are in work already"
            raise Problem(HTTPStatus.SERVICE_UNAVAILABLE, "busy", detail, retry_after=2)
        self._scheduler.check_room()

        self._running += 1
        self.metrics.running.set(self._running)
        try:
            yield
        finally:
            self._running -= 1
            self.metrics.running.set(self._running)

    async def detect(self, detector: Detector, data: bytes) -> DetectedImage:
        """Find the objects in an image.

        Args:
            detector: The detector that the request chose.
            data: The bytes of an image file.

        Raises:
            Problem: The image cannot be used, or there is no room.
        """
        started = time.perf_counter()
        try:
            preprocessed = await self._workers.preprocess(detector.preprocessor, data)
        except ImageError as error:
            raise Problem.from_image_error(error) from error

        detected = await asyncio.wrap_future(self._scheduler.submit(detector, preprocessed))

        seconds = {**detected.result.seconds, "total": time.perf_counter() - started}
        self.metrics.observe(seconds)
        return detected._replace(result=dataclasses.replace(detected.result, seconds=seconds))

    async def draw(self, result: Result, minimum_score: float | None = None) -> bytes:
        """Draw detections over their image.

        Args:
            result: The image with its detections.
            minimum_score: Weaker detections are left out. By default only strong ones are drawn.

        Returns:
            The bytes of a PNG file.
        """
        pixels = result.width * result.height
        self._scheduler.pixels_to_draw += pixels
        try:
            drawing = self._drawing_thread.submit(_draw_png, result, minimum_score)
            return await asyncio.wrap_future(drawing)
        finally:
            self._scheduler.pixels_to_draw -= pixels

    async def raise_at_end(self) -> NoReturn:
        """Wait until running requests have to end.

        Raises:
            Problem: 503, at that time.
        """
        await self._ended.wait()
        raise closing_problem()

    def close_within(self, seconds: float) -> None:
        """Refuse new requests from now on, and end the running ones after some time."""
        self.shutting_down = True
        self._refuses = True
        asyncio.get_running_loop().call_later(seconds, self._ended.set)

    async def close(self) -> None:
        """End all requests, threads and processes."""
        self.close_within(0)
        await asyncio.to_thread(self._scheduler.close)
        await asyncio.to_thread(self._workers.close)
        self._drawing_thread.shutdown(cancel_futures=True)


@asynccontextmanager
async def run_service(
    detectors: Mapping[str, Detector], settings: ServiceSettings, metrics: Metrics
) -> AsyncIterator[Service]:
    """Start the worker processes and the scheduler's thread, and end them afterwards.

    Args:
        detectors: A detector for each preset.
        settings: Limits under load.
        metrics: Receives counts and times.
    """
    workers = Workers(settings.workers, metrics)
    scheduler = Scheduler(settings, metrics)
    service = Service(detectors, settings, metrics, workers, scheduler)
    try:
        await workers.start()
        yield service
    finally:
        await service.close()


def _draw_png(result: Result, minimum_score: float | None) -> bytes:
    buffer = io.BytesIO()
    result.plot(minimum_score=minimum_score).save(buffer, format="PNG", compress_level=1)
    return buffer.getvalue()
