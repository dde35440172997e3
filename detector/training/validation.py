"""Scores on held-out images while a network is trained.

Each validator is called with the network, which has its averaged weights then, and the number of
finished steps. It returns an empty mapping if there are no held-out images.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar

import numpy as np
from safetensors.numpy import save

from detector.backends import make_classifier
from detector.backends.pytorch import PyTorchMultiBox
from detector.batch.journal import Journal
from detector.batch.proposal_cache import CachedImage
from detector.bundles.manifest import MemberRecipe
from detector.datasets.ground_truth import AnnotatedImage, GroundTruth
from detector.detector import Detector
from detector.errors import SettingsError
from detector.evaluation import voc
from detector.evaluation.classification import centre_crop, evaluate
from detector.evaluation.detections import from_entries
from detector.formats.records import Entry
from detector.image_types import ProposedImage
from detector.images import load
from detector.models.torch_googlenet import GoogLeNet
from detector.models.torch_multibox import MultiBoxNetwork
from detector.models.torch_weights import as_shipped, weights_of
from detector.models.weights import half_precision
from detector.networks import Networks
from detector.runtime import BackendName, Runtime
from detector.settings import Settings
from detector.training.export import shipped_weights
from detector.training.settings import (
    ClassifierTraining,
    MultiBoxTraining,
    RegionTraining,
    settings_that_change_weights,
)
from detector.training.start import Training
from proposals.boxes import iou
from proposals.multibox import MultiBox

Item = TypeVar("Item")


class DetectionValidator:
    """Detects objects as `detector-eval` does, and scores the detections by VOC's rule.

    Args:
        images: Held-out images with their proposals.
        classes: Class names, with the ids that the ground truth gives them.
        recipe: The settings of the training.
        training: The training. Its output folder gets a file of detections, from which a killed
            validation is continued.
        backend: The library that runs the network.
    """

    def __init__(
        self,
        images: Sequence[CachedImage],
        classes: Mapping[str, int],
        recipe: RegionTraining,
        training: Training,
        backend: BackendName | Literal["auto"],
    ) -> None:
        self._images = images
        self._classes = classes
        self._recipe = recipe
        self._options = training.options
        self._settings = Settings.read(scoring=True)
        self._runtime = Runtime.resolve(
            device=training.runtime.device,
            backend=backend,
            precision=training.runtime.float_precision,
            batch_size=self._settings.classifier.batch_size,
        )

    def __call__(self, network: GoogLeNet, step: int) -> Mapping[str, Any]:
        """Return the scores of a network, as `detector-eval --json` writes them."""
        is_final = step == self._recipe.optimisation.steps
        validation = self._recipe.validation
        images = _first(self._images, validation.final if is_final else validation.photos)
        if not images:
            return {}

        # Detect, and score the detections.
        path = self._options.out / f"validation-{step}.jsonl"
        entries = self._detect(network, step, images, path)
        truth = GroundTruth(self._classes, tuple(image.annotated for image in images))
        labels = {name: label for label, name in enumerate(self._classes)}
        detections, _ = from_entries(entries, truth.images, labels)

        # The last file stays, for a training that is resumed after its end.
        if not is_final:
            path.unlink()
        return voc.evaluate(truth, detections)[0].to_json()

    def _detect(
        self, network: GoogLeNet, step: int, images: Sequence[CachedImage], path: Path
    ) -> list[Entry]:
        """Detect the objects in images; detections that are in the file already are read."""
        fingerprint = {
            "step": step,
            "recipe": settings_that_change_weights(self._recipe),
            "weights": _digest(network),
        }
        with (
            Journal(path) as journal,
            self._load_detector(network) as detector,
            self._options.show_progress(len(images), "held-out photo") as progress,
        ):
            _begin(journal, fingerprint)
            computed = 0
            for finished, image in enumerate(images, start=1):
                annotated = image.annotated
                if journal.digest(annotated.file) is None:
                    proposed = ProposedImage(load(image.file), image.proposals, {})
                    (result,) = detector.predict_batch([proposed])
                    entry = Entry(
                        annotated.file, annotated.width, annotated.height, {}, result.detections
                    )
                    journal.append(entry.to_json() | {"digest": ""})
                    computed += 1
                progress(finished, computed)
            return [Entry.from_json(journal[image.annotated.file]) for image in images]

    def _load_detector(self, network: GoogLeNet) -> Detector:
        """Return a detector with this network alone, as a bundle would have it."""
        recipe = self._recipe
        networks = Networks.from_classifier(
            shipped_weights(network),
            MemberRecipe(warp=recipe.warp, architecture=recipe.architecture),
            recipe.normalisation,
            tuple(self._classes),
            self._runtime,
        )
        return Detector(networks, self._settings)


class CoverageValidator:
    """Measures how many objects MultiBox's proposals cover, at an IoU of at least 0.5.

    Args:
        images: Held-out images: files and annotations.
        recipe: The settings of the training.
        runtime: Where and how the network runs.
    """

    def __init__(
        self,
        images: Sequence[tuple[Path, AnnotatedImage]],
        recipe: MultiBoxTraining,
        runtime: Runtime,
    ) -> None:
        self._images = images
        self._recipe = recipe
        self._runtime = runtime

    def __call__(self, network: MultiBoxNetwork, _: int) -> Mapping[str, Any]:
        """Return numbers of images and boxes, and the share of objects that are covered."""
        recipe = self._recipe
        images = _first(self._images, recipe.validation.photos)
        if not images:
            return {}
        multibox = MultiBox(
            PyTorchMultiBox(
                as_shipped(network),
                recipe.normalisation,
                self._runtime.device,
                self._runtime.float_precision,
            ),
            size=recipe.size,
        )

        counts = []
        best_ious = []
        for file, image in images:
            proposals = multibox(load(file))
            counts.append(len(proposals))
            overlaps = iou(image.boxes[~image.difficult], proposals.boxes)  # [objects, proposals]
            best_ious.append(overlaps.max(axis=1, initial=0))

        is_covered = np.concatenate(best_ious) >= 0.5
        return {
            "images": len(images),
            "boxes": float(np.mean(counts)),
            "coverage": float(is_covered.mean()) if len(is_covered) else None,
        }


class AccuracyValidator:
    """Measures the accuracy of a classifier on central crops.

    Args:
        images: Held-out images: files and their classes.
        recipe: The settings of the training.
        runtime: Where and how the network runs.
    """

    def __init__(
        self, images: Sequence[tuple[Path, int]], recipe: ClassifierTraining, runtime: Runtime
    ) -> None:
        self._images = list(images)
        self._recipe = recipe
        self._runtime = runtime

    def __call__(self, network: GoogLeNet, _: int) -> Mapping[str, Any]:
        """Return the number of images and the accuracies."""
        if not self._images:
            return {}
        recipe = self._recipe
        backend = make_classifier(
            shipped_weights(network), recipe.architecture, recipe.crop_size, self._runtime
        )
        guesses = evaluate(
            [backend],
            recipe.normalisation,
            self._images,
            lambda image: [centre_crop(image, recipe.crop_size)],
        )
        return vars(guesses.accuracy())


def _first(images: Sequence[Item], count: int | Literal["all"]) -> Sequence[Item]:
    return images if count == "all" else images[:count]


def _begin(journal: Journal, fingerprint: Mapping[str, Any]) -> None:
    """Read the journal, or empty it if it belongs to another network."""
    try:
        journal.begin(fingerprint)
    except SettingsError:
        journal.begin(fingerprint, overwrite=True)


def _digest(network: GoogLeNet) -> str:
    return hashlib.sha256(save(half_precision(weights_of(network)))).hexdigest()
