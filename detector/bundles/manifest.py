"""The content of `bundle.json`, and of the files from which bundles are packed.

Every class here is a table whose keys are written to disk, so their names must not change.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from fractions import Fraction
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    FiniteFloat,
    PlainSerializer,
    model_validator,
)

from detector.common.config import Frozen
from detector.common.text_files import CONTROL_CHARACTERS

NOT_IN_NAMES = re.compile(r"[/\\\ud800-\udfff]")
"""What separates folders, and what is no character, which cannot be written as UTF-8."""

LONGEST_CLASS_NAME = 200
"""Longest name of a class in bytes, so that names of files with it are not too long."""

MOST_CLASSES = 10_000
"""Most classes of a bundle."""

MOST_MEMBERS = 64
"""Most networks of an ensemble."""

LARGEST_DENOMINATOR = 10_000
"""Largest denominator of a fraction, so that pixels can be computed exactly in 64-bit integers."""


def _parse_fraction(value: Any) -> Fraction:
    """Return a fraction exactly as it is written: 0.1 is 1/10."""
    text = str(value).strip()
    # Python would compute all digits of 1e-99999999.
    is_short = re.fullmatch(r"-?\d{0,9}(/\d{1,9}|\.\d{1,20})?", text, re.ASCII)
    try:
        fraction = Fraction(text) if is_short else None
    except ZeroDivisionError as error:
        raise ValueError("must not divide by 0") from error
    if fraction is None or fraction.denominator > LARGEST_DENOMINATOR:
        raise ValueError("must be a fraction of small numbers, such as 1/14")
    return fraction


ExactFraction = Annotated[Fraction, BeforeValidator(_parse_fraction), PlainSerializer(str, str)]
"""A fraction, written as "1/14" or as a decimal number."""


def _check_order(ends: tuple[float, float]) -> tuple[float, float]:
    low, high = ends
    if low > high:
        raise ValueError(f"a range must begin before it ends, unlike {low:g} to {high:g}")
    return ends


Activation = Annotated[FiniteFloat, Field(ge=-1e30, le=1e30)]
"""Value between two layers, with which float32 can compute."""

Range = Annotated[tuple[Activation, Activation], AfterValidator(_check_order)]
"""The lowest and the highest value."""


def check_class_name(name: str) -> str:
    """Return the name of a class if it can be part of a file's name and a line of a text.

    Raises:
        ValueError: It cannot. The message says what is allowed.
    """
    if name in (".", "..") or NOT_IN_NAMES.search(name) or CONTROL_CHARACTERS.search(name):
        raise ValueError(
            f"class {name[:40]!r} must not have /, \\ or control characters, or be . or .."
        )
    if name != name.strip() or not 0 < len(name.encode()) <= LONGEST_CLASS_NAME:
        raise ValueError(
            f"class {name[:40]!r} must have 1 to {LONGEST_CLASS_NAME} bytes and no space at an end"
        )
    return name


ClassName = Annotated[str, AfterValidator(check_class_name)]
"""Name of a class, which can be a part of a file's name."""


def _check_distinct(classes: tuple[str, ...]) -> tuple[str, ...]:
    if len(set(classes)) < len(classes):
        raise ValueError("class names must be distinct")
    return classes


Classes = Annotated[
    tuple[ClassName, ...],
    Field(min_length=1, max_length=MOST_CLASSES),
    AfterValidator(_check_distinct),
]
"""Class names without the background."""


Mean = Annotated[FiniteFloat, Field(ge=-1e6, le=1e6)]
"""Mean of pixels from 0 to 255."""

Deviation = Annotated[FiniteFloat, Field(gt=1e-3, le=1e6)]
"""Standard deviation of pixels from 0 to 255."""


class Normalisation(Frozen):
    """Normalisation of a network's input: `(value - mean) / std` of values from 0 to 255."""

    channels: Literal["rgb", "bgr"] = "bgr"
    """Order of the colour channels."""
    mean: tuple[Mean, Mean, Mean] = (104.0, 117.0, 123.0)
    """Mean of each channel, in the order of `channels`."""
    std: tuple[Deviation, Deviation, Deviation] = (1.0, 1.0, 1.0)
    """Standard deviation of each channel, in the order of `channels`."""


class Warp(Frozen):
    """How a member's crops are cut from an image."""

    crop_size: int = Field(224, ge=64, le=1024)
    """S, the side of the square crops in pixels."""
    context: ExactFraction = Field(Fraction(1, 14), ge=0, lt=Fraction(1, 2))
    """Share of S, on each side, that shows the surroundings of the box. R-CNN's 16 of 224 pixels
    are 1/14."""
    resampling: Literal["bilinear", "area"] = "bilinear"
    """"bilinear" as in Caffe, or "area", which averages pixels and so avoids aliasing."""


class Architecture(Frozen):
    """Options of a GoogLeNet.

    `variant="torchvision"` is the network of `torchvision.models.googlenet`. It differs from the
    paper in these points: 3x3 kernels in the 5x5 branches, BatchNorm, a last max-pooling of 2x2,
    dropout 0.2, and auxiliary heads that pool adaptively to 4x4 and have dropout 0.7.
    """

    variant: Literal["paper", "torchvision"] = "paper"
    """Which of the two networks."""
    stem: Literal["dense", "separable"] = "dense"
    """First convolution. "dense" has 9,408 weights, as in Caffe. "separable" is depthwise-separable
    with multiplier 8, which gives the 2.7K weights and 34M operations of Table 1."""
    normalisation: Literal["lrn", "batchnorm", "none"] = "lrn"
    """Local response normalisation after pool1 and conv2, BatchNorm in every convolution, or
    neither."""
    width: float = Field(1.0, gt=0, le=4)
    """Factor on every number of channels; the products are rounded to multiples of 8."""

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
        """Return a number of channels of Table 1, scaled by the width."""
        return max(8, 8 * round(table * self.width / 8))


class MemberRecipe(Frozen):
    """Everything about a member except its weights."""

    warp: Warp
    architecture: Architecture = Architecture()
    ranges: Annotated[Mapping[str, Range], Field(max_length=1000)] | None = None
    """Activation ranges: the lowest and the highest input value of each convolution, by its name.
    8-bit integers need them; see `detector.models.quantization`."""


class Member(MemberRecipe):
    """One network of the ensemble, in a bundle."""

    file: str = Field(pattern=r"^[\w.-]+\.safetensors$", max_length=200)
    """Name of the file of weights."""
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    """Digest of that file."""


class MultiBoxRecipe(Frozen):
    """Everything about MultiBox's network except its weights, which include the priors."""

    size: int = Field(224, ge=64, le=1024)
    """S, the side of the network's square input images, in pixels."""
    priors: int = Field(200, ge=1, le=10_000)
    """K, the number of priors."""
    head: Literal["dense", "shared"] = "dense"
    """Layers after the trunk. "dense" has separate weights for each box, as in the paper. "shared"
    applies the same weights to the features around each prior, and needs less training data."""
    spread: float = Field(0.1, gt=0, le=10)
    """Unit of the predicted offsets and of the locations in the loss, as a share of the prior's
    sides: about the usual distance between an object and its prior."""
    hidden: int = Field(512, ge=1, le=16_384)
    """Width of the hidden layer."""
    views: Literal["whole", "corners"] = "corners"
    """Views of an image that the network sees: the whole image, or also a crop at each corner."""
    architecture: Architecture = Architecture()
    """Options of the trunk."""
    normalisation: Normalisation = Normalisation()


class BundledMultiBox(MultiBoxRecipe):
    """MultiBox in a bundle."""

    file: str = Field(pattern=r"^[\w.-]+\.safetensors$", max_length=200)
    """Name of the file of weights."""
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    """Digest of that file."""


class Description(Frozen):
    """What all members of a bundle have in common."""

    name: str = Field(pattern=r"^[\w.-]+$", max_length=100)
    version: str = Field(max_length=100)
    classes: Classes
    """Class names without the background, which is output 0 of every member."""
    normalisation: Normalisation = Normalisation()
    settings: Mapping[str, Any] = Field(default_factory=dict)
    """Tables of settings that differ from the program's defaults."""


class Manifest(Description):
    """The content of `bundle.json`."""

    members: tuple[Member, ...] = Field(min_length=1, max_length=MOST_MEMBERS)
    multibox: BundledMultiBox | None = None


class Recipe(Description):
    """What `detector-bundle pack` needs in addition to files of weights."""

    card: str
    """Text of `MODEL_CARD.md`."""
    members: tuple[MemberRecipe, ...] = Field(min_length=1, max_length=MOST_MEMBERS)
    multibox: MultiBoxRecipe | None = None


class TrainedMember(MemberRecipe):
    """What training writes beside the weights of a member."""

    classes: Classes
    normalisation: Normalisation
    training: Mapping[str, Any]
    """Facts for the model card: data, initial weights, recipe, time, hardware, versions, scores."""


class TrainedMultiBox(MultiBoxRecipe):
    """What training writes beside the weights of a MultiBox."""

    training: Mapping[str, Any]
    """Facts for the model card."""
