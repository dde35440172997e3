"""Fine-tune a GoogLeNet on the regions of annotated images, as R-CNN does.

`train_regions` follows the data: images with proposals, labelled regions, batches of crops, steps.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from torch import nn

from detector.batch.proposal_cache import CachedImage, cache_path, gather_proposals
from detector.bundles.manifest import TrainedMember
from detector.bundles.model_card import MEMBER, WEIGHTS
from detector.datasets.ground_truth import AnnotatedImage
from detector.errors import ImageError, SettingsError
from detector.formats.records import Failure
from detector.models.quantization import ActivationRanges
from detector.models.torch_googlenet import GoogLeNet
from detector.models.torch_weights import as_shipped, load_weights
from detector.models.weights import read_weights
from detector.runtime import BackendName
from detector.training.activation_ranges import measure_activation_ranges
from detector.training.cleaning import clean_boxes, clean_classes
from detector.training.data_set import DataSet, DataSets, no_image_error
from detector.training.export import AUXILIARY_HEADS, describe_run, describe_start, export
from detector.training.fit import Fitted, fit
from detector.training.image_cache import ImageCache
from detector.training.image_paths import name_path, name_path_of_failure
from detector.training.labelled_regions import pool_regions
from detector.training.objective import classification_loss
from detector.training.region_batches import RegionBatches
from detector.training.region_sampler import Sampler
from detector.training.settings import RegionTraining
from detector.training.start import Training, TrainingOptions, start_training
from detector.training.validation import DetectionValidator
from proposals.types import Boxes

NEW_LAYERS = ("classifier", *AUXILIARY_HEADS)
"""The layers that start from random weights."""

HEAD_STD = 0.01
"""Standard deviation of the last layer's random weights, as in R-CNN's prototxt."""

RANGE_STEPS = 8
"""Number of steps whose regions give the activation ranges."""


@dataclass(frozen=True)
class RegionOptions(TrainingOptions):
    """The options of a region training.

    Args:
        cache: The folder of cached proposals, which trainings share. By default the output folder's
            parent.
        workers: Number of processes that compute proposals. By default the number of cores.
        backend: The library that runs the network in validations.
    """

    cache: Path | None = None
    workers: int | None = None
    backend: BackendName | Literal["auto"] = "auto"


@dataclass(frozen=True)
class Summary:
    """The outcome of a training.

    Args:
        member: The facts about the member, as they were written.
        skipped: Images that could not be used.
    """

    member: TrainedMember
    skipped: Sequence[Failure]


def train_regions(
    recipe: RegionTraining, data_sets: DataSets, weights: Path, options: RegionOptions
) -> Summary:
    """Train a member of a bundle; write its weights and its facts into the output folder.

    Args:
        recipe: The settings of the training.
        data_sets: Images to train on, held-out images, and images used only for their objects.
        weights: Weights of a GoogLeNet, whose last layer is replaced.
        options: Output folder, seed, device and so on.

    Raises:
        DetectorError: Something is wrong with the data, the weights or the settings.
    """
    with start_training(recipe, options, results=(WEIGHTS, MEMBER)) as training:
        # Boxes and classes that can be trained on.
        data_sets, boxes_notes = clean_boxes(data_sets, strict=options.strict)
        data_sets, class_notes = clean_classes(data_sets, strict=options.strict)
        training.say(boxes_notes + class_notes)
        classes = data_sets.data.truth.classes

        # The network comes first, so that wrong weights do not cost hours of proposals.
        network = build_network(recipe, len(classes), weights, options.seed)

        # Images with proposals become labelled regions.
        data = load_data(training, recipe, data_sets, options)
        facts = {**data.facts, **describe_start(weights, options.seed)}
        regions = pool_regions(zip(data.images, data.proposals, strict=True), recipe.sampling)
        sampler = Sampler(regions, recipe.sampling, tuple(classes))

        # Regions become batches of crops, on which the network is trained.
        with ImageCache(data.files, recipe.run.cache_bytes, training.device) as images:
            batches = RegionBatches(data.images, regions, sampler, images, recipe, training)
            fitted = fit(
                training,
                network,
                make_batch=batches,
                loss=partial(classification_loss, optimisation=recipe.optimisation),
                validate=DetectionValidator(
                    data.held_out, classes, recipe, training, options.backend
                ),
                new_layers=NEW_LAYERS,
                steps_per_epoch=sampler.steps_per_epoch,
                fingerprint=training.fingerprint({"regions": len(regions.labels)}, facts),
            )
            ranges = measure_ranges(network, batches, recipe) if training.group.first else None

        # The network with its averaged weights becomes a bundle's member.
        member = describe_member(training, recipe, tuple(classes), ranges, facts, fitted)
        export(training, network, {MEMBER: member.model_dump_json(indent=2).encode() + b"\n"})
    return Summary(member, data.skipped)


def build_network(recipe: RegionTraining, classes: int, weights: Path, seed: int) -> GoogLeNet:
    """Return a network with given weights and new heads.

    Args:
        recipe: The settings of the training.
        classes: Number of classes without the background.
        weights: File of the weights.
        seed: Seed of the new heads' weights.

    Raises:
        BundleError: The weights are missing, or those of another architecture.
        SettingsError: The crops are too small.
    """
    torch.manual_seed(seed)
    try:
        network = GoogLeNet(
            1 + classes,
            crop_size=recipe.warp.crop_size,
            architecture=recipe.architecture,
            auxiliary=recipe.optimisation.auxiliary > 0,
        )
    except ValueError as error:
        raise SettingsError(f"warp.crop_size: {error}") from error
    nn.init.normal_(network.classifier.weight, std=HEAD_STD)
    load_weights(network, read_weights(weights), weights, new=NEW_LAYERS)
    return network


class RegionData(NamedTuple):
    """The data of a training, after the images were read."""

    images: Sequence[AnnotatedImage]
    """The annotations of all images to train on."""
    proposals: Sequence[Boxes]
    """Proposals of each of them, `float32 [N, 4]`."""
    files: Sequence[Path]
    """Files of each of them."""
    held_out: Sequence[CachedImage]
    """Held-out images; only the first process has them."""
    facts: Mapping[str, Any]
    """Facts about the data for the model card."""
    skipped: Sequence[Failure]
    """Images that could not be used."""


def load_data(
    training: Training, recipe: RegionTraining, data_sets: DataSets, options: RegionOptions
) -> RegionData:
    """Compute proposals, or read them from the cache.

    Raises:
        FormatError: The size of an image differs from that in its annotations.
        ImageError: An image cannot be used, and `options.strict` is set.
        TrainingError: No image can be used.
    """
    data, validation, objects = data_sets

    def gather(data_set: DataSet) -> tuple[list[CachedImage], list[Failure]]:
        try:
            images, failures = gather_proposals(
                data_set.truth.images,
                data_set.folder,
                recipe.proposals,
                cache_path(options.cache or options.out.absolute().parent, recipe.proposals),
                workers=options.workers,
                strict=options.strict,
                show_progress=options.show_progress,
            )
        except ImageError as error:
            raise name_path(error, error.file, data_set.folder) from error
        return images, [name_path_of_failure(f, data_set.folder) for f in failures]

    # The first process computes proposals; the others then find them in the cache.
    held_out: list[CachedImage] = []
    with training.group.in_turn():
        proposed, skipped = gather(data)
        if validation is not None and training.group.first:
            held_out, failures = gather(validation)
            skipped += failures
    if not proposed:
        raise no_image_error(data.file, skipped)
    images = [image.annotated for image in proposed]
    proposals = [image.proposals.boxes for image in proposed]
    files = [image.file for image in proposed]
    facts = {"data": data.describe(images)}

    # Images used only for their objects have no proposals. Not all of their objects are annotated,
    # so a proposal without an annotated object need not be background.
    if objects is not None:
        more, failures = objects.limit_objects(
            recipe.sampling.more_objects, seed=options.seed
        ).find_usable(strict=options.strict, show_progress=options.show_progress)
        skipped += failures
        facts["objects"] = objects.describe(more)
        images += more
        proposals += [np.zeros((0, 4), np.float32)] * len(more)
        files += [objects.folder / image.file for image in more]
    return RegionData(images, proposals, files, held_out, facts, skipped)


def measure_ranges(
    network: GoogLeNet, batches: RegionBatches, recipe: RegionTraining
) -> ActivationRanges:
    """Measure the activation ranges of the network, as a bundle has it, on the first regions."""
    steps = range(min(RANGE_STEPS, recipe.optimisation.steps))
    crops = (batches.make_unaugmented(step).crops for step in steps)
    return measure_activation_ranges(as_shipped(network), crops)


def describe_member(
    training: Training,
    recipe: RegionTraining,
    classes: tuple[str, ...],
    ranges: ActivationRanges | None,
    facts: Mapping[str, Any],
    fitted: Fitted,
) -> TrainedMember:
    """Return everything about a trained member except its weights.

    Args:
        training: The training.
        recipe: The settings of the training.
        classes: Class names.
        ranges: Activation ranges of the network.
        facts: Data sets, initial weights and seed.
        fitted: Time and scores.
    """
    return TrainedMember(
        warp=recipe.warp,
        architecture=recipe.architecture,
        ranges=ranges,
        normalisation=recipe.normalisation,
        classes=classes,
        training={
            **facts,
            "recipe": recipe.model_dump(mode="json", exclude={"run"}),
            **describe_run(training, fitted.seconds),
            "scores": fitted.scores,
        },
    )
