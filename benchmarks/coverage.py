"""Where MultiBox's proposals help: the coverage of selective search, of MultiBox, and of both.

    python benchmarks/coverage.py --coco ANNOTATIONS.json --images DIR --train TRAIN.json \
        [--bundle NAME|DIR] [--count 250]

"MultiBox's priors" are the centres of clusters of the training set's boxes, as many as MultiBox
proposes. There are as many random boxes and sliding windows as selective search and MultiBox
propose together. Difficult objects are left out.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable, Mapping
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
from proposals.types import Boxes

MULTIBOX_COUNT = 200
"""Maximum number of MultiBox's boxes per image, and number of priors."""

ProposedImages = list[tuple[AnnotatedImage, Proposals]]


def main() -> None:
    parser = argparse.ArgumentParser(description="Where MultiBox's proposals help.")
    parser.add_argument("--coco", type=Path, required=True, help="annotations of the images")
    parser.add_argument("--images", type=Path, required=True, help="folder of images")
    parser.add_argument("--train", type=Path, required=True, help="annotations for the priors")
    parser.add_argument("--bundle", help="directory or name of a bundle with MultiBox (voc20)")
    parser.add_argument("--count", type=int, default=250, help="number of images, the first ones")
    arguments = parser.parse_args()

    multibox = load_multibox(Bundle.load(arguments.bundle), Runtime.resolve(device="cpu"))
    assert multibox is not None, "the bundle has no MultiBox"
    priors = cluster_training_boxes(arguments.train, MULTIBOX_COUNT)
    methods: dict[str, Callable[[Image], Proposals]] = {
        "R-CNN's fast mode": SelectiveSearch(superpixels="rcnn"),
        "doubled superpixels": SelectiveSearch(superpixels="doubled"),
        "MultiBox's priors": lambda image: propose_priors(priors, image),
        "MultiBox": lambda image: multibox(image, MULTIBOX_COUNT),
    }

    images = coco.read(arguments.coco).images[: arguments.count]
    proposed = propose(images, arguments.images, methods)

    qualities = {name: evaluate(images)["merged"] for name, images in proposed.items()}
    both = evaluate(proposed["doubled and MultiBox"])
    qualities |= {name: both[name] for name in ("random boxes", "sliding windows")}
    print_table(qualities)


def cluster_training_boxes(annotations: Path, count: int) -> Boxes:
    """Return priors of a training set's boxes and of their mirror images.

    Args:
        annotations: COCO annotations of the training set.
        count: Number of priors.

    Returns:
        `float32 [count, 4]`, as shares of the image's sides.
    """
    boxes = np.concatenate(
        [
            image.boxes / np.array([image.width, image.height] * 2, np.float32)
            for image in coco.read(annotations).images
        ]
    )
    mirrored = boxes.copy()
    mirrored[:, [0, 2]] = 1 - boxes[:, [2, 0]]
    return cluster_boxes(np.concatenate([boxes, mirrored]), count)


def propose_priors(priors: Boxes, image: Image) -> Proposals:
    """Return priors `[N, 4]`, which are shares of an image's sides, as proposals for an image."""
    height, width = image.shape[:2]
    boxes = to_pixels(priors, WHOLE, width, height)
    return select_proposals(boxes, np.zeros(len(boxes), np.float32), len(boxes), 1.0)


def propose(
    images: Iterable[AnnotatedImage],
    folder: Path,
    methods: Mapping[str, Callable[[Image], Proposals]],
) -> dict[str, ProposedImages]:
    """Run each method on each image, and merge doubled superpixels with MultiBox.

    Args:
        images: Annotated images.
        folder: The folder of their files.
        methods: The proposal methods by their names.
    """
    names = [*methods, "doubled and MultiBox"]
    proposed: dict[str, ProposedImages] = {name: [] for name in names}
    for image in images:
        pixels = load(folder / image.file)
        proposals = {name: method(pixels) for name, method in methods.items()}
        proposals["doubled and MultiBox"] = merge(
            proposals["doubled superpixels"], proposals["MultiBox"]
        )
        for name in names:
            proposed[name].append((image, proposals[name]))
    return proposed


def print_table(qualities: Mapping[str, Quality]) -> None:
    """Print a row for each set of proposals."""
    print(f"{'':<22}{'boxes':>7}{'coverage':>10}{'AR':>7}" + "".join(f"{s:>13}" for s in SIZES))
    fast_mode = qualities["R-CNN's fast mode"].boxes
    for name, quality in qualities.items():
        coverage = quality.coverage or 0
        recall = quality.average_recall or 0
        sizes = "".join(f"{quality.coverage_by_size[size][0] or 0:>13.3f}" for size in SIZES)
        share = f"  {quality.boxes / fast_mode:.3f} of the fast mode's boxes"
        print(f"{name:<22}{quality.boxes:>7.0f}{coverage:>10.3f}{recall:>7.3f}{sizes}{share}")


if __name__ == "__main__":
    main()
