"""Runs on this machine: worker processes preprocess images ahead of the networks.

Each image passes through `Detector.propose` and `Detector.predict_batch`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from detector.batch.executor import DetectedImage, Finished, UndetectedImage
from detector.batch.workers import AHEAD, Task, preprocess_ahead
from detector.errors import LostWorker
from detector.fingerprint import proposals_file_fingerprint
from detector.formats.records import Header
from detector.image_types import FailedImage, PreprocessedImage, ProposedImage
from detector.preprocessing import OUT_OF_MEMORY
from detector.results import FailedResult

if TYPE_CHECKING:
    from detector.detector import Detector


class LocalExecutor:
    """A detector in this process, and worker processes that preprocess images for it.

    Args:
        detector: The detector.
        proposals_file: A file of proposals that replaces the detector's.
        workers: Number of worker processes. By default one less than there are cores.

    Raises:
        FormatError: The file of proposals cannot be read.
    """

    def __init__(
        self,
        detector: Detector,
        *,
        proposals_file: Path | None = None,
        workers: int | None = None,
    ) -> None:
        networks = detector.networks
        self.settings = detector.settings
        self.header = Header.of_bundle(
            networks.name, networks.sha256, detector.settings, networks.classes
        )
        self.fingerprint: Mapping[str, Any] = {
            **detector.fingerprint,
            **proposals_file_fingerprint(proposals_file),
        }
        self._detector = detector
        self._workers = workers
        self._preprocessor = detector.make_preprocessor(proposals_file)

    def __call__(self, tasks: Iterable[Task]) -> Iterator[Finished]:
        """Yield each image once, in the order of the tasks."""
        runtime = self._detector.networks.runtime
        batch_size = runtime.images_per_batch
        stream = preprocess_ahead(
            self._preprocessor,
            tasks,
            workers=self._workers,
            ahead=max(AHEAD, batch_size),
        )

        # MultiBox looks at the next images while the classifiers look at the current ones: both
        # have single-threaded phases, and overlapping them keeps all cores busy. Not on a GPU,
        # where the classifiers' kernels are being recorded meanwhile.
        overlaps = self._detector.multibox_count > 0 and not runtime.on_gpu
        ahead = 1 if overlaps else 0
        waiting: deque[Future[list[_Proposed]]] = deque()
        with closing(stream), ThreadPoolExecutor(1) as thread:
            while batch := list(islice(stream, batch_size)):
                waiting.append(thread.submit(self._propose_batch, batch))
                del batch  # release its images before more are made
                if len(waiting) > ahead:
                    yield from self._classify_batch(waiting.popleft().result())
            while waiting:
                yield from self._classify_batch(waiting.popleft().result())

    def _propose_batch(self, batch: Sequence[_Preprocessed]) -> list[_Proposed]:
        """Add MultiBox's boxes. An image for which memory is short is left for the next step."""
        proposed: list[_Proposed] = []
        for task, image in batch:
            try:
                done = image if isinstance(image, FailedImage) else self._detector.propose(image)
            except OUT_OF_MEMORY:
                proposed.append((task, image))
            else:
                proposed.append((task, done))
        return proposed

    def _classify_batch(self, batch: Sequence[_Proposed]) -> list[Finished]:
        """Classify a batch, after a second attempt to propose boxes where memory was short."""
        complete = [
            (task, propose_or_fail(self._detector, task.name, image))
            if isinstance(image, PreprocessedImage)
            else (task, image)
            for task, image in batch
        ]
        return predict_or_fail(self._detector, complete)


_Preprocessed = tuple[Task, PreprocessedImage | FailedImage]
_Proposed = tuple[Task, PreprocessedImage | ProposedImage | FailedImage]


def propose_or_fail(
    detector: Detector, name: str, image: PreprocessedImage | FailedImage
) -> ProposedImage | FailedImage:
    """Add MultiBox's boxes to an image; a lack of memory makes it a failed one.

    Args:
        detector: The detector.
        name: The image's name in errors.
        image: The image.
    """
    if isinstance(image, FailedImage):
        return image
    try:
        return detector.propose(image)
    except OUT_OF_MEMORY as error:
        return FailedImage(LostWorker.from_error(name, error))


def predict_or_fail(
    detector: Detector, batch: Sequence[tuple[Task, ProposedImage | FailedImage]]
) -> list[Finished]:
    """Classify the images of a batch together.

    If memory is short, the images are classified one by one. An image for which there is not
    enough memory even then is a failure that the next run tries again.
    """
    proposed = [image for _, image in batch if isinstance(image, ProposedImage)]
    try:
        results = iter(detector.predict_batch(proposed))
    except OUT_OF_MEMORY as error:
        task = batch[0][0]
        lost = LostWorker.from_error(task.name, error)
    else:
        return [
            failed(task, image)
            if isinstance(image, FailedImage)
            else DetectedImage(task, next(results), image.proposals, image.digest, image.pixels)
            for task, image in batch
        ]

    # Only here, because inside the handler the error still holds what filled the memory.
    if len(batch) > 1:
        return [finished for item in batch for finished in predict_or_fail(detector, [item])]
    return [failed(task, FailedImage(lost))]


def failed(task: Task, image: FailedImage) -> UndetectedImage:
    """Return a failed image as the run's result of its task."""
    result = FailedResult(str(task.path), image.error, image.seconds)
    return UndetectedImage(task, result, image.digest)
