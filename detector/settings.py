"""Settings: all that changes results, in the tables that TOML files have."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeVar

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    NonNegativeInt,
    PlainSerializer,
    PositiveInt,
    ValidationError,
)
from pydantic_core import ErrorDetails

from detector.errors import SettingsError
from detector.images import MAX_PIXELS
from proposals.types import Superpixels

Model = TypeVar("Model", bound=BaseModel)

PILLOW_LIMIT = 178_956_970
"""Pixels above which Pillow itself refuses to open an image."""

LARGEST_DENOMINATOR = 10_000
"""Of settings that are fractions: pixels are counted by exact arithmetic in 64 bits."""

PRESETS = ("default", "fast", "paper")


def _fraction(value: Any) -> Any:
    try:  # a decimal number is what it is written as: 0.1 is 1/10
        fraction = Fraction(str(value))
    except ZeroDivisionError as error:
        raise ValueError("must not divide by 0") from error
    if fraction.denominator > LARGEST_DENOMINATOR:
        raise ValueError("must be a fraction of small numbers, such as 1/14")
    return fraction


ExactFraction = Annotated[Fraction, BeforeValidator(_fraction), PlainSerializer(str, str)]
"""Written "1/14"."""


class Frozen(BaseModel):
    """A table: unknown keys are errors, values never change."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    def to_toml(self) -> str:
        """The values as a TOML file, which reads back to the same; single keys, then tables."""
        lines, tables = [], []
        for key, value in self.model_dump(mode="json", exclude_none=True).items():
            if isinstance(value, dict):
                tables += [f"[{key}]", *(f"{k} = {json.dumps(v)}" for k, v in value.items()), ""]
            else:
                lines.append(f"{key} = {json.dumps(value)}")
        return "\n".join([*lines, *tables])


class ImageSettings(Frozen):
    """How images are read."""

    max_pixels: int = Field(MAX_PIXELS, ge=1, le=PILLOW_LIMIT)
    """The limit on width x height."""


class ProposalSettings(Frozen):
    """Where objects are looked for."""

    engine: Literal["opencv", "selectivesearch"] = "opencv"
    superpixels: Superpixels = "doubled"


class MultiBoxSettings(Frozen):
    """What MultiBox adds to the proposals, where a bundle has one."""

    count: NonNegativeInt = 200
    """Boxes an image, at most; near-duplicates of the engine's are dropped."""
    alone: bool = False
    """Ask no engine for proposals, where a bundle has MultiBox."""


class ClassifierSettings(Frozen):
    """How proposals are classified."""

    members: PositiveInt | Literal["all"] = "all"
    """How many of the bundle's networks look at each region, from the first on."""
    cascade: float = Field(0.05, ge=0, lt=1)
    """Regions that can hardly become detections are not shown to the next network: those to which
    the networks so far give less than this in the mean, whatever the class, and those clearly worse
    than one that suppresses them. 0 shows all to all."""
    precision: Literal["auto", "int8", "bfloat16", "float32"] = "auto"
    """Of the networks' arithmetic. "auto" is the fastest that is native: "int8", with OpenVINO and
    a bundle that has the ranges for it, "bfloat16", or "float32"."""
    batch_size: Annotated[int, Field(ge=1, le=4096)] | Literal["auto"] = "auto"
    """Crops to a batch; the last one is filled up. "auto" is what suits the device."""


class DetectionSettings(Frozen):
    """Which classified proposals are reported."""

    score_threshold: float = Field(0.05, ge=0, le=1)
    nms_iou: float = Field(0.3, ge=0, le=1)
    """Of two boxes of a class that overlap by more, the better one is kept."""
    max_detections: PositiveInt | Literal["all"] = 100
    """For each image."""
    max_detections_per_class: PositiveInt | Literal["all"] = "all"
    """For each image and class."""
    classes: tuple[str, ...] | Literal["all"] = "all"
    """The classes to report."""


class Settings(Frozen):
    """The settings of a detector. The defaults here are the preset `default`."""

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
        base: Mapping[str, Any] | None = None,
        scoring: bool = False,
    ) -> Self:
        """Settings from a preset, then a TOML file, then `table.key=value` assignments.

        Args:
            base: tables below all of these: a bundle's own defaults.
            scoring: take the preset `paper`'s detections in place of the preset's, since average
                precision needs the tail of low scores.

        Raises:
            SettingsError: an unknown preset, key or value, naming where it stands.
        """
        layers = [("the bundle", dict(base or {})), (f"preset {preset}", read_preset(preset))]
        if scoring:
            layers.append(("preset paper", {"detections": read_preset("paper")["detections"]}))
        if config is not None:
            layers.append((str(config), read_toml(config)))
        layers += [(f"--set {text}", parse_assignment(text)) for text in assignments]
        return layered(cls, layers)

    def replace(self, **tables: Mapping[str, Any]) -> Self:
        """A copy in which the given keys of the given tables have other values.

        Raises:
            SettingsError: a value is not allowed.
        """
        merged = merge(self.model_dump(), tables)
        check(type(self), merged, "option")
        return type(self).model_validate(merged)


def layered(model: type[Model], layers: Sequence[tuple[str, Mapping[str, Any]]]) -> Model:
    """A model of tables laid over each other, each with the place where it stands.

    Raises:
        SettingsError: naming the place where it went wrong.
    """
    merged: dict[str, Any] = {}
    for _, tables in layers:
        merged = merge(merged, tables)
    try:  # all at once: values that only go together may come from several places
        return model.model_validate(merged)
    except ValidationError:
        merged = {}
        for place, tables in layers:
            merged = merge(merged, tables)
            check(model, merged, place)
        raise


def check(model: type[BaseModel], values: Any, place: str) -> None:
    """Hold `values` against `model`.

    Raises:
        SettingsError: naming `place`, the key, what is wrong, and what is allowed.
    """
    try:
        model.model_validate(values)
    except ValidationError as error:
        raise SettingsError(f"{place}: {describe(error, model)}") from error


def describe(error: ValidationError, model: type[BaseModel]) -> str:
    """The first complaint of a validation in one line: key, what is allowed, what was given."""
    errors = error.errors()
    first = errors[0]
    if first["type"] == "json_invalid":
        return first["msg"]
    where, table = _field(first, model)
    if first["type"] == "extra_forbidden":
        key = ".".join(map(str, first["loc"]))
        return f"unknown key {key}; known here: {', '.join(table.model_fields)}"
    reasons = [item["msg"] for item in errors if _field(item, model)[0] == where]
    return f"{where}: {'; or: '.join(reasons)}; not {first['input']!r}"


def _field(error: ErrorDetails, model: type[BaseModel]) -> tuple[str, type[BaseModel]]:
    """The key that an error is about, without pydantic's names for alternatives, and its table."""
    where: list[str] = []
    for part in error["loc"]:
        field = model.model_fields.get(str(part))
        if field is None and not isinstance(part, int):
            break
        where.append(str(part))
        if (
            field is not None
            and isinstance(field.annotation, type)
            and issubclass(field.annotation, BaseModel)
        ):
            model = field.annotation
    return ".".join(where), model


def merge(lower: Mapping[str, Any], upper: Mapping[str, Any]) -> dict[str, Any]:
    """Tables of `upper` laid over those of `lower`, key by key."""
    merged = dict(lower)
    for key, value in upper.items():
        below = merged.get(key)
        both = isinstance(value, Mapping) and isinstance(below, Mapping)
        merged[key] = merge(dict(below or {}), value) if both else value
    return merged


def read_toml(path: Path) -> dict[str, Any]:
    """A TOML file's tables.

    Raises:
        SettingsError: the file is missing or not TOML; the message has the line.
    """
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise SettingsError(f"{path}: cannot be read: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path}: not TOML: {error}") from error


def read_preset(name: str) -> dict[str, Any]:
    """The tables of one of the named settings files."""
    if name not in PRESETS:
        raise SettingsError(f"unknown preset {name!r}: allowed are {', '.join(PRESETS)}")
    return read_toml(configs() / f"{name}.toml")


def configs() -> Path:
    """The folder of settings files: in the wheel inside the package, in a checkout beside it."""
    package = Path(__file__).parent
    inside = package / "configs"
    return inside if inside.is_dir() else package.parent / "configs"


def parse_assignment(text: str) -> dict[str, Any]:
    """`table.key=value`, or `key=value` of what stands in no table, as tables; the value is TOML,
    or else a bare string.

    Raises:
        SettingsError: there is no `=`, or no key.
    """
    path, equals, value = text.partition("=")
    table, dot, key = path.strip().rpartition(".")
    if not (equals and key and bool(table) == bool(dot)):
        raise SettingsError(f"--set {text}: must be table.key=value")
    try:
        parsed = tomllib.loads(f"value = {value}")["value"]
    except tomllib.TOMLDecodeError:
        parsed = value.strip()
    return {table: {key: parsed}} if table else {key: parsed}
