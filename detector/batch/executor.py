"""What computes the images of a run: the common interface of this machine and of a cluster."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from detector.batch.workers import Task
from detector.formats.records import Header
from detector.results import FailedResult, Result
from detector.settings import Settings
from proposals import Image, Proposals


@dataclass(frozen=True, eq=False)
class DetectedImage:
    """An image of a run with its detections.

    Args:
        task: The image's file and name.
        result: What was found.
        proposals: The boxes that were classified.
        digest: sha256 of the file's bytes.
        pixels: RGB `uint8 [H, W, 3]`, or None if another machine decoded the image.
    """

    task: Task
    result: Result
    proposals: Proposals
    digest: str
    pixels: Image | None


@dataclass(frozen=True, eq=False)
class UndetectedImage:
    """An image of a run that could not be used.

    Args:
        task: The image's file and name.
        result: The reason.
        digest: sha256 of the file's bytes, or "" if the next run should try again.
    """

    task: Task
    result: FailedResult
    digest: str


Finished = DetectedImage | UndetectedImage
"""The outcome for one image."""


class Executor(Protocol):
    """Computes images, in any order."""

    header: Header
    """What the output says about all images."""
    settings: Settings
    fingerprint: Mapping[str, Any]
    """Everything that changes results, apart from the images."""

    def __call__(self, tasks: Iterable[Task]) -> Iterator[Finished]:
        """Yield each image once. One that cannot be used is an `UndetectedImage`."""
        ...
