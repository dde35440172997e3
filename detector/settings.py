"""Settings of a detector: everything that changes results, in the tables that TOML files have."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field

from detector.common.config import (
    Frozen,
    Tables,
    merge_tables,
    parse_assignment,
    read_toml,
    validate,
    validate_layers,
)
from detector.errors import SettingsError
from detector.images.limits import ImageLimits
from proposals.types import Superpixels

PRESETS = ("default", "fast", "paper")
"""Names of the settings files that ship with the program."""

Number = Annotated[int, Field(ge=1, le=1_000_000)]
"""A count from 1 on."""


class ImageSettings(ImageLimits):
    """How images are read."""

    max_seconds: float = Field(60.0, gt=0, le=86_400)
    """Longest time in seconds in which a worker process may decode an image and propose boxes."""
    max_memory: int = Field(1200, ge=300, le=1_000_000)
    """Most memory in MiB that a worker process may use for an image (on Linux)."""


class ProposalSettings(Frozen):
    """How boxes that may contain an object are proposed."""

    engine: Literal["opencv", "selectivesearch"] = "opencv"
    """Proposal method: selective search by OpenCV, or by the package selectivesearch."""
    superpixels: Superpixels = "doubled"
    """Size of selective search's superpixels: "rcnn" as in R-CNN's fast mode, or "doubled" as in
    *Going deeper with convolutions*, which gives about half as many boxes."""


class MultiBoxSettings(Frozen):
    """How many boxes MultiBox proposes, if the bundle has it."""

    count: int = Field(200, ge=0, le=10_000)
    """Maximum number of MultiBox's boxes per image. Near-duplicates of the proposal method's boxes
    are dropped. 0 switches MultiBox off."""
    alone: bool = False
    """Use MultiBox's boxes alone, without the proposal method, if the bundle has MultiBox."""


class ClassifierSettings(Frozen):
    """How proposals are classified."""

    members: Number | Literal["all"] = "all"
    """Number of the ensemble's networks to use: the first ones of the bundle, or "all"."""
    cascade: float = Field(0.05, ge=0, lt=1)
    """Threshold below which a region is dropped between networks, to save time: its best class
    probability, as the mean over the networks so far. Regions that a clearly better region will
    suppress are dropped too. 0 shows every region to every network."""
    precision: Literal["auto", "int8", "bfloat16", "float32"] = "auto"
    """Arithmetic of the networks. "auto" is the fastest that the processor or GPU has natively:
    "int8" (with OpenVINO and a bundle that has activation ranges), "bfloat16", or "float32"."""
    batch_size: Annotated[int, Field(ge=1, le=4096)] | Literal["auto"] = "auto"
    """Number of crops per batch; the last batch is padded. "auto" suits the device."""


class DetectionSettings(Frozen):
    """Which classified proposals are reported as detections."""

    score_threshold: float = Field(0.05, ge=0, le=1)
    """Detections with a lower score are left out."""
    nms_iou: float = Field(0.3, ge=0, le=1)
    """Non-maximum suppression: if two boxes of a class overlap by more than this IoU, only the one
    with the higher score is reported."""
    max_detections: Number | Literal["all"] = 100
    """Maximum number of detections per image."""
    max_detections_per_class: Number | Literal["all"] = "all"
    """Maximum number of detections per image and class."""
    classes: Annotated[tuple[str, ...], Field(max_length=10_000)] | Literal["all"] = "all"
    """Classes to report."""


class Settings(Frozen):
    """All settings of a detector. The default values are the preset `default`."""

    images: ImageSettings = ImageSettings()
    proposals: ProposalSettings = ProposalSettings()
    multibox: MultiBoxSettings = MultiBoxSettings()
    classifier: ClassifierSettings = ClassifierSettings()
    detections: DetectionSettings = DetectionSettings()

    @classmethod
    def read(
        cls,
        *,
        preset: str = "default",
        config: Path | None = None,
        assignments: Iterable[str] = (),
        base: Tables | None = None,
        scoring: bool = False,
    ) -> Self:
        """Read settings in layers: base, preset, TOML file, assignments. Later ones win.

        Args:
            preset: One of `PRESETS`.
            config: A TOML file.
            assignments: Texts of the form `table.key=value`.
            base: A bundle's own settings, as tables.
            scoring: Take the table `detections` of the preset `paper` instead of the preset's own,
                because average precision needs the long tail of low scores.

        Raises:
            SettingsError: A preset, key or value is not allowed. The message names its source.
        """
        layers = [("the bundle", dict(base or {})), (f"preset {preset}", read_preset(preset))]
        if scoring:
            layers.append(("preset paper", {"detections": read_preset("paper")["detections"]}))
        if config is not None:
            layers.append((str(config), read_toml(config)))
        layers += [(f"--set {text}", parse_assignment(text)) for text in assignments]
        return validate_layers(cls, layers)

    def recorded(self) -> dict[str, Any]:
        """Return what results depend on, as JSON values.

        Limits of images, other than that of their pixels, decide only about files that are no
        usual images. A run may go on with others.
        """
        limits = set(ImageSettings.model_fields) - {"max_pixels"}
        return self.model_dump(mode="json", exclude={"images": limits})

    def replace(self, **tables: Mapping[str, Any]) -> Self:
        """Return a copy with other values for the given keys of the given tables.

        Raises:
            SettingsError: A value is not allowed.
        """
        return validate(type(self), merge_tables(self.model_dump(), tables), "option")


def read_preset(name: str) -> dict[str, Any]:
    """Return the tables of a preset.

    Raises:
        SettingsError: There is no preset of this name.
    """
    if name not in PRESETS:
        raise SettingsError(f"unknown preset {name!r}: allowed are {', '.join(PRESETS)}")
    return read_toml(configs() / f"{name}.toml")


def configs() -> Path:
    """Return the folder of presets and training recipes.

    It is inside the package in an installed wheel, and beside the package in a checkout.
    """
    package = Path(__file__).parent
    inside = package / "configs"
    return inside if inside.is_dir() else package.parent / "configs"
