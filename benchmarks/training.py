"""Regions a second in training, beside the bare network's forward and backward on ready crops.

    python benchmarks/training.py [--config FILE.toml] [--rounds 5] [--device auto]

The images are scikit-image's, and their regions come from selective search. Both rates are measured
in turn in the same run, so that their ratio holds on a noisy machine. Images are in memory, as they
are in a training after each has been drawn once.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import skimage.data
import torch

from detector.bundles.bundle import Bundle
from detector.common.config import read_toml
from detector.common.prefetcher import Prefetcher
from detector.datasets.ground_truth import AnnotatedImage
from detector.images import load
from detector.settings import configs
from detector.training.fit import Loop
from detector.training.image_cache import ImageCache
from detector.training.labelled_regions import pool_regions
from detector.training.objective import classification_loss
from detector.training.region_batches import RegionBatches
from detector.training.region_sampler import Sampler
from detector.training.regions import NEW_LAYERS, build_network
from detector.training.settings import RegionTraining
from detector.training.start import Training, TrainingOptions, start_training
from proposals import SelectiveSearch
from proposals.types import Boxes

SAMPLES = ("astronaut.png", "chelsea.png", "coffee.png", "motorcycle_left.png")
STEPS_PER_ROUND = 5


def main() -> None:
    """Print both rates and their ratio."""
    parser = argparse.ArgumentParser(description="Regions a second in training.")
    parser.add_argument("--config", type=Path, default=configs() / "training" / "voc20.toml")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--device", default="auto")
    arguments = parser.parse_args()

    recipe = RegionTraining.model_validate(read_toml(arguments.config))
    with tempfile.TemporaryDirectory() as out:
        options = TrainingOptions(Path(out), device=arguments.device)
        with start_training(recipe, options, results=()) as training:
            rates = measure(training, recipe, arguments.rounds)
    print(f"training                   {rates['training']:>8.1f} regions a second")
    print(f"bare forward and backward  {rates['bare']:>8.1f}")
    print(f"ratio                      {rates['training'] / rates['bare']:>8.2f}")


def measure(training: Training, recipe: RegionTraining, rounds: int) -> dict[str, float]:
    """Return regions a second of whole steps ("training") and of the network alone ("bare")."""
    # The data: two proposals of each image are taken for objects.
    files = [Path(skimage.data.__path__[0]) / name for name in SAMPLES]
    annotated = [annotate(file) for file in files]
    classes = ("even", "odd")
    regions = pool_regions(annotated, recipe.sampling)
    sampler = Sampler(regions, recipe.sampling, classes)

    # The network, and the state of its training.
    bundle = Bundle.load()
    weights = bundle.directory / bundle.manifest.members[0].file
    loop = Loop(
        training,
        build_network(recipe, len(classes), weights, seed=0),
        new_layers=NEW_LAYERS,
        steps_per_epoch=1,
        fingerprint={},
    )
    loss = partial(classification_loss, optimisation=recipe.optimisation)

    with ImageCache(files, recipe.run.cache_bytes, training.device) as images:
        image_annotations = [image for image, _ in annotated]
        make_batch = RegionBatches(image_annotations, regions, sampler, images, recipe, training)
        batches = Prefetcher(make_batch, recipe.optimisation.steps)
        batch = make_batch(0)

        def bare_step() -> None:
            is_half = training.runtime.float_precision == "bfloat16"
            with torch.autocast(training.device.type, torch.bfloat16, enabled=is_half):
                value = loss(loop.network, batch)
            value.backward()  # type: ignore[no-untyped-call]
            loop.optimiser.zero_grad()

        def training_step() -> None:
            loop.update(batches(loop.step), loss)
            loop.step += 1

        steps = {"training": training_step, "bare": bare_step}
        rates = measure_in_turn(steps, rounds, training.device)
        batches.close()
    return {name: rate * len(batch.labels) for name, rate in rates.items()}


def measure_in_turn(
    steps: dict[str, Callable[[], None]], rounds: int, device: torch.device
) -> dict[str, float]:
    """Return the median rate of each kind of step, in steps a second."""
    rates: dict[str, list[float]] = {name: [] for name in steps}
    for number in range(rounds + 1):
        for name, step in steps.items():
            started = time.perf_counter()
            for _ in range(STEPS_PER_ROUND):
                step()
            if device.type == "cuda":
                torch.cuda.synchronize()
            if number:  # the first round warms up
                rates[name].append(STEPS_PER_ROUND / (time.perf_counter() - started))
    return {name: statistics.median(values) for name, values in rates.items()}


def annotate(file: Path) -> tuple[AnnotatedImage, Boxes]:
    """Return an image's annotations and proposals; two of the proposals are its objects."""
    image = load(file)
    height, width = image.shape[:2]
    proposals = SelectiveSearch()(image).boxes
    objects = proposals[[len(proposals) // 3, 2 * len(proposals) // 3]]
    labels = np.array([0, 1])
    difficult = np.zeros(2, np.bool_)
    return AnnotatedImage(file.name, width, height, objects, labels, difficult), proposals


if __name__ == "__main__":
    main()
