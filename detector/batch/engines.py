"""What computes a run: from files to what was found in them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from detector.batch.local import AHEAD, Task, prepare_ahead
from detector.bundle import Bundle
from detector.errors import FormatError
from detector.preparation import Prepared
from detector.settings import Settings

if TYPE_CHECKING:
    from detector.pipeline import Detector, Result


class Finished(NamedTuple):
    """A file of which all is known. The decoded image is there if it is at hand."""

    task: Task
    prepared: Prepared
    result: Result


class Engine(Protocol):
    """Computes files, in whatever order."""

    bundle: Bundle
    settings: Settings
    fingerprint: Mapping[str, Any]
    """Everything that changes results, apart from the images."""

    def __call__(self, tasks: Iterable[Task]) -> Iterator[Finished]:
        """Each file once; a file that cannot be used is finished with an error."""
        ...


class LocalEngine:
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
        while group := list(islice(stream, together)):
            localised = [self._detector.localise(prepared) for _, prepared in group]
            results = self._detector.finish_together(localised)
            for (task, _), prepared, result in zip(group, localised, results, strict=True):
                yield Finished(task, prepared, result)
            del group, localised  # their images, before more are made


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
