"""The most confident mistakes of each kind, and the largest missed objects, as pictures."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image as PillowImage
from PIL import ImageDraw

from detector.datasets.ground_truth import GroundTruth
from detector.errors import ImageError
from detector.evaluation.matching import Found
from detector.evaluation.mistakes import KINDS, MISSED, Mistakes
from detector.images import load
from proposals import Image

OF_A_KIND = 12
MOST_UNREADABLE = 100
"""Photos, after which no more are tried."""

SIDE = 280
"""Pixels of a picture's longer side."""

FOUND, OBJECT = "#ff4d4d", "#4dff88"
"""The colours of a detection and of an object."""

Box = Sequence[float]


class Mistake(NamedTuple):
    """One mistake: what was found where, and the object that it is about."""

    kind: str
    file: str
    found: str | None
    score: float | None
    box: Box | None
    object: str | None
    object_box: Box | None


class Picture(NamedTuple):
    """A mistake and its photo with both boxes, as a `data:` address."""

    mistake: Mistake
    address: str


class Gallery:
    """Pictures of the first mistakes of each kind that are offered and whose photo can be read.

    Args:
        photos: the folder of the photos, if there is one.
    """

    def __init__(self, photos: Path | None) -> None:
        self.pictures: dict[str, list[Picture]] = {kind: [] for kind in KINDS}
        self._photos = photos
        self._unreadable = 0

    def offer(self, mistake: Mistake) -> None:
        """Draw a mistake, unless there are enough of its kind."""
        shown = self.pictures[mistake.kind]
        if self._photos is None or len(shown) == OF_A_KIND or self._unreadable == MOST_UNREADABLE:
            return
        try:
            photo = load(self._photos / mistake.file)
        except ImageError:
            self._unreadable += 1
            return
        shown.append(Picture(mistake, _draw(mistake, photo)))


def listing(truth: GroundTruth, found: Found, mistakes: Mistakes) -> Iterator[Mistake]:
    """All mistakes: by kind, the most confident first; missed objects by falling area."""
    names = list(truth.classes)
    objects = mistakes.objects
    labels, images = objects.keys % len(names), objects.keys // len(names)
    for kind, name in enumerate(KINDS[:MISSED]):
        mine = np.flatnonzero(mistakes.kinds == kind)
        for n in mine[np.argsort(-found.scores[mine], kind="stable")].tolist():
            about = int(mistakes.about[n])
            yield Mistake(
                name,
                truth.images[found.images[n]].file,
                names[found.labels[n]],
                float(found.scores[n]),
                found.boxes[n].tolist(),
                names[labels[about]] if about >= 0 else None,
                objects.boxes[about].tolist() if about >= 0 else None,
            )
    areas = (objects.boxes[:, 2:] - objects.boxes[:, :2]).prod(axis=1)
    missed = np.flatnonzero(mistakes.missed)
    for n in missed[np.argsort(-areas[missed], kind="stable")].tolist():
        file, box = truth.images[images[n]].file, objects.boxes[n].tolist()
        yield Mistake(KINDS[MISSED], file, None, None, None, names[labels[n]], box)


def _draw(mistake: Mistake, photo: Image) -> str:
    picture = PillowImage.fromarray(photo)
    scale = SIDE / max(picture.size)
    size = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
    picture = picture.resize(size, PillowImage.Resampling.LANCZOS)
    pen = ImageDraw.Draw(picture)
    for box, colour in ((mistake.object_box, OBJECT), (mistake.box, FOUND)):
        if box:
            x1, y1, x2, y2 = (scale * side for side in box)
            pen.rectangle((x1, y1, max(x1, x2 - 1), max(y1, y2 - 1)), None, colour, 3)
    content = io.BytesIO()
    picture.save(content, "JPEG", quality=80)
    return f"data:image/jpeg;base64,{base64.b64encode(content.getvalue()).decode()}"
