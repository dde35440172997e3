"""Records of the images of a run: the detections in each, or the reason why there are none."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from detector.common.json_fields import are_finite, are_numbers, is_number, is_whole, short
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
            ValueError: The values do not describe an entry. The message says which does not.
        """
        file = _field(value, "file")
        width = _field(value, "width")
        height = _field(value, "height")
        found = _field(value, "detections")
        if not (isinstance(file, str) and is_whole(width) and is_whole(height)):
            raise ValueError(
                "file must be a text, width and height must be whole numbers, "
                f"not {short(file)}, {short(width)} and {short(height)}"
            )
        if not isinstance(found, list):
            raise ValueError(f"detections must be a list, not {short(found)}")

        detections: list[Detection] = []
        for index, item in enumerate(found):
            try:
                detections.append(_detection_from_json(item))
            except ValueError as error:
                raise ValueError(f"detections[{index}]: {error}") from error
        return cls(file, width, height, value.get("proposals", {}), tuple(detections))


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


def _field(value: Any, key: str) -> Any:
    """Return a field of an object.

    Raises:
        ValueError: The value is no object, or lacks the field.
    """
    if not isinstance(value, dict):
        raise ValueError(f"must be an object, not {short(value)}")
    if key not in value:
        raise ValueError(f"lacks {key!r}")
    return value[key]


def _detection_from_json(item: Any) -> Detection:
    label = _field(item, "label")
    score = _field(item, "score")
    box = _field(item, "box")
    if not isinstance(label, str):
        raise ValueError(f"label {short(label)} must be a text")
    if not (is_number(score) and are_numbers(box, 4)):
        raise ValueError(f"score {short(score)} and box {short(box)} must be numbers")

    x1, y1, x2, y2 = box
    if not (are_finite([score, *box]) and x1 < x2 and y1 < y2):
        raise ValueError(
            f"score {short(score)} and box {short(box)} must be finite, x1 < x2, y1 < y2"
        )
    return Detection(label, float(score), (float(x1), float(y1), float(x2), float(y2)))
