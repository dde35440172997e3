"""Proposals of annotated images, computed once and kept on disk."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import PIL

from detector.batch.journal import Journal
from detector.batch.workers import Task, preprocess_ahead
from detector.common.cpu import available_cores
from detector.common.json_files import encode
from detector.common.progress import Progress, ShowProgress, no_progress
from detector.datasets.ground_truth import AnnotatedImage
from detector.errors import ImageError
from detector.fingerprint import optional_versions
from detector.formats.proposals import from_json, to_json
from detector.formats.records import Failure
from detector.image_types import FailedImage
from detector.images import read
from detector.preprocessing import Preprocessor
from detector.settings import ProposalSettings, Settings
from proposals import Proposals


@dataclass(frozen=True, eq=False)
class CachedImage:
    """An annotated image with its proposals.

    Args:
        file: The image's file.
        annotated: The image's annotations.
        proposals: Boxes of the proposal method.
        seconds: Time that the proposals took.
    """

    file: Path
    annotated: AnnotatedImage
    proposals: Proposals
    seconds: float


def cache_path(folder: Path, settings: ProposalSettings) -> Path:
    """Return the file of proposals made with these settings by the installed versions."""
    digest = hashlib.sha256(encode(_cache_key(settings))).hexdigest()
    return folder / f"proposals-{digest[:12]}.jsonl"


def gather_proposals(
    images: Sequence[AnnotatedImage],
    folder: Path,
    settings: ProposalSettings,
    cache: Path,
    *,
    workers: int | None = None,
    strict: bool = False,
    show_progress: ShowProgress = no_progress,
) -> tuple[list[CachedImage], list[Failure]]:
    """Return images with their proposals, from the cache or computed now.

    Worker processes compute what the cache lacks. Each image is added to the cache as soon as it
    is finished.

    Args:
        images: Annotated images.
        folder: The folder of their files.
        settings: Settings of the proposal method.
        cache: The file of the cache, see `cache_path`.
        workers: Number of worker processes. By default as many as there are cores.
        strict: Whether an image that cannot be used is an error.
        show_progress: Shows how many images are finished.

    Returns:
        The images that can be used, and the failures of the others.

    Raises:
        FormatError: The size of an image differs from that in its annotations.
        ImageError: An image cannot be used, and `strict` is set.
    """
    with Journal(cache) as journal:
        journal.begin(_cache_key(settings))
        with show_progress(len(images), "photo") as progress:
            failures = _compute_missing(
                journal,
                [Task(folder / image.file, image.file) for image in images],
                Preprocessor(Settings(proposals=settings)),
                workers=workers or available_cores(),
                strict=strict,
                progress=progress,
            )
        failed = {failure.file for failure in failures}
        usable = [
            _read_cached(journal, image, folder / image.file)
            for image in images
            if image.file not in failed
        ]
    return usable, failures


def _compute_missing(
    journal: Journal,
    tasks: Sequence[Task],
    preprocessor: Preprocessor,
    *,
    workers: int,
    strict: bool,
    progress: Progress,
) -> list[Failure]:
    """Compute the proposals that the cache lacks, add them to it, and return the failures.

    Raises:
        ImageError: An image cannot be used, and `strict` is set.
    """
    cached = 0

    def missing_tasks() -> Iterator[Task]:
        nonlocal cached
        for task in tasks:
            if _is_cached(journal, task):
                cached += 1
            else:
                yield task

    failures: dict[str, Failure] = {}
    preprocessed = preprocess_ahead(preprocessor, missing_tasks(), workers=workers)
    for computed, (task, image) in enumerate(preprocessed, start=1):
        if isinstance(image, FailedImage):
            if strict:
                raise image.error
            failures[task.name] = Failure(task.name, image.error.code, image.error.message)
        else:
            height, width = image.pixels.shape[:2]
            record = to_json(task.name, width, height, image.proposals)
            seconds = round(image.seconds["proposals"], 4)
            journal.append(record | {"seconds": seconds, "digest": image.digest})
        progress(cached + computed, computed)
    return list(failures.values())


def _cache_key(settings: ProposalSettings) -> dict[str, object]:
    """Return everything that changes proposals, apart from the images."""
    versions = {
        "numpy": np.__version__,
        "opencv": cv2.__version__,
        "pillow": PIL.__version__,
        **optional_versions("selectivesearch"),
    }
    return {"proposals": settings.model_dump(mode="json"), "versions": versions}


def _is_cached(journal: Journal, task: Task) -> bool:
    """Return whether the cache has the proposals of the file's present content."""
    digest = journal.digest(task.name)
    try:
        return bool(digest) and digest == hashlib.sha256(read(task.path)).hexdigest()
    except ImageError:
        return False


def _read_cached(journal: Journal, image: AnnotatedImage, file: Path) -> CachedImage:
    record = journal[image.file]
    image.check_size(file, record["width"], record["height"])
    return CachedImage(file, image, from_json(record), record["seconds"])
