"""Drawings of the most confident mistakes of each kind, and of the largest missed objects."""

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
"""Largest number of drawings for each kind of mistake."""

MOST_UNREADABLE = 100
"""Number of images that cannot be read after which no more are tried."""

SIDE = 280
"""Longer side of a drawing in pixels."""

FOUND = "#ff4d4d"
"""Colour of a detection."""

OBJECT = "#4dff88"
"""Colour of an object."""

Box = Sequence[float]


class Mistake(NamedTuple):
    """A mistake: the detection, and the object that it is about."""

    kind: str
    file: str
    found: str | None
    score: float | None
    box: Box | None
    object: str | None
    object_box: Box | None


class Picture(NamedTuple):
    """A mistake, and its image with both boxes as a `data:` URL."""

    mistake: Mistake
    address: str


class Gallery:
    """Collects drawings of the first mistakes of each kind whose image can be read.

    Args:
        photos: Folder of the images, if there is one.
    """

    def __init__(self, photos: Path | None) -> None:
        self.pictures: dict[str, list[Picture]] = {kind: [] for kind in KINDS}
        self._photos = photos
        self._unreadable = 0

    def offer(self, mistake: Mistake) -> None:
        """Draw a mistake, unless its kind has enough drawings."""
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
    """Yield all mistakes by kind, the most confident first; missed objects by descending area."""
    names = list(truth.classes)
    objects = mistakes.objects
    labels = objects.keys % len(names)
    images = objects.keys // len(names)
    for kind, name in enumerate(KINDS[:MISSED]):
        chosen = np.flatnonzero(mistakes.kinds == kind)
        for n in chosen[np.argsort(-found.scores[chosen], kind="stable")].tolist():
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
        file = truth.images[images[n]].file
        box = objects.boxes[n].tolist()
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
