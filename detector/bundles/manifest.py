"""What a bundle says of itself: the content of `bundle.json`."""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, FiniteFloat, field_validator, model_validator

from detector.settings import ExactFraction, Frozen


class Normalisation(Frozen):
    """How a network wants its pixels: `(value - mean) / std` on a scale of 0 to 255."""

    channels: Literal["rgb", "bgr"] = "bgr"
    mean: tuple[float, float, float] = (104.0, 117.0, 123.0)
    """In the order of `channels`."""
    std: tuple[float, float, float] = (1.0, 1.0, 1.0)


class Warp(Frozen):
    """The shape of a member's crops."""

    crop_size: int = Field(224, ge=64)
    """S, the crop's side in pixels."""
    context: ExactFraction = Field(Fraction(1, 14), ge=0, lt=Fraction(1, 2))
    """The share of S that shows the box's surroundings, on each side: R-CNN's 16 pixels of 224
    are 1/14."""
    resampling: Literal["bilinear", "area"] = "bilinear"
    """As Caffe has it, or without aliasing."""


class Architecture(Frozen):
    """The options of a GoogLeNet, as a bundle records them.

    `variant="torchvision"` is the network of `torchvision.models.googlenet`, which differs from
    the paper's: 3x3 kernels in the 5x5 branches, BatchNorm, the last max-pooling 2x2, dropout
    0.2, and auxiliary heads that pool adaptively to 4x4 and drop out 0.7.
    """

    variant: Literal["paper", "torchvision"] = "paper"
    stem: Literal["dense", "separable"] = "dense"
    """The first convolution: 9,408 weights as in Caffe, or Table 1's 2.7K and 34M operations,
    which a depthwise-separable one of multiplier 8 has."""
    normalisation: Literal["lrn", "batchnorm", "none"] = "lrn"
    """Local response normalisation after pool1 and conv2, BatchNorm in every convolution, or
    neither."""
    width: float = Field(1.0, gt=0, le=4)
    """A factor on every number of channels, rounded to multiples of 8."""

    @model_validator(mode="after")
    def _check(self) -> Architecture:
        if self.variant == "torchvision" and (
            self.stem != "dense" or self.normalisation != "batchnorm"
        ):
            raise ValueError(
                'variant "torchvision" has stem = "dense" and normalisation = "batchnorm"'
            )
        return self

    def channels(self, table: int) -> int:
        """Table 1's number of channels, scaled by the width."""
        return max(8, 8 * round(table * self.width / 8))


def _ordered(ends: tuple[float, float]) -> tuple[float, float]:
    if ends[0] > ends[1]:
        raise ValueError(f"a range must begin before it ends, unlike {ends[0]:g} to {ends[1]:g}")
    return ends


Range = Annotated[tuple[FiniteFloat, FiniteFloat], AfterValidator(_ordered)]


class MemberRecipe(Frozen):
    """What is to be said of a network beside its weights."""

    warp: Warp
    architecture: Architecture = Architecture()
    ranges: Mapping[str, Range] | None = None
    """The least and the greatest value that enters each convolution, for 8-bit integers."""


class Member(MemberRecipe):
    """One network of the ensemble."""

    file: str = Field(pattern=r"^[\w.-]+\.safetensors$")
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")


class MultiBoxRecipe(Frozen):
    """What is to be said of MultiBox's network beside its weights, which have the priors."""

    size: int = Field(224, ge=64)
    """S, the side of the square pictures that it sees, in pixels."""
    priors: int = Field(200, ge=1)
    """K, their number."""
    head: Literal["dense", "shared"] = "dense"
    """How the last map becomes boxes: by weights of each box's own, as in the paper, or by the
    same for all from what the maps show around each prior, which learns from few photos."""
    spread: float = Field(0.1, gt=0)
    """The unit of what the network adds to priors, and of locations in the loss, as a share of the
    prior's sides: about how far objects are from their priors."""
    hidden: int = Field(512, ge=1)
    """Width of the hidden layer."""
    views: Literal["whole", "corners"] = "corners"
    """It sees the whole image, or also a crop in each of its corners."""
    architecture: Architecture = Architecture()
    """Of the trunk."""
    normalisation: Normalisation = Normalisation()


class BundledMultiBox(MultiBoxRecipe):
    """MultiBox in a bundle."""

    file: str = Field(pattern=r"^[\w.-]+\.safetensors$")
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")


class Description(Frozen):
    """What members have in common."""

    name: str = Field(pattern=r"^[\w.-]+$")
    version: str
    classes: tuple[str, ...] = Field(min_length=1)
    """Without the background, which is output 0 of every member."""
    normalisation: Normalisation = Normalisation()
    settings: Mapping[str, Any] = Field(default_factory=dict)
    """Tables of settings that differ from the program's own."""

    @field_validator("classes")
    @classmethod
    def _distinct(cls, classes: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(classes)) < len(classes):
            raise ValueError("class names must be distinct")
        return classes


class Manifest(Description):
    """The content of `bundle.json`."""

    members: tuple[Member, ...] = Field(min_length=1)
    multibox: BundledMultiBox | None = None


class Recipe(Description):
    """What `detector-bundle pack` makes a bundle from, beside files of weights."""

    card: str
    """The text of `MODEL_CARD.md`."""
    members: tuple[MemberRecipe, ...] = Field(min_length=1)
    multibox: MultiBoxRecipe | None = None


class TrainedMember(MemberRecipe):
    """What a training says of the weights that it made."""

    classes: tuple[str, ...]
    normalisation: Normalisation
    training: Mapping[str, Any]
    """For the model card: data, start, recipe, time, hardware, versions, scores."""


class TrainedMultiBox(MultiBoxRecipe):
    """What a training says of the MultiBox that it made."""

    training: Mapping[str, Any]
    """For the model card."""
