"""The first two steps of detection that need no network: decode the image, run selective search.

Worker processes run this ahead of the classifier, so nothing here loads torch or OpenVINO.
"""

from __future__ import annotations

import hashlib
import time
from functools import cached_property
from os import PathLike
from pathlib import Path

import cv2
import numpy as np

from detector.common.object_storage import StoredFile
from detector.common.worker_pool import Limits
from detector.errors import ImageError, LostWorker, OversizedImage
from detector.formats.proposals import ProposalsFile
from detector.image_types import FailedImage, PreprocessedImage
from detector.images import Source, load, read
from detector.settings import Settings
from proposals import METHODS, Image, Proposals

OUT_OF_MEMORY = (MemoryError, cv2.error)
"""Raised when out of memory. OpenCV uses `cv2.error` for every failure, so this also catches
others."""


class Preprocessor:
    """Decodes images and proposes boxes, as the settings say. It can be sent to other processes.

    Args:
        settings: The settings of the detector.
        has_multibox: Whether MultiBox will add its boxes. Only then can the proposal method be
            left out (`multibox.alone`).
        proposals_file: A file of proposals that replaces the proposal method.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        has_multibox: bool = False,
        proposals_file: Path | None = None,
    ) -> None:
        self._images = settings.images
        self._method = METHODS[settings.proposals.engine](
            superpixels=settings.proposals.superpixels
        )
        self._multibox_alone = (
            has_multibox and settings.multibox.alone and settings.multibox.count > 0
        )
        self._proposals_path = proposals_file

    @property
    def limits(self) -> Limits:
        """What a worker process may need for an image."""
        return Limits(self._images.max_seconds, self._images.max_memory << 20)

    def preprocess(self, source: Source) -> PreprocessedImage:
        """Decode an image and propose boxes.

        Args:
            source: A path, the bytes of a file, a PIL image, or an RGB `uint8 [H, W, 3]` array.

        Raises:
            ImageError: The image cannot be used.
        """
        started = time.perf_counter()
        pixels = load(source, limits=self._images)
        decoded = time.perf_counter()

        path = str(source) if isinstance(source, str | PathLike) else None
        proposals = self._propose(pixels, "" if path is None else path)
        seconds = {"decode": decoded - started, "proposals": time.perf_counter() - decoded}
        from_file = self._proposals_path is not None
        return PreprocessedImage(pixels, proposals, seconds, path, from_file=from_file)

    def preprocess_file(
        self, path: Path | StoredFile, name: str
    ) -> PreprocessedImage | FailedImage:
        """Read, decode and propose boxes for a file.

        Args:
            path: The file.
            name: The file's name in errors and in a file of proposals.

        Raises:
            FormatError: The file of proposals is not one.
        """
        seconds: dict[str, float] = {}
        digest = ""
        try:
            started = time.perf_counter()
            data = read(path, max_bytes=self._images.max_bytes)
            digest = hashlib.sha256(data).hexdigest()
            pixels = load(data, name=name, limits=self._images)
            seconds["decode"] = time.perf_counter() - started

            started = time.perf_counter()
            proposals = self._propose(pixels, name)
            seconds["proposals"] = time.perf_counter() - started
        except ImageError as error:
            # Without a digest the next run tries the image again: its limits may be others.
            remembered = "" if isinstance(error, OversizedImage) else digest
            return FailedImage(type(error)(name, error.message), remembered, seconds)
        except OUT_OF_MEMORY as error:
            # Without a digest the next run tries the image again.
            return FailedImage(LostWorker.from_error(name, error), seconds=seconds)

        from_file = self._proposals_path is not None
        return PreprocessedImage(pixels, proposals, seconds, str(path), digest, from_file)

    @cached_property
    def _proposals_file(self) -> ProposalsFile | None:
        """The file of proposals, opened in the process that uses it."""
        return ProposalsFile(self._proposals_path) if self._proposals_path else None

    def _propose(self, pixels: Image, name: str) -> Proposals:
        if self._proposals_file is not None:
            height, width = pixels.shape[:2]
            return self._proposals_file.get(name, width, height)
        if self._multibox_alone:
            return Proposals.from_one_source(np.zeros((0, 4), np.float32), "multibox")
        return self._method(pixels)


def use_one_opencv_thread() -> None:
    """Keep OpenCV to one thread, because the worker processes share the cores."""
    cv2.setNumThreads(1)
