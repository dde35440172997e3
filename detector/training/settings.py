"""Settings of trainings: the tables of their TOML files.

The keys are user interface, and checkpoints and model cards record them, so their names must not
change.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, NonNegativeInt, PositiveInt, model_validator

from detector.bundles.manifest import Architecture, MultiBoxRecipe, Normalisation, Warp
from detector.common.config import Frozen
from detector.settings import ProposalSettings

ALPHA = 0.3
"""Weight of the locations in MultiBox's loss (arXiv 1312.2249, section 3.2)."""


class Optimisation(Frozen):
    """Stochastic gradient descent with momentum."""

    steps: PositiveInt = 40_000
    """Number of updates of the weights."""
    trunk_rate: float = Field(0.001, ge=0)
    """Learning rate of the layers that start from given weights."""
    head_rate: float = Field(0.01, ge=0)
    """Learning rate of the layers that start from random weights."""
    momentum: float = Field(0.9, ge=0, lt=1)
    """Share of the previous update that the next one keeps."""
    weight_decay: float = Field(0.0005, ge=0)
    """Decay of the weights. Biases and BatchNorm's factors do not decay."""
    schedule: Literal["paper", "steps", "cosine"] = "cosine"
    """How the learning rates fall. "paper": by 4 % every 8 epochs; "steps": to a tenth every
    `drop_every` steps; "cosine": along half a wave down to 0."""
    drop_every: PositiveInt = 20_000
    """Number of steps between two drops of the learning rates, with the schedule "steps"."""
    warmup: NonNegativeInt = 0
    """Number of first steps in which the learning rates rise linearly from 0."""
    averaging: float = Field(0.0, ge=0, lt=1)
    """Polyak averaging: the share of its old value that the running mean of the weights keeps in
    each step. The training's result is this mean; with 0 it is the last weights."""
    frozen: tuple[str, ...] = ()
    """Layers that keep their weights: "conv1", "conv2", "inception_3a", …"""
    precision: Literal["auto", "bfloat16", "float32"] = "auto"
    """Arithmetic of the network. Weights and their updates are float32."""


class ClassifierOptimisation(Optimisation):
    """Optimisation of a classifier, with the settings of its loss."""

    label_smoothing: float = Field(0.0, ge=0, lt=1)
    """Share of the target probability that is spread evenly over all classes."""
    auxiliary: float = Field(0.0, ge=0)
    """Weight in the loss of each auxiliary head, 0.3 in the paper. With 0 there are no heads."""


class Augmentation(Frozen):
    """How a crop is varied whenever it is drawn."""

    mirror: bool = True
    """Flip half of the crops, chosen at random, from left to right."""
    distortion: float = Field(0.0, ge=0, lt=1)
    """Largest relative change of contrast and saturation; brightness changes by up to this share
    of 128."""


class ScratchOptimisation(ClassifierOptimisation):
    """Optimisation from random weights: the paper's values, and Caffe's where it gives none."""

    steps: PositiveInt = 2_400_000
    trunk_rate: float = Field(0.01, ge=0)
    weight_decay: float = Field(0.0002, ge=0)
    schedule: Literal["paper", "steps", "cosine"] = "paper"
    averaging: float = Field(0.9999, ge=0, lt=1)
    auxiliary: float = Field(0.3, ge=0)


class ScratchAugmentation(Augmentation):
    """Augmentation in a training from random weights, distorted as in the paper."""

    distortion: float = Field(0.4, ge=0, lt=1)


class RegionAugmentation(Augmentation):
    """How a region is varied whenever it is drawn."""

    jitter: float = Field(0.0, ge=0, lt=0.5)
    """Largest distance by which each edge of a box moves, as a share of the box's side. The moved
    box is labelled again."""


class Run(Frozen):
    """Settings that do not change results."""

    cache_gib: float = Field(4.0, ge=0)
    """Memory for decoded images, in GiB. Images that do not fit are read again when drawn."""
    log_every: PositiveInt = 20
    """Number of steps between two lines of the log."""
    checkpoint_every: PositiveInt = 200
    """Number of steps between two checkpoints."""

    @property
    def cache_bytes(self) -> float:
        """Memory for decoded images, in bytes."""
        return self.cache_gib * 2**30


class Validation(Frozen):
    """Mean average precision on held-out images during a training of regions."""

    every: PositiveInt = 10_000
    """Number of steps between two validations."""
    photos: PositiveInt | Literal["all"] = 100
    """Number of held-out images in a validation during the training."""
    final: PositiveInt | Literal["all"] = "all"
    """Number of held-out images in the validation at the end."""


class ClassifierValidation(Frozen):
    """Accuracy on held-out images during a training of a classifier."""

    every: PositiveInt = 40_000
    """Number of steps between two validations."""


class CoverageValidation(Frozen):
    """Share of objects covered by MultiBox's proposals on held-out images, during its training."""

    every: PositiveInt = 1000
    """Number of steps between two validations."""
    photos: PositiveInt | Literal["all"] = "all"
    """Number of held-out images in a validation."""


class Patches(Frozen):
    """The random parts of images on which a classifier is trained."""

    smallest: float = Field(0.08, gt=0, le=1)
    """Smallest area of a patch, as a share of the image's area. The largest is the whole image."""
    narrowest: float = Field(0.75, gt=0, le=1)
    """Smallest ratio of width to height, and of height to width."""
    batch_size: PositiveInt = 32
    """Number of patches in a batch."""


class Sampling(Frozen):
    """Composition of a batch of regions."""

    foreground: PositiveInt = 32
    """Number of regions of objects."""
    background: PositiveInt = 96
    """Number of regions of the background."""
    foreground_iou: float = Field(0.5, gt=0, le=1)
    """A region whose best IoU with an object is at least this is a region of that object's
    class."""
    background_iou: float = Field(0.5, gt=0, le=1)
    """A region whose best IoU with an object is below this is background. Regions between the two
    are left out."""
    balanced: float = Field(0.0, ge=0, le=1)
    """Share of the foreground for which first a class is drawn, all classes equally likely, and
    then one of its regions. For the rest, all regions of objects are equally likely."""
    near: float = Field(0.0, ge=0, le=1)
    """Share of the background that is drawn from the regions near an object: those with an IoU of
    at least 0.1. For the rest, all regions of the background are equally likely."""
    more_objects: PositiveInt | Literal["all"] = 1000
    """Maximum number of objects per class that are taken from the data of `--objects`."""

    @model_validator(mode="after")
    def _check(self) -> Sampling:
        if self.background_iou > self.foreground_iou:
            raise ValueError("background_iou must not be over foreground_iou")
        return self


class Views(Frozen):
    """The random views on which MultiBox is trained: whole images and large parts of them."""

    whole: float = Field(0.3, ge=0, le=1)
    """Share of views that show the whole image."""
    smallest: float = Field(0.1, gt=0, le=1)
    """Smallest area of the other views, as a share of the image's area."""
    narrowest: float = Field(0.67, gt=0, le=1)
    """Smallest ratio of a view's share of the image's width to its share of the height, and of the
    height's to the width's."""
    visible: float = Field(0.5, gt=0, le=1)
    """An object belongs to a view if at least this share of the object's area is inside."""
    batch_size: PositiveInt = 32
    """Number of views in a batch."""


class RegionTraining(Frozen):
    """Settings of `detector-train regions`. The defaults are R-CNN's, except for the schedule."""

    warp: Warp = Warp()
    architecture: Architecture = Architecture()
    normalisation: Normalisation = Normalisation()
    proposals: ProposalSettings = ProposalSettings()
    sampling: Sampling = Sampling()
    augmentation: RegionAugmentation = RegionAugmentation()
    optimisation: ClassifierOptimisation = ClassifierOptimisation()
    validation: Validation = Validation()
    run: Run = Run()


class ClassifierTraining(Frozen):
    """Settings of `detector-train classifier`. The defaults are the paper's, and Caffe's where the
    paper gives none.
    """

    crop_size: int = Field(224, ge=64)
    """S, the side of the square crops in pixels."""
    architecture: Architecture = Architecture()
    normalisation: Normalisation = Normalisation()
    patches: Patches = Patches()
    augmentation: ScratchAugmentation = ScratchAugmentation()
    optimisation: ScratchOptimisation = ScratchOptimisation()
    validation: ClassifierValidation = ClassifierValidation()
    run: Run = Run()


class MultiBoxTraining(MultiBoxRecipe):
    """Settings of `detector-train multibox`."""

    alpha: float = Field(ALPHA, ge=0)
    """Weight of the locations in the loss."""
    matching: Literal["priors", "boxes"] = "priors"
    """What objects are matched with: the priors, or the boxes that the network predicts."""
    pictures: Views = Views()
    augmentation: Augmentation = Augmentation()
    optimisation: Optimisation = Optimisation()
    validation: CoverageValidation = CoverageValidation()
    run: Run = Run()


TrainingRecipe = RegionTraining | ClassifierTraining | MultiBoxTraining
"""The settings of any training."""


def settings_that_change_weights(recipe: TrainingRecipe) -> dict[str, Any]:
    """Return the settings, as in JSON, without those that do not change the resulting weights."""
    return recipe.model_dump(mode="json", exclude={"run", "validation"})
