"""Parameters and answers of the HTTP interface, as its OpenAPI description shows them."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

Box = Annotated[list[float], Field(min_length=4, max_length=4)]
PixelBox = Annotated[list[int], Field(min_length=4, max_length=4)]

Tables = dict[str, dict[str, Any]]
"""Tables of settings, without types: generated clients fail on values such as `int | "all"`."""


class Schema(BaseModel):
    """Base of all answers. The docstrings of the fields become their descriptions."""

    model_config = ConfigDict(use_attribute_docstrings=True)


class DetectQuery(Schema):
    """Query parameters of a detection."""

    score_threshold: float | None = Field(None, ge=0, le=1)
    """Least score of a detection. By default the preset's."""
    max_detections: int | None = Field(None, ge=1, le=1_000_000)
    """Largest number of detections. By default the preset's."""
    classes: str | None = None
    """Names of the classes to report, separated by commas. By default all."""
    preset: str | None = None
    """Name of a preset. GET /model lists them. By default the first one."""
    include: Literal["proposals"] | None = None
    """With "proposals" the answer also has all boxes that were classified."""


class Detection(Schema):
    """An object in the image."""

    label: str
    """Name of the class."""
    score: float
    """Score between 0 and 1."""
    box: Box
    """x1, y1, x2, y2 in pixels of the upright image, 0-based; x2 and y2 are exclusive."""


class Seconds(Schema):
    """Seconds that an image spent in each stage."""

    decode: float
    """Decoding of the file."""
    proposals: float
    """Search for boxes."""
    classify: float
    """The image's share of its batch's time in the classifier."""
    total: float
    """Time in the service, including the time in waiting lines, excluding the upload."""


class DetectResponse(Schema):
    """The objects in an image."""

    width: int
    """Width of the upright image in pixels."""
    height: int
    """Height of the upright image in pixels."""
    detections: list[Detection]
    """The objects, best first."""
    proposals: dict[str, int]
    """Number of boxes that each method proposed, and of all classified boxes ("merged")."""
    seconds: Seconds
    """Seconds that the image spent in each stage."""
    bundle: str
    """Name of the bundle and start of its digest."""
    request_id: str
    """The request's id, which the log has, too."""
    proposal_boxes: list[PixelBox] | None = None
    """All classified boxes, if the request asked for them with `include=proposals`."""


class ModelResponse(Schema):
    """The networks and the settings of the service."""

    name: str
    """Name of the bundle."""
    version: str
    """Version of the bundle."""
    sha256: str
    """Digest of the bundle."""
    classes: list[str]
    """Names of all classes."""
    members: int
    """Number of classifiers in the bundle."""
    multibox: bool
    """Whether the bundle has MultiBox."""
    presets: dict[str, Tables]
    """Settings of each preset that a request may name. The first one is the default."""
    max_bytes: int
    """Largest size of a request's body in bytes."""
    max_pixels: int
    """Largest width x height of an image."""


class Liveness(Schema):
    """Answer of the liveness probe."""

    status: Literal["alive"] = "alive"


class Readiness(Schema):
    """Answer of the readiness probe, unless the service is closing."""

    status: Literal["ready"] = "ready"


class ProblemDetails(Schema):
    """An error, as RFC 9457 describes it."""

    model_config = ConfigDict(title="Problem")

    type: str
    """Stable name of the kind of problem, such as "not-an-image"."""
    title: str
    """Text of the HTTP status."""
    status: int
    """The HTTP status."""
    detail: str
    """One line that says what was wrong and what is allowed."""
    request_id: str
    """The request's id, which the log has, too."""
