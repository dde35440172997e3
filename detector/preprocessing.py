"""What is done to an image before the networks see it: read, decode, propose.

Worker processes run this ahead of the classifier, so it loads no torch.
"""

from __future__ import annotations

import hashlib
import time
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import cv2
import numpy as np

from detector.common.object_storage import StoredFile
from detector.errors import ImageError, LostWorker
from detector.formats.proposals import ProposalsFile
from detector.images import Source, load, read
from detector.settings import Settings
from proposals import METHODS, Image, Proposals

OUT_OF_MEMORY = (MemoryError, cv2.error)
"""What numpy and OpenCV raise then; the latter, also otherwise, has one kind for all."""


@dataclass(frozen=True, eq=False)
class Prepared:
    """An image with its proposals, or the reason why there is none.

    `seconds` has the time of each stage done; `digest` is the sha256 of a file's bytes, empty
    where there is no file. `complete` says that no further source of proposals is to be asked.
    """

    seconds: dict[str, float]
    digest: str = ""
    image: Image | None = None
    proposals: Proposals | None = None
    complete: bool = False
    error: ImageError | None = None


class Preprocessor:
    """Prepares images as the settings say. It can be sent to other processes.

    Args:
        given: a file of proposals that replace the engine's.
        multibox: whether MultiBox will add its own, which may do alone.
    """

    def __init__(
        self, settings: Settings, *, given: Path | None = None, multibox: bool = False
    ) -> None:
        self._max_pixels = settings.images.max_pixels
        self._engine = METHODS[settings.proposals.engine](
            superpixels=settings.proposals.superpixels
        )
        self._alone = multibox and settings.multibox.alone and settings.multibox.count > 0
        self._given_path = given

    @cached_property
    def _given(self) -> ProposalsFile | None:
        return ProposalsFile(self._given_path) if self._given_path else None

    def file(self, path: Path | StoredFile, name: str) -> Prepared:
        """Prepare a file that errors call `name`.

        Raises:
            FormatError: the file of given proposals is not one.
        """
        seconds: dict[str, float] = {}
        digest = ""
        try:
            started = time.perf_counter()
            data = read(path)
            digest = hashlib.sha256(data).hexdigest()
            image = load(data, name=name, max_pixels=self._max_pixels)
            seconds["decode"] = time.perf_counter() - started
            proposals = self._propose(image, name, seconds)
            return Prepared(seconds, digest, image, proposals, self._given_path is not None)
        except ImageError as error:
            return Prepared(seconds, digest, error=type(error)(name, error.message))
        except OUT_OF_MEMORY as error:  # the next run tries again: no digest
            return Prepared(seconds, error=LostWorker.of(name, error))

    def source(self, source: Source) -> Prepared:
        """Prepare anything that can be loaded as an image.

        Raises:
            ImageError: it cannot be used.
        """
        started = time.perf_counter()
        image = load(source, max_pixels=self._max_pixels)
        seconds = {"decode": time.perf_counter() - started}
        return Prepared(seconds, image=image, proposals=self._propose(image, "", seconds))

    def _propose(self, image: Image, name: str, seconds: dict[str, float]) -> Proposals:
        started = time.perf_counter()
        if self._given is not None:
            height, width = image.shape[:2]
            proposals = self._given.get(name, width, height)
        elif self._alone:
            proposals = Proposals.from_one_source(np.zeros((0, 4), np.float32), "multibox")
        else:
            proposals = self._engine(image)
        seconds["proposals"] = time.perf_counter() - started
        return proposals


def single_threaded() -> None:
    """Keep OpenCV to one thread: processes share the cores among themselves."""
    cv2.setNumThreads(1)
