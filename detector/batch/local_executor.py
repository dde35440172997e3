"""What computes a run: from files to what was found in them."""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from detector.batch.workers import AHEAD, Task, prepare_ahead
from detector.bundles.bundle import Bundle
from detector.errors import FormatError, LostWorker
from detector.preprocessing import OUT_OF_MEMORY, Prepared
from detector.settings import Settings

if TYPE_CHECKING:
    from detector.detector import Detector, Result


class Finished(NamedTuple):
    """A file of which all is known. The decoded image is there if it is at hand."""

    task: Task
    prepared: Prepared
    result: Result


class Executor(Protocol):
    """Computes files, in whatever order."""

    bundle: Bundle
    settings: Settings
    fingerprint: Mapping[str, Any]
    """Everything that changes results, apart from the images."""

    def __call__(self, tasks: Iterable[Task]) -> Iterator[Finished]:
        """Each file once; a file that cannot be used is finished with an error."""
        ...


class LocalExecutor:
    """A detector in this process, and processes of this machine that prepare images for it.

    Args:
        given: a file of proposals to use in place of the detector's.
        workers: number of processes; one less than there are cores, if not given.

    Raises:
        FormatError: `given` cannot be read.
    """

    def __init__(
        self, detector: Detector, *, given: Path | None = None, workers: int | None = None
    ) -> None:
        self.bundle, self.settings = detector.bundle, detector.settings
        self.fingerprint: Mapping[str, Any] = {**detector.fingerprint, **given_fingerprint(given)}
        self._detector, self._workers = detector, workers
        self._preparation = detector.preparing(given)

    def __call__(self, tasks: Iterable[Task]) -> Iterator[Finished]:
        """Each file once, in the order of the files."""
        together = self._detector.images_together
        stream = prepare_ahead(
            self._preparation, tasks, workers=self._workers, ahead=max(AHEAD, together)
        )
        on_gpu = self._detector.device.type == "cuda"  # where the networks are recorded meanwhile
        ahead = 0 if on_gpu or self._detector.multibox is None else 1
        localised: deque[Future[list[tuple[Task, Prepared]]]] = deque()
        with closing(stream), ThreadPoolExecutor(1) as thread:
            while group := list(islice(stream, together)):
                localised.append(thread.submit(self._localise, group))
                del group  # its images, before more are made
                if len(localised) > ahead:
                    yield from self._classify(localised.popleft().result())
            while localised:
                yield from self._classify(localised.popleft().result())

    def _localise(self, group: list[tuple[Task, Prepared]]) -> list[tuple[Task, Prepared]]:
        """Add MultiBox's boxes, while the networks look at the images before: each of the two has
        work for one core alone, which leaves the others to the other.
        """
        try:
            return [(task, self._detector.localise(prepared)) for task, prepared in group]
        except OUT_OF_MEMORY:  # `classify` tries again, when there is less in memory
            return group

    def _classify(self, group: list[tuple[Task, Prepared]]) -> Iterator[Finished]:
        named = [(task.name, prepared) for task, prepared in group]
        for (task, _), found in zip(group, classify(self._detector, named), strict=True):
            yield Finished(task, *found)


def classify(
    detector: Detector, group: Sequence[tuple[str, Prepared]]
) -> list[tuple[Prepared, Result]]:
    """What is found in prepared images, which errors call by their names.

    One that needs more memory than there is, alone too, is a failure, which the next run tries
    again: it has no digest.
    """
    import torch

    from detector.detector import Result

    try:
        localised = [detector.localise(prepared) for _, prepared in group]
        return list(zip(localised, detector.finish_together(localised), strict=True))
    except (*OUT_OF_MEMORY, torch.OutOfMemoryError) as error:
        lost = LostWorker.of(group[0][0], error)
    if len(group) > 1:  # not above, where the error still holds what filled the memory
        return [found for one in group for found in classify(detector, [one])]
    return [(Prepared({}, error=lost), Result(error=lost))]


def given_fingerprint(given: Path | None) -> dict[str, str]:
    """The part of a fingerprint that is about a file of proposals.

    Raises:
        FormatError: it cannot be read.
    """
    if given is None:
        return {}
    try:
        with open(given, "rb") as file:
            return {"proposals_in": hashlib.file_digest(file, "sha256").hexdigest()}
    except OSError as error:
        raise FormatError(given, f"cannot be read: {error.strerror}") from error
