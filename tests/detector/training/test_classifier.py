"""Patches by the paper's recipe, and a small classifier trained from scratch."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image as PillowImage
from safetensors.torch import load_file

from detector.bundles.model_card import WEIGHTS
from detector.common.progress import Progress
from detector.errors import FormatError, SettingsError, TruncatedImage
from detector.evaluation.classification import read_labels
from detector.training.classifier import LABELS, train_classifier
from detector.training.out_folder import CHECKPOINT, LOG
from detector.training.settings import ClassifierTraining
from detector.training.start import TrainingOptions


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    for name, colour in (("red", (200, 30, 30)), ("blue", (30, 30, 200))):
        (tmp_path / "data" / name).mkdir(parents=True)
        for number in range(3):
            photo = (np.array(colour) + rng.integers(-30, 30, (70, 90, 3))).astype(np.uint8)
            PillowImage.fromarray(photo).save(tmp_path / "data" / name / f"{number}.png")
    return tmp_path / "data"


def recipe(
    steps: int = 4, batch_size: int = 6, checkpoint_every: int = 2, **optimisation: object
) -> ClassifierTraining:
    return ClassifierTraining.model_validate(
        {
            "crop_size": 96,
            "architecture": {"width": 0.125, "normalisation": "batchnorm"},
            "patches": {"batch_size": batch_size},
            "augmentation": {"distortion": 0.1},
            "optimisation": {
                "steps": steps,
                "trunk_rate": 0.02,
                "auxiliary": 0.3,
                "precision": "float32",
                **optimisation,
            },
            "run": {"log_every": 1, "checkpoint_every": checkpoint_every},
        }
    )


def on_cpu(out: Path, **options: Any) -> TrainingOptions:
    return TrainingOptions(out, device="cpu", **options)


def test_it_learns_colours(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    longer = recipe(40, 12, 1000, averaging=0.5, momentum=0.5, trunk_rate=0.05)
    accuracy, skipped = train_classifier(longer, folder, on_cpu(out), validation=folder)
    assert not skipped
    losses = [json.loads(line).get("loss") for line in (out / LOG).read_text().splitlines()]
    assert sum(losses[30:40]) < 0.5 * sum(losses[:10])
    assert accuracy == {"images": 6, "top1": 1.0, "top5": 1.0}
    assert read_labels(out / LABELS) == ["blue", "red"]
    assert not [name for name in load_file(out / WEIGHTS) if name.startswith("loss")]
    assert json.loads((out / "training.json").read_text())["accuracy"] == accuracy


@contextmanager
def interrupted(total: int, unit: str) -> Iterator[Progress]:
    def report(finished: int, computed: int, note: str = "") -> None:
        if unit == "step" and finished == 3:
            raise KeyboardInterrupt

    yield report


def test_resumed_ends_with_the_same_weights(folder: Path, tmp_path: Path) -> None:
    train_classifier(recipe(), folder, on_cpu(tmp_path / "whole"))
    with pytest.raises(KeyboardInterrupt):
        train_classifier(recipe(), folder, on_cpu(tmp_path / "broken", show_progress=interrupted))
    assert not (tmp_path / "broken" / WEIGHTS).exists()
    train_classifier(recipe(), folder, on_cpu(tmp_path / "broken", resume=True))
    weights = [load_file(tmp_path / name / WEIGHTS) for name in ("whole", "broken")]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])


def test_photos_that_cannot_be_read_are_left_out(folder: Path, tmp_path: Path) -> None:
    photo = folder / "red" / "2.png"
    photo.write_bytes(photo.read_bytes()[:100])
    with pytest.raises(TruncatedImage, match=r"2.png"):
        train_classifier(recipe(), folder, on_cpu(tmp_path / "strict", strict=True))
    accuracy, skipped = train_classifier(
        recipe(), folder, on_cpu(tmp_path / "a"), validation=folder
    )
    assert [(failure.file, failure.error) for failure in skipped] == [
        (str(photo), "truncated-image")
    ] * 2, "trained on and held out"
    assert accuracy["images"] == 5


def test_what_is_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(FormatError, match="a folder of photos for each of two or more classes"):
        train_classifier(recipe(), folder / "red", on_cpu(tmp_path / "out"))
    with pytest.raises(SettingsError, match="crop_size: crops must be with auxiliary heads"):
        train_classifier(
            recipe().model_copy(update={"crop_size": 64}), folder, on_cpu(tmp_path / "a")
        )
    (tmp_path / "used").mkdir()
    (tmp_path / "used" / CHECKPOINT).touch()
    with pytest.raises(SettingsError, match="give --resume, or another --out"):
        train_classifier(recipe(), folder, on_cpu(tmp_path / "used"))
