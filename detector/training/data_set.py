"""Data sets with annotations: how they are read, and which of their images can be used."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeVar

import numpy as np

from detector.common.cpu import available_cores
from detector.common.progress import ShowProgress
from detector.datasets import coco, ilsvrc, voc
from detector.datasets.ground_truth import AnnotatedImage, GroundTruth
from detector.errors import FormatError, ImageError, TrainingError
from detector.formats.records import Failure
from detector.images import load
from detector.training.image_paths import find_images, name_path

TREES = {"voc": voc, "ilsvrc": ilsvrc}
"""Formats whose data sets are folders with lists of images, by their names."""

TREE_MARGIN = 1.0
"""Number of pixels by which a tree's box may leave its image: some tools count pixels from 0,
others from 1."""

Item = TypeVar("Item")


class DataSet(NamedTuple):
    """Annotated images."""

    file: Path
    """Where the annotations come from: a file, or a tree's list of images."""
    truth: GroundTruth
    """The classes and the annotations."""
    folder: Path
    """The folder that the names of images are relative to."""
    margin: float = 0.01
    """Number of pixels by which a box may leave its image, because of rounded decimals."""

    def find_usable(
        self, *, strict: bool, show_progress: ShowProgress
    ) -> tuple[list[AnnotatedImage], list[Failure]]:
        """Read all images; return those that can be used, and the failures.

        Args:
            strict: Whether an image that cannot be used is an error.
            show_progress: Shows how many images were read.

        Raises:
            FormatError: The size of an image differs from that in its annotations.
            ImageError: An image cannot be used, and `strict` is set.
        """
        return find_usable(
            self.truth.images, self._check_image, strict=strict, show_progress=show_progress
        )

    def limit_objects(self, count: int | Literal["all"], *, seed: int) -> DataSet:
        """Return the data set with at most `count` random objects per class; see `limit_objects`.

        Args:
            count: Maximum number of objects per class.
            seed: Seed of the random draws.
        """
        if count == "all":
            return self
        images = limit_objects(self.truth.images, count, np.random.default_rng(seed))
        return self._replace(truth=GroundTruth(self.truth.classes, tuple(images)))

    def describe(self, images: Sequence[AnnotatedImage]) -> dict[str, Any]:
        """Return what a model card says of the data.

        Args:
            images: The images that were used.
        """
        return {
            "annotations": self.file.name,
            "photos": len(images),
            "boxes": sum(len(image.boxes) for image in images),
            "difficult": sum(int(image.difficult.sum()) for image in images),
        }

    def _check_image(self, image: AnnotatedImage) -> ImageError | None:
        try:
            height, width = load(self.folder / image.file, name=image.file).shape[:2]
        except ImageError as error:
            return name_path(error, image.file, self.folder)
        image.check_size(self.folder / image.file, width, height)
        return None


class DataSets(NamedTuple):
    """The data sets of a training; all have the same classes."""

    data: DataSet
    """The images to train on."""
    validation: DataSet | None
    """Held-out images."""
    objects: DataSet | None
    """Images used only for their objects, because not all objects in them are annotated."""


def read_coco_sets(
    data: Path,
    images: Path | None,
    *,
    validation: Path | None = None,
    validation_images: Path | None = None,
    objects: Path | None = None,
    objects_images: Path | None = None,
) -> DataSets:
    """Read data sets from annotation files in COCO's format.

    Args:
        data: The annotations to train on.
        images: The folder of their images. By default it lies beside the annotations and has their
            name without ".json".
        validation: Annotations of held-out images.
        validation_images: The folder of these images.
        objects: Annotations of images that are used only for their objects.
        objects_images: The folder of these images.

    Raises:
        FormatError: A file is not an annotation file, or a folder does not exist.
    """

    def read(file: Path, folder: Path | None, option: str) -> DataSet:
        folder = _check_exists(folder or file.with_suffix(""), option)
        truth = coco.read(file, empty_boxes=True)
        return DataSet(file, find_images(truth, folder, file), folder)

    return DataSets(
        data=read(data, images, "--images"),
        validation=(
            read(validation, validation_images, "--validation-images") if validation else None
        ),
        objects=read(objects, objects_images, "--objects-images") if objects else None,
    )


def read_tree_sets(
    tree: str,
    root: Path,
    images: Path | None,
    *,
    split: str,
    validation: str | None = None,
    objects: str | None = None,
) -> DataSets:
    """Read data sets from a tree of folders.

    The classes are those that have an object to train on.

    Args:
        tree: Format of the tree, one of `TREES`.
        root: The tree.
        images: The folder of all images. By default it is the tree's own.
        split: Name of the list of images to train on.
        validation: Name of the list of held-out images.
        objects: Name of the list of images that are used only for their objects.

    Raises:
        FormatError: An annotation is wrong, a held-out object has another class, or a folder does
            not exist.
    """
    reader = TREES[tree]

    def read(name: str) -> DataSet:
        file = root / reader.LIST_FOLDER / f"{name}.txt"
        truth = reader.read(root, name)
        folder = _check_exists(images or root / reader.IMAGE_FOLDER, "--images")
        return DataSet(file, truth, folder, TREE_MARGIN)

    data = read(split)
    classes = data.truth.classes_with_objects
    return DataSets(
        data=data._replace(truth=data.truth.with_classes(classes)),
        validation=with_classes(read(validation), classes, data) if validation else None,
        objects=with_classes(read(objects), classes, data) if objects else None,
    )


def _check_exists(folder: Path, option: str) -> Path:
    """Return a folder of images.

    Raises:
        FormatError: It does not exist; the message names the option that chooses it.
    """
    if not folder.is_dir():
        raise FormatError(folder, f"no such folder: {option} DIR says where the photos are")
    return folder


def with_classes(other: DataSet, classes: Mapping[str, int], data: DataSet) -> DataSet:
    """Return another data set with the classes to train on.

    Raises:
        FormatError: It has an object of another class.
    """
    try:
        return other._replace(truth=other.truth.with_classes(classes))
    except ValueError as error:
        raise FormatError(other.file, f"{error} in {data.file}") from error


def find_usable(
    items: Sequence[Item],
    check: Callable[[Item], ImageError | None],
    *,
    strict: bool,
    show_progress: ShowProgress,
) -> tuple[list[Item], list[Failure]]:
    """Return the items whose image can be read, and the failures of the others.

    Args:
        items: Items that each have an image.
        check: Reads an item's image, and returns the error if it cannot be used.
        strict: Whether an image that cannot be used is an error.
        show_progress: Shows how many images were read.

    Raises:
        ImageError: An image cannot be used, and `strict` is set.
    """
    usable = []
    failures = []
    readers = ThreadPoolExecutor(available_cores())
    try:
        with show_progress(len(items), "photo") as progress:
            checked = zip(items, readers.map(check, items), strict=True)
            for number, (item, error) in enumerate(checked, start=1):
                if error is None:
                    usable.append(item)
                elif strict:
                    raise error
                else:
                    failures.append(Failure(error.file, error.code, error.message))
                progress(number, number)
    finally:
        readers.shutdown(cancel_futures=True)
    return usable, failures


def no_image_error(file: Path, failures: Sequence[Failure]) -> TrainingError:
    """Return the error of a data set none of whose images can be used.

    Args:
        file: The file of the annotations.
        failures: What is wrong with the images.
    """
    if not failures:
        return TrainingError(f"{file}: has no photos")
    first = failures[0]
    return TrainingError(
        f"{file}: none of its photos can be used, the first is {first.file}: {first.message}"
    )


def limit_objects(
    images: Sequence[AnnotatedImage], count: int, rng: np.random.Generator
) -> list[AnnotatedImage]:
    """Keep at most `count` random objects per class, and drop images left empty.

    Args:
        images: Annotated images.
        count: Maximum number of objects per class.
        rng: Source of the random draws.
    """
    # Draw from the objects of all images.
    labels = np.concatenate([np.zeros(0, np.int64), *(image.labels for image in images)])
    is_drawn = np.zeros(len(labels), np.bool_)
    for label in np.unique(labels):
        drawn = rng.permutation(np.flatnonzero(labels == label))[:count]
        is_drawn[drawn] = True

    # Give each image its drawn objects.
    ends = np.cumsum([0, *(len(image.labels) for image in images)])
    limited = []
    for image, (start, end) in zip(images, pairwise(ends), strict=True):
        mask = is_drawn[start:end]
        if mask.any():
            limited.append(
                replace(
                    image,
                    boxes=image.boxes[mask],
                    labels=image.labels[mask],
                    difficult=image.difficult[mask],
                )
            )
    return limited
