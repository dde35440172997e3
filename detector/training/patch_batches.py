"""The batches of a classifier's training: random patches of images.

They are drawn as in *Going deeper with convolutions*, section 6: 8 to 100 % of the image, with an
aspect ratio between 3/4 and 4/3, photometric distortion, and a random way of resizing.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from detector.common.cpu import available_cores
from detector.regions.crops import normalise
from detector.training.augmentation import draw_distortions
from detector.training.distortion import distort
from detector.training.image_cache import ImageCache
from detector.training.objective import LabelledCrops
from detector.training.settings import ClassifierTraining, Patches
from detector.training.start import Training
from proposals import Image

RESIZING = (cv2.INTER_LINEAR, cv2.INTER_AREA, cv2.INTER_NEAREST, cv2.INTER_CUBIC)
"""OpenCV's ways of resizing. One is drawn for each patch."""

ATTEMPTS = 10
"""Number of attempts to draw a patch that fits into the image."""


class PatchBatches:
    """Makes the batch of any step, from a generator seeded by the training's seed and the step.

    Args:
        images: The pixels of all images, in the processor's memory.
        labels: The class of each image.
        recipe: The settings of the training.
        training: Seed, processes and device.

    Raises:
        SettingsError: The processes cannot share a batch evenly.
    """

    def __init__(
        self,
        images: ImageCache,
        labels: Sequence[int],
        recipe: ClassifierTraining,
        training: Training,
    ) -> None:
        self._images = images
        self._labels = np.array(labels, np.int64)
        self._recipe = recipe
        self._seed = training.options.seed
        self._device = training.device
        self._share = training.group.share(recipe.patches.batch_size)
        self._threads = ThreadPoolExecutor(available_cores())

    def __call__(self, step: int) -> LabelledCrops:
        """Return this process's share of a step's batch."""
        recipe = self._recipe

        # Draw the whole batch, and take this process's share of it.
        rng = np.random.default_rng((self._seed, step))
        chosen = rng.integers(len(self._labels), size=recipe.patches.batch_size)
        seeds = rng.integers(2**63, size=len(chosen))[self._share]
        distortions = draw_distortions(len(chosen), recipe.augmentation.distortion, rng)
        chosen = chosen[self._share]  # [N]

        # Cut the patches.
        images = self._images.read(chosen.tolist())
        arrays = [np.asarray(images[index]) for index in chosen.tolist()]
        patches = list(self._threads.map(self._cut_patch, arrays, seeds))
        crops = torch.from_numpy(np.stack(patches))  # [N, S, S, 3]
        distort(crops, distortions[self._share], recipe.normalisation)
        labels = torch.from_numpy(self._labels[chosen])
        return LabelledCrops(crops.to(self._device), labels.to(self._device))

    def close(self) -> None:
        """Release the threads."""
        self._threads.shutdown()

    def _cut_patch(self, image: Image, seed: int) -> NDArray[np.float32]:
        """Return a random patch of an image, normalised, `float32 [S, S, 3]`."""
        recipe = self._recipe
        rng = np.random.default_rng(seed)
        height, width = image.shape[:2]
        x, y, w, h = draw_patch(width, height, recipe.patches, rng)
        size = (recipe.crop_size, recipe.crop_size)
        method = RESIZING[rng.integers(len(RESIZING))]
        patch = cv2.resize(image[y : y + h, x : x + w], size, interpolation=method)
        if recipe.augmentation.mirror and rng.random() < 0.5:
            patch = patch[:, ::-1]
        return normalise(np.asarray(patch, np.uint8), recipe.normalisation)


def draw_patch(
    width: int, height: int, patches: Patches, rng: np.random.Generator
) -> tuple[int, int, int, int]:
    """Draw a patch of an image: x, y, width and height in pixels.

    Its area is drawn uniformly, its aspect ratio uniformly on a logarithmic scale. If no attempt
    fits into the image, the patch is the largest central one with an allowed aspect ratio.

    Args:
        width: Width of the image in pixels.
        height: Height of the image in pixels.
        patches: Limits of area and aspect ratio.
        rng: Source of the random draws.
    """
    limit = -math.log(patches.narrowest)
    for _ in range(ATTEMPTS):
        area = width * height * rng.uniform(patches.smallest, 1)
        aspect = math.exp(rng.uniform(-limit, limit))
        w = round(math.sqrt(area * aspect))
        h = round(math.sqrt(area / aspect))
        if 0 < w <= width and 0 < h <= height:
            return int(rng.integers(width - w + 1)), int(rng.integers(height - h + 1)), w, h

    w = max(1, min(width, round(height / patches.narrowest)))
    h = max(1, min(height, round(width / patches.narrowest)))
    return (width - w) // 2, (height - h) // 2, w, h
