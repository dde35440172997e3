"""Detections drawn over their photo."""

from __future__ import annotations

import colorsys
import hashlib
from collections.abc import Iterable, Sequence
from pathlib import Path

from PIL import Image as PillowImage
from PIL import ImageDraw, ImageFont

from detector.common.atomic_io import atomic_write
from detector.results import Detection
from proposals import Image

MINIMUM_SCORE = 0.8
"""Weaker detections are not drawn: a hundred boxes hide the photo, and few of them are right
(docs/results.md)."""

JPEG_LIMIT = 65_500
"""Pixels a side."""

Area = tuple[float, float, float, float]


def draw(
    image: Image,
    detections: Iterable[Detection],
    classes: Sequence[str],
    minimum_score: float = MINIMUM_SCORE,
) -> PillowImage.Image:
    """The photo with a box, class and score for each detection.

    Args:
        image: RGB `uint8 [H, W, 3]`.
        classes: all class names; a class always has the same colour among them.
        minimum_score: detections of lower ones are left out.
    """
    picture = PillowImage.fromarray(image)
    pen = ImageDraw.Draw(picture)
    scale = min(max(picture.size), 4 * min(picture.size))  # strips have thin lines, too
    stroke = max(2, round(scale / 250))
    font = ImageFont.load_default(size=max(12, scale / 36))
    strong = [found for found in detections if found.score >= minimum_score]
    captions: list[Area] = []
    for label, score, box in strong:  # the best one chooses its place first
        left, top, right, bottom = pen.textbbox((0, 0), _text(label, score), font=font)
        size = (right - left + 2 * stroke, bottom - top + 2 * stroke)
        captions.append(_free_place(box, size, picture.size, captions))
    worst_first = list(zip(strong, captions, strict=True))[::-1]  # so the best one is on top
    for (label, _, (x1, y1, x2, y2)), _ in worst_first:
        outline = (x1, y1, max(x1, x2 - 1), max(y1, y2 - 1))
        pen.rectangle(outline, None, colour(label, classes), stroke)
    for (label, score, _), area in worst_first:
        text = _text(label, score)
        left, top, _, _ = pen.textbbox((0, 0), text, font=font)
        pen.rectangle(area, colour(label, classes))
        pen.text((area[0] + stroke - left, area[1] + stroke - top), text, "black", font=font)
    return picture


def _text(label: str, score: float) -> str:
    return f"{label} {score:.2f}"


def save(picture: PillowImage.Image, path: Path, about: bytes) -> None:
    """Write a picture as JPEG, made smaller if it is too large for one.

    Args:
        about: what it shows, whose digest is kept in it.
    """
    if max(picture.size) > JPEG_LIMIT:
        picture.thumbnail((JPEG_LIMIT, JPEG_LIMIT))
    with atomic_write(path) as file:
        picture.save(file, format="JPEG", quality=90, comment=_digest(about))


def is_about(path: Path, about: bytes) -> bool:
    """Is there a picture that was saved as showing this?"""
    try:
        with PillowImage.open(path) as picture:
            return picture.info.get("comment") == _digest(about)
    except OSError:
        return False


def _digest(about: bytes) -> bytes:
    return hashlib.sha256(about).hexdigest().encode()


def colour(label: str, classes: Sequence[str]) -> tuple[int, int, int]:
    """A bright colour of the class's own, far from its neighbours': black text is legible on it."""
    hue = list(classes).index(label) * 0.618034 % 1  # the golden ratio spreads any number of hues
    red, green, blue = colorsys.hls_to_rgb(hue, 0.7, 0.85)
    return round(red * 255), round(green * 255), round(blue * 255)


def _free_place(
    box: Sequence[float], size: tuple[float, float], picture: tuple[int, int], taken: list[Area]
) -> Area:
    """Where a label goes: over its box or at one of its inner corners, not on another label."""
    x1, y1, x2, y2 = box
    width, height = size
    choices = []
    for x, y in ((x1, y1 - height), (x1, y1), (x2 - width, y1), (x1, y2 - height), (x1, y2)):
        x = min(max(x, 0), max(picture[0] - width, 0))
        y = min(max(y, 0), max(picture[1] - height, 0))
        choices.append((x, y, x + width, y + height))
    return next((place for place in choices if not any(_meet(place, t) for t in taken)), choices[0])


def _meet(a: Area, b: Area) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]
