"""The memory of training on many images, by the budget for decoded images.

    python benchmarks/memory.py [--photos 10000] [--steps 400] [--cache-gib 0.5 2]

The images are one of scikit-image's photos at 500x375 under many names, each with random boxes as
its proposals and objects. Batches are R-CNN's 128 regions. There is no network, so that only what
grows with the number of images is measured. Each budget has a process of its own.
"""

from __future__ import annotations

import argparse
import multiprocessing
import resource
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import skimage.data
import torch
from PIL import Image as PillowImage

from detector.bundles.manifest import Normalisation, Warp
from detector.datasets.ground_truth import AnnotatedImage
from detector.training.augmentation import augment_regions
from detector.training.batch_crops import cut_batch
from detector.training.image_cache import ImageCache
from detector.training.labelled_regions import pool_regions
from detector.training.region_sampler import Sampler
from detector.training.settings import RegionAugmentation, Sampling
from proposals.baselines import random_boxes
from proposals.types import Boxes

WIDTH = 500
HEIGHT = 375
OBJECTS = 3
"""Number of objects per image."""
PROPOSALS = 1300
"""Number of proposals per image."""


class Usage(NamedTuple):
    """The memory of a training process."""

    cached_images: int
    """Number of decoded images that stayed in memory."""
    before: float
    """Peak memory in MiB before the first batch."""
    after: float
    """Peak memory in MiB after the last batch."""


def main() -> None:
    parser = argparse.ArgumentParser(description="The memory of training on many images.")
    parser.add_argument("--photos", type=int, default=10_000, help="number of images")
    parser.add_argument("--steps", type=int, default=400, help="number of batches")
    parser.add_argument("--cache-gib", type=float, nargs="+", default=[0.5, 2.0], help="budgets")
    arguments = parser.parse_args()

    with tempfile.TemporaryDirectory() as folder:
        files = make_images(Path(folder) / "images", arguments.photos)
        print(f"{'budget':>8}{'images kept':>13}{'with regions':>14}{'at the end':>12}")
        for budget in arguments.cache_gib:
            with multiprocessing.get_context("spawn").Pool(1) as process:
                usage = process.apply(measure, (files, budget * 2**30, arguments.steps))
            print(
                f"{budget:>6} G{usage.cached_images:>13}"
                f"{usage.before:>10.0f} MiB{usage.after:>8.0f} MiB"
            )


def make_images(folder: Path, count: int) -> list[Path]:
    """Make a folder of links to one photo, which lies beside the folder, and return the links."""
    folder.mkdir()
    original = folder.with_suffix(".jpg")
    with PillowImage.open(Path(skimage.data.__path__[0]) / "astronaut.png") as photo:
        photo.resize((WIDTH, HEIGHT)).save(original)

    files = [folder / f"{number}.jpg" for number in range(count)]
    for file in files:
        file.symlink_to(original)
    return files


def measure(files: list[Path], budget: float, steps: int) -> Usage:
    """Cut the crops of training batches and measure the memory of this process.

    Args:
        files: The images.
        budget: Memory for decoded images, in bytes.
        steps: Number of batches.
    """
    rng = np.random.default_rng(0)
    images = [annotate(file, rng) for file in files]
    sampling = Sampling()
    regions = pool_regions(with_proposals(images, rng), sampling)
    sampler = Sampler(regions, sampling, ["object"])
    cpu = torch.device("cpu")
    cache = ImageCache(files, budget, cpu)

    before = peak_memory()
    for _ in range(steps):
        chosen = sampler.draw(rng)
        plan = augment_regions(regions, chosen, images, RegionAugmentation(), sampling, rng)
        pixels = cache.read(plan.images.tolist())
        cut_batch(plan, pixels, Warp(crop_size=128), Normalisation(), cpu)
    return Usage(len(cache), before, peak_memory())


def annotate(file: Path, rng: np.random.Generator) -> AnnotatedImage:
    """Return random annotations of an image."""
    boxes = random_boxes(WIDTH, HEIGHT, OBJECTS, rng)
    labels = np.zeros(len(boxes), np.int64)
    difficult = np.zeros(len(boxes), np.bool_)
    return AnnotatedImage(file.name, WIDTH, HEIGHT, boxes, labels, difficult)


def with_proposals(
    images: list[AnnotatedImage], rng: np.random.Generator
) -> Iterator[tuple[AnnotatedImage, Boxes]]:
    """Yield each image with random proposals."""
    for image in images:
        yield image, random_boxes(WIDTH, HEIGHT, PROPOSALS, rng)


def peak_memory() -> float:
    """Return the peak memory of this process in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    main()
