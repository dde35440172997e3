"""What an operations team sets."""

from __future__ import annotations

from pydantic import Field, PositiveFloat, PositiveInt, field_validator

from detector.common.config import Frozen
from detector.settings import PRESETS, Settings


class ServiceSettings(Frozen):
    """How the service behaves under load. Nothing here changes an answer."""

    presets: tuple[str, ...] = Field(("default", "fast"), min_length=1)
    """Those that a request may ask for, beside the one that the service was started with."""
    workers: PositiveInt | None = None
    """Processes that decode and propose; one less than there are cores, if not given."""
    max_bytes: PositiveInt = 20 * 2**20
    """Of a request's body."""
    max_requests: PositiveInt = 64
    """Detections in work or waiting; more are refused."""
    max_crops: PositiveInt = 40_000
    """Regions waiting for the classifier, over all requests; an image that would exceed it is
    refused, unless nothing else waits."""
    max_waiting_pixels: PositiveInt = 200_000_000
    """Of the images that wait for the classifier, over all requests; each takes three bytes."""
    batch_crops: PositiveInt = 256
    """The classifier takes up images together until they have so many regions."""
    batch_wait: float = Field(0.005, ge=0, le=1)
    """Seconds that the classifier waits for more, where there are fewer."""
    deadline: PositiveFloat = 60.0
    """Seconds from a request's first byte to its answer."""
    upload_deadline: PositiveFloat = 20.0
    """Seconds until the body must be there."""
    drain_notice: float = Field(5.0, ge=0)
    """Seconds after SIGTERM in which the service says that it is not ready, and still serves."""
    drain: float = Field(30.0, ge=0)
    """Seconds that running requests then have to finish; new ones are refused."""
    cors_origins: tuple[str, ...] = ()
    """Web origins whose pages may call the service; "*" for all."""

    @field_validator("presets")
    @classmethod
    def _known(cls, presets: tuple[str, ...]) -> tuple[str, ...]:
        for name in presets:
            if name not in PRESETS:
                raise ValueError(f"{name!r} is no preset: allowed are {', '.join(PRESETS)}")
        return presets


class ServeSettings(Settings):
    """The detector's settings and the service's, as one file has them."""

    service: ServiceSettings = ServiceSettings()

    def detector(self) -> Settings:
        """The detector's alone."""
        return Settings.model_validate(self.model_dump(exclude={"service"}))
