"""The memory of a training on many photos, by the budget for decoded ones.

    python benchmarks/memory.py [--photos 10000] [--steps 400] [--cache-gib 0.5 2]

The photos are one of scikit-image's at 500x375 under many names, each with random boxes as its
proposals and objects; batches are R-CNN's 128 regions. There is no network: what is measured is
what grows with the number of photos. Each budget has a process of its own.
"""

from __future__ import annotations

import argparse
import multiprocessing
import resource
import tempfile
from collections.abc import Iterator
from pathlib import Path

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

WIDTH, HEIGHT = 500, 375
PROPOSALS = 1300


def main() -> None:
    parser = argparse.ArgumentParser(description="The memory of a training on many photos.")
    parser.add_argument("--photos", type=int, default=10_000)
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--cache-gib", type=float, nargs="+", default=[0.5, 2.0])
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        files = make_photos(Path(folder) / "photos", arguments.photos)
        print(f"{'budget':>8}{'photos kept':>13}{'with regions':>14}{'at the end':>12}")
        for budget in arguments.cache_gib:
            with multiprocessing.get_context("spawn").Pool(1) as process:
                kept, before, after = process.apply(
                    measure, (files, budget * 2**30, arguments.steps)
                )
            print(f"{budget:>6} G{kept:>13}{before:>10.0f} MiB{after:>8.0f} MiB")


def make_photos(folder: Path, count: int) -> list[Path]:
    """A folder of one photo under many names; the photo itself lies beside it."""
    folder.mkdir()
    original = folder.with_suffix(".jpg")
    with PillowImage.open(Path(skimage.data.__path__[0]) / "astronaut.png") as photo:
        photo.resize((WIDTH, HEIGHT)).save(original)
    files = [folder / f"{number}.jpg" for number in range(count)]
    for file in files:
        file.symlink_to(original)
    return files


def measure(files: list[Path], budget: float, steps: int) -> tuple[int, float, float]:
    """Photos kept, and the peak memory in MiB before the first batch and after the last."""
    rng = np.random.default_rng(0)
    images = [annotate(file, rng) for file in files]
    sampling = Sampling()
    regions = pool_regions(with_proposals(images, rng), sampling)
    sampler = Sampler(regions, sampling, ["object"])
    cpu = torch.device("cpu")
    cache = ImageCache(files, budget, cpu)
    before = peak()
    for _ in range(steps):
        drawn = sampler.draw(rng)
        plan = augment_regions(regions, drawn, images, RegionAugmentation(), sampling, rng)
        pixels = cache.read(plan.images.tolist())
        cut_batch(plan, pixels, Warp(crop_size=128), Normalisation(), cpu)
    return len(cache), before, peak()


def annotate(file: Path, rng: np.random.Generator) -> AnnotatedImage:
    boxes = random_boxes(WIDTH, HEIGHT, 3, rng)
    labels, difficult = np.zeros(len(boxes), np.int64), np.zeros(len(boxes), np.bool_)
    return AnnotatedImage(file.name, WIDTH, HEIGHT, boxes, labels, difficult)


def with_proposals(
    images: list[AnnotatedImage], rng: np.random.Generator
) -> Iterator[tuple[AnnotatedImage, Boxes]]:
    for image in images:
        yield image, random_boxes(WIDTH, HEIGHT, PROPOSALS, rng)


def peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    main()
