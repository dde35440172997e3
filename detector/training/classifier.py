"""Train a GoogLeNet from random weights on a folder of images for each class."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch

from detector.bundles.model_card import WEIGHTS
from detector.common.json_files import encode
from detector.errors import FormatError, ImageError, SettingsError
from detector.evaluation.classification import find_labelled
from detector.formats.records import Failure
from detector.images import load
from detector.models.torch_googlenet import GoogLeNet
from detector.models.torch_weights import load_weights
from detector.models.weights import read_weights
from detector.training.data_set import find_usable
from detector.training.export import AUXILIARY_HEADS, describe_run, describe_start, export
from detector.training.fit import fit
from detector.training.image_cache import ImageCache
from detector.training.objective import classification_loss
from detector.training.patch_batches import PatchBatches
from detector.training.settings import ClassifierTraining
from detector.training.start import Training, TrainingOptions, start_training
from detector.training.validation import AccuracyValidator

LABELS = "labels.txt"
"""Name of the file of class names in the output folder."""

FACTS = "training.json"
"""Name of the file of facts in the output folder."""

LabelledImage = tuple[Path, int]
"""The file of an image and its class."""


class Summary(NamedTuple):
    """The outcome of a training."""

    accuracy: Mapping[str, Any]
    """Accuracy in the last validation; empty without held-out images."""
    skipped: Sequence[Failure]
    """Images that could not be used."""


def train_classifier(
    recipe: ClassifierTraining,
    data: Path,
    options: TrainingOptions,
    *,
    weights: Path | None = None,
    validation: Path | None = None,
) -> Summary:
    """Train a classifier; write its weights, class names and facts into the output folder.

    Args:
        recipe: The settings of the training.
        data: A folder with a folder of images for each class, named after the class.
        options: Output folder, seed, device and so on.
        weights: Initial weights, of the same architecture and classes. By default random ones.
        validation: A folder of held-out images, organised like `data`.

    Raises:
        DetectorError: Something is wrong with the images, the weights or the settings.
    """
    labels = find_labels(data)
    with start_training(recipe, options, results=(WEIGHTS, LABELS, FACTS)) as training:
        # Images that can be read.
        usable = load_data(training, data, validation, labels)
        network = build_network(recipe, len(labels), weights, options.seed)
        fingerprint = training.fingerprint(
            {"labels": labels, "photos": len(usable.files)}, describe_start(weights, options.seed)
        )

        # Images become batches of patches, on which the network is trained.
        with (
            ImageCache(usable.files, recipe.run.cache_bytes, torch.device("cpu")) as images,
            closing(PatchBatches(images, usable.classes, recipe, training)) as batches,
        ):
            fitted = fit(
                training,
                network,
                make_batch=batches,
                loss=partial(classification_loss, optimisation=recipe.optimisation),
                validate=AccuracyValidator(usable.held_out, recipe, training.runtime),
                new_layers=(),
                steps_per_epoch=max(1, len(usable.files) // recipe.patches.batch_size),
                fingerprint=fingerprint,
            )

        # The network with its averaged weights is written with its class names.
        facts = {
            **fingerprint,
            **describe_run(training, fitted.seconds),
            "accuracy": fitted.scores,
        }
        names = "".join(f"{label}\n" for label in labels)
        export(training, network, {LABELS: names.encode(), FACTS: encode(facts) + b"\n"})
    return Summary(fitted.scores, usable.skipped)


def find_labels(folder: Path) -> list[str]:
    """Return the class names of a folder with a folder of images for each class.

    Raises:
        FormatError: It has fewer than two.
    """
    labels = sorted(path.name for path in folder.glob("*") if path.is_dir())
    if len(labels) < 2:
        raise FormatError(folder, "must have a folder of photos for each of two or more classes")
    return labels


class ClassifierData(NamedTuple):
    """The data of a training, after the images were read."""

    files: Sequence[Path]
    """Files of the images to train on."""
    classes: Sequence[int]
    """Class of each of them."""
    held_out: Sequence[LabelledImage]
    """Held-out images; only the first process has them."""
    skipped: Sequence[Failure]
    """Images that could not be used."""


def load_data(
    training: Training, data: Path, validation: Path | None, labels: list[str]
) -> ClassifierData:
    """Find the images that can be used.

    Args:
        training: The training.
        data: The folder of images to train on.
        validation: The folder of held-out images.
        labels: Class names.

    Raises:
        FormatError: No image can be used.
        ImageError: An image cannot be used, and `options.strict` is set.
    """
    options = training.options

    def find(folder: Path) -> tuple[list[LabelledImage], list[Failure]]:
        return find_usable(
            find_labelled(folder, labels),
            _check_image,
            strict=options.strict,
            show_progress=options.show_progress,
        )

    images, skipped = find(data)
    held_out: list[LabelledImage] = []
    if validation is not None and training.group.first:
        held_out, failures = find(validation)
        skipped += failures
    if not images:
        raise FormatError(data, "has no photo that can be used")
    return ClassifierData(
        files=[file for file, _ in images],
        classes=[label for _, label in images],
        held_out=held_out,
        skipped=skipped,
    )


def build_network(
    recipe: ClassifierTraining, classes: int, weights: Path | None, seed: int
) -> GoogLeNet:
    """Return a network with given weights, or with random ones.

    Args:
        recipe: The settings of the training.
        classes: Number of classes.
        weights: File of initial weights. By default they are random.
        seed: Seed of random weights.

    Raises:
        BundleError: The weights are missing, or those of another architecture.
        SettingsError: The crops are too small.
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
        load_weights(network, read_weights(weights), weights, new=AUXILIARY_HEADS)
    return network


def _check_image(image: LabelledImage) -> ImageError | None:
    file, _ = image
    try:
        load(file)
    except ImageError as error:
        return error
    return None
