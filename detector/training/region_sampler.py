"""Which regions make a batch.

R-CNN (arXiv 1311.2524, section 2.3): a batch has 32 objects and 96 regions of the background, each
drawn uniformly, with replacement, from all images.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from detector.errors import TrainingError
from detector.training.labelled_regions import LabelledRegions
from detector.training.settings import Sampling


class Sampler:
    """Draws batches of regions, with replacement.

    Args:
        regions: The regions of all images.
        sampling: The composition of a batch.
        classes: Class names, for error messages.

    Raises:
        TrainingError: A class has no region, or no region is background.
    """

    def __init__(
        self, regions: LabelledRegions, sampling: Sampling, classes: Sequence[str]
    ) -> None:
        self._sampling = sampling
        is_background = regions.labels == 0
        self._background = np.flatnonzero(is_background)
        self._near_object = np.flatnonzero(is_background & regions.near_object)
        self._foreground = np.flatnonzero(regions.labels > 0)
        self._by_class = [
            np.flatnonzero(regions.labels == number) for number, _ in enumerate(classes, start=1)
        ]

        for name, indices in zip(classes, self._by_class, strict=True):
            if len(indices) == 0:
                raise TrainingError(f"class {name!r} has no box in the photos to train on")
        if len(self._background) == 0:
            raise TrainingError("no proposal is background: there is nothing to tell objects from")
        if len(self._near_object) == 0:
            self._near_object = self._background

    @property
    def steps_per_epoch(self) -> int:
        """Number of batches that have as many objects as there are regions of objects."""
        return max(1, len(self._foreground) // self._sampling.foreground)

    def draw(self, rng: np.random.Generator) -> NDArray[np.int64]:
        """Draw a batch: indices of regions, `int64 [foreground + background]`."""
        sampling = self._sampling
        balanced = round(sampling.balanced * sampling.foreground)
        near = round(sampling.near * sampling.background)
        classes = rng.integers(len(self._by_class), size=balanced)
        return np.concatenate(
            [
                np.array([rng.choice(self._by_class[c]) for c in classes], np.int64),
                rng.choice(self._foreground, sampling.foreground - balanced),
                rng.choice(self._near_object, near),
                rng.choice(self._background, sampling.background - near),
            ]
        )
