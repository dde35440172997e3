"""The settings that an operations team chooses."""

from __future__ import annotations

from pydantic import Field, PositiveFloat, PositiveInt, field_validator

from detector.common.config import Frozen
from detector.settings import PRESETS, Settings


class ServiceSettings(Frozen):
    """Limits of the service under load. None of them changes an answer."""

    presets: tuple[str, ...] = Field(("default", "fast"), min_length=1)
    """Presets that a request may ask for, besides the one that the service was started with."""
    workers: PositiveInt | None = None
    """Number of processes that decode images and propose boxes. By default one less than there are
    cores."""
    max_bytes: PositiveInt = 20 * 2**20
    """Largest size of a request's body in bytes."""
    max_waiting_bytes: PositiveInt = 200 * 2**20
    """Largest size of the bodies of all unanswered requests together, in bytes."""
    max_requests: PositiveInt = 64
    """Largest number of detections in work or waiting. Further ones are refused."""
    max_crops: PositiveInt = 40_000
    """Largest number of regions that wait for the classifier, over all requests. An image that
    would exceed it is refused, unless nothing else waits."""
    max_waiting_pixels: PositiveInt = 100_000_000
    """Largest number of pixels of the images that wait for the classifier or to be drawn, over all
    requests. Each pixel takes three bytes."""
    batch_crops: PositiveInt = 256
    """Number of regions from which a batch of images is full."""
    batch_wait: float = Field(0.005, ge=0, le=1)
    """Seconds that the classifier waits for more images if a batch is not full."""
    deadline: PositiveFloat = 60.0
    """Seconds from a request's first byte to its answer."""
    upload_deadline: PositiveFloat = 20.0
    """Seconds from a request's first byte to the last byte of its body."""
    drain_notice: float = Field(5.0, ge=0)
    """Seconds after SIGTERM in which the service says that it is not ready, and still serves."""
    drain: float = Field(30.0, ge=0)
    """Seconds that running requests then have to finish. New ones are refused."""
    cors_origins: tuple[str, ...] = ()
    """Web origins whose pages may call the service. "*" allows all."""

    @field_validator("presets")
    @classmethod
    def _check_presets(cls, presets: tuple[str, ...]) -> tuple[str, ...]:
        for name in presets:
            if name not in PRESETS:
                raise ValueError(f"{name!r} is no preset: allowed are {', '.join(PRESETS)}")
        return presets


class ServeSettings(Settings):
    """The settings of the detector and of the service, as one file has them."""

    service: ServiceSettings = ServiceSettings()

    def detector(self) -> Settings:
        """Return the settings of the detector alone."""
        return Settings.model_validate(self.model_dump(exclude={"service"}))
