"""Selective search through OpenCV's building blocks, as R-CNN and GoogLeNet's authors ran it.

R-CNN's fast mode (`selective_search_boxes.m`): colour spaces HSV and Lab, superpixels of k = 50
and 100 with min_size = k and sigma 0.8, similarity of colour + texture + size + fill and of
texture + size + fill: eight hierarchies. *Going deeper with convolutions*, section 8, doubles the
size of the superpixels: k and min_size 100 and 200. None of OpenCV's own `switchTo…` modes is one
of these.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import cv2
import numpy as np

from proposals.boxes import whole_pixels
from proposals.types import Boxes, Image, Proposals, Superpixels

WORKING_WIDTH = 500
"""Pixels: R-CNN's `im_width` for ILSVRC. Costs grow with the square of it and more."""

MAXIMUM_WORKING_HEIGHT = 1000
"""Pixels, for portraits and strips narrower than 1:2."""

MINIMUM_SIDE = 20
"""Pixels at working size: R-CNN drops boxes that are narrower or lower."""

SIGMA = 0.8
SCALES: dict[Superpixels, tuple[int, int]] = {"rcnn": (50, 100), "doubled": (100, 200)}
"""The superpixels' k and min_size, in square pixels at working size."""


class SelectiveSearch:
    """Selective search by OpenCV: about 1,300 boxes a photo with doubled superpixels.

    It releases the interpreter's lock. The boxes are the same on every call; they depend on
    OpenCV's version. Scores are all 1: selective search does not rank its boxes.
    """

    def __init__(self, *, superpixels: Superpixels = "doubled") -> None:
        self.superpixels = superpixels

    def __call__(self, image: Image) -> Proposals:
        """Proposals for an RGB `uint8 [H, W, 3]` image; none for a wide strip thinner than
        1:25, or an upright one than 1:50.
        """
        return propose(image, lambda working: search(working, SCALES[self.superpixels]))


def propose(image: Image, search: Callable[[Image], Boxes]) -> Proposals:
    """Run `search` on the image at working size and bring its boxes back to the image's own.

    Boxes narrower or lower than 20 pixels at working size are dropped first, as R-CNN does.
    """
    height, width = image.shape[:2]
    working = resize(image)
    working_height, working_width = working.shape[:2]
    boxes = np.empty((0, 4), np.float32)
    if min(working_height, working_width) >= MINIMUM_SIDE:
        boxes = search(working)
        sides = boxes[:, 2:] - boxes[:, :2]  # [N, 2]
        boxes = boxes[(sides >= MINIMUM_SIDE).all(axis=1)]
    zoom = np.array([width / working_width, height / working_height] * 2)
    return Proposals.from_one_source(whole_pixels(boxes * zoom, width, height), "selective_search")


def resize(image: Image) -> Image:
    """The image at working size: 500 pixels wide, or less where it would be over 1,000 high."""
    height, width = image.shape[:2]
    zoom = min(WORKING_WIDTH / width, MAXIMUM_WORKING_HEIGHT / height)
    size = (max(1, round(width * zoom)), max(1, round(height * zoom)))
    method = cv2.INTER_AREA if zoom < 1 else cv2.INTER_CUBIC
    return np.asarray(cv2.resize(image, size, interpolation=method), np.uint8)


def search(image: Image, scales: tuple[int, ...]) -> Boxes:
    """All regions of all hierarchies of an RGB image `[H, W, 3]`: `float32 [N, 4]`, unordered.

    Colour spaces and scales have nothing in common, so they run in as many threads as OpenCV may
    use (`cv2.setNumThreads`).
    """
    spaces = [cv2.cvtColor(image, code) for code in (cv2.COLOR_RGB2HSV_FULL, cv2.COLOR_RGB2LAB)]
    segmentations = list(itertools.product(spaces, scales))
    with ThreadPoolExecutor(max(1, cv2.getNumThreads())) as threads:
        regions = np.concatenate(list(threads.map(lambda part: _regions(*part), segmentations)))
    regions[:, 2:] += regions[:, :2]
    return regions


def _regions(image: Image, k: int) -> Boxes:
    """Both hierarchies of one segmentation, as x, y, width and height: `float32 [N, 4]`.

    Every OpenCV object is made anew: strategies cache histograms by an image number that starts
    again at 0, and one that is used for a second image reads the first one's out of bounds.
    """
    segmentation = cv2.ximgproc.segmentation
    selective_search = segmentation.createSelectiveSearchSegmentation()
    selective_search.addImage(image)
    selective_search.addGraphSegmentation(segmentation.createGraphSegmentation(SIGMA, float(k), k))
    colour = segmentation.createSelectiveSearchSegmentationStrategyColor()
    texture = segmentation.createSelectiveSearchSegmentationStrategyTexture()
    size = segmentation.createSelectiveSearchSegmentationStrategySize()
    fill = segmentation.createSelectiveSearchSegmentationStrategyFill()
    selective_search.addStrategy(_mean_of(colour, texture, size, fill))
    selective_search.addStrategy(_mean_of(texture, size, fill))
    return np.asarray(selective_search.process(), np.float32).reshape(-1, 4)


def _mean_of(*strategies: Any) -> Any:
    mean = cv2.ximgproc.segmentation.createSelectiveSearchSegmentationStrategyMultiple()
    for strategy in strategies:
        mean.addStrategy(strategy, 1 / len(strategies))
    return mean
