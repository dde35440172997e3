"""Training MultiBox: where objects are in a picture, whatever their class.

Pictures are whole photos and large parts of them, drawn anew each time; every object in one is
one box's, by the assignment that costs least (`proposals.multibox`).

Letters of shapes: N pictures of a batch, S a picture's side, K priors, M objects of a picture.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from detector.backends.pytorch import PyTorchMultiBox, limit_threads
from detector.bundles.manifest import MultiBoxRecipe, TrainedMultiBox, Warp
from detector.bundles.model_card import MULTIBOX, WEIGHTS
from detector.common.atomic_io import atomic_write
from detector.common.prefetcher import Prefetcher
from detector.common.progress import ShowProgress, no_progress
from detector.datasets.ground_truth import AnnotatedImage
from detector.errors import TrainingError
from detector.formats.records import Failure
from detector.images import MAX_PIXELS, load
from detector.models.modules import as_shipped, load_weights
from detector.models.multibox_network import MultiBoxNetwork
from detector.models.weights import read_weights
from detector.runtime import Runtime
from detector.training.batches import Batch, cut_batch
from detector.training.checks import check_boxes
from detector.training.data_set import DataSet
from detector.training.distortion import draw_distortions
from detector.training.loop import Loop, check_folder
from detector.training.multibox_loss import Targets, cluster, loss, match_boxes, match_priors, units
from detector.training.parallel import Group
from detector.training.photos import Photos
from detector.training.results import AUXILIARY_HEADS, circumstances, start, write_weights
from detector.training.settings import MultiBoxTraining, Pictures
from proposals.boxes import iou
from proposals.multibox import MultiBox
from proposals.types import Boxes

HEADS = ("head",)
"""What starts anew."""

OF_A_CLASSIFIER = ("classifier", *AUXILIARY_HEADS)
"""What the weights to start from have beside a trunk."""


@dataclass(frozen=True)
class Summary:
    """What a training did."""

    multibox: TrainedMultiBox
    skipped: Sequence[Failure]


def train(
    recipe: MultiBoxTraining,
    data: DataSet,
    weights: Path,
    out: Path,
    *,
    validation: DataSet | None = None,
    seed: int = 0,
    resume: bool = False,
    strict: bool = False,
    device: str = "auto",
    show_progress: ShowProgress = no_progress,
) -> Summary:
    """Train a network and write its weights and what is to be known of them into `out`.

    Args:
        weights: a GoogLeNet's, of which the trunk is taken.
        out: a folder; it also has the log and the checkpoint.
        resume: go on from the checkpoint in `out`, if there is one.
        strict: a photo that cannot be used is an error; otherwise it is left out.
        show_progress: told how far it is.

    Raises:
        DetectorError: naming what is wrong with the data, the weights or the settings.
    """
    for file, truth, _ in filter(None, (data, validation)):
        check_boxes(truth, file)
    check_folder(out, resume=resume)
    with Group() as group:
        limit_threads()
        chosen = torch.device(Runtime.resolve(device=group.device(device), backend="torch").device)
        images, skipped = data.usable(strict=strict, show_progress=show_progress)
        if not images:
            raise TrainingError(f"{data.file}: none of its photos can be used")
        held_out: list[tuple[Path, AnnotatedImage]] = []
        if validation is not None and group.first:
            others, missing = validation.usable(strict=strict, show_progress=show_progress)
            held_out = [(validation.folder / image.file, image) for image in others]
            skipped += missing
        network = build(recipe, images, weights, seed, data.file)
        out.mkdir(parents=True, exist_ok=True)
        described = {"data": data.describe(images), **start(weights, seed)}
        loop = Loop(
            network,
            heads=HEADS,
            optimisation=recipe.optimisation,
            run=recipe.run,
            out=out,
            fingerprint={
                "recipe": recipe.model_dump(mode="json", exclude={"run", "validation"}),
                "processes": group.size,
                **described,
            },
            steps_per_epoch=max(1, len(images) // recipe.pictures.batch_size),
            seed=seed,
            device=chosen,
            group=group,
        )
        if resume:
            loop.resume()
        photos = Photos(
            [data.folder / image.file for image in images],
            budget=recipe.run.cache_gib * 2**30,
            max_pixels=MAX_PIXELS,
            device=chosen,
        )
        task = PictureTask(images, photos, held_out, recipe, loop, seed=seed)
        with show_progress(recipe.optimisation.steps, "step") as report:
            loop.run(task, report, validate_every=recipe.validation.every)
        task.close()
        trained = TrainedMultiBox(
            **{key: getattr(recipe, key) for key in MultiBoxRecipe.model_fields},
            training={
                **described,
                "recipe": recipe.model_dump(mode="json", exclude={"run"}),
                **circumstances(loop),
                "scores": task.scores,
            },
        )
        if group.first:
            with loop.averaged():
                write_weights(out / WEIGHTS, network)
            with atomic_write(out / MULTIBOX) as written:
                written.write(trained.model_dump_json(indent=2).encode() + b"\n")
    return Summary(trained, skipped)


def build(
    recipe: MultiBoxTraining,
    images: Sequence[AnnotatedImage],
    weights: Path,
    seed: int,
    data: Path,
) -> MultiBoxNetwork:
    """A network on a given trunk, with priors that are clusters of the images' boxes, also
    mirrored.

    Args:
        data: what an error about the boxes names.

    Raises:
        BundleError: the weights are missing, or those of another architecture.
        TrainingError: there are fewer boxes than priors.
    """
    boxes = np.concatenate([np.zeros((0, 4), np.float32), *(_shares(image) for image in images)])
    both = np.concatenate([boxes, _mirror(boxes)]) if recipe.augmentation.mirror else boxes
    try:
        priors = cluster(both, recipe.priors, seed=seed)
    except ValueError as error:
        raise TrainingError(f"{data}: {error}") from error
    torch.manual_seed(seed)
    network = MultiBoxNetwork(recipe, priors)
    new = (*HEADS, *OF_A_CLASSIFIER, "priors")
    load_weights(network, read_weights(weights), weights, new=new)
    return network


class PictureTask:
    """What the loop trains: saying where the objects of a picture are."""

    def __init__(
        self,
        images: Sequence[AnnotatedImage],
        photos: Photos,
        held_out: Sequence[tuple[Path, AnnotatedImage]],
        recipe: MultiBoxTraining,
        loop: Loop[MultiBoxNetwork],
        *,
        seed: int,
    ) -> None:
        self._images, self._photos, self._held_out = images, photos, held_out
        self._recipe, self._loop, self._seed = recipe, loop, seed
        self._priors = loop.network.priors.cpu().numpy()
        self._units = torch.from_numpy(units(self._priors, recipe.spread)).to(loop.device)
        self._part = loop.group.part(recipe.pictures.batch_size)
        self._batches = Prefetcher(self._batch, recipe.optimisation.steps)
        self.scores: Mapping[str, Any] = {}
        """The last validation's."""

    def loss(self, network: MultiBoxNetwork, step: int) -> Tensor:
        """The loss of a step's pictures."""
        recipe = self._recipe
        pictures, objects = self._batches(step)
        boxes, logits = network(pictures.permute(0, 3, 1, 2))
        targets = self._match(boxes.detach(), logits.detach(), objects).to(self._loop.device)
        return loss(boxes, logits, targets, self._units, alpha=recipe.alpha)

    def validate(self, network: MultiBoxNetwork, step: int) -> Mapping[str, Any]:
        """The coverage of the objects of held-out photos, where there are any."""
        count = self._recipe.validation.photos
        chosen = self._held_out if count == "all" else self._held_out[:count]
        if not chosen:
            return {}
        loop, recipe = self._loop, self._recipe
        backend = PyTorchMultiBox(
            as_shipped(network), recipe.normalisation, str(loop.device), loop.precision
        )
        multibox = MultiBox(backend, size=recipe.size)
        counts, best = [], []
        for file, image in chosen:
            proposals = multibox(load(file))
            counts.append(len(proposals))
            overlaps = iou(image.boxes[~image.difficult], proposals.boxes)
            best.append(overlaps.max(axis=1, initial=0))
        covered = np.concatenate(best) >= 0.5
        self.scores = {
            "images": len(chosen),
            "boxes": float(np.mean(counts)),
            "coverage": float(covered.mean()) if len(covered) else None,
        }
        return self.scores

    def close(self) -> None:
        """Let go of the photos."""
        self._batches.close()
        self._photos.close()

    def _match(self, boxes: Tensor, logits: Tensor, objects: Sequence[Boxes]) -> Targets:
        parts = []
        found, certain = boxes.cpu().numpy(), logits.cpu().numpy()
        widths = self._units.cpu().numpy()
        for picture, mine in enumerate(objects):
            if self._recipe.matching == "priors":
                i, j = match_priors(self._priors, mine)
            else:
                i, j = match_boxes(
                    found[picture], certain[picture], mine, widths, self._recipe.alpha
                )
            parts.append((np.full(len(i), picture), i, mine[j]))
        columns = (np.concatenate(part) for part in zip(*parts, strict=True))
        return Targets(*map(torch.from_numpy, columns))

    def _batch(self, step: int) -> tuple[Tensor, list[Boxes]]:
        """This process's pictures `[N, S, S, 3]` of a step, and the objects `[M, 4]` of each."""
        recipe = self._recipe
        rng = np.random.default_rng((self._seed, step))
        n = recipe.pictures.batch_size
        chosen = rng.integers(len(self._images), size=n).astype(np.int32)
        windows = np.stack(
            [draw_picture(self._images[index], recipe.pictures, rng) for index in chosen]
        )
        batch = Batch(
            chosen,
            windows,
            np.zeros(n, np.int64),
            rng.random(n) < (0.5 if recipe.augmentation.mirror else 0.0),
            draw_distortions(n, recipe.augmentation.distortion, rng),
        ).part(self._part)
        photos = self._photos.read(batch.photos.tolist())
        warp = Warp(crop_size=recipe.size, context=0, resampling="area")
        pictures = cut_batch(batch, photos, warp, recipe.normalisation, self._loop.device)
        objects = [
            objects_in(self._images[index], window, recipe.pictures.visible)
            for index, window in zip(batch.photos.tolist(), batch.boxes, strict=True)
        ]
        return pictures, [
            _mirror(boxes) if mirrored else boxes
            for boxes, mirrored in zip(objects, batch.mirrored.tolist(), strict=True)
        ]


def draw_picture(image: AnnotatedImage, pictures: Pictures, rng: np.random.Generator) -> Boxes:
    """The photo or a part of it, in whole pixels: `float32 [4]`.

    The share of the area is drawn evenly on a logarithmic scale, as is the ratio of the shares of
    width and height.
    """
    whole = rng.random() < pictures.whole
    area = math.exp(rng.uniform(math.log(pictures.smallest), 0))
    ratio = math.exp(rng.uniform(-1, 1) * -math.log(pictures.narrowest))
    places = rng.random(2)
    shares = np.minimum(1, [math.sqrt(area * ratio), math.sqrt(area / ratio)])
    if whole:
        shares[:] = 1
    sides = np.array([image.width, image.height])
    size = np.maximum(1, np.round(shares * sides))
    corner = np.floor(places * (sides - size + 1))
    return np.concatenate([corner, corner + size]).astype(np.float32)


def objects_in(image: AnnotatedImage, window: Boxes, visible: float) -> Boxes:
    """The objects `[M, 4]` of a part of a photo, clipped to it, as shares of its sides.

    Args:
        window: `[4]`, in pixels of the photo.
        visible: the least share of an object's area that must be inside.
    """
    corner, size = window[:2], window[2:] - window[:2]
    clipped = image.boxes.clip(np.tile(window[:2], 2), np.tile(window[2:], 2))
    inside, areas = ((boxes[:, 2:] - boxes[:, :2]).prod(axis=1) for boxes in (clipped, image.boxes))
    kept = clipped[(inside > 0) & (inside >= visible * areas)]
    return np.asarray((kept - np.tile(corner, 2)) / np.tile(size, 2), np.float32)


def _shares(image: AnnotatedImage) -> Boxes:
    whole = np.array([0, 0, image.width, image.height], np.float32)
    return objects_in(image, whole, 0)


def _mirror(boxes: Boxes) -> Boxes:
    """Boxes `[M, 4]`, as shares of the sides, in the picture flipped from left to right."""
    return np.stack([1 - boxes[:, 2], boxes[:, 1], 1 - boxes[:, 0], boxes[:, 3]], axis=1)
