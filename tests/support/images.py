"""Synthetic images, with and without annotations."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from PIL import Image as PillowImage

from proposals import Image


def scene(seed: int, width: int = 120, height: int = 90) -> Image:
    """A synthetic photo: a few coloured rectangles on grey, `uint8 [H, W, 3]`."""
    rng = np.random.default_rng(seed)
    image = np.full((height, width, 3), 128, np.uint8)
    for _ in range(4):
        x1, x2 = np.sort(rng.choice(width + 1, 2, replace=False))
        y1, y2 = np.sort(rng.choice(height + 1, 2, replace=False))
        image[y1:y2, x1:x2] = rng.integers(0, 256, 3)
    return image


COLOURS = {"red": (200, 30, 30), "blue": (30, 30, 200)}
WIDTH, HEIGHT = 100, 80


def paint(folder: Path, count: int) -> Path:
    """Photos with a rectangle of each colour, and their annotations in COCO's format."""
    folder.mkdir(parents=True)
    annotations = []
    for number in range(count):
        rng = np.random.default_rng(number)
        photo = np.full((HEIGHT, WIDTH, 3), rng.integers(100, 140, 3), np.uint8)
        for label, colour in enumerate(COLOURS.values()):
            w, h = rng.integers(25, 45, 2)
            x, y = 50 * label + rng.integers(0, 50 - w + 1), rng.integers(0, HEIGHT - h + 1)
            photo[y : y + h, x : x + w] = colour
            box = [int(x), int(y), int(w), int(h)]
            annotations.append({"image_id": number, "category_id": label + 1, "bbox": box})
        PillowImage.fromarray(photo).save(folder / f"{number}.png")
    images = [
        {"id": n, "file_name": f"{n}.png", "width": WIDTH, "height": HEIGHT} for n in range(count)
    ]
    categories = [{"id": n, "name": name} for n, name in enumerate(COLOURS, start=1)]
    content = {"images": images, "annotations": annotations, "categories": categories}
    file = folder.with_suffix(".json")
    file.write_text(json.dumps(content))
    return file
