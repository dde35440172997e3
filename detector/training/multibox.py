"""Train MultiBox, which predicts where objects are, whatever their class.

The network sees random views: whole images and large parts of them. Each object in a view is
assigned to one box (`detector.training.multibox_loss`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from detector.bundles.manifest import MultiBoxRecipe, TrainedMultiBox
from detector.bundles.model_card import MULTIBOX, WEIGHTS
from detector.datasets.ground_truth import AnnotatedImage
from detector.errors import TrainingError
from detector.formats.records import Failure
from detector.models.torch_multibox import MultiBoxNetwork
from detector.models.torch_weights import load_weights
from detector.models.weights import read_weights
from detector.training.cleaning import clean_boxes
from detector.training.data_set import DataSets, no_image_error
from detector.training.export import AUXILIARY_HEADS, describe_run, describe_start, export
from detector.training.fit import Fitted, fit
from detector.training.image_cache import ImageCache
from detector.training.multibox_batches import MultiBoxBatches, all_objects, mirror_boxes
from detector.training.multibox_loss import cluster_boxes, multibox_loss
from detector.training.settings import MultiBoxTraining
from detector.training.start import Training, TrainingOptions, start_training
from detector.training.validation import CoverageValidator

NEW_LAYERS = ("head",)
"""The layers that start from random weights."""

CLASSIFIER_LAYERS = ("classifier", *AUXILIARY_HEADS)
"""The layers that initial weights have beside the trunk."""


@dataclass(frozen=True)
class Summary:
    """The outcome of a training.

    Args:
        multibox: The facts about MultiBox, as they were written.
        skipped: Images that could not be used.
    """

    multibox: TrainedMultiBox
    skipped: Sequence[Failure]


def train_multibox(
    recipe: MultiBoxTraining, data_sets: DataSets, weights: Path, options: TrainingOptions
) -> Summary:
    """Train the MultiBox of a bundle; write its weights and its facts into the output folder.

    Args:
        recipe: The settings of the training.
        data_sets: Images to train on, and held-out images.
        weights: Weights of a GoogLeNet, whose trunk is taken.
        options: Output folder, seed, device and so on.

    Raises:
        DetectorError: Something is wrong with the data, the weights or the settings.
    """
    with start_training(recipe, options, results=(WEIGHTS, MULTIBOX)) as training:
        # Boxes that can be trained on.
        data_sets, notes = clean_boxes(data_sets, strict=options.strict)
        training.say(notes)

        # Images that can be read. Their boxes give the network's priors.
        data = load_data(training, data_sets)
        network = build_network(recipe, data.images, weights, options.seed, data_sets.data.file)
        facts = {
            "data": data_sets.data.describe(data.images),
            **describe_start(weights, options.seed),
        }

        # Images become batches of views, on which the network is trained.
        with ImageCache(data.files, recipe.run.cache_bytes, training.device) as images:
            fitted = fit(
                training,
                network,
                make_batch=MultiBoxBatches(data.images, images, recipe, training),
                loss=partial(multibox_loss, recipe=recipe),
                validate=CoverageValidator(data.held_out, recipe, training.runtime),
                new_layers=NEW_LAYERS,
                steps_per_epoch=max(1, len(data.images) // recipe.pictures.batch_size),
                fingerprint=training.fingerprint({}, facts),
            )

        # The network with its averaged weights becomes a bundle's MultiBox.
        multibox = describe_multibox(training, recipe, facts, fitted)
        export(training, network, {MULTIBOX: multibox.model_dump_json(indent=2).encode() + b"\n"})
    return Summary(multibox, data.skipped)


class MultiBoxData(NamedTuple):
    """The data of a training, after the images were read."""

    images: Sequence[AnnotatedImage]
    """The annotations of the images to train on."""
    files: Sequence[Path]
    """Their files."""
    held_out: Sequence[tuple[Path, AnnotatedImage]]
    """Held-out images; only the first process has them."""
    skipped: Sequence[Failure]
    """Images that could not be used."""


def load_data(training: Training, data_sets: DataSets) -> MultiBoxData:
    """Find the images that can be used.

    Raises:
        FormatError: The size of an image differs from that in its annotations.
        ImageError: An image cannot be used, and `options.strict` is set.
        TrainingError: No image can be used.
    """
    options = training.options
    data = data_sets.data
    images, skipped = data.find_usable(strict=options.strict, show_progress=options.show_progress)
    if not images:
        raise no_image_error(data.file, skipped)

    held_out: list[tuple[Path, AnnotatedImage]] = []
    validation = data_sets.validation
    if validation is not None and training.group.first:
        usable, failures = validation.find_usable(
            strict=options.strict, show_progress=options.show_progress
        )
        held_out = [(validation.folder / image.file, image) for image in usable]
        skipped += failures
    files = [data.folder / image.file for image in images]
    return MultiBoxData(images, files, held_out, skipped)


def build_network(
    recipe: MultiBoxTraining,
    images: Sequence[AnnotatedImage],
    weights: Path,
    seed: int,
    annotations: Path,
) -> MultiBoxNetwork:
    """Return a network with a given trunk, a new head, and priors from the images' boxes.

    Args:
        recipe: The settings of the training.
        images: The images to train on.
        weights: File of the trunk's weights.
        seed: Seed of the priors and of the new head's weights.
        annotations: File of the annotations, for the error message.

    Raises:
        BundleError: The weights are missing, or those of another architecture.
        TrainingError: There are fewer boxes than priors.
    """
    # Priors are clusters of the boxes, also of the mirrored ones if training mirrors.
    boxes = np.concatenate([np.zeros((0, 4), np.float32), *map(all_objects, images)])
    if recipe.augmentation.mirror:
        boxes = np.concatenate([boxes, mirror_boxes(boxes)])
    try:
        priors = cluster_boxes(boxes, recipe.priors, seed=seed)
    except ValueError as error:
        raise TrainingError(f"{annotations}: {error}") from error

    torch.manual_seed(seed)
    network = MultiBoxNetwork(recipe, priors)
    new = (*NEW_LAYERS, *CLASSIFIER_LAYERS, "priors")
    load_weights(network, read_weights(weights), weights, new=new)
    return network


def describe_multibox(
    training: Training, recipe: MultiBoxTraining, facts: Mapping[str, Any], fitted: Fitted
) -> TrainedMultiBox:
    """Return everything about a trained MultiBox except its weights.

    Args:
        training: The training.
        recipe: The settings of the training.
        facts: Data sets, initial weights and seed.
        fitted: Time and scores.
    """
    return TrainedMultiBox(
        **{key: getattr(recipe, key) for key in MultiBoxRecipe.model_fields},
        training={
            **facts,
            "recipe": recipe.model_dump(mode="json", exclude={"run"}),
            **describe_run(training, fitted.seconds),
            "scores": fitted.scores,
        },
    )
