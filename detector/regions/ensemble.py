"""The region classifier: members look at the regions, and their probabilities are averaged.

Letters of shapes: N regions of an image, R regions of all images, S the crop's side.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from detector.backends import Backend, Crops, DeviceImage
from detector.bundles.manifest import Normalisation, Warp
from detector.common.prefetcher import Prefetcher
from detector.regions.cascade import Cascade
from detector.regions.crops import normalise
from proposals import Image
from proposals.types import Boxes

logger = logging.getLogger(__name__)


class Regions(NamedTuple):
    """The regions of one image."""

    image: Image
    """RGB `uint8 [H, W, 3]`."""
    boxes: Boxes
    """`float32 [N, 4]`, whole pixels inside the image."""


class Ensemble:
    """Networks that share their classes and input normalisation.

    Args:
        members: Each member's backend and the warp of its crops.
        normalisation: Normalisation of the pixels.
        classes: Number of outputs, background included.
        batch_size: Number of crops in a batch. The last batch is padded to this size, or to a
            multiple of the backend's micro-batch. After a lack of memory the size is halved, and
            stays so.
    """

    def __init__(
        self,
        members: Sequence[tuple[Backend, Warp]],
        normalisation: Normalisation,
        *,
        classes: int,
        batch_size: int,
    ) -> None:
        self.members = list(members)
        self.normalisation = normalisation
        self.classes = classes
        self.batch_size = batch_size
        # Kept for the ensemble's life, because the heap of every new thread would grow again.
        self._cropping_thread = ThreadPoolExecutor(1)

    def classify(
        self,
        images: Sequence[Regions],
        *,
        members: int | Literal["all"] = "all",
        cascade: Cascade | None = None,
    ) -> list[NDArray[np.float32]]:
        """Return the mean class probabilities of the regions of several images.

        The images' regions share batches.

        Args:
            images: The images and their boxes.
            members: Number of members that are asked, from the first one on.
            cascade: Chooses the regions that the next member sees; for the others the mean so far
                counts. Without a cascade every member sees every region.

        Returns:
            `float32 [N, classes]` for each image; column 0 is background.

        Raises:
            MemoryError: There is not enough memory for a single crop.
            FloatingPointError: Probabilities are not finite.
        """
        if not images:
            return []
        chosen = self.members if members == "all" else self.members[:members]
        ends = np.cumsum([len(regions.boxes) for regions in images])[:-1]
        if cascade is None:
            total = self._sum_of_members(chosen, images)
            mean = np.asarray(total / len(chosen), np.float32)
        else:
            mean = self._cascaded_mean(chosen, images, ends, cascade)

        if not np.isfinite(mean).all():  # sums of huge weights overflow
            raise FloatingPointError("the classifiers' probabilities are not finite")
        return np.split(mean, ends)

    def close(self) -> None:
        """Release the networks."""
        self._cropping_thread.shutdown()
        self.members.clear()

    def _cascaded_mean(
        self,
        members: Sequence[tuple[Backend, Warp]],
        images: Sequence[Regions],
        ends: NDArray[np.intp],
        cascade: Cascade,
    ) -> NDArray[np.float32]:
        """Return the mean of the members that see each region: `float32 [R, classes]`."""
        total = self._sum_of_members(members[:1], images)
        count = np.ones((len(total), 1), np.float32)  # members that saw each region
        undecided = np.ones(len(total), np.bool_)
        for member in members[1:]:
            means = np.split(total / count, ends)
            undecided &= np.concatenate(
                [
                    cascade.undecided(regions.boxes, mean)
                    for regions, mean in zip(images, means, strict=True)
                ]
            )
            remaining = [
                Regions(regions.image, regions.boxes[mask])
                for regions, mask in zip(images, np.split(undecided, ends), strict=True)
            ]
            total[undecided] += self._sum_of_members([member], remaining)
            count[undecided] += 1
        return np.asarray(total / count, np.float32)

    def _sum_of_members(
        self, members: Sequence[tuple[Backend, Warp]], images: Sequence[Regions]
    ) -> NDArray[np.float32]:
        """Return the sum of the members' probabilities: `float32 [R, classes]`."""
        count = sum(len(regions.boxes) for regions in images)
        total = np.zeros((count, self.classes), np.float32)

        # Members with the same warp share their crops.
        by_warp: dict[Warp, list[Backend]] = {}
        for backend, warp in members:
            by_warp.setdefault(warp, []).append(backend)
        for warp, backends in by_warp.items():
            self._add_probabilities(total, backends, warp, images)
        return total

    def _add_probabilities(
        self,
        total: NDArray[np.float32],
        backends: Sequence[Backend],
        warp: Warp,
        images: Sequence[Regions],
    ) -> None:
        """Add the backends' probabilities to `total`, in smaller batches if memory is short."""
        cropper = _Cropper(backends[0], warp, self.normalisation, images)
        size_before = self.batch_size
        done = 0
        while done < len(total):
            size = self.batch_size
            try:
                batches = cropper.batches(done, len(total), size, self._cropping_thread)
                with closing(batches):
                    for crops in batches:
                        probabilities = np.sum([backend(crops) for backend in backends], axis=0)
                        end = min(done + size, len(total))
                        total[done:end] += probabilities[: end - done]
                        done = end
            except MemoryError:
                if size == 1:  # the batches are not the reason
                    self.batch_size = size_before
                    raise
                self.batch_size = size // 2
                logger.warning("out of memory: batches of %d crops from now", self.batch_size)


class _Cropper:
    """Cuts the batches of one warp from several images.

    The image that was cut last stays on the device. It is only one, because images may be large.
    """

    def __init__(
        self,
        backend: Backend,
        warp: Warp,
        normalisation: Normalisation,
        images: Sequence[Regions],
    ) -> None:
        self._backend = backend
        self._warp = warp
        self._normalisation = normalisation
        self._images = images
        self._current: tuple[Image, DeviceImage] | None = None

    def batches(
        self, start: int, stop: int, size: int, thread: ThreadPoolExecutor
    ) -> Generator[Crops]:
        """Yield the batches of regions `start` to `stop`, cut while the network is working."""
        starts = range(start, stop, size)
        prefetcher = Prefetcher(
            lambda number: self._batch(starts[number], size), len(starts), thread
        )
        try:
            for number in range(len(starts)):
                yield prefetcher(number)
        finally:
            prefetcher.close()

    def _batch(self, start: int, size: int) -> Crops:
        """Return the crops of at most `size` regions from `start` on, padded to full batches."""
        crops = []
        count = 0
        first = 0  # number of the image's first region
        for image, boxes in self._images:
            chosen = boxes[max(0, start - first) : max(0, start + size - first)]
            if len(chosen):
                crops.append(self._backend.cut(self._on_device(image), chosen, self._warp))
                count += len(chosen)
            first += len(boxes)

        multiple = self._backend.micro_batch or size
        return self._backend.join(crops, math.ceil(count / multiple) * multiple)

    def _on_device(self, image: Image) -> DeviceImage:
        if self._current is None or self._current[0] is not image:
            self._current = None  # release the last image before the next one takes memory
            pixels = normalise(image, self._normalisation)
            self._current = image, self._backend.to_device(pixels)
        return self._current[1]
