"""The crops of a batch, which come from many images.

Letters of shapes: N crops of a batch, S the crop's side, H and W a patch's sides.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from detector.bundles.manifest import Normalisation, Warp
from detector.regions.crops import Windows, cut_with_opencv, normalise, windows
from detector.regions.gpu_crops import cut_with_torch, summed_area_table
from detector.training.augmentation import CropPlan
from detector.training.distortion import distort
from proposals import Image

PIXELS_AT_ONCE = 64_000_000
"""Maximum number of pixels from which a GPU cuts at once. Their summed-area tables take 24 bytes a
pixel."""


def cut_batch(
    plan: CropPlan,
    images: Mapping[int, Image | Tensor],
    warp: Warp,
    normalisation: Normalisation,
    device: torch.device,
) -> Tensor:
    """Cut the crops of a batch, and distort them.

    Args:
        plan: Where the crops are cut, and how they are varied.
        images: The plan's images by their index, RGB `uint8 [H, W, 3]`, on the device.
        warp: Size, context and resampling of the crops.
        normalisation: Normalisation of the pixels.
        device: Where the images are.

    Returns:
        `float32 [N, S, S, 3]` on the device; 0 outside of the image.
    """
    # The window of each crop, and the patch of the image inside it.
    images_of_crops = [images[index] for index in plan.images.tolist()]
    sides = np.array([image.shape[:2] for image in images_of_crops], np.int64)  # [N, 2]: H, W
    crop_windows = windows(plan.boxes, sides[:, 0], sides[:, 1], warp, plan.mirrored)
    patches = [
        image[y : y + h, x : x + w]
        for image, (x, y), (w, h) in zip(
            images_of_crops,
            crop_windows.source.tolist(),
            crop_windows.source_size.tolist(),
            strict=True,
        )
    ]
    crop_windows = crop_windows._replace(source=np.zeros_like(crop_windows.source))

    # Cut only the patches, so that little is normalised.
    if device.type == "cpu":
        crops = _cut_on_processor(patches, crop_windows, warp, normalisation, plan.mirrored)
    else:
        crops = torch.cat(
            [
                _cut_on_gpu(
                    [patch for patch in patches[group] if isinstance(patch, Tensor)],
                    _select(crop_windows, group),
                    warp,
                    normalisation,
                    plan.mirrored[group],
                )
                for group in _groups_at_once(crop_windows)
            ]
        )

    # Distortion also changes the padding, which must stay the mean.
    if distort(crops, plan.distortions, normalisation):
        _clear_padding(crops, crop_windows)
    return crops


def _cut_on_processor(
    patches: Sequence[Image | Tensor],
    crop_windows: Windows,
    warp: Warp,
    normalisation: Normalisation,
    mirrored: NDArray[np.bool_],
) -> Tensor:
    """Cut one crop `[S, S, 3]` from each patch: `float32 [N, S, S, 3]`."""
    crops = []
    for index, patch in enumerate(patches):
        this = slice(index, index + 1)
        pixels = normalise(np.asarray(patch), normalisation)
        crop = cut_with_opencv(pixels, _select(crop_windows, this), warp, mirrored[this])
        crops.append(torch.from_numpy(crop))
    return torch.cat(crops)


def _cut_on_gpu(
    patches: Sequence[Tensor],
    crop_windows: Windows,
    warp: Warp,
    normalisation: Normalisation,
    mirrored: NDArray[np.bool_],
) -> Tensor:
    """Cut one crop `[S, S, 3]` from each patch, all at once: `float32 [N, S, S, 3]`."""
    # All patches in one tensor, as large as the largest of them.
    width, height = crop_windows.source_size.max(axis=0).tolist()
    device = patches[0].device
    stack = torch.zeros(len(patches), height, width, 3, dtype=torch.uint8, device=device)
    for layer, patch in zip(stack, patches, strict=True):
        layer[: patch.shape[0], : patch.shape[1]] = patch

    if normalisation.channels == "bgr":
        stack = stack.flip(-1)
    mean = torch.tensor(normalisation.mean, device=device)
    std = torch.tensor(normalisation.std, device=device)
    pixels = ((stack - mean) / std).permute(0, 3, 1, 2)  # [N, 3, H, W]
    return cut_with_torch(summed_area_table(pixels), crop_windows, warp, mirrored)


def _groups_at_once(crop_windows: Windows) -> list[slice]:
    """Return runs of windows whose patches fit into the memory together."""
    groups = []
    start = 0
    for end in range(1, len(crop_windows.source) + 1):
        largest = crop_windows.source_size[start : end + 1].max(axis=0)
        is_last = end == len(crop_windows.source)
        if is_last or (end + 1 - start) * largest.prod() > PIXELS_AT_ONCE:
            groups.append(slice(start, end))
            start = end
    return groups


def _select(crop_windows: Windows, crops: slice) -> Windows:
    return Windows(*(column[crops] for column in crop_windows))


def _clear_padding(crops: Tensor, crop_windows: Windows) -> None:
    """Set what lies outside of the image to 0, in place."""
    position = torch.arange(crops.shape[1], device=crops.device)  # [S]
    first = torch.from_numpy(crop_windows.target)[:, :, None].to(crops.device)  # [N, 2, 1]
    extent = torch.from_numpy(crop_windows.target_size)[:, :, None].to(crops.device)  # [N, 2, 1]
    inside = (position >= first) & (position < first + extent)  # [N, 2, S]
    in_x, in_y = inside.unbind(dim=1)  # each [N, S]
    crops.mul_(in_y[:, :, None, None] & in_x[:, None, :, None])
