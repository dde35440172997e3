"""The region classifier: every member looks at every proposal, and their softmaxes are averaged."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from detector.backends import Backend
from detector.crops import cut, normalise
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
    """

    def __init__(
        self,
        members: Sequence[tuple[Backend, Warp]],
        normalisation: Normalisation,
        *,
        classes: int,
        batch_size: int,
    ) -> None:
        self.normalisation = normalisation
        self.classes = classes
        self.batch_size = batch_size
        self._by_warp: dict[Warp, list[Backend]] = {}
        for backend, warp in members:
            self._by_warp.setdefault(warp, []).append(backend)
        self.backends = [backend for backend, _ in members]

    def __call__(self, image: Image, boxes: Boxes) -> NDArray[np.float32]:
        """Mean probabilities `float32 [N, classes]` of boxes `[N, 4]`; column 0 is background."""
        pixels = normalise(image, self.normalisation)
        total = np.zeros((len(boxes), self.classes), np.float32)
        for warp, backends in self._by_warp.items():
            placed = backends[0].place(pixels)
            start = 0
            while start < len(boxes):
                end = min(start + self.batch_size, len(boxes))
                try:
                    crops = cut(placed, boxes[start:end], warp)  # [n, S, S, 3]
                    filling = self.batch_size - len(crops)
                    crops = functional.pad(crops, (0, 0, 0, 0, 0, 0, 0, filling))
                    batch = sum(backend(crops)[: end - start] for backend in backends)
                except (torch.OutOfMemoryError, MemoryError):
                    if self.batch_size == 1:
                        raise
                    self.batch_size //= 2
                    logger.warning("out of memory: batches of %d crops from now", self.batch_size)
                    continue
                total[start:end] += batch
                start = end
        return total / np.float32(len(self.backends))
