"""Top-1 and top-5 accuracy of classifiers on images that lie in one folder for each class.

There are three ways to cut crops from an image: its centre; Krizhevsky's ten crops, which are the
corners and the centre of the central square, each also mirrored; or the 144 crops of *Going deeper
with convolutions*, section 7. The softmax probabilities of all crops and members are averaged.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from detector.bundles.manifest import Normalisation
from detector.common.progress import Progress, ShowProgress, no_progress
from detector.common.text_files import read_lines
from detector.errors import FormatError
from detector.evaluation.bootstrap import Interval, difference_of_means
from detector.images import SUFFIXES, load
from detector.regions.crops import normalise
from proposals import Image

CROP_SIZE = 224
"""Side of the crops in pixels. The image's shorter side is resized to 8/7 of it, 256."""

SCALES = (256, 288, 320, 352)
"""Shorter sides of the resized image in pixels, for 144 crops."""

BATCH = 32

Classifier = Callable[[NDArray[np.float32]], NDArray[np.float32]]
"""From crops `float32 [N, S, S, 3]` to class probabilities `float32 [N, classes]`."""

Crops = Literal[1, 10, 144]

PAPER = {
    (1, 1): 0.1007, (1, 10): 0.0915, (1, 144): 0.0789,
    (7, 1): 0.0809, (7, 10): 0.0762, (7, 144): 0.0667,
}  # fmt: skip
"""The top-5 errors of the paper's Table 3, by numbers of models and crops."""


@dataclass(frozen=True)
class Accuracy:
    """Shares of images whose class is the best guess (top 1), or among the best five (top 5)."""

    images: int
    top1: float
    top5: float


@dataclass(frozen=True, eq=False)
class Guesses:
    """Whether each image's class is the best guess, and among the best five: `bool [N]` each."""

    top1: NDArray[np.bool_]
    top5: NDArray[np.bool_]

    def accuracy(self) -> Accuracy:
        """Return the shares."""
        return Accuracy(len(self.top1), float(self.top1.mean()), float(self.top5.mean()))


def read_labels(path: Path) -> list[str]:
    """Read the classes in the order of the network's outputs.

    Each line has a name, which a description may follow.

    Raises:
        FormatError: The file cannot be read, or is empty.
    """
    labels = [line.strip() for line in read_lines(path) if line.strip()]
    if not labels:
        raise FormatError(path, "has no label")
    return labels


def find_labelled(folder: Path, labels: list[str]) -> list[tuple[Path, int]]:
    """Find the images in `folder/LABEL/`, each with the index of its label.

    A folder may also have the first word of a label as its name.

    Raises:
        FormatError: A subfolder is not a label, fits several, or cannot be read, or there is no
            image.
    """
    whole = defaultdict(list)
    first_words = defaultdict(list)
    for number, label in enumerate(labels):
        whole[label].append(number)
        first_words[label.split()[0]].append(number)

    found = []
    for child in sorted(path for path in folder.glob("*") if path.is_dir()):
        numbers = whole.get(child.name) or first_words.get(child.name)
        if numbers is None:
            raise FormatError(child, "is the name of no label")
        if len(numbers) > 1:
            lines = ", ".join(str(number + 1) for number in numbers[:5])
            raise FormatError(child, f"fits {len(numbers)} labels, such as those numbered {lines}")
        try:
            files = sorted(path for path in child.iterdir() if path.suffix.lower() in SUFFIXES)
        except OSError as error:
            raise FormatError(child, f"cannot be read: {error.strerror}") from error
        found += [(path, numbers[0]) for path in files]
    if not found:
        raise FormatError(folder, "has no image in subfolders named as the labels")
    return found


def centre_crop(image: Image, crop_size: int = CROP_SIZE) -> Image:
    """Return the central 224x224 pixels of an image whose shorter side is resized to 256.

    Args:
        image: RGB `uint8 [H, W, 3]`.
        crop_size: Another side than 224. The shorter side is resized to 8/7 of it.
    """
    height, width = image.shape[:2]
    shorter = round(crop_size * 8 / 7)
    zoom = shorter / min(height, width)
    size = (max(shorter, round(width * zoom)), max(shorter, round(height * zoom)))
    method = cv2.INTER_AREA if zoom < 1 else cv2.INTER_LINEAR
    resized = np.asarray(cv2.resize(image, size, interpolation=method), np.uint8)
    left, top = (size[0] - crop_size) // 2, (size[1] - crop_size) // 2
    return resized[top : top + crop_size, left : left + crop_size]


def crops_of(image: Image, crops: Crops) -> list[Image]:
    """Return the crops of an image, each RGB `uint8 [224, 224, 3]`.

    The left, central and right squares of a square image are the same. Each of its 144 crops is
    returned once, which does not change their mean.
    """
    if crops == 1:
        return [centre_crop(image)]
    if crops == 10:
        _, square, _ = squares(image, SCALES[0])
        return with_mirrored(corners_and_centre(square))
    distinct = 1 if image.shape[0] == image.shape[1] else 3
    return [
        crop
        for scale in SCALES
        for square in squares(image, scale)[:distinct]
        for crop in with_mirrored(
            [*corners_and_centre(square), _resize(square, CROP_SIZE, CROP_SIZE)]
        )
    ]


def squares(image: Image, side: int) -> tuple[Image, Image, Image]:
    """Return three squares of an image whose shorter side is resized to `side`.

    They are the left, central and right ones, or the upper, central and lower ones of an upright
    image.
    """
    height, width = image.shape[:2]
    longer = round(side * max(height, width) / min(height, width))
    resized = _resize(image, *((longer, side) if width >= height else (side, longer)))
    first, middle, last = (
        resized[:, start : start + side] if width >= height else resized[start : start + side]
        for start in (0, (longer - side) // 2, longer - side)
    )
    return first, middle, last


def corners_and_centre(square: Image) -> list[Image]:
    """Return the four crops of 224 pixels in the corners of a square, and the central one."""
    room = len(square) - CROP_SIZE
    places = [(0, 0), (0, room), (room, 0), (room, room), (room // 2, room // 2)]
    return [square[y : y + CROP_SIZE, x : x + CROP_SIZE] for y, x in places]


def with_mirrored(crops: list[Image]) -> list[Image]:
    """Return crops, each followed by its mirror image."""
    return [view for crop in crops for view in (crop, crop[:, ::-1])]


def _resize(image: Image, width: int, height: int) -> Image:
    shrinks = width < image.shape[1]
    method = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(image, (width, height), interpolation=method), np.uint8)


@dataclass(frozen=True)
class Row:
    """A row of the paper's Table 3.

    Args:
        models: Number of networks.
        crops: Number of crops of an image.
        cost: Number of evaluations of a network for an image.
        accuracy: Top-1 and top-5 accuracy.
        gain: Gain in top-5 accuracy over the first row, with its interval by paired bootstrap.
        paper: Top-5 error in the paper, on all of ILSVRC2012's validation set.
    """

    models: int
    crops: int
    cost: int
    accuracy: Accuracy
    gain: Interval
    paper: float | None


def table(
    members: Sequence[Classifier],
    normalisation: Normalisation,
    images: list[tuple[Path, int]],
    crops: Sequence[Crops],
    show_progress: ShowProgress = no_progress,
) -> list[Row]:
    """Return the paper's Table 3 for these members and ways of cutting.

    Args:
        members: Classifiers, whose probabilities are averaged.
        normalisation: Normalisation of the pixels.
        images: Files and their labels.
        crops: Number of crops of an image, for each row of the table.
        show_progress: Shows how many images are finished, for each row.

    Raises:
        ImageError: An image cannot be used.
    """
    rows: list[Row] = []
    first: Guesses | None = None
    for count in crops:
        cut = partial(crops_of, crops=count)
        with show_progress(len(images), "image") as progress:
            guesses = evaluate(members, normalisation, images, cut, progress)
        first = first or guesses
        rows.append(
            Row(
                len(members),
                count,
                len(members) * count,
                guesses.accuracy(),
                difference_of_means(guesses.top5, first.top5),
                PAPER.get((len(members), count)),
            )
        )
    return rows


def evaluate(
    members: Sequence[Classifier],
    normalisation: Normalisation,
    images: list[tuple[Path, int]],
    cut: Callable[[Image], list[Image]] = lambda image: crops_of(image, 1),
    progress: Progress | None = None,
) -> Guesses:
    """Classify images by the mean probabilities of members and crops.

    Args:
        members: Classifiers, whose probabilities are averaged.
        normalisation: Normalisation of the pixels.
        images: Files and their labels.
        cut: Returns the crops of an image, all of one size.
        progress: Is told the number of finished images.

    Raises:
        ImageError: An image cannot be used.
    """
    truth = np.array([label for _, label in images])
    totals: NDArray[np.float32] | None = None  # [images, classes]
    for indices, crops in _batches(images, normalisation, cut):
        for member in members:
            probabilities = member(crops)[: len(indices)]
            if totals is None:
                totals = np.zeros((len(images), probabilities.shape[1]), np.float32)
            np.add.at(totals, indices, probabilities)
        if progress is not None:
            progress(indices[-1] + 1, indices[-1] + 1)

    best = np.argsort(-np.asarray(totals), axis=1, kind="stable")[:, :5]
    hits = best == truth[:, None]  # [images, 5]
    return Guesses(hits[:, 0], hits.any(axis=1))


def _batches(
    images: list[tuple[Path, int]],
    normalisation: Normalisation,
    cut: Callable[[Image], list[Image]],
) -> Iterator[tuple[list[int], NDArray[np.float32]]]:
    """Yield normalised crops in batches of one size, with the index of each crop's image."""
    indices: list[int] = []
    crops: list[NDArray[np.float32]] = []
    for index, (path, _) in enumerate(images):
        for crop in cut(load(path)):
            indices.append(index)
            crops.append(normalise(crop, normalisation))
            if len(crops) == BATCH:
                yield indices, np.stack(crops)
                indices = []
                crops = []
    if crops:
        padding = [np.zeros_like(crops[0])] * (BATCH - len(crops))
        yield indices, np.stack(crops + padding)
