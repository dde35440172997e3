"""Propose boxes for the images of a benchmark, to measure how well they cover its objects."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from detector.batch.proposal_cache import cache_path, gather_proposals
from detector.common.progress import ShowProgress, no_progress
from detector.datasets.ground_truth import AnnotatedImage
from detector.formats.proposals import ProposalsFile
from detector.formats.records import Failure
from detector.images import load
from detector.settings import Settings
from proposals import Proposals
from proposals.merge import merge
from proposals.multibox import MultiBox


class ProposedImages(NamedTuple):
    """Annotated images with their proposals."""

    images: list[tuple[AnnotatedImage, Proposals]]
    failures: Sequence[Failure]
    """Images that could not be used."""
    seconds: float | None
    """Mean time of an image on one core, or None if it was not measured."""


def read_proposals(images: Sequence[AnnotatedImage], path: Path) -> ProposedImages:
    """Read the images' proposals from a file.

    Raises:
        FormatError: The file cannot be read.
        MissingProposals: It lacks an image.
    """
    file = ProposalsFile(path)
    proposed = [(image, file.get(image.file, image.width, image.height)) for image in images]
    return ProposedImages(proposed, (), None)


def propose(
    images: Sequence[AnnotatedImage],
    folder: Path,
    settings: Settings,
    multibox: MultiBox | None,
    *,
    workers: int | None = None,
    show_progress: ShowProgress = no_progress,
) -> ProposedImages:
    """Run the proposal method, and MultiBox unless it is None, and measure their time.

    Boxes of the proposal method are cached in the current folder.

    Args:
        images: Annotated images.
        folder: The folder of their files.
        settings: Settings of the proposal method and of MultiBox.
        multibox: MultiBox.
        workers: Number of worker processes. By default as many as there are cores.
        show_progress: Shows how many images are finished.
    """
    cached, failures = gather_proposals(
        images,
        folder,
        settings.proposals,
        cache_path(Path(), settings.proposals),
        workers=workers,
        show_progress=show_progress,
    )
    seconds = sum(image.seconds for image in cached) / max(1, len(cached))
    if multibox is None:
        proposed = [(image.annotated, image.proposals) for image in cached]
        return ProposedImages(proposed, failures, seconds)

    proposed = []
    multibox_seconds = 0.0
    with show_progress(len(cached), "image") as progress:
        for number, image in enumerate(cached, start=1):
            pixels = load(image.file)
            started = time.perf_counter()
            merged = merge(image.proposals, multibox(pixels, settings.multibox.count))
            multibox_seconds += time.perf_counter() - started
            proposed.append((image.annotated, merged))
            progress(number, number)
    seconds += multibox_seconds / max(1, len(cached))
    return ProposedImages(proposed, failures, seconds)
