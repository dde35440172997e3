"""Validation against the evaluator, and one that was killed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from detector.batch.proposal_cache import CachedImage, cache_path, gather_proposals
from detector.bundles.manifest import Architecture
from detector.datasets import coco
from detector.images import load
from detector.models.torch_googlenet import GoogLeNet
from detector.runtime import Runtime
from detector.training import validation
from detector.training.parallel import Group
from detector.training.settings import RegionTraining
from detector.training.start import Training, TrainingOptions
from detector.training.validation import DetectionValidator


@pytest.fixture
def images(painted: Path) -> list[CachedImage]:
    recipe = RegionTraining()
    cache = cache_path(painted.parent, recipe.proposals)
    annotated = coco.read(painted).images
    return gather_proposals(annotated, painted.with_suffix(""), recipe.proposals, cache, workers=1)[
        0
    ]


def network() -> GoogLeNet:
    torch.manual_seed(0)
    return GoogLeNet(3, crop_size=64, architecture=Architecture(width=0.25))


def validator(
    held_out: list[CachedImage], out: Path, *, steps: int = 5, **counts: int
) -> DetectionValidator:
    recipe = RegionTraining.model_validate(
        {
            "warp": {"crop_size": 64},
            "architecture": {"width": 0.25},
            "optimisation": {"precision": "float32", "steps": steps},
            "validation": counts,
        }
    )
    classes = {"red": 1, "blue": 2}
    runtime = Runtime.resolve(device="cpu", backend="torch", precision="float32")
    training = Training(recipe, TrainingOptions(out), Group(), runtime)
    return DetectionValidator(held_out, classes, recipe, training, "torch")


def test_counts_of_images_as_it_goes_and_at_the_end(
    images: list[CachedImage], tmp_path: Path
) -> None:
    validate = validator(images, tmp_path, steps=9, photos=1, final=3)
    found = validate(network(), 5)
    assert (found["images"], [c["positives"] for c in found["classes"]]) == (1, [1, 1])
    assert not list(tmp_path.iterdir())
    assert validate(network(), 9)["images"] == 3
    assert [path.name for path in tmp_path.iterdir()] == ["validation-9.jsonl"]


def test_without_images_there_is_nothing_to_say(tmp_path: Path) -> None:
    assert validator([], tmp_path)(network(), 5) == {}


def test_what_another_network_found_is_of_no_use(images: list[CachedImage], tmp_path: Path) -> None:
    other = network()
    with torch.no_grad():
        other.classifier.weight.neg_()
    expected = validator(images, tmp_path / "own")(other, 5)
    before = validator(images, tmp_path)(network(), 5)
    assert validator(images, tmp_path)(other, 5) == expected != before


def test_a_killed_validation_goes_on(
    images: list[CachedImage], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = validator(images, tmp_path / "whole")(network(), 5)
    read: list[str] = []

    def failing(file: Path) -> object:
        read.append(file.name)
        if len(read) == 3:
            raise KeyboardInterrupt
        return load(file)

    monkeypatch.setattr(validation, "load", failing)
    with pytest.raises(KeyboardInterrupt):
        validator(images, tmp_path / "broken")(network(), 5)
    assert validator(images, tmp_path / "broken")(network(), 5) == whole
    assert read == ["0.png", "1.png", "2.png", "2.png", "3.png"]
    lines = (tmp_path / "broken" / "validation-5.jsonl").read_text().splitlines()
    assert [json.loads(line)["file"] for line in lines[1:]] == [f"{n}.png" for n in range(4)]
