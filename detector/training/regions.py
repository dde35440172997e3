"""Fine-tuning a GoogLeNet on the regions of annotated photos, the way R-CNN does it.

`train` is the way of the data: photos with proposals, labelled regions, batches of crops, steps.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from detector.backends.pytorch import limit_threads
from detector.batch.proposal_cache import Photo, cache_path, gather
from detector.bundles.manifest import TrainedMember
from detector.bundles.model_card import MEMBER, WEIGHTS
from detector.common.atomic_io import atomic_write
from detector.common.prefetcher import Prefetcher
from detector.common.progress import ShowProgress, no_progress
from detector.datasets.ground_truth import AnnotatedImage
from detector.errors import SettingsError, TrainingError
from detector.formats.records import Failure
from detector.images import MAX_PIXELS
from detector.models.googlenet import GoogLeNet
from detector.models.modules import as_shipped, load_weights
from detector.models.quantization import ActivationRanges
from detector.models.weights import read_weights
from detector.runtime import BackendName, Runtime
from detector.training.activation_ranges import measure_activation_ranges
from detector.training.batches import cut_batch, vary
from detector.training.checks import check_boxes, check_classes
from detector.training.data_set import DataSet
from detector.training.loop import Loop, check_folder
from detector.training.objective import classification_loss
from detector.training.parallel import Group
from detector.training.photos import Photos
from detector.training.results import (
    AUXILIARY_HEADS,
    circumstances,
    start,
    write_weights,
)
from detector.training.sampling import Regions, Sampler, pool
from detector.training.settings import RegionAugmentation, RegionTraining
from detector.training.validation import Validator

HEADS = ("classifier", *AUXILIARY_HEADS)
"""The layers that start anew."""

MEASURED = 8
"""Steps whose regions give the ranges of activations."""

HEAD_SPREAD = 0.01
"""The standard deviation of a new last layer's weights, as R-CNN's prototxt has it."""


@dataclass(frozen=True)
class Summary:
    """What a training did."""

    member: TrainedMember
    skipped: Sequence[Failure]


def train(
    recipe: RegionTraining,
    data: DataSet,
    weights: Path,
    out: Path,
    *,
    objects: DataSet | None = None,
    validation: DataSet | None = None,
    cache: Path | None = None,
    seed: int = 0,
    resume: bool = False,
    strict: bool = False,
    device: str = "auto",
    backend: BackendName | Literal["auto"] = "auto",
    workers: int | None = None,
    show_progress: ShowProgress = no_progress,
) -> Summary:
    """Train a network and write its weights and what is to be known of them into `out`.

    Args:
        weights: a GoogLeNet's; its last layer is replaced by a new one.
        objects: more photos, of which only the objects are trained on, since not all objects in
            them are annotated: ILSVRC's training set, as R-CNN uses it.
        out: a folder; it also has the log and the checkpoint.
        cache: the folder of proposals, which trainings share; `out`'s parent if not given.
        resume: go on from the checkpoint in `out`, if there is one.
        strict: a photo that cannot be used is an error; otherwise it is left out.
        backend: what runs the network in validations.
        workers: processes that compute proposals.
        show_progress: told how far it is.

    Raises:
        DetectorError: naming what is wrong with the data, the weights or the settings.
    """
    for file, truth, _ in filter(None, (data, objects, validation)):
        check_boxes(truth, file)
    check_classes(data.truth, data.file)
    for other in filter(None, (objects, validation)):
        if tuple(other.truth.classes) != tuple(data.truth.classes):
            raise SettingsError(f"{other.file}: has other classes than {data.file}")
    check_folder(out, resume=resume)
    classes = tuple(data.truth.classes)
    with Group() as group:
        limit_threads()
        chosen = torch.device(Runtime.resolve(device=group.device(device), backend="torch").device)
        network = build(recipe, len(classes), weights, seed)
        out.mkdir(parents=True, exist_ok=True)
        gather_all = partial(
            gather,
            settings=recipe.proposals,
            cache=cache_path(cache or out.absolute().parent, recipe.proposals),
            workers=workers,
            strict=strict,
            show_progress=show_progress,
        )
        with group.in_turn():
            photos, skipped = gather_all(data.truth.images, data.folder)
            held_out: list[Photo] = []
            if validation is not None and group.first:
                held_out, missing = gather_all(validation.truth.images, validation.folder)
                skipped += missing
        if not photos:
            raise TrainingError(f"{data.file}: none of its photos can be used")
        files = [photo.file for photo in photos]
        found = [(photo.image, photo.proposals.boxes) for photo in photos]
        if objects is not None:
            few, missing = objects.few(
                recipe.sampling.more_objects, seed=seed, strict=strict, show_progress=show_progress
            )
            skipped += missing
            files += [objects.folder / image.file for image in few]
            found += [(image, np.zeros((0, 4), np.float32)) for image in few]
        images = [image for image, _ in found]
        regions = pool(found, recipe.sampling)
        sampler = Sampler(regions, recipe.sampling, classes)
        described = {
            "data": data.describe([photo.image for photo in photos]),
            **({"objects": objects.describe(few)} if objects else {}),
            **start(weights, seed),
        }
        loop = Loop(
            network,
            heads=HEADS,
            optimisation=recipe.optimisation,
            run=recipe.run,
            out=out,
            fingerprint={
                "recipe": recipe.model_dump(mode="json", exclude={"run", "validation"}),
                "regions": len(regions.labels),
                "processes": group.size,
                **described,
            },
            steps_per_epoch=sampler.steps_per_epoch,
            seed=seed,
            device=chosen,
            group=group,
        )
        if resume:
            loop.resume()
        kept = Photos(
            files,
            budget=recipe.run.cache_gib * 2**30,
            max_pixels=MAX_PIXELS,
            device=chosen,
        )
        validator = Validator(
            held_out,
            data.truth.classes,
            recipe,
            out=out,
            device=chosen,
            backend=backend,
            show_progress=show_progress,
        )
        task = RegionTask(
            images,
            regions,
            sampler,
            kept,
            recipe,
            validator,
            seed=seed,
            device=chosen,
            group=group,
        )
        with show_progress(recipe.optimisation.steps, "step") as report:
            loop.run(task, report, validate_every=recipe.validation.every)
        ranges: ActivationRanges | None = None
        if group.first:
            with loop.averaged():
                ranges = task.ranges(network)
        task.close()
        member = TrainedMember(
            warp=recipe.warp,
            architecture=recipe.architecture,
            ranges=ranges,
            normalisation=recipe.normalisation,
            classes=classes,
            training={
                **described,
                "recipe": recipe.model_dump(mode="json", exclude={"run"}),
                **circumstances(loop),
                "scores": task.scores,
            },
        )
        if group.first:
            with loop.averaged():
                _write(out, network, member)
    return Summary(member, skipped)


def build(recipe: RegionTraining, classes: int, weights: Path, seed: int) -> GoogLeNet:
    """A network with given weights, but for its heads, which are new.

    Raises:
        BundleError: the weights are missing, or those of another architecture.
        SettingsError: the crops are too small.
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
    nn.init.normal_(network.classifier.weight, std=HEAD_SPREAD)
    load_weights(network, read_weights(weights), weights, new=HEADS)
    return network


class RegionTask:
    """What the loop trains: telling the classes of regions, and background, apart."""

    def __init__(
        self,
        images: Sequence[AnnotatedImage],
        regions: Regions,
        sampler: Sampler,
        photos: Photos,
        recipe: RegionTraining,
        validator: Validator,
        *,
        seed: int,
        device: torch.device,
        group: Group,
    ) -> None:
        self._images, self._regions, self._sampler, self._photos = images, regions, sampler, photos
        self._recipe, self._validator, self._seed, self._device = recipe, validator, seed, device
        self._steps = recipe.optimisation.steps
        own = group.part(recipe.sampling.foreground + recipe.sampling.background)
        make = partial(self._batch, augmentation=recipe.augmentation, part=own)
        self._batches = Prefetcher(make, self._steps)
        self.scores: Mapping[str, Any] = {}
        """The last validation's."""

    def loss(self, network: GoogLeNet, step: int) -> Tensor:
        """The cross entropy of a step's regions."""
        return classification_loss(network, *self._batches(step), self._recipe.optimisation)

    def validate(self, network: GoogLeNet, step: int) -> Mapping[str, Any]:
        """The score on held-out photos, where there are any."""
        found = self._validator(network, step, final=step == self._steps)
        self.scores = found or self.scores
        return found

    def ranges(self, network: GoogLeNet) -> ActivationRanges:
        """Those of the network's activations, as it ships, on the first steps' regions as they
        are.
        """
        plain = RegionAugmentation(mirror=False)
        first = range(min(MEASURED, self._steps))
        batches = (self._batch(step, plain, slice(None))[0] for step in first)
        return measure_activation_ranges(as_shipped(network), batches)

    def close(self) -> None:
        """Let go of the photos."""
        self._batches.close()
        self._photos.close()

    def _batch(
        self, step: int, augmentation: RegionAugmentation, part: slice
    ) -> tuple[Tensor, Tensor]:
        """A part of a step's crops `[N, S, S, 3]`, and their labels `[N]`."""
        recipe = self._recipe
        rng = np.random.default_rng((self._seed, step))
        chosen = self._sampler.draw(rng)
        batch = vary(self._regions, chosen, self._images, augmentation, recipe.sampling, rng).part(
            part
        )
        photos = self._photos.read(batch.photos.tolist())
        crops = cut_batch(batch, photos, recipe.warp, recipe.normalisation, self._device)
        return crops, torch.from_numpy(batch.labels).to(self._device)


def _write(out: Path, network: GoogLeNet, member: TrainedMember) -> None:
    write_weights(out / WEIGHTS, network)
    with atomic_write(out / MEMBER) as file:
        file.write(member.model_dump_json(indent=2).encode() + b"\n")
