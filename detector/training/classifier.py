"""Training a GoogLeNet from scratch on a folder of photos for each class.

The sampling is that of *Going deeper with convolutions*, section 6: patches of 8 to 100 % of the
photo with an aspect ratio between 3/4 and 4/3, photometric distortion, and a random way of
resizing.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from detector.backends import make_classifier
from detector.backends.pytorch import limit_threads
from detector.bundles.model_card import WEIGHTS
from detector.common.atomic_io import atomic_write, encode
from detector.common.cpu import available_cores
from detector.common.prefetcher import Prefetcher
from detector.common.progress import ShowProgress, no_progress
from detector.errors import FormatError, ImageError, SettingsError
from detector.evaluation.classification import centre_crop, evaluate, find_labelled
from detector.formats.records import Failure
from detector.images import MAX_PIXELS, load
from detector.models.googlenet import GoogLeNet
from detector.models.modules import as_shipped, load_weights, weights_of
from detector.models.weights import read_weights
from detector.regions.crops import normalise
from detector.runtime import Runtime
from detector.training.distortion import distort, draw_distortions
from detector.training.loop import Loop, check_folder
from detector.training.objective import classification_loss
from detector.training.parallel import Group
from detector.training.photos import Photos, readable
from detector.training.results import AUXILIARY_HEADS, circumstances, start, write_weights
from detector.training.settings import ClassifierTraining, Patches
from proposals import Image

LABELS = "labels.txt"
RESIZING = (cv2.INTER_LINEAR, cv2.INTER_AREA, cv2.INTER_NEAREST, cv2.INTER_CUBIC)
TRIES = 10
"""To find a patch that fits into the photo, before the whole photo is taken."""


Labelled = tuple[Path, int]
"""A photo and its class."""


class Summary(NamedTuple):
    """What a training did."""

    accuracy: Mapping[str, Any]
    """The last one on the held-out photos; empty without them."""
    skipped: list[Failure]
    """Photos that could not be used."""


def train(
    recipe: ClassifierTraining,
    data: Path,
    out: Path,
    *,
    weights: Path | None = None,
    validation: Path | None = None,
    seed: int = 0,
    resume: bool = False,
    strict: bool = False,
    device: str = "auto",
    show_progress: ShowProgress = no_progress,
) -> Summary:
    """Train a network and write its weights and its labels, a line each, into `out`.

    Args:
        data: a folder with a folder of photos for each class, which names it.
        out: a folder; it also has the log and the checkpoint.
        weights: to start from, of the same architecture and classes.
        validation: held-out photos, likewise.
        resume: go on from the checkpoint in `out`, if there is one.
        strict: a photo that cannot be used is an error; otherwise it is left out.
        show_progress: told how far it is.

    Raises:
        DetectorError: naming what is wrong with the photos, the weights or the settings.
    """
    labels = sorted(path.name for path in data.glob("*") if path.is_dir())
    if len(labels) < 2:
        raise FormatError(data, "must have a folder of photos for each of two or more classes")
    check_folder(out, resume=resume)
    skipped: list[Failure] = []
    found: list[list[Labelled]] = []
    for folder in (data, validation):
        named = find_labelled(folder, labels) if folder else []
        good, bad = readable(named, _look, strict=strict, show_progress=show_progress)
        found.append(good)
        skipped += bad
    photos, held_out = found
    if not photos:
        raise FormatError(data, "has no photo that can be used")
    with Group() as group:
        limit_threads()
        chosen = torch.device(Runtime.resolve(device=group.device(device), backend="torch").device)
        network = build(recipe, len(labels), weights, seed)
        out.mkdir(parents=True, exist_ok=True)
        batch_size = recipe.patches.batch_size
        loop = Loop(
            network,
            heads=(),
            optimisation=recipe.optimisation,
            run=recipe.run,
            out=out,
            fingerprint={
                "recipe": recipe.model_dump(mode="json", exclude={"run", "validation"}),
                "labels": labels,
                "photos": len(photos),
                "processes": group.size,
                **start(weights, seed),
            },
            steps_per_epoch=max(1, len(photos) // batch_size),
            seed=seed,
            device=chosen,
            group=group,
        )
        if resume:
            loop.resume()
        task = PatchTask(photos, held_out, recipe, loop, seed=seed)
        with show_progress(recipe.optimisation.steps, "step") as report:
            loop.run(task, report, validate_every=recipe.validation.every)
        task.close()
        if group.first:
            with loop.averaged():
                write_weights(out / WEIGHTS, loop.network)
            with atomic_write(out / LABELS) as file:
                file.write("".join(f"{label}\n" for label in labels).encode())
            with atomic_write(out / "training.json") as file:
                facts = {**loop.fingerprint, **circumstances(loop), "accuracy": task.accuracy}
                file.write(encode(facts) + b"\n")
    return Summary(task.accuracy, skipped)


def _look(photo: Labelled) -> ImageError | None:
    try:
        load(photo[0])
    except ImageError as error:
        return error
    return None


def build(recipe: ClassifierTraining, classes: int, weights: Path | None, seed: int) -> GoogLeNet:
    """A new network, or one with given weights.

    Raises:
        BundleError: the weights are missing, or those of another architecture.
        SettingsError: the crops are too small.
    """
    torch.manual_seed(seed)
    try:
        network = GoogLeNet(
            classes,
            crop_size=recipe.crop_size,
            architecture=recipe.architecture,
            auxiliary=recipe.optimisation.auxiliary > 0,
        )
    except ValueError as error:
        raise SettingsError(f"crop_size: {error}") from error
    if weights is not None:
        load_weights(network, read_weights(weights), weights, new=("loss1", "loss2"))
    return network


class PatchTask:
    """What the loop trains: telling the classes of photos apart by patches of them."""

    def __init__(
        self,
        photos: list[tuple[Path, int]],
        held_out: list[tuple[Path, int]],
        recipe: ClassifierTraining,
        loop: Loop[GoogLeNet],
        *,
        seed: int,
    ) -> None:
        self._photos = Photos(
            [path for path, _ in photos],
            budget=recipe.run.cache_gib * 2**30,
            max_pixels=MAX_PIXELS,
            device=torch.device("cpu"),
        )
        self._labels = np.array([label for _, label in photos], np.int64)
        self._held_out, self._recipe, self._loop, self._seed = held_out, recipe, loop, seed
        self._part = loop.group.part(recipe.patches.batch_size)
        self._cutters = ThreadPoolExecutor(available_cores())
        self._batches = Prefetcher(self._batch, recipe.optimisation.steps)
        self.accuracy: Mapping[str, Any] = {}
        """The last validation's."""

    def loss(self, network: GoogLeNet, step: int) -> Tensor:
        """The cross entropy of a step's patches."""
        crops, labels = (part.to(self._loop.device) for part in self._batches(step))
        return classification_loss(network, crops, labels, self._recipe.optimisation)

    def validate(self, network: GoogLeNet, step: int) -> Mapping[str, Any]:
        """The accuracy on held-out photos, where there are any."""
        if not (self._held_out and self._loop.group.first):
            return {}
        normalisation, crop_size = self._recipe.normalisation, self._recipe.crop_size
        weights = {
            name: tensor
            for name, tensor in weights_of(as_shipped(network)).items()
            if not name.startswith(AUXILIARY_HEADS)
        }
        runtime = Runtime.resolve(
            device=str(self._loop.device), backend="torch", precision=self._loop.precision
        )
        backend = make_classifier(weights, self._recipe.architecture, crop_size, runtime)
        guesses = evaluate(
            [backend], normalisation, self._held_out, lambda image: [centre_crop(image, crop_size)]
        )
        self.accuracy = vars(guesses.accuracy())
        return self.accuracy

    def close(self) -> None:
        """Let go of the photos."""
        self._batches.close()
        self._cutters.shutdown()
        self._photos.close()

    def _batch(self, step: int) -> tuple[Tensor, Tensor]:
        """This process's crops `[N, S, S, 3]` of a step, and their labels `[N]`."""
        recipe = self._recipe
        rng = np.random.default_rng((self._seed, step))
        chosen = rng.integers(len(self._labels), size=recipe.patches.batch_size)
        seeds = rng.integers(2**63, size=len(chosen))[self._part]
        distortions = draw_distortions(len(chosen), recipe.augmentation.distortion, rng)
        chosen = chosen[self._part]
        photos = self._photos.read(chosen.tolist())
        images = [np.asarray(photos[index]) for index in chosen.tolist()]
        patches = list(self._cutters.map(self._cut, images, seeds))
        crops = torch.from_numpy(np.stack(patches))
        distort(crops, distortions[self._part], recipe.normalisation)
        return crops, torch.from_numpy(self._labels[chosen])

    def _cut(self, image: Image, seed: int) -> NDArray[np.float32]:
        recipe, rng = self._recipe, np.random.default_rng(seed)
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
    """A patch of a photo: x, y, width and height in pixels.

    Its area is drawn evenly, its aspect ratio evenly on a logarithmic scale. If none fits, it is
    the largest central one of an allowed aspect ratio.
    """
    limit = -math.log(patches.narrowest)
    for _ in range(TRIES):
        area = width * height * rng.uniform(patches.smallest, 1)
        aspect = math.exp(rng.uniform(-limit, limit))
        w, h = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if 0 < w <= width and 0 < h <= height:
            return int(rng.integers(width - w + 1)), int(rng.integers(height - h + 1)), w, h
    w = max(1, min(width, round(height / patches.narrowest)))
    h = max(1, min(height, round(width / patches.narrowest)))
    return (width - w) // 2, (height - h) // 2, w, h
