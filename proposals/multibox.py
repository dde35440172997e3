"""MultiBox: *Scalable Object Detection using Deep Neural Networks* (arXiv 1312.2249).

A network sees a square picture, the whole image or a large part of it, and says of each of K
boxes where it is and how likely it is an object's, whatever the class. It learns each box as what
it differs by from a prior, the centre of a cluster of annotated boxes. In training every object is
one box's, and every box at most one object's: the assignment that costs least.

Coordinates are x1, y1, x2, y2 as shares of the picture's sides. The paper's alpha of 0.3 weighs
the squared error of locations against the confidences' logarithms, which depends on the unit of
locations: here it is a share of the prior's own sides (`units`), about how far objects are from
their priors. (In shares of the picture's sides the location term would be a thousandth of the
other.)

Letters of shapes: N pictures, S a picture's side, K priors, M objects of a picture.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from proposals.boxes import nms, overlap_by_more
from proposals.types import Boxes, Image, Proposals

SOURCE = "multibox"

Network = Callable[[NDArray[np.uint8]], tuple[NDArray[np.float32], NDArray[np.float32]]]
"""From RGB pictures `uint8 [N, S, S, 3]` to boxes `float32 [N, K, 4]`, as shares of the sides, and
the logits of their confidences `float32 [N, K]`."""


class View(NamedTuple):
    """A part of an image, as shares of its sides."""

    x1: float
    y1: float
    x2: float
    y2: float


WHOLE = View(0, 0, 1, 1)
CORNERS = tuple(View(x, y, x + 0.6, y + 0.6) for y in (0.0, 0.4) for x in (0.0, 0.4))
"""Small objects are larger in them."""

CANDIDATES = 5
"""Times the number of boxes wanted: how many of the most confident ones are looked at."""


def decode(boxes: Boxes, view: View, width: int, height: int) -> NDArray[np.float64]:
    """Boxes `[K, 4]` of a view, as shares of its sides, in pixels of the image, clipped to it."""
    x1, y1, x2, y2 = view
    scale = np.array([(x2 - x1) * width, (y2 - y1) * height] * 2)
    offset = np.array([x1 * width, y1 * height] * 2)
    limits = np.array([width, height] * 2)
    return np.asarray((boxes * scale + offset).clip(0, limits))


class MultiBox:
    """The boxes in which a network sees objects, best first.

    Args:
        network: what looks at the pictures.
        size: S, in pixels.
        count: how many boxes of an image are proposed at most.
        views: the parts of an image that the network sees.
        nms_iou: of two boxes that overlap by more, the more confident one is kept.
    """

    def __init__(
        self,
        network: Network,
        *,
        size: int,
        count: int = 200,
        views: Sequence[View] = (WHOLE,),
        nms_iou: float = 0.8,
    ) -> None:
        self.network = network
        self.size = size
        self.count = count
        self.views = tuple(views)
        self.nms_iou = nms_iou

    def __call__(self, image: Image) -> Proposals:
        """Proposals for an RGB `uint8 [H, W, 3]` image, scored by their confidences."""
        height, width = image.shape[:2]
        boxes, logits = self.network(np.stack([self._picture(image, view) for view in self.views]))
        decoded = np.concatenate(
            [
                decode(some, view, width, height)
                for some, view in zip(boxes, self.views, strict=True)
            ]
        )
        best = np.argsort(-logits.ravel(), kind="stable")[: CANDIDATES * self.count]
        return select(decoded[best], logits.ravel()[best], self.count, self.nms_iou)

    def limited(self, count: int) -> MultiBox:
        """The same with another number of boxes."""
        made = copy.copy(self)
        made.count = count
        return made

    def _picture(self, image: Image, view: View) -> Image:
        """A part of an image as a square: each axis area-averaged where it shrinks and bilinear
        where it grows, as pictures are cut in training.
        """
        height, width = image.shape[:2]
        x1, y1, x2, y2 = np.round(np.array(view) * [width, height, width, height]).astype(int)
        part = image[y1 : max(y2, y1 + 1), x1 : max(x2, x1 + 1)]
        shrunk = (min(part.shape[1], self.size), min(part.shape[0], self.size))
        smaller = cv2.resize(part, shrunk, interpolation=cv2.INTER_AREA)
        size = (self.size, self.size)
        return np.asarray(cv2.resize(smaller, size, interpolation=cv2.INTER_LINEAR), np.uint8)


def select(
    boxes: NDArray[np.float64], logits: NDArray[np.float32], count: int, nms_iou: float
) -> Proposals:
    """The most confident boxes `[N, 4]` as proposals: whole pixels, canonical order, distinct.

    Args:
        logits: `[N]`, of the confidences.
    """
    rounded = np.floor(boxes + 0.5).astype(np.float32)
    filled = (rounded[:, 2:] > rounded[:, :2]).all(axis=1)
    rounded, logits = rounded[filled], logits[filled]
    kept = nms(overlap_by_more(rounded, nms_iou), logits)[:count]
    order = kept[np.lexsort(rounded[kept].T[::-1])]
    scores = 1 / (1 + np.exp(-logits[order].astype(np.float64)))
    return Proposals(rounded[order], scores.astype(np.float32), np.full(len(order), SOURCE))
