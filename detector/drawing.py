"""Drawing detections over their image."""

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
"""Detections with lower scores are not drawn by default: a hundred boxes hide the image, and few of
the weak ones are right (docs/results.md)."""

JPEG_LIMIT = 65_500
"""Largest side of a JPEG, in pixels."""

GOLDEN_RATIO = 0.618034

Area = tuple[float, float, float, float]
"""x1, y1, x2, y2 in pixels."""


def draw(
    image: Image,
    detections: Iterable[Detection],
    classes: Sequence[str],
    minimum_score: float = MINIMUM_SCORE,
) -> PillowImage.Image:
    """Return a copy of an image with a box, class and score for each detection.

    Args:
        image: RGB `uint8 [H, W, 3]`.
        detections: Detections, best first.
        classes: All class names. A class has the same colour in all images.
        minimum_score: Detections with lower scores are left out.
    """
    drawing = PillowImage.fromarray(image)
    canvas = ImageDraw.Draw(drawing)
    detections = [detection for detection in detections if detection.score >= minimum_score]

    # Lines and text grow with the image, but not with the length of a narrow strip.
    scale = min(max(drawing.size), 4 * min(drawing.size))
    line_width = max(2, round(scale / 250))
    font = ImageFont.load_default(size=max(12, scale / 36))

    # The best detection is the first to choose the position of its caption.
    captions: list[Area] = []
    for label, score, box in detections:
        left, top, right, bottom = canvas.textbbox((0, 0), _caption(label, score), font=font)
        size = (right - left + 2 * line_width, bottom - top + 2 * line_width)
        captions.append(_free_area(box, size, drawing.size, captions))

    # It is the last to be drawn, so that it is on top. All captions are on top of all boxes.
    worst_first = list(zip(detections, captions, strict=True))[::-1]
    for (label, _, (x1, y1, x2, y2)), _ in worst_first:
        outline = (x1, y1, max(x1, x2 - 1), max(y1, y2 - 1))
        canvas.rectangle(outline, None, colour(label, classes), line_width)
    for (label, score, _), area in worst_first:
        text = _caption(label, score)
        left, top, _, _ = canvas.textbbox((0, 0), text, font=font)
        origin = (area[0] + line_width - left, area[1] + line_width - top)
        canvas.rectangle(area, colour(label, classes))
        canvas.text(origin, text, "black", font=font)
    return drawing


def save(drawing: PillowImage.Image, path: Path, content: bytes) -> None:
    """Write a drawing as JPEG. It is made smaller, in place, if it is too large for a JPEG.

    Args:
        drawing: The drawing.
        path: The file to write.
        content: The detections that it shows, in any encoding. Their digest becomes the comment of
            the file, so that `is_drawing_of` can recognise it.
    """
    if max(drawing.size) > JPEG_LIMIT:
        drawing.thumbnail((JPEG_LIMIT, JPEG_LIMIT))
    with atomic_write(path) as file:
        drawing.save(file, format="JPEG", quality=90, comment=_digest(content))


def is_drawing_of(path: Path, content: bytes) -> bool:
    """Return whether a file is a drawing that was saved with this content."""
    try:
        with PillowImage.open(path) as drawing:
            return drawing.info.get("comment") == _digest(content)
    except OSError:
        return False


def colour(label: str, classes: Sequence[str]) -> tuple[int, int, int]:
    """Return the colour of a class: RGB from 0 to 255.

    It is bright, so that black text is legible on it, and far from the colours of neighbouring
    classes.
    """
    # Multiples of the golden ratio spread any number of hues evenly.
    hue = list(classes).index(label) * GOLDEN_RATIO % 1
    red, green, blue = colorsys.hls_to_rgb(hue, 0.7, 0.85)
    return round(red * 255), round(green * 255), round(blue * 255)


def _caption(label: str, score: float) -> str:
    return f"{label} {score:.2f}"


def _digest(content: bytes) -> bytes:
    return hashlib.sha256(content).hexdigest().encode()


def _free_area(
    box: Sequence[float],
    size: tuple[float, float],
    image_size: tuple[int, int],
    occupied: Sequence[Area],
) -> Area:
    """Return the area of a caption, without overlap with other captions if possible.

    Candidates are, in this order: above the box at its left; inside it at the upper left, upper
    right and lower left; below it at its left. Each is moved into the image.

    Args:
        box: x1, y1, x2, y2 in pixels.
        size: Width and height of the caption.
        image_size: Width and height of the image.
        occupied: Areas of the captions so far.
    """
    x1, y1, x2, y2 = box
    width, height = size
    image_width, image_height = image_size

    candidates = []
    for x, y in ((x1, y1 - height), (x1, y1), (x2 - width, y1), (x1, y2 - height), (x1, y2)):
        x = min(max(x, 0), max(image_width - width, 0))
        y = min(max(y, 0), max(image_height - height, 0))
        candidates.append((x, y, x + width, y + height))

    for candidate in candidates:
        if not any(_overlap(candidate, other) for other in occupied):
            return candidate
    return candidates[0]


def _overlap(a: Area, b: Area) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]
