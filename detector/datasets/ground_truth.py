"""Annotated images and data sets, independent of the format in which they are stored."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path, PurePath

import numpy as np
from numpy.typing import NDArray

from detector.common.json_fields import short
from detector.common.text_files import CONTROL_CHARACTERS
from detector.errors import FormatError
from proposals.types import Boxes


def is_in_folder(name: str) -> bool:
    """Return whether the name of a file in a list is that of a file in the list's own folders."""
    path = PurePath(name)
    return not path.is_absolute() and ".." not in path.parts


def check_name(name: str) -> str:
    """Return the name of a class, which is a line in tables and messages.

    Raises:
        ValueError: It has control characters.
    """
    if CONTROL_CHARACTERS.search(name):
        raise ValueError(f"class {short(name)} must be one line, without control characters")
    return name


@dataclass(frozen=True, eq=False)
class AnnotatedImage:
    """The annotated objects of an image.

    Args:
        file: Name of the image, relative to the folder of images.
        width: Width of the upright image in pixels.
        height: Height of the upright image in pixels.
        boxes: `float32 [N, 4]`, x1, y1, x2, y2 in pixels, 0-based, with x2 and y2 exclusive.
        labels: `int64 [N]`, indices of the objects' classes.
        difficult: `bool [N]`, whether the object is ignored in scores, as VOC marks it.
        image_id: Id of the image in its data set, if it is a whole number.
    """

    file: str
    width: int
    height: int
    boxes: Boxes
    labels: NDArray[np.int64]
    difficult: NDArray[np.bool_]
    image_id: int | None = None

    def check_size(self, file: Path, width: int, height: int) -> None:
        """Check that the image itself has the size that its annotations state.

        Args:
            file: The image, for the error.
            width: Width of the upright image in pixels.
            height: Height of the upright image in pixels.

        Raises:
            FormatError: The sizes differ.
        """
        if (width, height) != (self.width, self.height):
            raise FormatError(
                file,
                f"is {width}x{height} (upright), but its annotations say "
                f"{self.width}x{self.height}",
            )


@dataclass(frozen=True, eq=False)
class GroundTruth:
    """The classes and the annotated images of a data set.

    Args:
        classes: Ids of the classes by name. Labels are positions in it.
        images: The images.
    """

    classes: Mapping[str, int]
    images: tuple[AnnotatedImage, ...]

    @property
    def classes_with_objects(self) -> Mapping[str, int]:
        """Ids by name of the classes that have an object in an image."""
        used = {label for image in self.images for label in image.labels.tolist()}
        items = enumerate(self.classes.items())
        return {name: class_id for label, (name, class_id) in items if label in used}

    def with_classes(self, classes: Mapping[str, int]) -> GroundTruth:
        """Return the same images with the labels of other classes.

        Args:
            classes: Ids of the new classes by name, including all classes that have an object.

        Raises:
            ValueError: A class that has an object is missing.
        """
        new_labels = {name: label for label, name in enumerate(classes)}
        if missing := self.classes_with_objects.keys() - new_labels.keys():
            raise ValueError(f"unknown class {min(missing)!r}; there are {', '.join(classes)}")

        # Index is the old label; -1 is a class without objects, so that no label leads there.
        table = np.array([new_labels.get(name, -1) for name in self.classes], np.int64)
        images = (replace(image, labels=table[image.labels]) for image in self.images)
        return GroundTruth(classes, tuple(images))
