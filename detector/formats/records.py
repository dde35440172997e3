"""Records of the images of a run: the detections in each, or the reason why there are none."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from detector.common.json_fields import are_numbers, is_number, is_whole, short
from detector.results import Detection
from detector.settings import Settings


@dataclass(frozen=True)
class Header:
    """Properties that all images of a run share.

    Args:
        bundle: The bundle's "name" and "sha256".
        settings: What results depend on, as JSON values.
        classes: Names of the bundle's classes, in the order of their labels.
    """

    bundle: Mapping[str, str]
    settings: Mapping[str, Any]
    classes: tuple[str, ...]

    @classmethod
    def of_bundle(
        cls, name: str, sha256: str, settings: Settings, classes: tuple[str, ...]
    ) -> Header:
        """Return the header of a run with a bundle of this name and digest."""
        bundle = {"name": name, "sha256": sha256}
        return cls(bundle, settings.recorded(), classes)


@dataclass(frozen=True)
class Entry:
    """The detections in one image.

    Args:
        file: Name of the image: its path relative to the folder of the images.
        width: Width of the upright image in pixels.
        height: Height of the upright image in pixels.
        proposals: Number of boxes that each source proposed, and after the merge ("merged").
        detections: The detections, best first.
    """

    file: str
    width: int
    height: int
    proposals: Mapping[str, int]
    detections: tuple[Detection, ...]

    def to_json(self) -> dict[str, Any]:
        """Return the entry as JSON values."""
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
        """Make an entry from JSON values.

        Raises:
            KeyError, TypeError, ValueError, OverflowError: The values do not describe an entry.
        """
        file = value["file"]
        width = value["width"]
        height = value["height"]
        if not (isinstance(file, str) and is_whole(width) and is_whole(height)):
            raise TypeError("file must be a string, width and height must be whole numbers")
        found = value["detections"]
        if not isinstance(found, list):
            raise TypeError(f"detections must be a list, not {short(found)}")
        detections = tuple(map(_detection_from_json, found))
        return cls(file, width, height, value.get("proposals", {}), detections)


@dataclass(frozen=True)
class Failure:
    """An image that could not be used.

    Args:
        file: Name of the image.
        error: Code of the error, such as "truncated-image".
        message: Message of the error.
    """

    file: str
    error: str
    message: str

    def to_json(self) -> dict[str, str]:
        """Return the failure as JSON values."""
        return {"file": self.file, "error": self.error, "message": self.message}


def _detection_from_json(item: Mapping[str, Any]) -> Detection:
    label = item["label"]
    score = item["score"]
    box = item["box"]
    if not isinstance(label, str):
        raise TypeError(f"label {short(label)} must be a string")
    if not (is_number(score) and are_numbers(box, 4)):
        raise TypeError(f"score {short(score)} and box {short(box)} must be numbers")
    x1, y1, x2, y2 = map(float, box)
    if not (
        math.isfinite(score) and -math.inf < x1 < x2 < math.inf and -math.inf < y1 < y2 < math.inf
    ):
        raise ValueError(f"score {score} and box {box} must be finite, x1 < x2, y1 < y2")
    return Detection(label, float(score), (x1, y1, x2, y2))
