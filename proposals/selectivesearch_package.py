"""The `selectivesearch` package from PyPI as a second proposal method."""

from __future__ import annotations

import warnings

import numpy as np

from proposals.selective_search import SCALES, SIGMA, propose_at_working_size
from proposals.types import Boxes, Image, Proposals, Superpixels


class SelectiveSearchPackage:
    """Selective search by the `selectivesearch` package, version 0.4, for comparison only.

    It finds 150 to 330 boxes per image, where OpenCV finds 1,300, in the same time: it runs one
    segmentation with one strategy, in Python loops over pixels. The ranges of its colour and
    texture histograms do not match its hues and texture codes, so that regions are merged by size
    and fill alone. Regions count as neighbours if a corner of one's bounding box lies inside the
    other's. Its rectangles are one pixel too small, which is corrected here.

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
        k = SCALES[self.superpixels][0]
        return propose_at_working_size(image, lambda working_image: _search(working_image, k))


def _search(image: Image, k: int) -> Boxes:
    """Return the boxes `float32 [N, 4]` of an RGB image, unordered."""
    from selectivesearch import selective_search  # imports scikit-image, which takes half a second

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # "texture of floating-point images"
        _, regions = selective_search(image, scale=k, sigma=SIGMA, min_size=k)

    x, y, width, height = np.array([region["rect"] for region in regions], np.float32).T
    return np.stack([x, y, x + width + 1, y + height + 1], axis=1)
