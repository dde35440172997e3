"""The batches of a MultiBox training: random views of images, with the objects in them.

Letters of shapes: N views of a batch, S a view's side, M objects of an image or a view.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from detector.bundles.manifest import Warp
from detector.datasets.ground_truth import AnnotatedImage
from detector.training.augmentation import CropPlan, draw_distortions
from detector.training.batch_crops import cut_batch
from detector.training.image_cache import ImageCache
from detector.training.multibox_loss import MultiBoxBatch
from detector.training.settings import MultiBoxTraining, Views
from detector.training.start import Training
from proposals.types import Boxes


class MultiBoxBatches:
    """Makes the batch of any step, from a generator seeded by the training's seed and the step.

    Args:
        annotated: The annotations of all images.
        images: The pixels of all images.
        recipe: The settings of the training.
        training: Seed, processes and device.

    Raises:
        SettingsError: The processes cannot share a batch evenly.
    """

    def __init__(
        self,
        annotated: Sequence[AnnotatedImage],
        images: ImageCache,
        recipe: MultiBoxTraining,
        training: Training,
    ) -> None:
        self._annotated = annotated
        self._images = images
        self._recipe = recipe
        self._seed = training.options.seed
        self._device = training.device
        self._share = training.group.share(recipe.pictures.batch_size)

    def __call__(self, step: int) -> MultiBoxBatch:
        """Return this process's share of a step's batch."""
        # Draw the views of the whole batch, and take this process's share of them.
        rng = np.random.default_rng((self._seed, step))
        plan = self._draw_views(rng).select(self._share)  # N views

        # Cut the views: crops without context.
        recipe = self._recipe
        images = self._images.read(plan.images.tolist())
        warp = Warp(crop_size=recipe.size, context=0, resampling="area")
        views = cut_batch(plan, images, warp, recipe.normalisation, self._device)  # [N, S, S, 3]

        # Find the objects in each view.
        objects = []
        for index, window, mirrored in zip(
            plan.images.tolist(), plan.boxes, plan.mirrored.tolist(), strict=True
        ):
            boxes = objects_in(self._annotated[index], window, recipe.pictures.visible)
            objects.append(mirror_boxes(boxes) if mirrored else boxes)
        return MultiBoxBatch(views, objects)

    def _draw_views(self, rng: np.random.Generator) -> CropPlan:
        """Plan the views of a whole batch."""
        views = self._recipe.pictures
        augmentation = self._recipe.augmentation
        count = views.batch_size
        chosen = rng.integers(len(self._annotated), size=count).astype(np.int32)
        return CropPlan(
            images=chosen,
            boxes=np.stack([draw_view(self._annotated[index], views, rng) for index in chosen]),
            labels=np.zeros(count, np.int64),
            mirrored=rng.random(count) < (0.5 if augmentation.mirror else 0.0),
            distortions=draw_distortions(count, augmentation.distortion, rng),
        )


def draw_view(image: AnnotatedImage, views: Views, rng: np.random.Generator) -> Boxes:
    """Draw the window of a view: the image or a part of it, `float32 [4]` in whole pixels.

    The share of the area is drawn uniformly on a logarithmic scale, and so is the ratio of the
    shares of width and height.
    """
    is_whole = rng.random() < views.whole
    area = math.exp(rng.uniform(math.log(views.smallest), 0))
    ratio = math.exp(rng.uniform(-1, 1) * -math.log(views.narrowest))
    position = rng.random(2)

    shares = np.minimum(1, [math.sqrt(area * ratio), math.sqrt(area / ratio)])
    if is_whole:
        shares[:] = 1
    sides = np.array([image.width, image.height])
    size = np.maximum(1, np.round(shares * sides))
    corner = np.floor(position * (sides - size + 1))
    return np.concatenate([corner, corner + size]).astype(np.float32)


def objects_in(image: AnnotatedImage, window: Boxes, visible: float) -> Boxes:
    """Return the objects in a window of an image, clipped to it, as shares of its sides.

    Args:
        image: The annotations of the image.
        window: `float32 [4]` in pixels.
        visible: Least share of an object's area that must be inside.

    Returns:
        `float32 [M, 4]`.
    """
    corner = window[:2]
    size = window[2:] - window[:2]
    clipped = image.boxes.clip(np.tile(window[:2], 2), np.tile(window[2:], 2))
    inside = (clipped[:, 2:] - clipped[:, :2]).prod(axis=1)
    areas = (image.boxes[:, 2:] - image.boxes[:, :2]).prod(axis=1)
    is_visible = (inside > 0) & (inside >= visible * areas)
    boxes = (clipped[is_visible] - np.tile(corner, 2)) / np.tile(size, 2)
    return np.asarray(boxes, np.float32)


def all_objects(image: AnnotatedImage) -> Boxes:
    """Return all objects of an image, `float32 [M, 4]`, as shares of its sides."""
    window = np.array([0, 0, image.width, image.height], np.float32)
    return objects_in(image, window, 0)


def mirror_boxes(boxes: Boxes) -> Boxes:
    """Return the boxes `[M, 4]`, as shares of the sides, of a view flipped from left to right."""
    return np.stack([1 - boxes[:, 2], boxes[:, 1], 1 - boxes[:, 0], boxes[:, 3]], axis=1)
