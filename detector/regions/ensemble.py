"""The region classifier: every member looks at every proposal, and their softmaxes are averaged."""

from __future__ import annotations

import copy
import logging
import math
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from detector.backends import Backend
from detector.bundles.manifest import Normalisation, Warp
from detector.common.prefetcher import Prefetcher
from detector.regions.cascade import Cascade
from detector.regions.crops import Pixels, cut, normalise
from proposals import Image
from proposals.types import Boxes

logger = logging.getLogger(__name__)


class Ensemble:
    """Networks that share classes and an input normalisation.

    Args:
        members: each member's backend and the shape of its crops.
        normalisation: of the pixels.
        classes: number of outputs, background included.
        batch_size: crops to a batch. The last one is filled up with grey crops, to this size or
            to the backend's whole parts. After an out-of-memory error it is halved, for good.
        cascade: says which regions the next member is asked about; of the others the mean so far
            stands. Without it all are asked about all.
    """

    def __init__(
        self,
        members: Sequence[tuple[Backend, Warp]],
        normalisation: Normalisation,
        *,
        classes: int,
        batch_size: int,
        cascade: Cascade | None = None,
    ) -> None:
        self.members = list(members)
        self.normalisation = normalisation
        self.classes = classes
        self.cascade = cascade
        self._batch = _BatchSize(batch_size)  # shared with those that are `limited`
        self._thread = ThreadPoolExecutor(1)  # one for good: each new one would take memory anew

    @property
    def batch_size(self) -> int:
        """Crops to a batch."""
        return self._batch.crops

    def __call__(self, image: Image, boxes: Boxes) -> NDArray[np.float32]:
        """Mean probabilities `float32 [N, classes]` of boxes `[N, 4]`; column 0 is background."""
        return self.together([(image, boxes)])[0]

    def together(self, parts: Sequence[tuple[Image, Boxes]]) -> list[NDArray[np.float32]]:
        """The same for boxes of several images, which share batches."""
        if not parts:
            return []
        ends = np.cumsum([len(boxes) for _, boxes in parts])[:-1]
        if self.cascade is None:
            return np.split(self._sum(self.members, parts) / len(self.members), ends)
        total = self._sum(self.members[:1], parts)
        asked = np.ones((len(total), 1), np.float32)  # members that saw a region
        goes_on = np.ones(len(total), np.bool_)
        for member in self.members[1:]:
            means = np.split(total / asked, ends)
            goes_on &= np.concatenate(
                [
                    self.cascade.open(boxes, own)
                    for (_, boxes), own in zip(parts, means, strict=True)
                ]
            )
            rest = [
                (image, boxes[own])
                for (image, boxes), own in zip(parts, np.split(goes_on, ends), strict=True)
            ]
            total[goes_on] += self._sum([member], rest)
            asked[goes_on] += 1
        return np.split(total / asked, ends)

    def limited(self, members: int | Literal["all"], cascade: Cascade | None) -> Ensemble:
        """The first so many members alone, with another cascade."""
        made = copy.copy(self)
        made.members = self.members if members == "all" else self.members[:members]
        made.cascade = cascade
        return made

    def _sum(
        self, members: Sequence[tuple[Backend, Warp]], parts: Sequence[tuple[Image, Boxes]]
    ) -> NDArray[np.float32]:
        """The sum of members' probabilities of all boxes: `float32 [all regions, classes]`."""
        total = np.zeros((sum(len(boxes) for _, boxes in parts), self.classes), np.float32)
        before = self.batch_size
        by_warp: dict[Warp, list[Backend]] = {}
        for backend, warp in members:
            by_warp.setdefault(warp, []).append(backend)
        for warp, backends in by_warp.items():
            place = _OneAtATime(self.normalisation, backends[0])
            done = 0
            while done < len(total):
                size = self.batch_size
                try:
                    starts = range(done, len(total), size)
                    multiple = backends[0].part or size
                    for crops in _batches(parts, place, warp, starts, multiple, self._thread):
                        found = np.sum([backend(crops) for backend in backends], axis=0)
                        end = min(done + size, len(total))
                        total[done:end] += found[: end - done]
                        done = end
                except (torch.OutOfMemoryError, MemoryError):
                    if self.batch_size == 1:
                        self._batch.crops = before  # it was not the batches
                        raise
                    self._batch.crops //= 2
                    logger.warning("out of memory: batches of %d crops from now", self.batch_size)
        return total


@dataclass
class _BatchSize:
    crops: int


def _batches(
    parts: Sequence[tuple[Image, Boxes]],
    place: _OneAtATime,
    warp: Warp,
    starts: range,
    multiple: int,
    thread: ThreadPoolExecutor,
) -> Iterator[Tensor]:
    """Crops of the regions of all images, in the batches that begin at `starts`; the next one is
    cut while the networks work.

    Args:
        multiple: to which the last one is filled up.
        thread: which cuts them.
    """

    def make(number: int) -> Tensor:
        return _batch(parts, place, warp, starts[number], starts.step, multiple)

    ahead = Prefetcher(make, len(starts), thread)
    try:
        yield from (ahead(number) for number in range(len(starts)))
    finally:
        ahead.close()


def _batch(
    parts: Sequence[tuple[Image, Boxes]],
    place: _OneAtATime,
    warp: Warp,
    start: int,
    size: int,
    multiple: int,
) -> Tensor:
    """The crops `float32 [N, S, S, 3]` of the regions from `start` on, at most `size`, filled up
    with grey.
    """
    pieces, first = [], 0
    for image, boxes in parts:
        some = boxes[max(0, start - first) : max(0, start + size - first)]
        if len(some):
            pieces.append(cut(place(image), some, warp))
        first += len(boxes)
    count = sum(map(len, pieces))
    if len(pieces) == 1 and count % multiple == 0:
        return pieces[0]
    batch = pieces[0].new_zeros(math.ceil(count / multiple) * multiple, *pieces[0].shape[1:])
    torch.cat(pieces, out=batch[:count])
    return batch


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
