"""Measure where MultiBox's proposals help: coverage of selective search, MultiBox, and both.

    python benchmarks/coverage.py --coco ANNOTATIONS.json --images DIR --train TRAIN.json \
        [--bundle NAME|DIR] [--count 250]

The priors alone are clusters of the training set's boxes, as many as MultiBox proposes. Random
boxes and sliding windows are as many as both together have. Difficult objects are left out.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import numpy as np

from detector.bundles.bundle import Bundle
from detector.datasets import coco
from detector.datasets.ground_truth import AnnotatedImage
from detector.evaluation.proposals import SIZES, Quality, evaluate
from detector.images import load
from detector.networks import load_multibox
from detector.runtime import Runtime
from detector.training.multibox_loss import cluster_boxes
from proposals import Image, Proposals, SelectiveSearch
from proposals.merge import merge
from proposals.multibox import WHOLE, select_proposals, to_pixels

BOXES = 200
"""Number of boxes that MultiBox proposes."""


def main() -> None:
    parser = argparse.ArgumentParser(description="Where MultiBox's proposals help.")
    parser.add_argument("--coco", type=Path, required=True, help="annotations")
    parser.add_argument("--images", type=Path, required=True, help="the folder of photos")
    parser.add_argument("--train", type=Path, required=True, help="annotations trained on")
    parser.add_argument("--bundle", help="with a MultiBox (voc20)")
    parser.add_argument("--count", type=int, default=250, help="photos, from the first on")
    arguments = parser.parse_args()
    multibox = load_multibox(Bundle.load(arguments.bundle), Runtime.resolve(device="cpu"))
    assert multibox is not None, "the bundle has no MultiBox"
    priors = clusters(arguments.train, BOXES)

    def priors_alone(image: Image) -> Proposals:
        height, width = image.shape[:2]
        boxes = to_pixels(priors, WHOLE, width, height)
        return select_proposals(boxes, np.zeros(len(boxes), np.float32), len(boxes), 1.0)

    fast = SelectiveSearch(superpixels="rcnn")
    doubled = SelectiveSearch(superpixels="doubled")
    sets: dict[str, Callable[[Image], Proposals]] = {
        "R-CNN's fast mode": fast,
        "doubled superpixels": doubled,
        "MultiBox's priors": priors_alone,
        "MultiBox": multibox,
    }

    found: dict[str, list[tuple[AnnotatedImage, Proposals]]] = {name: [] for name in sets}
    found["doubled and MultiBox"] = []
    for image in coco.read(arguments.coco).images[: arguments.count]:
        photo = load(arguments.images / image.file)
        made = {name: propose(photo) for name, propose in sets.items()}
        made["doubled and MultiBox"] = merge(made["doubled superpixels"], made["MultiBox"])
        for name, proposals in made.items():
            found[name].append((image, proposals))

    rows = {name: evaluate(some)["merged"] for name, some in found.items()}
    whole = evaluate(found["doubled and MultiBox"])
    rows |= {name: whole[name] for name in ("random boxes", "sliding windows")}
    print_rows(rows)


def clusters(train: Path, count: int) -> np.ndarray:
    """Return priors of the boxes of a training set, also mirrored: `float32 [count, 4]`."""
    shares = [
        image.boxes / np.array([image.width, image.height] * 2, np.float32)
        for image in coco.read(train).images
    ]
    boxes = np.concatenate(shares)
    mirrored = boxes.copy()
    mirrored[:, [0, 2]] = 1 - boxes[:, [2, 0]]
    return cluster_boxes(np.concatenate([boxes, mirrored]), count)


def print_rows(rows: dict[str, Quality]) -> None:
    """A row for each set."""
    print(f"{'':<22}{'boxes':>7}{'coverage':>10}{'AR':>7}" + "".join(f"{s:>13}" for s in SIZES))
    base = rows["R-CNN's fast mode"].boxes
    for name, row in rows.items():
        sizes = "".join(f"{row.coverage_by_size[size][0] or 0:>13.3f}" for size in SIZES)
        share = f"  {row.boxes / base:.3f} of the fast mode's boxes"
        ar = row.average_recall or 0
        coverage = row.coverage or 0
        print(f"{name:<22}{row.boxes:>7.0f}{coverage:>10.3f}{ar:>7.3f}{sizes}{share}")


if __name__ == "__main__":
    main()
