"""R-CNN's context-padded warp: from a proposal to the square crop that a network sees.

The arithmetic is Caffe's (`window_data_layer.cpp`, mode "warp"), with exact integers in place of
its floating-point numbers: a box is widened by its context, the part of that window inside the
image is resized without keeping its aspect, and what lies outside is filled with the mean.

Resampling is a mean over a footprint on the image, in each axis by itself. Caffe's bilinear
interpolation is a footprint of one pixel; "area" is as wide as the crop's pixel where the crop
shrinks the image, so that no pixel is passed over, and one pixel where it enlarges it.

Letters of shapes: N boxes, S the crop's side, H and W the image's sides.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from detector.bundles.manifest import Normalisation, Warp
from proposals import Image
from proposals.types import Boxes

Integers = NDArray[np.int64]
Pixels = NDArray[np.float32]
"""A normalised image, `float32 [H, W, 3]` in the network's order of channels; the mean is 0."""


def normalise(image: Image, normalisation: Normalisation) -> Pixels:
    """An RGB `uint8 [H, W, 3]` image as the network wants its pixels, of the same size."""
    ordered = image[:, :, ::-1] if normalisation.channels == "bgr" else image
    pixels = ordered.astype(np.float32)
    pixels -= np.array(normalisation.mean, np.float32)
    if normalisation.std != (1.0, 1.0, 1.0):
        pixels /= np.array(normalisation.std, np.float32)
    return pixels


class Windows(NamedTuple):
    """Where crops come from and go to, each `int64 [N, 2]` of x and y in pixels."""

    source: Integers
    """First pixel of the clipped window in the image."""
    source_size: Integers
    target: Integers
    """First pixel of the patch in the crop."""
    target_size: Integers


def windows(
    boxes: Boxes,
    height: int | Integers,
    width: int | Integers,
    warp: Warp,
    mirrored: NDArray[np.bool_] | None = None,
) -> Windows:
    """The warp's integers for boxes `[N, 4]` in whole pixels inside a `height` x `width` image.

    Args:
        height: one for all boxes, or `int64 [N]`.
        width: likewise.
        mirrored: `bool [N]`, which crops will be flipped from left to right: their padding is
            rounded from the other side.

    Raises:
        ValueError: a box is not in whole pixels, has no area, or leaves the image.
    """
    size = warp.crop_size
    corners = np.asarray(boxes).astype(np.int64).reshape(-1, 4)
    first, end = corners[:, :2], corners[:, 2:]  # x, y; the end is exclusive
    side = end - first
    image_size = np.broadcast_to(np.stack([width, height], axis=-1), side.shape)
    bad = (corners != boxes).any(1) | (first < 0).any(1) | (end > image_size).any(1)
    bad |= (side <= 0).any(1)
    if bad.any():
        (w, h), box = image_size[bad][0], boxes[bad][0].tolist()
        raise ValueError(f"box {box} must have whole pixels and an area inside the {w}x{h} image")
    # The context in pixels of the image is side * p / (S - 2p); with a context of p/S = a/b, that
    # is side * a / (b - 2a). The widened window's last pixel is inclusive: it is a pixel wider.
    share = warp.context / (1 - 2 * warp.context)
    a, b = share.numerator, share.denominator
    window = _divide(b * first - a * side, b)
    window_end = _divide(b * end + a * side, b) + (a > 0)
    window_size = window_end - window
    before = (-window).clip(0)
    after = (window_end - image_size).clip(0)
    source = window + before
    source_size = window_size - before - after
    target_size = _divide(source_size * size, window_size)
    target = _divide(before * size, window_size)
    if mirrored is not None:
        target[:, 0] = np.where(mirrored, _divide(after * size, window_size)[:, 0], target[:, 0])
    target_size = np.minimum(target_size, size - target)
    return Windows(source, source_size, target, target_size)


def _divide(numerator: Integers, denominator: Integers | int) -> Integers:
    """Division rounded to the nearest integer, halves away from zero as C's `round` does."""
    quotient = (2 * np.abs(numerator) + denominator) // (2 * np.asarray(denominator))
    return np.asarray(np.sign(numerator) * quotient, np.int64)


def cut(
    pixels: Pixels | Tensor,
    boxes: Boxes,
    warp: Warp,
    mirrored: NDArray[np.bool_] | None = None,
) -> Tensor:
    """Crops of an image, on the device where it is.

    Args:
        pixels: `float32 [H, W, 3]`, normalised, or their table of `sums` on a GPU.
        boxes: `[N, 4]` in whole pixels inside the image.
        mirrored: `bool [N]`, which crops to flip from left to right.

    Returns:
        `float32 [N, S, S, 3]`, 0 outside of the image.
    """
    on_gpu = isinstance(pixels, Tensor)
    height, width = (side - 1 for side in pixels.shape[1:]) if on_gpu else pixels.shape[:2]
    where = windows(boxes, height, width, warp, mirrored)
    flip = np.zeros(len(where.source), np.bool_) if mirrored is None else mirrored
    if isinstance(pixels, Tensor):
        return cut_with_torch(pixels, where, warp, flip)
    return torch.from_numpy(cut_with_opencv(pixels, where, warp, flip))


def cut_with_opencv(
    pixels: Pixels, where: Windows, warp: Warp, mirrored: NDArray[np.bool_]
) -> NDArray[np.float32]:
    """Crops `float32 [N, S, S, 3]` of `pixels`, patch after patch, by OpenCV's resize."""
    size = warp.crop_size
    crops = np.zeros((len(mirrored), size, size, 3), np.float32)
    for crop, flip, source, source_size, target, target_size in zip(
        crops, mirrored, *(part.tolist() for part in where), strict=True
    ):
        (x, y), (w, h), (u, v), (tw, th) = source, source_size, target, target_size
        patch: NDArray[Any] = pixels[y : y + h, x : x + w]
        if warp.resampling == "area" and (w > tw) != (h > th):  # shrunk in one axis only
            shrunk = (min(w, tw), min(h, th))
            patch = cv2.resize(patch, shrunk, interpolation=cv2.INTER_AREA)
            w, h = shrunk
        area = warp.resampling == "area" and w >= tw and h >= th
        method = cv2.INTER_AREA if area else cv2.INTER_LINEAR
        patch = cv2.resize(patch, (tw, th), interpolation=method)
        crop[v : v + th, u : u + tw] = patch[:, ::-1] if flip else patch
    return crops


def sums(pixels: Tensor) -> Tensor:
    """Tables `float64 [..., H + 1, W + 1]` of the sums over rectangles from the origin.

    Args:
        pixels: `[..., H, W]`.
    """
    *outer, height, width = pixels.shape
    table = torch.zeros(*outer, height + 1, width + 1, dtype=torch.float64, device=pixels.device)
    inner = table[..., 1:, 1:]
    inner.copy_(pixels)
    torch.cumsum(inner, -2, out=inner)
    torch.cumsum(inner, -1, out=inner)
    return table


def cut_with_torch(
    table: Tensor, where: Windows, warp: Warp, mirrored: NDArray[np.bool_]
) -> Tensor:
    """The same crops by a few large operations on the device of the table of `sums`.

    The table is one image's, `[3, H + 1, W + 1]`, or there is one for each crop, `[N, 3, …]`. The
    sum over any footprint is four look-ups in the table, between whose entries bilinear
    interpolation is exact.
    """
    device, size = table.device, warp.crop_size
    height, width = table.shape[-2] - 1, table.shape[-1] - 1

    def footprints(axis: int, length: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Both ends of each crop pixel's footprint on [-1, 1], its length, is it in the patch?"""
        start, n, first, m = (
            torch.from_numpy(part[:, axis : axis + 1]).to(device).double() for part in where
        )  # each [N, 1]
        step = n / m
        crop_pixel = torch.arange(size, device=device, dtype=torch.float64)  # [S]
        inside = (crop_pixel >= first) & (crop_pixel < first + m)  # [N, S]
        extent = step.clamp(min=1) if warp.resampling == "area" else torch.ones_like(step)
        centre = (crop_pixel - first + 0.5) * step
        begin = (centre - extent / 2).clamp(min=0).minimum(n - extent) + start
        end = begin + extent
        return 2 * begin / length - 1, 2 * end / length - 1, extent, inside

    left, right, w, in_x = footprints(0, width)
    top, bottom, h, in_y = footprints(1, height)
    if mirrored.any():
        flip = torch.from_numpy(mirrored).to(device)[:, None]
        position = torch.arange(size, device=device)
        first, extent = (
            torch.from_numpy(part[:, :1]).to(device) for part in (where.target, where.target_size)
        )
        reflected = (2 * first + extent - 1 - position).clamp(0, size - 1)
        order = torch.where(flip, reflected, position)  # [N, S]
        left, right = left.gather(1, order), right.gather(1, order)

    def sum_to(x: Tensor, y: Tensor) -> Tensor:
        grid = torch.stack(
            [x[:, None, :].expand(-1, size, -1), y[:, :, None].expand(-1, -1, size)], dim=-1
        )  # [N, S, S, 2]
        tables = table.expand(len(grid), -1, -1, -1)
        return functional.grid_sample(tables, grid, align_corners=True, padding_mode="border")

    total = sum_to(right, bottom) - sum_to(left, bottom) - sum_to(right, top) + sum_to(left, top)
    mean = total / (w * h)[:, :, None, None]  # [N, 3, S, S]
    inside = (in_y[:, :, None] & in_x[:, None, :])[:, None]  # [N, 1, S, S]
    crops = torch.where(inside, mean, 0.0).float()
    return crops.permute(0, 2, 3, 1).contiguous()
