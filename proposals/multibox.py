"""MultiBox: *Scalable Object Detection using Deep Neural Networks* (arXiv 1312.2249).

A network sees square views of an image: the whole image, and large parts of it. For each view it
predicts K boxes and, for each box, the confidence that it contains an object of any class. The
confident boxes of all views become proposals.

Letters of shapes: V views, S the side of a view in pixels, K boxes of a view, N boxes of all views.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from proposals.boxes import nms, overlapping_pairs
from proposals.types import Boxes, Image, Proposals

SOURCE = "multibox"
"""Source of the proposals."""

Network = Callable[[NDArray[np.uint8]], tuple[NDArray[np.float32], NDArray[np.float32]]]
"""Function from RGB views `uint8 [V, S, S, 3]` to boxes `float32 [V, K, 4]`, as shares of the
view's sides, and logits of their confidences `float32 [V, K]`."""


class View(NamedTuple):
    """A rectangle of an image, as shares of the image's width and height."""

    x1: float
    y1: float
    x2: float
    y2: float


WHOLE = View(0, 0, 1, 1)
"""The whole image."""

CORNERS = tuple(View(x, y, x + 0.6, y + 0.6) for y in (0.0, 0.4) for x in (0.0, 0.4))
"""One view at each corner of the image. Small objects are larger in them."""

CANDIDATES = 5
"""Number of candidates per proposal: non-maximum suppression sees this many times the number of
boxes wanted, the most confident ones."""


class MultiBox:
    """Proposes the boxes in which a network sees objects.

    Args:
        network: The network.
        size: S, in pixels.
        views: Views that the network sees of each image.
        nms_iou: If two boxes overlap by more than this IoU, only the more confident one is
            proposed.
    """

    def __init__(
        self,
        network: Network,
        *,
        size: int,
        views: Sequence[View] = (WHOLE,),
        nms_iou: float = 0.8,
    ) -> None:
        self.network = network
        self.size = size
        self.views = tuple(views)
        self.nms_iou = nms_iou

    def __call__(self, image: Image, count: int = 200) -> Proposals:
        """Return proposals for an image, with their confidences as scores.

        Args:
            image: RGB `uint8 [H, W, 3]`.
            count: Maximum number of proposals.

        Raises:
            FloatingPointError: The network's boxes or confidences are not finite.
        """
        height, width = image.shape[:2]
        pixels = np.stack([self._warp(image, view) for view in self.views])  # [V, S, S, 3]
        boxes_of_views, logits_of_views = self.network(pixels)  # [V, K, 4], [V, K]
        if not (np.isfinite(boxes_of_views).all() and np.isfinite(logits_of_views).all()):
            raise FloatingPointError("MultiBox's boxes or confidences are not finite")

        boxes = np.concatenate(
            [
                to_pixels(boxes, view, width, height)
                for boxes, view in zip(boxes_of_views, self.views, strict=True)
            ]
        )  # [N, 4]
        logits = logits_of_views.ravel()  # [N]
        candidates = np.argsort(-logits, kind="stable")[: CANDIDATES * count]
        return select_proposals(boxes[candidates], logits[candidates], count, self.nms_iou)

    def _warp(self, image: Image, view: View) -> Image:
        """Return a view of an image as a square, RGB `uint8 [S, S, 3]`.

        Each axis is area-averaged if it shrinks and bilinear if it grows, as in training.
        """
        height, width = image.shape[:2]
        x1, y1, x2, y2 = np.round(np.array(view) * [width, height, width, height]).astype(int)
        pixels = image[y1 : max(y2, y1 + 1), x1 : max(x2, x1 + 1)]

        shrunk_size = (min(pixels.shape[1], self.size), min(pixels.shape[0], self.size))
        shrunk = cv2.resize(pixels, shrunk_size, interpolation=cv2.INTER_AREA)
        square_size = (self.size, self.size)
        return np.asarray(cv2.resize(shrunk, square_size, interpolation=cv2.INTER_LINEAR), np.uint8)


def to_pixels(boxes: Boxes, view: View, width: int, height: int) -> NDArray[np.float64]:
    """Convert boxes of a view to pixels of the image, clipped to the image.

    Args:
        boxes: `float32 [K, 4]`, as shares of the view's sides.
        view: The view.
        width: Width of the image.
        height: Height of the image.

    Returns:
        `float64 [K, 4]`.
    """
    x1, y1, x2, y2 = view
    scale = np.array([(x2 - x1) * width, (y2 - y1) * height] * 2)
    offset = np.array([x1 * width, y1 * height] * 2)
    limits = np.array([width, height] * 2)
    return np.asarray((boxes * scale + offset).clip(0, limits))


def select_proposals(
    boxes: NDArray[np.float64], logits: NDArray[np.float32], count: int, nms_iou: float
) -> Proposals:
    """Select the most confident boxes after non-maximum suppression.

    Args:
        boxes: `float64 [N, 4]` in pixels, inside the image.
        logits: `float32 [N]`, logits of the confidences.
        count: Maximum number of proposals.
        nms_iou: IoU above which the less confident of two boxes is dropped.

    Returns:
        Proposals in whole pixels, without empty boxes.
    """
    rounded = np.floor(boxes + 0.5).astype(np.float32)
    has_area = (rounded[:, 2:] > rounded[:, :2]).all(axis=1)  # [N]
    rounded = rounded[has_area]
    logits = logits[has_area]

    selected = nms(overlapping_pairs(rounded, nms_iou), logits)[:count]
    order = selected[np.lexsort(rounded[selected].T[::-1])]  # canonical
    scores = 1 / (1 + np.exp(-logits[order].astype(np.float64)))  # sigmoid
    return Proposals(rounded[order], scores.astype(np.float32), np.full(len(order), SOURCE))
