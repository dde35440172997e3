"""How MultiBox learns: priors by k-means, the assignment of boxes to objects, and the loss.

*Scalable Object Detection using Deep Neural Networks* (arXiv 1312.2249). Coordinates are x1, y1,
x2, y2 as shares of the image's sides.

The paper's alpha of 0.3 weighs the squared error of locations against the logarithms of the
confidences, so it depends on the unit of locations. Here the unit is a share of the prior's own
sides (`units`), about the usual distance of an object from its prior. In shares of the image's
sides the location term would be a thousandth of the other.

Letters of shapes: N images of a batch, K priors, M objects of an image, T assigned boxes.
"""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment
from torch import Tensor
from torch.nn import functional

from detector.training.settings import ALPHA
from proposals.types import Boxes


def cluster(boxes: Boxes, count: int, *, seed: int = 0) -> Boxes:
    """Priors `float32 [K, 4]` by k-means on the boxes `[M, 4]` of all objects, in canonical order.

    Raises:
        ValueError: there are fewer distinct boxes than priors.
    """
    distinct = len(np.unique(boxes, axis=0))
    if distinct < count:
        raise ValueError(f"{count} priors need as many distinct boxes, not {distinct}")
    cv2.setRNGSeed(seed)
    ends = (cv2.TERM_CRITERIA_COUNT | cv2.TERM_CRITERIA_EPS, 100, 1e-5)
    clusters = np.zeros((len(boxes), 1), np.int32)
    _, _, found = cv2.kmeans(
        np.ascontiguousarray(boxes), count, clusters, ends, 3, cv2.KMEANS_PP_CENTERS
    )
    centres = np.asarray(found, np.float32)
    return centres[np.lexsort(centres.T[::-1])]


def units(priors: Boxes, spread: float) -> Boxes:
    """Of the coordinates x1, y1, x2, y2 of each prior's box: a share of the prior's own sides."""
    return np.asarray(np.tile(priors[:, 2:] - priors[:, :2], 2) * np.float32(spread))


def match_priors(priors: Boxes, objects: Boxes) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """One prior for each object, the assignment with the least squared distances in all.

    The paper's "prior matching": it does not depend on the network, which then learns diverse
    boxes, and faster than with `match_boxes`.

    Args:
        priors: `[K, 4]`.
        objects: `[M, 4]`. Of more than K, K have a prior.

    Returns:
        Indices of priors and of their objects, each `[min(K, M)]`.
    """
    return _assign(_squared_distances(priors, objects))


def match_boxes(
    boxes: Boxes, logits: NDArray[np.float32], objects: Boxes, units: Boxes, alpha: float = ALPHA
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """One predicted box for each object: the assignment with the least loss.

    It takes `alpha / 2 ||l - g||² - log c + log (1 - c)` of a box with location l and confidence
    c for an object at g.

    Args:
        boxes: `[K, 4]`.
        logits: `[K]`, of the confidences.
        objects: `[M, 4]`. Of more than K, K have a box.
        units: `[K, 4]`, of the boxes' coordinates.

    Returns:
        As `match_priors`.
    """
    costs = alpha / 2 * _squared_distances(boxes, objects, units)
    return _assign(costs - logits[:, None].astype(np.float64))


def _squared_distances(a: Boxes, b: Boxes, units: Boxes | None = None) -> NDArray[np.float64]:
    """`[len(a), len(b)]`, in units `[len(a), 4]`, if there are any."""
    differences = a[:, None].astype(np.float64) - b[None]
    if units is not None:
        differences /= units[:, None]
    return np.asarray((differences**2).sum(axis=2))


def _assign(costs: NDArray[np.float64]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    rows, columns = linear_sum_assignment(costs)
    return rows, columns


class Targets(NamedTuple):
    """Which boxes of which pictures are objects', and where those are."""

    pictures: Tensor
    """`int64 [T]`."""
    boxes: Tensor
    """`int64 [T]`, indices of the K boxes."""
    objects: Tensor
    """`float32 [T, 4]`."""

    def to(self, device: torch.device) -> Targets:
        """The same on a device."""
        return Targets(*(part.to(device) for part in self))


def loss(
    boxes: Tensor, logits: Tensor, targets: Targets, units: Tensor, *, alpha: float = ALPHA
) -> Tensor:
    """The paper's F(x, l, c) for a given assignment x, its mean over the pictures.

    `alpha / 2 Σ ||l - g||² - Σ log c - Σ log (1 - c)`: over the assigned boxes, the assigned ones
    and all others.

    Args:
        boxes: `[N, K, 4]`.
        logits: `[N, K]`, of the confidences.
        targets: the assignment.
        units: `[K, 4]`, of locations.
    """
    where = targets.pictures, targets.boxes
    is_object = torch.zeros_like(logits)
    is_object[where] = 1.0
    confidence = functional.binary_cross_entropy_with_logits(logits, is_object, reduction="sum")
    location = ((boxes[where] - targets.objects) / units[targets.boxes]).square().sum() / 2
    return (alpha * location + confidence) / len(logits)
