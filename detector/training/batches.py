"""From drawn regions to the crops of a batch.

Everything random about a batch comes from one generator, seeded by the training's seed and the
batch's step, so that a resumed training sees the batches that an undisturbed one does.

Letters of shapes: N regions of the batch, S the crop's side.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from detector.bundles.manifest import Normalisation, Warp
from detector.datasets.ground_truth import AnnotatedImage
from detector.regions.crops import (
    Windows,
    cut_with_opencv,
    normalise,
    windows,
)
from detector.regions.gpu_crops import cut_with_torch, summed_area_table
from detector.training.distortion import distort, draw_distortions
from detector.training.sampling import IGNORED, Regions, label
from detector.training.settings import RegionAugmentation, Sampling
from proposals import Image
from proposals.types import Boxes

PIXELS_AT_ONCE = 64_000_000
"""Of the windows from which a GPU cuts at once: their tables of sums take 24 bytes a pixel."""


class Batch(NamedTuple):
    """What is cut, and how it is varied."""

    photos: NDArray[np.int32]
    """`[N]`, indices."""
    boxes: Boxes
    """`[N, 4]`, whole pixels inside the photo."""
    labels: NDArray[np.int64]
    """`[N]`: 0 background, 1 + class."""
    mirrored: NDArray[np.bool_]
    """`[N]`."""
    distortions: NDArray[np.float32]
    """`[N, 3]`, see `distortion`."""

    def part(self, which: slice) -> Batch:
        """Some of the regions."""
        return Batch(
            self.photos[which],
            self.boxes[which],
            self.labels[which],
            self.mirrored[which],
            self.distortions[which],
        )


def vary(
    regions: Regions,
    chosen: NDArray[np.int64],
    images: Sequence[AnnotatedImage],
    augmentation: RegionAugmentation,
    sampling: Sampling,
    rng: np.random.Generator,
) -> Batch:
    """The chosen regions `[N]`, each varied at random.

    A jittered region is labelled anew. It stays as it was if it is then neither object nor
    background, or, having been an object, background: not all objects need be annotated.
    """
    n = len(chosen)
    photos = regions.photos[chosen]
    boxes, labels = regions.boxes[chosen], regions.labels[chosen].astype(np.int64)
    mirrored = rng.random(n) < (0.5 if augmentation.mirror else 0.0)
    distortions = draw_distortions(n, augmentation.distortion, rng)
    if augmentation.jitter:
        sides = np.tile(boxes[:, 2:] - boxes[:, :2], 2)  # [N, 4]
        moved = boxes + rng.uniform(-1, 1, (n, 4)) * augmentation.jitter * sides
        for index, photo in enumerate(photos):
            image = images[photo]
            limits = [image.width, image.height] * 2
            box = np.round(moved[index]).clip(0, limits).astype(np.float32)
            if box[0] < box[2] and box[1] < box[3]:
                (new,), _ = label(box[None], image, sampling)
                if new != IGNORED and (new > 0 or labels[index] == 0):
                    boxes[index], labels[index] = box, new
    return Batch(photos, boxes, labels, mirrored, distortions)


def cut_batch(
    batch: Batch,
    photos: Mapping[int, Image | Tensor],
    warp: Warp,
    normalisation: Normalisation,
    device: torch.device,
) -> Tensor:
    """The crops of a batch, `float32 [N, S, S, 3]` on the device on which the photos are."""
    pictures = [photos[index] for index in batch.photos.tolist()]
    sides = np.array([picture.shape[:2] for picture in pictures], np.int64)  # [N, 2]: H, W
    where = windows(batch.boxes, sides[:, 0], sides[:, 1], warp, batch.mirrored)
    patches = [
        picture[y : y + h, x : x + w]
        for picture, (x, y), (w, h) in zip(
            pictures, where.source.tolist(), where.source_size.tolist(), strict=True
        )
    ]
    where = where._replace(source=np.zeros_like(where.source))
    if device.type == "cpu":
        crops = torch.cat(
            [
                torch.from_numpy(
                    cut_with_opencv(
                        normalise(np.asarray(patch), normalisation),
                        Windows(*(part[index : index + 1] for part in where)),
                        warp,
                        batch.mirrored[index : index + 1],
                    )
                )
                for index, patch in enumerate(patches)
            ]
        )
    else:
        crops = torch.cat(
            [
                _cut_on_gpu(
                    [patch for patch in patches[part] if isinstance(patch, Tensor)],
                    Windows(*(numbers[part] for numbers in where)),
                    warp,
                    normalisation,
                    batch.mirrored[part],
                )
                for part in _parts(where)
            ]
        )
    if distort(crops, batch.distortions, normalisation):
        _clear_outside(crops, where)
    return crops


def _parts(where: Windows) -> list[slice]:
    """Runs of windows that are cut at once, so that their stack stays within the memory."""
    parts, start = [], 0
    for end in range(1, len(where.source) + 1):
        sides = where.source_size[start : end + 1].max(axis=0)
        if end == len(where.source) or (end + 1 - start) * sides.prod() > PIXELS_AT_ONCE:
            parts.append(slice(start, end))
            start = end
    return parts


def _cut_on_gpu(
    patches: Sequence[Tensor],
    where: Windows,
    warp: Warp,
    normalisation: Normalisation,
    mirrored: NDArray[np.bool_],
) -> Tensor:
    width, height = where.source_size.max(axis=0).tolist()
    device = patches[0].device
    stack = torch.zeros(len(patches), height, width, 3, dtype=torch.uint8, device=device)
    for layer, patch in zip(stack, patches, strict=True):
        layer[: patch.shape[0], : patch.shape[1]] = patch
    if normalisation.channels == "bgr":
        stack = stack.flip(-1)
    mean = torch.tensor(normalisation.mean, device=device)
    std = torch.tensor(normalisation.std, device=device)
    pixels = ((stack - mean) / std).permute(0, 3, 1, 2)  # [N, 3, H, W]
    return cut_with_torch(summed_area_table(pixels), where, warp, mirrored)


def _clear_outside(crops: Tensor, where: Windows) -> None:
    """Set to 0 again what lies outside of the photo."""
    position = torch.arange(crops.shape[1], device=crops.device)  # [S]
    first, extent = (
        torch.from_numpy(part)[:, :, None].to(crops.device)
        for part in (where.target, where.target_size)
    )  # each [N, 2, 1]
    in_x, in_y = ((position >= first) & (position < first + extent)).unbind(dim=1)  # each [N, S]
    crops.mul_(in_y[:, :, None, None] & in_x[:, None, :, None])
