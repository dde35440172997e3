"""R-CNN's context-padded warp: from a proposal to the square crop that a network sees.

The arithmetic is Caffe's (`window_data_layer.cpp`, mode "warp"), with exact integers instead of
floating-point numbers. A box is widened by its context. The part of that window that lies inside
the image is resized without keeping its aspect ratio, and the part outside is filled with the mean.

Resampling averages a footprint on the image, in each axis separately. Caffe's bilinear
interpolation has a footprint of one pixel. "area" has a footprint as wide as the crop's pixel
where the crop shrinks the image, so that no pixel is skipped, and of one pixel elsewhere.

Letters of shapes: N boxes, S the crop's side, H and W the image's sides.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from detector.bundles.manifest import Normalisation, Warp
from proposals import Image
from proposals.types import Boxes

Integers = NDArray[np.int64]
Pixels = NDArray[np.float32]
"""A normalised image, `float32 [H, W, 3]` in the network's order of channels; the mean is 0."""


def normalise(image: Image, normalisation: Normalisation) -> Pixels:
    """Return an RGB `uint8 [H, W, 3]` image as the network wants its pixels, in the same size."""
    ordered = image[:, :, ::-1] if normalisation.channels == "bgr" else image
    pixels = ordered.astype(np.float32)
    pixels -= np.array(normalisation.mean, np.float32)
    if normalisation.std != (1.0, 1.0, 1.0):
        pixels /= np.array(normalisation.std, np.float32)
    return pixels


class Windows(NamedTuple):
    """Where crops are taken from and where they go, each `int64 [N, 2]` of x and y in pixels."""

    source: Integers
    """First pixel of the clipped window in the image."""
    source_size: Integers
    """Width and height of the clipped window."""
    target: Integers
    """First pixel of the patch in the crop."""
    target_size: Integers
    """Width and height of the patch."""


def windows(
    boxes: Boxes,
    height: int | Integers,
    width: int | Integers,
    warp: Warp,
    mirrored: NDArray[np.bool_] | None = None,
) -> Windows:
    """Compute the integers of the warp.

    Args:
        boxes: `float32 [N, 4]` in whole pixels, inside the image.
        height: Height of the image, one for all boxes or `int64 [N]`.
        width: Width of the image, one for all boxes or `int64 [N]`.
        warp: Size, context and resampling of the crops.
        mirrored: `bool [N]`, which crops will be flipped from left to right. Their padding is
            rounded from the other side.

    Raises:
        ValueError: A box is not in whole pixels, has no area, or leaves the image.
    """
    corners = np.asarray(boxes).astype(np.int64).reshape(-1, 4)
    first = corners[:, :2]  # x1, y1
    end = corners[:, 2:]  # x2, y2, exclusive
    side = end - first
    image_size = np.broadcast_to(np.stack([width, height], axis=-1), side.shape)
    _check_boxes(boxes, corners, image_size)

    # The context in pixels of the image is side * p / (S - 2p). With a context of p/S = a/b, that
    # is side * a / (b - 2a). The widened window's last pixel is inclusive: it is a pixel wider.
    share = warp.context / (1 - 2 * warp.context)
    a = share.numerator
    b = share.denominator
    window = _divide(b * first - a * side, b)
    window_end = _divide(b * end + a * side, b) + (a > 0)
    window_size = window_end - window

    # The parts of the window that lie outside of the image.
    before = (-window).clip(0)
    after = (window_end - image_size).clip(0)
    source = window + before
    source_size = window_size - before - after

    # The window and its outside in pixels of the crop.
    size = warp.crop_size
    target_size = _divide(source_size * size, window_size)
    target = _divide(before * size, window_size)
    if mirrored is not None:
        target[:, 0] = np.where(mirrored, _divide(after * size, window_size)[:, 0], target[:, 0])
    target_size = np.minimum(target_size, size - target)
    return Windows(source, source_size, target, target_size)


def _check_boxes(boxes: Boxes, corners: Integers, image_size: Integers) -> None:
    first = corners[:, :2]
    end = corners[:, 2:]
    bad = (corners != boxes).any(1) | (first < 0).any(1) | (end > image_size).any(1)
    bad |= (end - first <= 0).any(1)
    if bad.any():
        width, height = image_size[bad][0]
        box = boxes[bad][0].tolist()
        raise ValueError(
            f"box {box} must have whole pixels and an area inside the {width}x{height} image"
        )


def _divide(numerator: Integers, denominator: Integers | int) -> Integers:
    """Divide and round to the nearest integer, halves away from zero as C's `round` does."""
    quotient = (2 * np.abs(numerator) + denominator) // (2 * np.asarray(denominator))
    return np.asarray(np.sign(numerator) * quotient, np.int64)


def cut(
    pixels: Pixels, boxes: Boxes, warp: Warp, mirrored: NDArray[np.bool_] | None = None
) -> NDArray[np.float32]:
    """Cut crops from an image.

    Args:
        pixels: Normalised image, `float32 [H, W, 3]`.
        boxes: `float32 [N, 4]` in whole pixels, inside the image.
        warp: Size, context and resampling of the crops.
        mirrored: `bool [N]`, which crops to flip from left to right.

    Returns:
        `float32 [N, S, S, 3]`, 0 outside of the image.
    """
    height, width = pixels.shape[:2]
    crop_windows = windows(boxes, height, width, warp, mirrored)
    if mirrored is None:
        mirrored = np.zeros(len(crop_windows.source), np.bool_)
    return cut_with_opencv(pixels, crop_windows, warp, mirrored)


def cut_with_opencv(
    pixels: Pixels, crop_windows: Windows, warp: Warp, mirrored: NDArray[np.bool_]
) -> NDArray[np.float32]:
    """Cut crops `float32 [N, S, S, 3]` from `pixels`, patch after patch, by OpenCV's resize."""
    size = warp.crop_size
    crops = np.zeros((len(mirrored), size, size, 3), np.float32)
    for crop, flip, source, source_size, target, target_size in zip(
        crops, mirrored, *(column.tolist() for column in crop_windows), strict=True
    ):
        x, y = source
        w, h = source_size
        u, v = target
        tw, th = target_size
        patch: NDArray[Any] = pixels[y : y + h, x : x + w]

        # OpenCV's area resampling works only if neither axis grows: shrink that axis first.
        if warp.resampling == "area" and (w > tw) != (h > th):
            shrunk = (min(w, tw), min(h, th))
            patch = cv2.resize(patch, shrunk, interpolation=cv2.INTER_AREA)
            w, h = shrunk

        area = warp.resampling == "area" and w >= tw and h >= th
        method = cv2.INTER_AREA if area else cv2.INTER_LINEAR
        patch = cv2.resize(patch, (tw, th), interpolation=method)
        crop[v : v + th, u : u + tw] = patch[:, ::-1] if flip else patch
    return crops
