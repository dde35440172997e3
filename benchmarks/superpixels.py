"""Doubled superpixels against R-CNN's fast mode: number of proposals, coverage, and time.

python benchmarks/superpixels.py --coco ANNOTATIONS.json --images DIR [--count 50]
"""

from __future__ import annotations

import argparse
import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from detector.datasets import coco
from detector.images import load
from proposals import Image, SelectiveSearch
from proposals.boxes import iou
from proposals.types import Boxes, Superpixels

MODES: tuple[Superpixels, ...] = ("rcnn", "doubled")


@dataclass
class Tally:
    """Counts of one mode of selective search over all images.

    Args:
        boxes: Number of proposals of each image.
        covered: Number of objects with a proposal at IoU 0.5.
        seconds: Time of selective search.
    """

    boxes: list[int] = field(default_factory=list)
    covered: int = 0
    seconds: float = 0.0


def main() -> None:
    parser = argparse.ArgumentParser(description="Doubled superpixels against R-CNN's fast mode.")
    parser.add_argument("--coco", type=Path, required=True, help="annotations of the images")
    parser.add_argument("--images", type=Path, required=True, help="folder of images")
    parser.add_argument("--count", type=int, default=50, help="number of images, the first ones")
    arguments = parser.parse_args()

    images = coco.read(arguments.coco).images[: arguments.count]
    tallies = {mode: Tally() for mode in MODES}
    objects = 0
    for image in images:
        pixels = load(arguments.images / image.file)
        boxes = image.boxes[~image.difficult]
        objects += len(boxes)
        for mode in MODES:
            measure(mode, pixels, boxes, tallies[mode])
    print_table(tallies, len(images), objects)


def measure(mode: Superpixels, pixels: Image, objects: Boxes, tally: Tally) -> None:
    """Run selective search on an image and add the outcome to a tally.

    Args:
        mode: Size of the superpixels.
        pixels: RGB `uint8 [H, W, 3]`.
        objects: Boxes of the objects, `float32 [N, 4]`.
        tally: The mode's counts.
    """
    started = time.perf_counter()
    proposals = SelectiveSearch(superpixels=mode)(pixels)
    tally.seconds += time.perf_counter() - started

    tally.boxes.append(len(proposals))
    best = iou(objects, proposals.boxes).max(axis=1, initial=0)
    tally.covered += int((best >= 0.5).sum())


def print_table(tallies: dict[Superpixels, Tally], images: int, objects: int) -> None:
    """Print a row for each mode, and the ratio of their numbers of boxes."""
    print(f"{images} images, {objects} objects (difficult ones left out)")
    print(f"{'superpixels':<12}{'boxes':>8}{'coverage':>10}{'seconds':>9}  an image")
    for mode, tally in tallies.items():
        boxes = sum(tally.boxes) / images
        coverage = tally.covered / objects
        print(f"{mode:<12}{boxes:>8.0f}{coverage:>10.3f}{tally.seconds / images:>9.2f}")

    doubled = np.array(tallies["doubled"].boxes)
    fast_mode = np.array(tallies["rcnn"].boxes)
    low, high = np.percentile(doubled / fast_mode, [10, 90])
    ratio = doubled.sum() / fast_mode.sum()
    print(f"doubled / rcnn: {ratio:.3f} (10-90 %: {low:.2f}-{high:.2f})")


if __name__ == "__main__":
    main()
