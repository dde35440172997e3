"""How many proposals doubled superpixels leave of R-CNN's fast mode, and at what coverage.

python benchmarks/superpixels.py --coco ANNOTATIONS.json --images DIR [--count 50]
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np

from detector.datasets import coco
from detector.images import load
from proposals import SelectiveSearch
from proposals.boxes import iou
from proposals.types import Superpixels


def main() -> None:
    parser = argparse.ArgumentParser(description="Doubled superpixels against R-CNN's fast mode.")
    parser.add_argument("--coco", type=Path, required=True, help="annotations")
    parser.add_argument("--images", type=Path, required=True, help="the folder of photos")
    parser.add_argument("--count", type=int, default=50, help="photos, from the first on")
    arguments = parser.parse_args()

    images = coco.read(arguments.coco).images[: arguments.count]
    modes: tuple[Superpixels, ...] = ("rcnn", "doubled")
    counts = dict.fromkeys(modes, 0)
    covered = dict.fromkeys(modes, 0)
    seconds = dict.fromkeys(modes, 0.0)
    objects = 0
    ratios = []
    for image in images:
        photo = load(arguments.images / image.file)
        boxes = image.boxes[~image.difficult]
        objects += len(boxes)
        found = {}
        for mode in modes:
            started = time.perf_counter()
            proposals = SelectiveSearch(superpixels=mode)(photo)
            seconds[mode] += time.perf_counter() - started
            found[mode] = len(proposals)
            counts[mode] += len(proposals)
            overlaps = iou(boxes, proposals.boxes).max(axis=1, initial=0)
            covered[mode] += int((overlaps >= 0.5).sum())
        ratios.append(found["doubled"] / found["rcnn"])
    print(f"{len(images)} photos, {objects} objects (difficult ones left out)")
    print(f"{'superpixels':<12}{'boxes':>8}{'coverage':>10}{'seconds':>9}  an image")
    for mode in modes:
        n = len(images)
        coverage = covered[mode] / objects
        print(f"{mode:<12}{counts[mode] / n:>8.0f}{coverage:>10.3f}{seconds[mode] / n:>9.2f}")
    low, high = np.percentile(ratios, [10, 90])
    print(
        f"doubled / rcnn: {counts['doubled'] / counts['rcnn']:.3f} (10-90 %: {low:.2f}-{high:.2f})"
    )


if __name__ == "__main__":
    main()
