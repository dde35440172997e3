"""Annotated images, whatever format they came in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from detector.errors import FormatError
from proposals.types import Boxes


@dataclass(frozen=True, eq=False)
class AnnotatedImage:
    """The objects of an image.

    Args:
        file: its name, relative to the folder of images.
        width: in pixels.
        height: in pixels.
        boxes: `float32 [N, 4]`, x1, y1, x2, y2, 0-based, x2 and y2 exclusive.
        labels: `int64 [N]`, indices of classes.
        difficult: `bool [N]`, VOC's mark of objects that do not count in scores.
        number: the id that the data set gives the image, if it is a whole number.
    """

    file: str
    width: int
    height: int
    boxes: Boxes
    labels: NDArray[np.int64]
    difficult: NDArray[np.bool_]
    number: int | None = None

    def check_size(self, photo: Path, width: int, height: int) -> None:
        """Hold the photo's own size, upright, against that of its annotations.

        Raises:
            FormatError: they differ.
        """
        if (width, height) != (self.width, self.height):
            raise FormatError(
                photo,
                f"is {width}x{height} (upright), but its annotations say "
                f"{self.width}x{self.height}",
            )


@dataclass(frozen=True, eq=False)
class GroundTruth:
    """A data set: its classes, by name and by the id that its format gives them, and its images."""

    classes: Mapping[str, int]
    images: tuple[AnnotatedImage, ...]

    @property
    def present(self) -> Mapping[str, int]:
        """The classes that have an object."""
        used = {label for image in self.images for label in image.labels.tolist()}
        items = enumerate(self.classes.items())
        return {name: number for label, (name, number) in items if label in used}

    def of_classes(self, classes: Mapping[str, int]) -> GroundTruth:
        """The same with other classes, among which must be all that have an object.

        Raises:
            ValueError: naming a class that is not.
        """
        places = {name: label for label, name in enumerate(classes)}
        if missing := self.present.keys() - places.keys():
            raise ValueError(f"unknown class {min(missing)!r}; there are {', '.join(classes)}")
        new = np.array([places.get(name, -1) for name in self.classes], np.int64)
        images = (replace(image, labels=new[image.labels]) for image in self.images)
        return GroundTruth(classes, tuple(images))
