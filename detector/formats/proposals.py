"""Proposals as JSON lines, one an image: file, width, height, boxes, scores, sources."""

from __future__ import annotations

import json
import weakref
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from detector.errors import FormatError, MissingProposals
from proposals import Proposals


def to_json(file: str, width: int, height: int, proposals: Proposals) -> dict[str, Any]:
    """The line of an image."""
    return {
        "file": file,
        "width": width,
        "height": height,
        "boxes": proposals.boxes.astype(int).tolist(),
        "scores": [round(score, 6) for score in proposals.scores.tolist()],
        "sources": proposals.sources.tolist(),
    }


def from_json(line: Mapping[str, Any]) -> Proposals:
    """The proposals of a line, in canonical order.

    Raises:
        KeyError, TypeError, ValueError, OverflowError: it is none, or a box has no area inside
            the image or is not in whole pixels, or there is not a score and a source for each.
    """
    boxes = np.array(line["boxes"], np.float32).reshape(-1, 4)
    x1, y1, x2, y2 = boxes.T
    good = (x1 >= 0) & (y1 >= 0) & (x1 < x2) & (y1 < y2)
    good &= (x2 <= line["width"]) & (y2 <= line["height"]) & (boxes == boxes.round()).all(axis=1)
    if not good.all():
        raise ValueError(
            f"box {boxes[~good][0].tolist()} must be x1 < x2, y1 < y2 in whole pixels inside the "
            f"{line['width']}x{line['height']} image"
        )
    given = Proposals(
        boxes, np.array(line["scores"], np.float32), np.array(line["sources"], np.str_)
    )
    order = np.lexsort((y2, x2, y1, x1))
    return Proposals(boxes[order], given.scores[order], given.sources[order])


class ProposalsFile:
    """A file of proposals, read image by image.

    Raises:
        FormatError: it is missing, or a line is not one of proposals.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._places: dict[str, tuple[int, int]] = {}  # line's number and offset
        try:
            self._file: BinaryIO = open(path, "rb")  # noqa: SIM115 - closed with the object
        except OSError as error:
            raise FormatError(path, f"cannot be read: {error.strerror}") from error
        weakref.finalize(self, self._file.close)
        offset = 0
        for number, line in enumerate(self._file, start=1):
            try:
                self._places[json.loads(line)["file"]] = number, offset
            except (ValueError, KeyError, TypeError) as error:
                raise FormatError(
                    path, 'must be an object with "file", "boxes", …', number
                ) from error
            offset += len(line)

    def get(self, name: str, width: int, height: int) -> Proposals:
        """The proposals of an image of that size.

        Raises:
            MissingProposals: the file has none for it, or for one of another size, or its line is
                not one of proposals.
        """
        if name not in self._places:
            raise MissingProposals(name, "the given proposals have none for it")
        number, offset = self._places[name]
        self._file.seek(offset)
        line = json.loads(self._file.readline())
        try:
            proposals, size = from_json(line), (line["width"], line["height"])
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise MissingProposals(
                name, f"line {number} of the given proposals is wrong: {error}"
            ) from error
        if size != (width, height):
            raise MissingProposals(
                name, f"is {width}x{height}, the given proposals are for {size[0]}x{size[1]}"
            )
        return proposals
