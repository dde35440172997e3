"""`dets.json`: detections as this program writes and reads them.

Nothing in it tells the time or a path of the machine, so that the same images, bundle and
settings give the same bytes.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from detector.common.atomic_io import encode, read_json, replacing
from detector.errors import FormatError
from detector.formats.image_lists import ImageList
from detector.regions.nms import Detection

FORMAT = "detections/1"


@dataclass(frozen=True)
class Header:
    """What holds for all images of a run."""

    bundle: Mapping[str, str]
    settings: Mapping[str, Any]
    classes: tuple[str, ...]


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


def write(
    path: Path, header: Header, records: Iterable[Entry | Failure], image_list: ImageList
) -> None:
    """Write a file, image after image."""
    failures = []
    with replacing(path) as file:
        start = {
            "format": FORMAT,
            "bundle": dict(header.bundle),
            "settings": dict(header.settings),
            "classes": list(header.classes),
        }
        file.write(encode(start)[:-1] + b',\n "images": [')
        separator = b"\n"
        for record in records:
            if isinstance(record, Failure):
                failures.append(record.to_json())
                continue
            file.write(separator + encode(record.to_json()))
            separator = b",\n"
        file.write(b'\n],\n "failed": ' + encode(failures) + b"}\n")


def read(path: Path) -> tuple[tuple[str, ...], list[Entry]]:
    """The classes and the images of a file.

    Raises:
        FormatError: it is missing or not in this format.
    """
    content = read_json(path)
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise FormatError(path, f'must be an object with "format": "{FORMAT}"')
    for key in ("classes", "images"):
        if not isinstance(content.get(key, []), list):
            raise FormatError(path, f'"{key}" must be a list')
    entries = []
    for number, value in enumerate(content.get("images", [])):
        try:
            entries.append(Entry.from_json(value))
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise FormatError(
                path, f"images[{number}] is not an image's entry: {error!r}"
            ) from error
    return tuple(content.get("classes", ())), entries


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
