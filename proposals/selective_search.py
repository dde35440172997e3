"""Selective search with OpenCV's building blocks, as R-CNN and GoogLeNet's authors used it.

R-CNN's fast mode (`selective_search_boxes.m`) has the colour spaces HSV and Lab, superpixels with
k = 50 and 100, min_size = k and sigma 0.8, and two similarities: colour + texture + size + fill,
and texture + size + fill. Together these are eight hierarchies. *Going deeper with convolutions*,
section 8, doubles the size of the superpixels: k and min_size are 100 and 200. OpenCV's own modes
(`switchTo…`) differ from both.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import cv2
import numpy as np

from proposals.boxes import round_boxes
from proposals.types import Boxes, Image, Proposals, Superpixels

WORKING_WIDTH = 500
"""Width of the image that is searched, in pixels: R-CNN's `im_width` for ILSVRC. The time grows at
least with its square."""

MAXIMUM_WORKING_HEIGHT = 1000
"""Height limit of the image that is searched, in pixels. It is reached by images narrower than
1:2."""

MINIMUM_SIDE = 20
"""Smallest side of a box at working size, in pixels: R-CNN drops smaller boxes."""

SIGMA = 0.8
"""Standard deviation of the Gaussian blur before segmentation, in pixels at working size."""

SCALES: dict[Superpixels, tuple[int, int]] = {"rcnn": (50, 100), "doubled": (100, 200)}
"""Superpixels' k and min_size, which are equal, in square pixels at working size."""


class SelectiveSearch:
    """Selective search by OpenCV: about 1,300 boxes per image with doubled superpixels.

    It releases the global interpreter lock. The same image always gives the same boxes; they depend
    on OpenCV's version. All scores are 1, because selective search does not rank its boxes.

    Args:
        superpixels: "rcnn", or "doubled" as in GoogLeNet's paper.
    """

    def __init__(self, *, superpixels: Superpixels = "doubled") -> None:
        self.superpixels = superpixels

    def __call__(self, image: Image) -> Proposals:
        """Return proposals for an RGB `uint8 [H, W, 3]` image.

        There are none for strips that are thinner than 20 pixels at working size: wider than 25:1,
        or higher than 50:1.
        """
        return propose_at_working_size(
            image, lambda working_image: search(working_image, SCALES[self.superpixels])
        )


def propose_at_working_size(image: Image, search: Callable[[Image], Boxes]) -> Proposals:
    """Run a search on the image at working size and scale its boxes to the image.

    Boxes with a side below 20 pixels at working size are dropped, as in R-CNN.

    Args:
        image: RGB `uint8 [H, W, 3]`.
        search: Function from the image at working size to its boxes.
    """
    height, width = image.shape[:2]
    working_image = resize_to_working_size(image)
    working_height, working_width = working_image.shape[:2]

    boxes = np.empty((0, 4), np.float32)
    if min(working_height, working_width) >= MINIMUM_SIDE:
        boxes = search(working_image)
        sides = boxes[:, 2:] - boxes[:, :2]  # [N, 2]
        boxes = boxes[(sides >= MINIMUM_SIDE).all(axis=1)]

    scale = np.array([width / working_width, height / working_height] * 2)  # [4]
    return Proposals.from_one_source(round_boxes(boxes * scale, width, height), "selective_search")


def resize_to_working_size(image: Image) -> Image:
    """Resize an image to 500 pixels of width, or to 1,000 of height if it would be higher."""
    height, width = image.shape[:2]
    scale = min(WORKING_WIDTH / width, MAXIMUM_WORKING_HEIGHT / height)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    interpolation = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    return np.asarray(cv2.resize(image, size, interpolation=interpolation), np.uint8)


def search(image: Image, scales: tuple[int, ...]) -> Boxes:
    """Return the regions of all hierarchies of an image, with duplicates, in no order.

    Combinations of a colour space and a scale are independent, so they run in parallel, in as many
    threads as OpenCV may use (`cv2.setNumThreads`).

    Args:
        image: RGB `uint8 [H, W, 3]`.
        scales: Values of k.

    Returns:
        `float32 [N, 4]`.
    """
    converted = [cv2.cvtColor(image, code) for code in (cv2.COLOR_RGB2HSV_FULL, cv2.COLOR_RGB2LAB)]
    with ThreadPoolExecutor(max(1, cv2.getNumThreads())) as threads:
        regions = threads.map(lambda pair: _regions(*pair), itertools.product(converted, scales))
        boxes = np.concatenate(list(regions))  # [N, 4]: x, y, width, height
    boxes[:, 2:] += boxes[:, :2]
    return boxes


def _regions(image: Image, k: int) -> Boxes:
    """Return the regions of both hierarchies of one segmentation.

    Every OpenCV object is new. Strategies cache histograms by an image number that starts again at
    0, so a strategy that is reused for a second image reads the first one's out of bounds.

    Args:
        image: `uint8 [H, W, 3]` in one of the colour spaces.
        k: Scale of the segmentation.

    Returns:
        x, y, width and height: `float32 [N, 4]`.
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
    """Return an OpenCV strategy that is the mean of others."""
    mean = cv2.ximgproc.segmentation.createSelectiveSearchSegmentationStrategyMultiple()
    for strategy in strategies:
        mean.addStrategy(strategy, 1 / len(strategies))
    return mean
