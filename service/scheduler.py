"""The classifier's thread: it takes the waiting images in the order of arrival.

Images with few regions are taken together, so that they share the networks' batches; an image that
nobody waits for any more is dropped before its turn.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections import deque
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from dataclasses import dataclass, field
from http import HTTPStatus

import numpy as np
from numpy.typing import NDArray

from detector.detector import Detector
from detector.preprocessing import Prepared
from detector.regions.nms import select
from detector.results import Detection
from detector.settings import DetectionSettings
from proposals import Image, Proposals
from service.metrics import Metrics
from service.problems import Problem, closing
from service.settings import ServiceSettings

logger = logging.getLogger(__name__)

LONGEST_RETRY = 60
"""Seconds."""


@dataclass(frozen=True, eq=False)
class Classified:
    """An image's proposals, its detections, and the seconds of each stage so far."""

    proposals: Proposals
    detections: tuple[Detection, ...]
    seconds: dict[str, float]


@dataclass(eq=False)
class Job:
    """An image whose regions wait to be classified."""

    detector: Detector
    settings: DetectionSettings
    image: Image
    prepared: Prepared
    proposals: Proposals
    arrived: float
    future: Future[Classified] = field(default_factory=Future)
    localised: bool = False

    @property
    def regions(self) -> int:
        """How many it has, with those that MultiBox may still add."""
        multibox = self.detector.multibox
        more = 0 if self.localised or multibox is None else multibox.count
        return len(self.proposals) + more

    @property
    def pixels(self) -> int:
        """How many its image has."""
        height, width = self.image.shape[:2]
        return int(height * width)


class Scheduler:
    """Classifies images that are handed in by any thread.

    Args:
        settings: how much may wait, and how much is taken up at once.
    """

    def __init__(self, settings: ServiceSettings, metrics: Metrics) -> None:
        self._settings, self._metrics = settings, metrics
        self._jobs: deque[Job] = deque()
        self._changed = threading.Condition()
        self._closed = False
        self.undrawn = 0
        """Pixels of classified images whose pictures are still to be drawn: they count as well."""
        self._rate = 100.0
        """Regions a second, a running mean."""
        self._thread = threading.Thread(target=self._run, name="classifier", daemon=True)
        self._thread.start()

    @property
    def alive(self) -> bool:
        """Does the thread run?"""
        return self._thread.is_alive()

    def check(self, crops: int = 0, pixels: int = 0) -> None:
        """See that so many more regions, of an image of so many pixels, may wait.

        Raises:
            Problem: 503, with the time after which there should be room.
        """
        with self._changed:
            regions = self._regions()
            area = self.undrawn + sum(job.pixels for job in self._jobs)
        if regions and regions + crops > self._settings.max_crops:
            reason = f"{regions:,} regions wait already"
        elif area and area + pixels > self._settings.max_waiting_pixels:
            reason = f"images of {area:,} pixels wait already"
        else:
            return
        seconds = min(max(1, math.ceil(regions / self._rate)), LONGEST_RETRY)
        raise Problem(HTTPStatus.SERVICE_UNAVAILABLE, "busy", reason, retry_after=seconds)

    def submit(
        self, detector: Detector, prepared: Prepared, settings: DetectionSettings
    ) -> Future[Classified]:
        """Hand in a prepared image. Its future may be cancelled.

        Raises:
            Problem: 503, there is no room.
        """
        assert prepared.image is not None
        assert prepared.proposals is not None
        job = Job(
            detector,
            settings,
            prepared.image,
            prepared,
            prepared.proposals,
            time.perf_counter(),
        )
        self.check(job.regions, job.pixels)
        with self._changed:
            if self._closed:
                raise closing()
            self._jobs.append(job)
            self._metrics.waiting.set(self._regions())
            self._changed.notify()
        return job.future

    def close(self) -> None:
        """Finish what waits, and end the thread."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join()

    def _regions(self) -> int:
        """How many regions wait."""
        return sum(job.regions for job in self._jobs)

    def _run(self) -> None:
        while (work := self._next()) is not None:
            if isinstance(work, Job):
                self._localise(work)
            else:
                self._classify(work)

    def _next(self) -> Job | list[Job] | None:
        """An image to localise, or some to classify; None at the end."""
        with self._changed:
            while True:
                self._jobs = deque(job for job in self._jobs if not job.future.done())
                self._metrics.waiting.set(self._regions())
                if not self._jobs:
                    if self._closed:
                        return None
                    self._changed.wait()
                    continue
                batch = self._batch()
                is_full = sum(job.regions for job in batch) >= self._settings.batch_crops
                new = next((job for job in self._jobs if not job.localised), None)
                if new is not None and not is_full:
                    return new
                wait = self._jobs[0].arrived + self._settings.batch_wait - time.perf_counter()
                if is_full or wait <= 0 or self._closed:
                    return batch
                self._changed.wait(wait)

    def _batch(self) -> list[Job]:
        """The first images that wait, as many as are taken up at once, each whole: which of its
        regions a cascade shows to further networks depends on the others.
        """
        batch: list[Job] = []
        room = self._settings.batch_crops
        for job in self._jobs:
            if job.detector is self._jobs[0].detector and job.localised and room > 0:
                batch.append(job)
                room -= job.regions
        return batch

    def _localise(self, job: Job) -> None:
        """Add MultiBox's proposals to an image's."""
        try:
            prepared = job.detector.localise(job.prepared)
        except Exception as error:
            self._fail(job, error)
            return
        assert prepared.proposals is not None
        with self._changed:
            job.prepared, job.proposals, job.localised = prepared, prepared.proposals, True

    def _classify(self, batch: list[Job]) -> None:
        started = time.perf_counter()
        ensemble = batch[0].detector.ensemble
        try:
            found = ensemble.together([(job.image, job.proposals.boxes) for job in batch])
        except Exception as error:
            if len(batch) == 1:
                self._fail(batch[0], error)
            else:  # one image must not fail the others
                for one in batch:
                    self._classify([one])
            return
        seconds = time.perf_counter() - started
        crops = sum(job.regions for job in batch)
        self._metrics.batch.observe(crops)
        self._rate += 0.1 * (crops / max(seconds, 1e-6) - self._rate)
        for job, probabilities in zip(batch, found, strict=True):
            try:
                self._finish(job, probabilities, seconds)
            except Exception as error:
                self._fail(job, error)

    def _finish(self, job: Job, probabilities: NDArray[np.float32], seconds: float) -> None:
        started = time.perf_counter()
        detector, boxes = job.detector, job.proposals.boxes
        detections = tuple(select(boxes, probabilities, detector.classes, job.settings))
        classify = seconds + time.perf_counter() - started
        classified = Classified(
            job.proposals, detections, job.prepared.seconds | {"classify": classify}
        )
        with suppress(InvalidStateError):  # nobody waits for it any more
            job.future.set_result(classified)

    def _fail(self, job: Job, error: Exception) -> None:
        logger.exception("an image could not be classified", exc_info=error)
        with suppress(InvalidStateError):
            job.future.set_exception(error)
