"""The thread that runs the networks. It takes the waiting images in the order of their arrival.

Images with few regions are classified together, so that they share the networks' batches. An image
that nobody waits for any more is dropped before its turn.
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
from typing import Generic, NamedTuple, TypeVar

from detector.detector import Detector
from detector.image_types import ClassifiedImage, PreprocessedImage, ProposedImage
from detector.results import Result
from proposals import Proposals
from service.metrics import Metrics
from service.problems import Problem, closing_problem
from service.settings import ServiceSettings

logger = logging.getLogger(__name__)

MAX_RETRY_SECONDS = 60
FIRST_RATE = 100.0
"""Regions per second that are assumed before the first batch."""

Stage = TypeVar("Stage", PreprocessedImage, ProposedImage)


class DetectedImage(NamedTuple):
    """An image's detections, and the regions in which they were looked for."""

    result: Result
    proposals: Proposals


@dataclass(frozen=True, eq=False)
class Job(Generic[Stage]):
    """An image that waits for the networks.

    Args:
        detector: The detector that the request chose.
        image: The image, in the stage that it has reached.
        arrived: Time of arrival, as `time.perf_counter` counts.
        future: Receives the detections.
    """

    detector: Detector
    image: Stage
    arrived: float
    future: Future[DetectedImage] = field(default_factory=Future)

    @property
    def regions(self) -> int:
        """Number of regions, including those that MultiBox may still add."""
        count = len(self.image.proposals)
        if isinstance(self.image, PreprocessedImage):
            count += self.detector.multibox_count
        return count

    @property
    def pixels(self) -> int:
        """Number of pixels of the image."""
        height, width = self.image.pixels.shape[:2]
        return int(height * width)


class Scheduler:
    """Detects objects in images that any thread submits.

    Args:
        settings: Limits on what may wait, and the size of batches.
        metrics: Receives the number of waiting regions and the size of each batch.
    """

    def __init__(self, settings: ServiceSettings, metrics: Metrics) -> None:
        self._settings = settings
        self._metrics = metrics
        # A job stays in its queue while it is in work, so that the limits count it.
        self._to_propose: deque[Job[PreprocessedImage]] = deque()
        self._to_classify: deque[Job[ProposedImage]] = deque()
        self._changed = threading.Condition()
        self._closed = False
        self.pixels_to_draw = 0
        """Pixels of finished images that wait to be drawn. The limit on pixels counts them."""
        self._rate = FIRST_RATE
        """Regions per second, a running mean."""
        self._thread = threading.Thread(target=self._run, name="classifier", daemon=True)
        self._thread.start()

    @property
    def alive(self) -> bool:
        """Whether the thread is running."""
        return self._thread.is_alive()

    def check_room(self, regions: int = 0, pixels: int = 0) -> None:
        """Check that another image may wait.

        Args:
            regions: Number of its regions.
            pixels: Number of its pixels.

        Raises:
            Problem: 503, with the time after which there should be room.
        """
        with self._changed:
            waiting_regions = self._count_regions()
            waiting_pixels = self._count_pixels()

        if waiting_regions and waiting_regions + regions > self._settings.max_crops:
            reason = f"{waiting_regions:,} regions wait already"
        elif waiting_pixels and waiting_pixels + pixels > self._settings.max_waiting_pixels:
            reason = f"images of {waiting_pixels:,} pixels wait already"
        else:
            return
        seconds = min(max(1, math.ceil(waiting_regions / self._rate)), MAX_RETRY_SECONDS)
        raise Problem(HTTPStatus.SERVICE_UNAVAILABLE, "busy", reason, retry_after=seconds)

    def submit(self, detector: Detector, image: PreprocessedImage) -> Future[DetectedImage]:
        """Submit an image.

        Args:
            detector: The detector that the request chose.
            image: The preprocessed image.

        Returns:
            The future detections. Cancel it when nobody waits for them any more.

        Raises:
            Problem: 503, because there is no room or the service is closing.
        """
        job = Job(detector, image, time.perf_counter())
        self.check_room(job.regions, job.pixels)
        with self._changed:
            if self._closed:
                raise closing_problem()
            self._to_propose.append(job)
            self._metrics.waiting.set(self._count_regions())
            self._changed.notify()
        return job.future

    def close(self) -> None:
        """Finish the images that wait, and end the thread."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join()

    def _count_regions(self) -> int:
        to_propose = sum(job.regions for job in self._to_propose)
        return to_propose + sum(job.regions for job in self._to_classify)

    def _count_pixels(self) -> int:
        to_propose = sum(job.pixels for job in self._to_propose)
        return self.pixels_to_draw + to_propose + sum(job.pixels for job in self._to_classify)

    def _run(self) -> None:
        while (work := self._wait_for_work()) is not None:
            if isinstance(work, Job):
                self._propose(work)
            else:
                self._classify(work)

    def _wait_for_work(self) -> Job[PreprocessedImage] | list[Job[ProposedImage]] | None:
        """Return the next image that needs proposals, or the next batch to classify.

        None means that the scheduler is closed and nothing waits.
        """
        with self._changed:
            while True:
                self._drop_finished_jobs()
                if not self._to_propose and not self._to_classify:
                    if self._closed:
                        return None
                    self._changed.wait()
                    continue

                # A full batch goes first, or newcomers would delay it.
                batch = self._next_batch()
                is_full = sum(job.regions for job in batch) >= self._settings.batch_crops
                if self._to_propose and not is_full:
                    return self._to_propose[0]

                # A batch that is not full waits a little for more images.
                wait = batch[0].arrived + self._settings.batch_wait - time.perf_counter()
                if is_full or wait <= 0 or self._closed:
                    return batch
                self._changed.wait(wait)

    def _drop_finished_jobs(self) -> None:
        self._to_propose = deque(job for job in self._to_propose if not job.future.done())
        self._to_classify = deque(job for job in self._to_classify if not job.future.done())
        self._metrics.waiting.set(self._count_regions())

    def _next_batch(self) -> list[Job[ProposedImage]]:
        """Return the first waiting images, up to the size of a batch.

        No image is split, because the cascade decides on a region by the image's other regions.
        """
        batch: list[Job[ProposedImage]] = []
        room = self._settings.batch_crops
        for job in self._to_classify:
            if room > 0 and _can_share_batch(job.detector, self._to_classify[0].detector):
                batch.append(job)
                room -= job.regions
        return batch

    def _propose(self, job: Job[PreprocessedImage]) -> None:
        """Add MultiBox's boxes to the first image in the queue."""
        try:
            image = job.detector.propose(job.image)
        except Exception as error:
            _fail(job.future, error)
            return
        with self._changed:
            self._to_propose.popleft()
            self._to_classify.append(Job(job.detector, image, job.arrived, job.future))

    def _classify(self, batch: list[Job[ProposedImage]]) -> None:
        """Classify the regions of several images together and finish each image."""
        started = time.perf_counter()
        try:
            classified_images = batch[0].detector.classify([job.image for job in batch])
        except Exception as error:
            if len(batch) == 1:
                _fail(batch[0].future, error)
                return
            # An image must not make others fail.
            for job in batch:
                self._classify([job])
            return

        seconds = time.perf_counter() - started
        regions = sum(job.regions for job in batch)
        self._metrics.batch.observe(regions)
        self._rate += 0.1 * (regions / max(seconds, 1e-6) - self._rate)

        for job, classified in zip(batch, classified_images, strict=True):
            _finish(job, classified)


def _can_share_batch(first: Detector, second: Detector) -> bool:
    """Return whether both detectors classify a region alike."""
    return (
        first.networks is second.networks
        and first.settings.classifier == second.settings.classifier
        # The cascade drops regions that non-maximum suppression would drop.
        and first.settings.detections.nms_iou == second.settings.detections.nms_iou
    )


def _finish(job: Job[ProposedImage], classified: ClassifiedImage) -> None:
    """Select the detections of a classified image and hand them over."""
    try:
        result = job.detector.postprocess(classified)
    except Exception as error:
        _fail(job.future, error)
        return
    with suppress(InvalidStateError):  # nobody waits for it any more
        job.future.set_result(DetectedImage(result, job.image.proposals))


def _fail(future: Future[DetectedImage], error: Exception) -> None:
    logger.exception("an image could not be classified", exc_info=error)
    with suppress(InvalidStateError):  # nobody waits for it any more
        future.set_exception(error)
