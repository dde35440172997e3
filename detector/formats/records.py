"""What a run records of an image: its detections, or the reason why there are none."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from detector.results import Detection
from detector.settings import Settings


@dataclass(frozen=True)
class Header:
    """What holds for all images of a run."""

    bundle: Mapping[str, str]
    settings: Mapping[str, Any]
    classes: tuple[str, ...]

    @classmethod
    def of_bundle(
        cls, name: str, sha256: str, settings: Settings, classes: tuple[str, ...]
    ) -> Header:
        """Return the header of a run with a bundle of this name and digest."""
        bundle = {"name": name, "sha256": sha256}
        return cls(bundle, settings.model_dump(mode="json"), classes)


@dataclass(frozen=True)
class Entry:
    """An image and what was found in it; width and height in pixels."""

    file: str
    width: int
    height: int
    proposals: Mapping[str, int]
    detections: tuple[Detection, ...]

    def to_json(self) -> dict[str, Any]:
        """The entry as it stands in files."""
        return {
            "file": self.file,
            "width": self.width,
            "height": self.height,
            "proposals": dict(self.proposals),
            "detections": [
                {"label": label, "score": score, "box": list(box)}
                for label, score, box in self.detections
            ],
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Entry:
        """The entry of a file's JSON.

        Raises:
            KeyError, TypeError, ValueError, OverflowError: it is none.
        """
        file, width, height = value["file"], value["width"], value["height"]
        if not (isinstance(file, str) and isinstance(width, int) and isinstance(height, int)):
            raise TypeError("file must be a text, width and height must be whole numbers")
        found = tuple(map(_detection, value["detections"]))
        return cls(file, width, height, value.get("proposals", {}), found)


@dataclass(frozen=True)
class Failure:
    """An image that could not be used: the error's code and message."""

    file: str
    error: str
    message: str

    def to_json(self) -> dict[str, str]:
        """The failure as it stands in files."""
        return {"file": self.file, "error": self.error, "message": self.message}


def _detection(item: Mapping[str, Any]) -> Detection:
    label, score = item["label"], float(item["score"])
    x1, y1, x2, y2 = map(float, item["box"])
    if not isinstance(label, str):
        raise TypeError(f"label {label!r} must be a text")
    if not (
        math.isfinite(score) and -math.inf < x1 < x2 < math.inf and -math.inf < y1 < y2 < math.inf
    ):
        raise ValueError(f"score {score} and box {item['box']} must be finite, x1 < x2, y1 < y2")
    return Detection(label, score, (x1, y1, x2, y2))
