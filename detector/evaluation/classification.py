"""Top-1 and top-5 accuracy of a classifier on a folder of images, a folder each class."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor

from detector.backends import Backend
from detector.crops import normalise
from detector.errors import FormatError
from detector.images import SUFFIXES, load
from detector.manifest import Normalisation
from proposals import Image

CROP_SIZE = 224
"""Pixels; photos are resized to 8/7 of it, 256."""

BATCH = 32


@dataclass(frozen=True)
class Accuracy:
    """Shares of images whose class is the best guess, or among the best five."""

    images: int
    top1: float
    top5: float


def read_labels(path: Path) -> list[str]:
    """Class names in the order of the network's outputs: the first word of each line.

    Raises:
        FormatError: the file cannot be read, or is empty.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise FormatError(path, f"the labels cannot be read: {error}") from error
    labels = [line.split()[0] for line in lines if line.strip()]
    if not labels:
        raise FormatError(path, "has no label")
    return labels


def find_labelled(folder: Path, labels: list[str]) -> list[tuple[Path, int]]:
    """The images in `folder/LABEL/`, each with the index of its label.

    Raises:
        FormatError: a subfolder is no label, or there is no image.
    """
    index = {label: number for number, label in enumerate(labels)}
    found = []
    for child in sorted(path for path in folder.glob("*") if path.is_dir()):
        if child.name not in index:
            raise FormatError(child, "is the name of no label")
        files = sorted(path for path in child.iterdir() if path.suffix.lower() in SUFFIXES)
        found += [(path, index[child.name]) for path in files]
    if not found:
        raise FormatError(folder, "has no image in subfolders named as the labels")
    return found


def centre_crop(image: Image, crop_size: int = CROP_SIZE) -> Image:
    """The central 224x224 pixels of an image whose shorter side is resized to 256.

    Args:
        image: RGB `uint8 [H, W, 3]`.
        crop_size: another number than 224; the shorter side is resized to 8/7 of it.
    """
    height, width = image.shape[:2]
    shorter = round(crop_size * 8 / 7)
    zoom = shorter / min(height, width)
    size = (max(shorter, round(width * zoom)), max(shorter, round(height * zoom)))
    method = cv2.INTER_AREA if zoom < 1 else cv2.INTER_LINEAR
    resized = np.asarray(cv2.resize(image, size, interpolation=method), np.uint8)
    left, top = (size[0] - crop_size) // 2, (size[1] - crop_size) // 2
    return resized[top : top + crop_size, left : left + crop_size]


def evaluate(
    backend: Backend,
    normalisation: Normalisation,
    images: list[tuple[Path, int]],
    progress: Callable[[int, int], None] = lambda finished, computed: None,
    *,
    crop_size: int = CROP_SIZE,
) -> Accuracy:
    """Classify the centre crop of each image.

    Raises:
        ImageError: an image cannot be used.
    """
    top1 = top5 = finished = 0
    for crops, truth in _batches(images, normalisation, crop_size):
        probabilities = backend(crops)[: len(truth)]
        best = np.argsort(-probabilities, axis=1, kind="stable")[:, :5]
        hits = best == truth[:, None]  # [N, 5]
        top1 += int(hits[:, 0].sum())
        top5 += int(hits.any(axis=1).sum())
        finished += len(truth)
        progress(finished, finished)
    return Accuracy(finished, top1 / finished, top5 / finished)


def _batches(
    images: list[tuple[Path, int]], normalisation: Normalisation, crop_size: int
) -> Iterator[tuple[Tensor, np.ndarray[tuple[int], np.dtype[np.int64]]]]:
    for start in range(0, len(images), BATCH):
        chosen = images[start : start + BATCH]
        crops = torch.zeros(BATCH, crop_size, crop_size, 3)
        for crop, (path, _) in zip(crops, chosen, strict=False):
            image = centre_crop(load(path), crop_size)
            crop.copy_(torch.from_numpy(normalise(image, normalisation)))
        yield crops, np.array([label for _, label in chosen], np.int64)
