"""The batches of a region training: drawn regions become labelled crops."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from detector.datasets.ground_truth import AnnotatedImage
from detector.training.augmentation import augment_regions
from detector.training.batch_crops import cut_batch
from detector.training.image_cache import ImageCache
from detector.training.labelled_regions import LabelledRegions
from detector.training.objective import LabelledCrops
from detector.training.region_sampler import Sampler
from detector.training.settings import RegionAugmentation, RegionTraining
from detector.training.start import Training


class RegionBatches:
    """Makes the batch of any step.

    Everything random about a batch comes from one generator, seeded by the training's seed and the
    step. A resumed training therefore sees the batches that an undisturbed one sees.

    Args:
        annotated: The annotations of all images.
        regions: The regions of all images.
        sampler: Draws the regions of a batch.
        images: The pixels of all images.
        recipe: The settings of the training.
        training: Seed, processes and device.

    Raises:
        SettingsError: The processes cannot share a batch evenly.
    """

    def __init__(
        self,
        annotated: Sequence[AnnotatedImage],
        regions: LabelledRegions,
        sampler: Sampler,
        images: ImageCache,
        recipe: RegionTraining,
        training: Training,
    ) -> None:
        self._annotated = annotated
        self._regions = regions
        self._sampler = sampler
        self._images = images
        self._recipe = recipe
        self._seed = training.options.seed
        self._device = training.device
        sampling = recipe.sampling
        self._share = training.group.share(sampling.foreground + sampling.background)

    def __call__(self, step: int) -> LabelledCrops:
        """Return this process's share of a step's batch."""
        return self._make(step, self._recipe.augmentation, self._share)

    def make_unaugmented(self, step: int) -> LabelledCrops:
        """Return the whole batch of a step, with its regions as they are."""
        return self._make(step, RegionAugmentation(mirror=False), slice(None))

    def _make(self, step: int, augmentation: RegionAugmentation, share: slice) -> LabelledCrops:
        recipe = self._recipe

        # Draw the regions of the whole batch, and take this process's share of them.
        rng = np.random.default_rng((self._seed, step))
        chosen = self._sampler.draw(rng)  # [foreground + background]
        plan = augment_regions(
            self._regions, chosen, self._annotated, augmentation, recipe.sampling, rng
        ).select(share)  # N crops

        # Cut the crops.
        images = self._images.read(plan.images.tolist())
        crops = cut_batch(plan, images, recipe.warp, recipe.normalisation, self._device)
        return LabelledCrops(crops, torch.from_numpy(plan.labels).to(self._device))
