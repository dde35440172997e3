"""The photos of a training, with their annotations."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from detector.common.progress import ShowProgress
from detector.datasets.ground_truth import AnnotatedImage, GroundTruth
from detector.errors import ImageError
from detector.formats.records import Failure
from detector.images import load
from detector.training.photos import readable
from detector.training.sampling import few_objects


class DataSet(NamedTuple):
    """Annotated photos."""

    file: Path
    """Where the annotations come from: a file, or a tree's list of images."""
    truth: GroundTruth
    folder: Path
    """The folder that the names of images are relative to."""

    def usable(
        self, *, strict: bool, show_progress: ShowProgress
    ) -> tuple[list[AnnotatedImage], list[Failure]]:
        """The images whose photos can be read, and the others.

        Raises:
            FormatError: a photo has another size than its annotations say.
            ImageError: with `strict`, the first photo that cannot be used.
        """
        return readable(self.truth.images, self._look, strict=strict, show_progress=show_progress)

    def few(
        self, count: int | Literal["all"], *, seed: int, strict: bool, show_progress: ShowProgress
    ) -> tuple[list[AnnotatedImage], list[Failure]]:
        """The usable images with so many objects of each class at most; see `usable`."""
        chosen = self.truth.images
        if count != "all":
            chosen = tuple(few_objects(chosen, count, np.random.default_rng(seed)))
        part = self._replace(truth=GroundTruth(self.truth.classes, chosen))
        return part.usable(strict=strict, show_progress=show_progress)

    def describe(self, images: Sequence[AnnotatedImage]) -> dict[str, Any]:
        """What a model card says of the data; `images` are those that were used."""
        return {
            "annotations": self.file.name,
            "photos": len(images),
            "boxes": sum(len(image.boxes) for image in images),
            "difficult": sum(int(image.difficult.sum()) for image in images),
        }

    def _look(self, image: AnnotatedImage) -> ImageError | None:
        try:
            height, width = load(self.folder / image.file, name=image.file).shape[:2]
        except ImageError as error:
            return type(error)(image.file, error.message)
        image.check_size(self.folder / image.file, width, height)
        return None
