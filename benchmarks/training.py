"""Regions a second in training, beside the bare network's forward and backward on ready crops.

    python benchmarks/training.py [--config FILE.toml] [--rounds 5] [--device auto]

The photos are scikit-image's, their regions selective search's; both rates are measured in turn in
the same run, so that their ratio holds on a noisy machine. Photos are in memory, as they are in a
training once each has been drawn.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import skimage.data
import torch

from detector.backends.pytorch import choose_device
from detector.bundles.bundle import Bundle
from detector.common.config import read_toml
from detector.common.progress import no_progress
from detector.datasets.ground_truth import AnnotatedImage
from detector.images import MAX_PIXELS, load
from detector.settings import configs
from detector.training.loop import Loop
from detector.training.objective import classification_loss
from detector.training.parallel import Group
from detector.training.photos import Photos
from detector.training.regions import HEADS, RegionTask, build
from detector.training.sampling import Sampler, pool
from detector.training.settings import RegionTraining
from detector.training.validation import Validator
from proposals import SelectiveSearch
from proposals.types import Boxes

SAMPLES = ("astronaut.png", "chelsea.png", "coffee.png", "motorcycle_left.png")
STEPS_A_ROUND = 5


def main() -> None:
    parser = argparse.ArgumentParser(description="Regions a second in training.")
    parser.add_argument("--config", type=Path, default=configs() / "training" / "voc20.toml")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--device", default="auto")
    arguments = parser.parse_args()
    recipe = RegionTraining.model_validate(read_toml(arguments.config))
    with tempfile.TemporaryDirectory() as out:
        training, bare = measure(recipe, Path(out), arguments.rounds, arguments.device)
    print(f"training                   {training:>8.1f} regions a second")
    print(f"bare forward and backward  {bare:>8.1f}")
    print(f"ratio                      {training / bare:>8.2f}")


def measure(recipe: RegionTraining, out: Path, rounds: int, device: str) -> tuple[float, float]:
    bundle = Bundle.load()
    weights = bundle.directory / bundle.manifest.members[0].file
    files = [Path(skimage.data.__path__[0]) / name for name in SAMPLES]
    annotated = [annotate(file) for file in files]
    regions = pool(annotated, recipe.sampling)
    classes = ("even", "odd")
    chosen, group = choose_device(device), Group()
    loop = Loop(
        build(recipe, len(classes), weights, seed=0),
        heads=HEADS,
        optimisation=recipe.optimisation,
        run=recipe.run,
        out=out,
        fingerprint={},
        steps_per_epoch=1,
        seed=0,
        device=chosen,
        group=group,
    )
    photos = Photos(files, budget=1e10, max_pixels=MAX_PIXELS, device=chosen)
    task = RegionTask(
        [image for image, _ in annotated],
        regions,
        Sampler(regions, recipe.sampling, classes),
        photos,
        recipe,
        Validator(
            [], {}, recipe, out=out, device=chosen, backend="auto", show_progress=no_progress
        ),
        seed=0,
        device=chosen,
        group=group,
    )
    crops, labels = task._batch(0, recipe.augmentation, slice(None))

    def bare_step() -> None:
        half = loop.precision == "bfloat16"
        with torch.autocast(chosen.type, torch.bfloat16, enabled=half):
            loss = classification_loss(loop.network, crops, labels, recipe.optimisation)
        loss.backward()  # type: ignore[no-untyped-call]
        loop.optimiser.zero_grad()

    def training_step() -> None:
        loop._step(task)
        loop.step += 1

    rates: dict[str, list[float]] = {"training": [], "bare": []}
    for number in range(rounds + 1):
        for name, step in (("training", training_step), ("bare", bare_step)):
            started = time.perf_counter()
            for _ in range(STEPS_A_ROUND):
                step()
            if chosen.type == "cuda":
                torch.cuda.synchronize()
            if number:  # the first round warms up
                rates[name].append(STEPS_A_ROUND * len(labels) / (time.perf_counter() - started))
    task.close()
    return statistics.median(rates["training"]), statistics.median(rates["bare"])


def annotate(file: Path) -> tuple[AnnotatedImage, Boxes]:
    """A photo's proposals, two of which are taken for objects."""
    image = load(file)
    height, width = image.shape[:2]
    proposals = SelectiveSearch()(image).boxes
    objects = proposals[[len(proposals) // 3, 2 * len(proposals) // 3]]
    labels, difficult = np.array([0, 1]), np.zeros(2, np.bool_)
    return AnnotatedImage(file.name, width, height, objects, labels, difficult), proposals


if __name__ == "__main__":
    main()
