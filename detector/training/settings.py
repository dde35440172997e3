"""What a training does: the tables of a training's TOML file."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, NonNegativeInt, PositiveInt, model_validator

from detector.bundles.manifest import Architecture, MultiBoxRecipe, Normalisation, Warp
from detector.common.config import Frozen
from detector.settings import ProposalSettings

ALPHA = 0.3
"""Weight of the locations in MultiBox's loss (arXiv 1312.2249, section 3.2)."""


class Optimisation(Frozen):
    """Stochastic gradient descent with momentum."""

    steps: PositiveInt = 40_000
    trunk_rate: float = Field(0.001, ge=0)
    """Learning rate of the layers that start from given weights."""
    head_rate: float = Field(0.01, ge=0)
    """Learning rate of the layers that start anew."""
    momentum: float = Field(0.9, ge=0, lt=1)
    weight_decay: float = Field(0.0005, ge=0)
    """Of weights; biases and BatchNorm's factors do not decay."""
    schedule: Literal["paper", "steps", "cosine"] = "cosine"
    """"paper": 4 % less every 8 epochs; "steps": a tenth after every `drop_every`; "cosine": half
    a wave down to 0."""
    drop_every: PositiveInt = 20_000
    """Steps between two drops of the schedule "steps"."""
    warmup: NonNegativeInt = 0
    """Steps in which the rates rise from 0, before anything else."""
    averaging: float = Field(0.0, ge=0, lt=1)
    """Polyak averaging: the share of its old value that the weights' running mean keeps at each
    step. The mean is what a training gives; 0 gives the last weights."""
    frozen: tuple[str, ...] = ()
    """Layers that keep their weights: "conv1", "conv2", "inception_3a", …"""
    precision: Literal["auto", "bfloat16", "float32"] = "auto"
    """Of the network's arithmetic; weights and their updates are float32."""


class ClassifierOptimisation(Optimisation):
    """The same, and how a classifier's loss is made."""

    label_smoothing: float = Field(0.0, ge=0, lt=1)
    auxiliary: float = Field(0.0, ge=0)
    """The weight in the loss of each auxiliary head, 0.3 in the paper; 0 trains without them."""


class Augmentation(Frozen):
    """How a crop is varied each time that it is drawn."""

    mirror: bool = True
    """Every other crop is flipped from left to right."""
    distortion: float = Field(0.0, ge=0, lt=1)
    """Contrast and saturation vary by up to this share, brightness by this share of 128."""


class ScratchOptimisation(ClassifierOptimisation):
    """The same with the paper's values, and Caffe's where the paper does not say."""

    steps: PositiveInt = 2_400_000
    trunk_rate: float = Field(0.01, ge=0)
    weight_decay: float = Field(0.0002, ge=0)
    schedule: Literal["paper", "steps", "cosine"] = "paper"
    averaging: float = Field(0.9999, ge=0, lt=1)
    auxiliary: float = Field(0.3, ge=0)


class ScratchAugmentation(Augmentation):
    """The same, distorted as in the paper."""

    distortion: float = Field(0.4, ge=0, lt=1)


class RegionAugmentation(Augmentation):
    """How a region is varied each time that it is drawn."""

    jitter: float = Field(0.0, ge=0, lt=0.5)
    """Each edge of a box moves by up to this share of the box's side. Labels are made anew."""


class Run(Frozen):
    """What changes no result."""

    cache_gib: float = Field(4.0, ge=0)
    """Memory for decoded photos, in GiB; those that do not fit are read again when drawn."""
    log_every: PositiveInt = 20
    """Steps."""
    checkpoint_every: PositiveInt = 200
    """Steps."""


class Validation(Frozen):
    """Mean average precision on held-out photos, as the training goes."""

    every: PositiveInt = 10_000
    """Steps."""
    photos: PositiveInt | Literal["all"] = 100
    """The first so many, as it goes."""
    final: PositiveInt | Literal["all"] = "all"
    """The first so many, at the end."""


class ClassifierValidation(Frozen):
    """Accuracy on held-out photos, as the training goes."""

    every: PositiveInt = 40_000
    """Steps."""


class CoverageValidation(Frozen):
    """Coverage of the objects of held-out photos by the proposals, as the training goes."""

    every: PositiveInt = 1000
    """Steps."""
    photos: PositiveInt | Literal["all"] = "all"
    """The first so many."""


class Patches(Frozen):
    """The part of a photo that a classifier sees, drawn anew each time."""

    smallest: float = Field(0.08, gt=0, le=1)
    """The least share of the photo's area; the largest is all of it."""
    narrowest: float = Field(0.75, gt=0, le=1)
    """The least ratio of width to height, and of height to width."""
    batch_size: PositiveInt = 32


class Sampling(Frozen):
    """Which regions make a batch."""

    foreground: PositiveInt = 32
    background: PositiveInt = 96
    foreground_iou: float = Field(0.5, gt=0, le=1)
    """A region is an object of the class that it overlaps most, from this IoU on."""
    background_iou: float = Field(0.5, gt=0, le=1)
    """A region is background below this IoU. What lies between the two is left out."""
    balanced: float = Field(0.0, ge=0, le=1)
    """The share of the foreground of which first the class is drawn, each as likely."""
    near: float = Field(0.0, ge=0, le=1)
    """The share of the background that overlaps an object with an IoU of 0.1 and more."""
    more_objects: PositiveInt | Literal["all"] = 1000
    """Of each class, at most, from data of which only the objects are trained on."""

    @model_validator(mode="after")
    def _check(self) -> Sampling:
        if self.background_iou > self.foreground_iou:
            raise ValueError("background_iou must not be over foreground_iou")
        return self


class Pictures(Frozen):
    """The part of a photo that MultiBox sees, drawn anew each time."""

    whole: float = Field(0.3, ge=0, le=1)
    """The share of pictures that are whole photos."""
    smallest: float = Field(0.1, gt=0, le=1)
    """The least share of the photo's area that the others have."""
    narrowest: float = Field(0.67, gt=0, le=1)
    """The least ratio of the shares that they have of the photo's width and height."""
    visible: float = Field(0.5, gt=0, le=1)
    """An object is one of the picture's if it has at least this share of the object's area."""
    batch_size: PositiveInt = 32


class RegionTraining(Frozen):
    """The tables of `detector-train regions`. The defaults are R-CNN's, but for the schedule."""

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
    """The tables of `detector-train classifier`. The defaults are the paper's, and Caffe's where
    the paper does not say.
    """

    crop_size: int = Field(224, ge=64)
    architecture: Architecture = Architecture()
    normalisation: Normalisation = Normalisation()
    patches: Patches = Patches()
    augmentation: ScratchAugmentation = ScratchAugmentation()
    optimisation: ScratchOptimisation = ScratchOptimisation()
    validation: ClassifierValidation = ClassifierValidation()
    run: Run = Run()


class MultiBoxTraining(MultiBoxRecipe):
    """The keys and tables of `detector-train multibox`."""

    alpha: float = Field(ALPHA, ge=0)
    """The weight of locations in the loss."""
    matching: Literal["priors", "boxes"] = "priors"
    """Objects are matched with priors, or with what the network makes of them."""
    pictures: Pictures = Pictures()
    augmentation: Augmentation = Augmentation()
    optimisation: Optimisation = Optimisation()
    validation: CoverageValidation = CoverageValidation()
    run: Run = Run()
