"""Validation against the evaluator, and one that was killed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from detector.batch.proposal_cache import Photo, cache_path, gather
from detector.bundles.manifest import Architecture
from detector.common.progress import no_progress
from detector.datasets import coco
from detector.images import load
from detector.models.googlenet import GoogLeNet
from detector.training import validation
from detector.training.settings import RegionTraining
from detector.training.validation import Validator


@pytest.fixture
def photos(painted: Path) -> list[Photo]:
    recipe = RegionTraining()
    cache = cache_path(painted.parent, recipe.proposals)
    images = coco.read(painted).images
    return gather(images, painted.with_suffix(""), recipe.proposals, cache, workers=1)[0]


def network() -> GoogLeNet:
    torch.manual_seed(0)
    return GoogLeNet(3, crop_size=64, architecture=Architecture(width=0.25))


def validator(held_out: list[Photo], out: Path, **counts: int) -> Validator:
    recipe = RegionTraining.model_validate(
        {
            "warp": {"crop_size": 64},
            "architecture": {"width": 0.25},
            "optimisation": {"precision": "float32"},
            "validation": counts,
        }
    )
    classes = {"red": 1, "blue": 2}
    return Validator(
        held_out,
        classes,
        recipe,
        out=out,
        device=torch.device("cpu"),
        backend="torch",
        show_progress=no_progress,
    )


def test_counts_of_photos_as_it_goes_and_at_the_end(photos: list[Photo], tmp_path: Path) -> None:
    validate = validator(photos, tmp_path, photos=1, final=3)
    found = validate(network(), 5, final=False)
    assert (found["images"], [c["positives"] for c in found["classes"]]) == (1, [1, 1])  # type: ignore[attr-defined]
    assert not list(tmp_path.iterdir())
    assert validate(network(), 9, final=True)["images"] == 3
    assert [path.name for path in tmp_path.iterdir()] == ["validation-9.jsonl"]


def test_without_photos_there_is_nothing_to_say(tmp_path: Path) -> None:
    assert validator([], tmp_path)(network(), 5, final=True) == {}


def test_what_another_network_found_is_of_no_use(photos: list[Photo], tmp_path: Path) -> None:
    other = network()
    with torch.no_grad():
        other.classifier.weight.neg_()
    expected = validator(photos, tmp_path / "own")(other, 5, final=True)
    before = validator(photos, tmp_path)(network(), 5, final=True)
    assert validator(photos, tmp_path)(other, 5, final=True) == expected != before


def test_a_killed_validation_goes_on(
    photos: list[Photo], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = validator(photos, tmp_path / "whole")(network(), 5, final=True)
    read: list[str] = []

    def failing(file: Path) -> object:
        read.append(file.name)
        if len(read) == 3:
            raise KeyboardInterrupt
        return load(file)

    monkeypatch.setattr(validation, "load", failing)
    with pytest.raises(KeyboardInterrupt):
        validator(photos, tmp_path / "broken")(network(), 5, final=True)
    assert validator(photos, tmp_path / "broken")(network(), 5, final=True) == whole
    assert read == ["0.png", "1.png", "2.png", "2.png", "3.png"]
    lines = (tmp_path / "broken" / "validation-5.jsonl").read_text().splitlines()
    assert [json.loads(line)["file"] for line in lines[1:]] == [f"{n}.png" for n in range(4)]
