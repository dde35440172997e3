"""Crops on a GPU: the warp of `detector.regions.crops` as a few large tensor operations.

Letters of shapes: N boxes, S the crop's side, H and W the image's sides.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from detector.bundles.manifest import Warp
from detector.regions.crops import Windows, windows
from proposals.types import Boxes


def cut(table: Tensor, boxes: Boxes, warp: Warp) -> Tensor:
    """Cut crops from an image, on the device where its table is.

    Args:
        table: Summed-area table of the normalised image, `float64 [3, H + 1, W + 1]`.
        boxes: `float32 [N, 4]` in whole pixels, inside the image.
        warp: Size, context and resampling of the crops.

    Returns:
        `float32 [N, S, S, 3]`, 0 outside of the image.
    """
    height = table.shape[-2] - 1
    width = table.shape[-1] - 1
    crop_windows = windows(boxes, height, width, warp)
    mirrored = np.zeros(len(crop_windows.source), np.bool_)
    return cut_with_torch(table, crop_windows, warp, mirrored)


def summed_area_table(pixels: Tensor) -> Tensor:
    """Return the sums over all rectangles from the origin, `float64 [..., H + 1, W + 1]`.

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


class _Footprints(NamedTuple):
    """Where each crop pixel looks at, in one axis: `[N, S]` each, and `[N, 1]` for `extent`."""

    begin: Tensor
    """First end of the footprint, on a scale of -1 to 1."""
    end: Tensor
    """Other end of the footprint."""
    extent: Tensor
    """Length of the footprint in pixels."""
    inside: Tensor
    """Whether the crop pixel belongs to the patch."""


def cut_with_torch(
    table: Tensor, crop_windows: Windows, warp: Warp, mirrored: NDArray[np.bool_]
) -> Tensor:
    """Cut crops `float32 [N, S, S, 3]` from summed-area tables.

    The sum over any footprint is four look-ups in the table, between whose entries bilinear
    interpolation is exact.

    Args:
        table: One image's, `[3, H + 1, W + 1]`, or one for each crop, `[N, 3, H + 1, W + 1]`.
        crop_windows: Where the crops are taken from and where they go.
        warp: Size and resampling of the crops.
        mirrored: `bool [N]`, which crops to flip from left to right.
    """
    height = table.shape[-2] - 1
    width = table.shape[-1] - 1
    size = warp.crop_size

    x = _footprints(crop_windows, 0, width, warp, table.device)
    y = _footprints(crop_windows, 1, height, warp, table.device)
    if mirrored.any():
        order = _mirrored_order(crop_windows, mirrored, size, table.device)  # [N, S]
        x = x._replace(begin=x.begin.gather(1, order), end=x.end.gather(1, order))

    def sums_to(ends_x: Tensor, ends_y: Tensor) -> Tensor:
        """Look up the sums over the rectangles from the origin to these ends: `[N, 3, S, S]`."""
        columns = ends_x[:, None, :].expand(-1, size, -1)
        rows = ends_y[:, :, None].expand(-1, -1, size)
        grid = torch.stack([columns, rows], dim=-1)  # [N, S, S, 2]
        tables = table.expand(len(grid), -1, -1, -1)
        return functional.grid_sample(tables, grid, align_corners=True, padding_mode="border")

    total = (
        sums_to(x.end, y.end)
        - sums_to(x.begin, y.end)
        - sums_to(x.end, y.begin)
        + sums_to(x.begin, y.begin)
    )
    mean = total / (x.extent * y.extent)[:, :, None, None]  # [N, 3, S, S]
    inside = (y.inside[:, :, None] & x.inside[:, None, :])[:, None]  # [N, 1, S, S]
    crops = torch.where(inside, mean, 0.0).float()
    return crops.permute(0, 2, 3, 1).contiguous()


def _footprints(
    crop_windows: Windows, axis: int, length: int, warp: Warp, device: torch.device
) -> _Footprints:
    """Return the footprints of the crops' pixels along one axis of images of that length."""
    start, source_size, first, target_size = (
        torch.from_numpy(column[:, axis : axis + 1]).to(device).double() for column in crop_windows
    )  # each [N, 1]
    crop_pixel = torch.arange(warp.crop_size, device=device, dtype=torch.float64)  # [S]
    inside = (crop_pixel >= first) & (crop_pixel < first + target_size)  # [N, S]

    step = source_size / target_size
    extent = step.clamp(min=1) if warp.resampling == "area" else torch.ones_like(step)
    centre = (crop_pixel - first + 0.5) * step
    begin = (centre - extent / 2).clamp(min=0).minimum(source_size - extent) + start
    end = begin + extent
    return _Footprints(2 * begin / length - 1, 2 * end / length - 1, extent, inside)


def _mirrored_order(
    crop_windows: Windows, mirrored: NDArray[np.bool_], size: int, device: torch.device
) -> Tensor:
    """Return which column of the crop each column shows: `int64 [N, S]`."""
    position = torch.arange(size, device=device)
    first = torch.from_numpy(crop_windows.target[:, :1]).to(device)
    extent = torch.from_numpy(crop_windows.target_size[:, :1]).to(device)
    reflected = (2 * first + extent - 1 - position).clamp(0, size - 1)
    flip = torch.from_numpy(mirrored).to(device)[:, None]
    return torch.where(flip, reflected, position)
