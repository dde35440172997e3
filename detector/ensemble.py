"""The region classifier: every member looks at every proposal, and their softmaxes are averaged."""

from __future__ import annotations

import copy
import logging
from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from detector.backends import Backend
from detector.crops import Pixels, cut, normalise
from detector.manifest import Normalisation, Warp
from proposals import Image
from proposals.types import Boxes

logger = logging.getLogger(__name__)


class Ensemble:
    """Networks that share classes and an input normalisation.

    Args:
        members: each member's backend and the shape of its crops.
        normalisation: of the pixels.
        classes: number of outputs, background included.
        batch_size: crops to a batch. Every batch has this size, the last of an image is filled
            up with grey crops. After an out-of-memory error it is halved, for good.
        cascade: where the first member gives every class less than this, the others are not asked,
            and its probabilities stand.
    """

    def __init__(
        self,
        members: Sequence[tuple[Backend, Warp]],
        normalisation: Normalisation,
        *,
        classes: int,
        batch_size: int,
        cascade: float = 0.0,
    ) -> None:
        self.members = list(members)
        self.normalisation = normalisation
        self.classes = classes
        self.batch_size = batch_size
        self.cascade = cascade

    def __call__(self, image: Image, boxes: Boxes) -> NDArray[np.float32]:
        """Mean probabilities `float32 [N, classes]` of boxes `[N, 4]`; column 0 is background."""
        return self.together([(image, boxes)])[0]

    def together(self, parts: Sequence[tuple[Image, Boxes]]) -> list[NDArray[np.float32]]:
        """The same for boxes of several images, which share batches."""
        ends = np.cumsum([len(boxes) for _, boxes in parts])[:-1]
        if not self.cascade:
            total = self._sum(self.members, parts)
            return np.split(total / np.float32(len(self.members)), ends)
        total = self._sum(self.members[:1], parts)
        goes_on = total[:, 1:].max(axis=1) >= self.cascade  # [all regions]
        rest = [
            (image, boxes[some])
            for (image, boxes), some in zip(parts, np.split(goes_on, ends), strict=True)
        ]
        total[goes_on] += self._sum(self.members[1:], rest)
        total[goes_on] /= np.float32(len(self.members))
        return np.split(total, ends)

    def limited(self, members: int | Literal["all"], cascade: float) -> Ensemble:
        """The first so many members alone, with another threshold."""
        made = copy.copy(self)
        made.members = self.members if members == "all" else self.members[:members]
        made.cascade = cascade
        return made

    def _sum(
        self, members: Sequence[tuple[Backend, Warp]], parts: Sequence[tuple[Image, Boxes]]
    ) -> NDArray[np.float32]:
        """The sum of members' probabilities of all boxes: `float32 [all regions, classes]`."""
        ends = np.cumsum([0, *(len(boxes) for _, boxes in parts)])  # [images + 1]
        total = np.zeros((ends[-1], self.classes), np.float32)
        by_warp: dict[Warp, list[Backend]] = {}
        for backend, warp in members:
            by_warp.setdefault(warp, []).append(backend)
        for warp, backends in by_warp.items():
            placed = _OneAtATime(self.normalisation, backends[0])
            start = 0
            while start < len(total):
                end = min(start + self.batch_size, len(total))
                try:
                    crops = [
                        cut(placed(image), boxes[max(0, start - first) : end - first], warp)
                        for (image, boxes), first in zip(parts, ends, strict=False)
                        if first < end and start < first + len(boxes)
                    ]
                    filling = self.batch_size - (end - start)
                    batch = functional.pad(torch.cat(crops), (0, 0, 0, 0, 0, 0, 0, filling))
                    found = sum(backend(batch)[: end - start] for backend in backends)
                except (torch.OutOfMemoryError, MemoryError):
                    if self.batch_size == 1:
                        raise
                    self.batch_size //= 2
                    logger.warning("out of memory: batches of %d crops from now", self.batch_size)
                    continue
                total[start:end] += found
                start = end
        return total


class _OneAtATime:
    """Images as a backend cuts from them, of which the last one is kept: they may be large."""

    def __init__(self, normalisation: Normalisation, backend: Backend) -> None:
        self._normalisation, self._backend = normalisation, backend
        self._last: tuple[Image, Pixels | Tensor] | None = None

    def __call__(self, image: Image) -> Pixels | Tensor:
        if self._last is None or self._last[0] is not image:
            self._last = None  # before the next one is made
            self._last = image, self._backend.place(normalise(image, self._normalisation))
        return self._last[1]
