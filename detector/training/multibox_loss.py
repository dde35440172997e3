"""How MultiBox learns: priors by k-means, the assignment of boxes to objects, and the loss.

*Scalable Object Detection using Deep Neural Networks* (arXiv 1312.2249). Coordinates are x1, y1,
x2, y2 as shares of the image's sides.

The paper's alpha of 0.3 weighs the squared error of locations against the logarithms of the
confidences, so it depends on the unit of locations. Here the unit is a share of the prior's own
sides (`location_units`), about the usual distance of an object from its prior. In shares of the
image's sides the location term would be a thousandth of the other.

Letters of shapes: N images of a batch, S an image's side, K priors, M objects of an image, T
assigned boxes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment
from torch import Tensor
from torch.nn import functional

from detector.models.torch_multibox import MultiBoxNetwork
from detector.training.settings import ALPHA, MultiBoxTraining
from proposals.types import Boxes

Indices = NDArray[np.intp]


class MultiBoxBatch(NamedTuple):
    """A batch of images with their objects."""

    images: Tensor
    """Normalised images, `float32 [N, S, S, 3]`."""
    objects: Sequence[Boxes]
    """Objects of each image, `float32 [M, 4]`."""


class Targets(NamedTuple):
    """The assigned boxes of a batch, and the objects that they are assigned to."""

    images: Tensor
    """`int64 [T]`, index of each assigned box's image."""
    boxes: Tensor
    """`int64 [T]`, index of each assigned box among the K boxes."""
    objects: Tensor
    """`float32 [T, 4]`, locations of the objects."""

    def to(self, device: torch.device) -> Targets:
        """Return the targets on a device."""
        return Targets(*(column.to(device) for column in self))


def multibox_loss(
    network: MultiBoxNetwork, batch: MultiBoxBatch, recipe: MultiBoxTraining
) -> Tensor:
    """Assign boxes to the objects of a batch, and return the mean loss of its images.

    Args:
        network: The network.
        batch: N images and their objects.
        recipe: What objects are matched with, and the weight and unit of locations.
    """
    x = batch.images.permute(0, 3, 1, 2)  # [N, 3, S, S], stored channels-last
    boxes, logits = network(x)  # [N, K, 4], [N, K]

    priors = network.priors.cpu().numpy()
    units = location_units(priors, recipe.spread)
    targets = match_batch(boxes, logits, batch.objects, priors, units, recipe).to(boxes.device)
    units_on_device = torch.from_numpy(units).to(boxes.device)
    return assignment_loss(boxes, logits, targets, units_on_device, alpha=recipe.alpha)


def match_batch(
    boxes: Tensor,
    logits: Tensor,
    objects: Sequence[Boxes],
    priors: Boxes,
    units: Boxes,
    recipe: MultiBoxTraining,
) -> Targets:
    """Assign one box to each object of a batch.

    Args:
        boxes: Predicted boxes `[N, K, 4]`.
        logits: Logits of their confidences, `[N, K]`.
        objects: Objects of each image, `[M, 4]`.
        priors: `[K, 4]`.
        units: Units of locations, `[K, 4]`.
        recipe: What objects are matched with.
    """
    predicted_boxes = boxes.detach().cpu().numpy()
    predicted_logits = logits.detach().cpu().numpy()
    parts = []
    for index, objects_of_image in enumerate(objects):
        if recipe.matching == "priors":
            assigned, matched = match_priors(priors, objects_of_image)
        else:
            assigned, matched = match_boxes(
                predicted_boxes[index],
                predicted_logits[index],
                objects_of_image,
                units,
                recipe.alpha,
            )
        parts.append((np.full(len(assigned), index), assigned, objects_of_image[matched]))

    columns = (np.concatenate(column) for column in zip(*parts, strict=True))
    return Targets(*map(torch.from_numpy, columns))


def assignment_loss(
    boxes: Tensor, logits: Tensor, targets: Targets, units: Tensor, *, alpha: float = ALPHA
) -> Tensor:
    """Return the paper's F(x, l, c) for an assignment x, its mean over the images.

    `alpha / 2 Σ ||l - g||² - Σ log c - Σ log (1 - c)`: the first two sums are over the assigned
    boxes, the last one over all others.

    Args:
        boxes: Predicted locations l, `[N, K, 4]`.
        logits: Logits of the confidences c, `[N, K]`.
        targets: The assignment, and the objects' locations g.
        units: Units of locations, `[K, 4]`.
        alpha: Weight of the locations.
    """
    where = targets.images, targets.boxes
    is_object = torch.zeros_like(logits)
    is_object[where] = 1.0
    confidence = functional.binary_cross_entropy_with_logits(logits, is_object, reduction="sum")
    location = ((boxes[where] - targets.objects) / units[targets.boxes]).square().sum() / 2
    return (alpha * location + confidence) / len(logits)


def cluster_boxes(boxes: Boxes, count: int, *, seed: int = 0) -> Boxes:
    """Return priors in canonical order: the centres of clusters of boxes, by k-means.

    Args:
        boxes: The boxes of all objects, `[M, 4]`.
        count: K, the number of priors.
        seed: Seed of the initial centres.

    Returns:
        `float32 [K, 4]`.

    Raises:
        ValueError: There are fewer distinct boxes than priors.
    """
    distinct = len(np.unique(boxes, axis=0))
    if distinct < count:
        raise ValueError(f"{count} priors need as many distinct boxes, not {distinct}")

    cv2.setRNGSeed(seed)
    criteria = (cv2.TERM_CRITERIA_COUNT | cv2.TERM_CRITERIA_EPS, 100, 1e-5)
    labels = np.zeros((len(boxes), 1), np.int32)
    _, _, clustered = cv2.kmeans(
        np.ascontiguousarray(boxes), count, labels, criteria, 3, cv2.KMEANS_PP_CENTERS
    )
    centres = np.asarray(clustered, np.float32)
    return centres[np.lexsort(centres.T[::-1])]


def location_units(priors: Boxes, spread: float) -> Boxes:
    """Return the unit of each coordinate of each prior's box, `[K, 4]`.

    Args:
        priors: `[K, 4]`.
        spread: The unit as a share of the prior's sides.
    """
    return np.asarray(np.tile(priors[:, 2:] - priors[:, :2], 2) * np.float32(spread))


def match_priors(priors: Boxes, objects: Boxes) -> tuple[Indices, Indices]:
    """Assign one prior to each object, so that the sum of squared distances is the least.

    This is the paper's "prior matching". It does not depend on the network, which then learns
    diverse boxes, and faster than with `match_boxes`.

    Args:
        priors: `[K, 4]`.
        objects: `[M, 4]`. If there are more than K, K of them have a prior.

    Returns:
        Indices of priors and of their objects, each `[min(K, M)]`.
    """
    return _assign(_squared_distances(priors, objects))


def match_boxes(
    boxes: Boxes, logits: NDArray[np.float32], objects: Boxes, units: Boxes, alpha: float = ALPHA
) -> tuple[Indices, Indices]:
    """Assign one predicted box to each object, so that the loss is the least.

    A box with location l and confidence c costs `alpha / 2 ||l - g||² - log c + log (1 - c)` for
    an object at g.

    Args:
        boxes: `[K, 4]`.
        logits: Logits of the confidences, `[K]`.
        objects: `[M, 4]`. If there are more than K, K of them have a box.
        units: Units of the boxes' coordinates, `[K, 4]`.
        alpha: Weight of the locations.

    Returns:
        Indices of boxes and of their objects, each `[min(K, M)]`.
    """
    costs = alpha / 2 * _squared_distances(boxes, objects, units)
    return _assign(costs - logits[:, None].astype(np.float64))


def _squared_distances(a: Boxes, b: Boxes, units: Boxes | None = None) -> NDArray[np.float64]:
    """Return the squared distances between two sets of boxes, `[len(a), len(b)]`.

    Args:
        a: `[len(a), 4]`.
        b: `[len(b), 4]`.
        units: Units of the differences, `[len(a), 4]`. By default 1.
    """
    differences = a[:, None].astype(np.float64) - b[None]
    if units is not None:
        differences /= units[:, None]
    return np.asarray((differences**2).sum(axis=2))


def _assign(costs: NDArray[np.float64]) -> tuple[Indices, Indices]:
    rows, columns = linear_sum_assignment(costs)
    return rows, columns
