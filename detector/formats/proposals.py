"""Proposals as JSON lines, one image in a line: file, width, height, boxes, scores, sources."""

from __future__ import annotations

import json
import weakref
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from detector.common.json_fields import are_numbers, is_whole
from detector.common.text_files import open_file
from detector.errors import FormatError, MissingProposals
from proposals import Proposals

LARGEST_SCORE = float(np.finfo(np.float32).max)
"""Largest score that float32 can hold."""


def to_json(file: str, width: int, height: int, proposals: Proposals) -> dict[str, Any]:
    """Return the proposals of an image as JSON values.

    Args:
        file: Name of the image.
        width: Width of the upright image in pixels.
        height: Height of the upright image in pixels.
        proposals: The proposals. Their scores are rounded to six decimals.
    """
    return {
        "file": file,
        "width": width,
        "height": height,
        "boxes": proposals.boxes.astype(int).tolist(),
        "scores": [round(score, 6) for score in proposals.scores.tolist()],
        "sources": proposals.sources.tolist(),
    }


def from_json(line: Mapping[str, Any]) -> Proposals:
    """Make proposals, in canonical order, from JSON values.

    Raises:
        KeyError, TypeError, ValueError, OverflowError: The values do not describe proposals, a box
            is not in whole pixels or has no area inside the image, or the numbers of boxes, scores
            and sources differ.
    """
    if not all(are_numbers(box, 4) for box in line["boxes"]):
        raise TypeError("each box must be four numbers")
    if not are_numbers(line["scores"], len(line["boxes"])):
        raise TypeError("scores must be a list of numbers, one for each box")
    if not all(abs(score) <= LARGEST_SCORE for score in line["scores"]):  # not NaN either
        raise ValueError("scores must be finite")
    sources = line["sources"]
    if not (isinstance(sources, list) and all(isinstance(source, str) for source in sources)):
        raise TypeError("sources must be a list of texts, one for each box")
    if not (is_whole(line["width"]) and is_whole(line["height"])):
        raise TypeError("width and height must be whole numbers")
    boxes = np.array(line["boxes"], np.float32).reshape(-1, 4)
    x1, y1, x2, y2 = boxes.T

    # Comparisons with NaN are false, so NaN is refused as well.
    valid = (x1 >= 0) & (y1 >= 0) & (x1 < x2) & (y1 < y2)
    valid &= (x2 <= line["width"]) & (y2 <= line["height"])
    valid &= (boxes == boxes.round()).all(axis=1)
    if not valid.all():
        raise ValueError(
            f"box {boxes[~valid][0].tolist()} must be x1 < x2, y1 < y2 in whole pixels inside the "
            f"{line['width']}x{line['height']} image"
        )

    scores = np.array(line["scores"], np.float32)
    unsorted = Proposals(boxes, scores, np.array(sources, np.str_))  # checks that the lengths agree
    order = np.lexsort((y2, x2, y1, x1))
    return Proposals(unsorted.boxes[order], unsorted.scores[order], unsorted.sources[order])


class _Line(NamedTuple):
    """Position of a line in a file."""

    number: int
    """Counted from 1."""
    offset: int
    """In bytes."""


class ProposalsFile:
    """A file of proposals that is read one image at a time, so that any size fits in memory.

    Args:
        path: The file. It stays open until the object is deleted.

    Raises:
        FormatError: The file cannot be read or is a pipe or a device, or a line is not JSON with
            the name of an image.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lines: dict[str, _Line] = {}
        """Lines by the image's name."""
        self._file = open_file(path)
        weakref.finalize(self, self._file.close)

        offset = 0
        for number, line in enumerate(self._file, start=1):
            try:
                name = json.loads(line)["file"]
                if not isinstance(name, str):
                    raise TypeError("file must be a text")
            except (ValueError, KeyError, TypeError, RecursionError) as error:
                raise FormatError(
                    path, 'must be an object with "file", "boxes", …', number
                ) from error
            if name in self._lines:
                raise FormatError(path, f"{name} is there twice", number)
            self._lines[name] = _Line(number, offset)
            offset += len(line)

    def get(self, name: str, width: int, height: int) -> Proposals:
        """Return the proposals of an image.

        Args:
            name: Name of the image.
            width: Width of the upright image in pixels.
            height: Height of the upright image in pixels.

        Raises:
            MissingProposals: The file does not have the image, or has it in another size, or its
                line does not describe proposals.
        """
        if name not in self._lines:
            raise MissingProposals(name, "the given proposals have none for it")
        number, offset = self._lines[name]
        self._file.seek(offset)
        line = json.loads(self._file.readline())

        try:
            proposals = from_json(line)
            stored_width = line["width"]
            stored_height = line["height"]
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise MissingProposals(
                name, f"line {number} of the given proposals is wrong: {error}"
            ) from error

        if (stored_width, stored_height) != (width, height):
            raise MissingProposals(
                name,
                f"is {width}x{height}, the given proposals are for {stored_width}x{stored_height}",
            )
        return proposals
