"""Proposals of annotated photos, computed once and kept on disk."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import cv2
import numpy as np
import PIL

from detector.batch.journal import Journal
from detector.batch.workers import Task, preprocess_ahead
from detector.common.atomic_io import encode
from detector.common.cpu import available_cores
from detector.common.progress import ShowProgress, no_progress
from detector.datasets.ground_truth import AnnotatedImage
from detector.errors import ImageError
from detector.formats.proposals import from_json, to_json
from detector.formats.records import Failure
from detector.images import read
from detector.preprocessing import Preprocessor
from detector.settings import ProposalSettings, Settings
from detector.stages import FailedImage
from proposals import Proposals


@dataclass(frozen=True, eq=False)
class Photo:
    """A photo with its file, its objects, its proposals, and the seconds that these took."""

    file: Path
    image: AnnotatedImage
    proposals: Proposals
    seconds: float


def cache_path(folder: Path, settings: ProposalSettings) -> Path:
    """The file for proposals made with these settings by the versions that are installed."""
    digest = hashlib.sha256(encode(_key(settings))).hexdigest()
    return folder / f"proposals-{digest[:12]}.jsonl"


def _key(settings: ProposalSettings) -> dict[str, object]:
    versions = {
        "numpy": np.__version__,
        "opencv": cv2.__version__,
        "pillow": PIL.__version__,
        "selectivesearch": version("selectivesearch"),
    }
    return {"proposals": settings.model_dump(mode="json"), "versions": versions}


def gather(
    images: Sequence[AnnotatedImage],
    photos: Path,
    settings: ProposalSettings,
    cache: Path,
    *,
    workers: int | None = None,
    strict: bool = False,
    show_progress: ShowProgress = no_progress,
) -> tuple[list[Photo], list[Failure]]:
    """The photos with their proposals, and those that cannot be used.

    What is not in the cache yet is computed by worker processes, as many as there are cores if
    not given, and goes there photo by photo.

    Raises:
        FormatError: a photo has another size than its annotations say.
        ImageError: with `strict`, the first photo that cannot be used.
    """
    preparation = Preprocessor(Settings(proposals=settings))
    failures: dict[str, Failure] = {}
    with ExitStack() as stack:
        journal = stack.enter_context(Journal(cache))
        journal.begin(_key(settings))
        finished = 0

        def unfinished() -> Iterator[Task]:
            nonlocal finished
            for image in images:
                path = photos / image.file
                if _is_finished(journal, image.file, path):
                    finished += 1
                else:
                    yield Task(path, image.file)

        report = stack.enter_context(show_progress(len(images), "photo"))
        ahead = preprocess_ahead(preparation, unfinished(), workers=workers or available_cores())
        for computed, (task, image) in enumerate(ahead, start=1):
            if isinstance(image, FailedImage):
                if strict:
                    raise image.error
                failures[task.name] = Failure(task.name, image.error.code, image.error.message)
            else:
                height, width = image.pixels.shape[:2]
                record = to_json(task.name, width, height, image.proposals)
                seconds = {"seconds": round(image.seconds["proposals"], 4)}
                journal.append(record | seconds | {"digest": image.digest})
            report(finished + computed, computed)
        usable = [
            _read(journal, image, photos / image.file)
            for image in images
            if image.file not in failures
        ]
    return usable, list(failures.values())


def _is_finished(journal: Journal, name: str, path: Path) -> bool:
    digest = journal.digest(name)
    try:
        return bool(digest) and digest == hashlib.sha256(read(path)).hexdigest()
    except ImageError:
        return False


def _read(journal: Journal, image: AnnotatedImage, file: Path) -> Photo:
    record = journal[image.file]
    image.check_size(file, record["width"], record["height"])
    return Photo(file, image, from_json(record), record["seconds"])
