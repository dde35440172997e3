"""The `selectivesearch` package from PyPI as a second engine."""

from __future__ import annotations

import warnings

import numpy as np

from proposals.selective_search import SCALES, SIGMA, propose
from proposals.types import Boxes, Image, Proposals, Superpixels


class SelectiveSearchPackage:
    """Selective search by the `selectivesearch` package, version 0.4: for comparison only.

    It finds 150 to 330 boxes a photo where OpenCV's engine finds 1,300, and takes as long, since
    it runs one segmentation with one strategy, in Python loops over pixels. Its colour and
    texture histograms use ranges that fit neither its hues nor its texture codes, so that
    merging follows size and fill alone; regions count as neighbours when a corner of one's
    bounding box lies inside the other's. Its rectangles are one pixel too small, which is
    corrected here.
    """

    def __init__(self, *, superpixels: Superpixels = "doubled") -> None:
        self.superpixels = superpixels

    def __call__(self, image: Image) -> Proposals:
        """Proposals for an RGB `uint8 [H, W, 3]` image; none for a wide strip thinner than
        1:25, or an upright one than 1:50.
        """
        return propose(image, lambda working: _search(working, SCALES[self.superpixels][0]))


def _search(image: Image, k: int) -> Boxes:
    from selectivesearch import selective_search  # half a second of scikit-image

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # "texture of floating-point images"
        _, regions = selective_search(image, scale=k, sigma=SIGMA, min_size=k)
    x, y, width, height = np.array([region["rect"] for region in regions], np.float32).T
    return np.stack([x, y, x + width + 1, y + height + 1], axis=1)
