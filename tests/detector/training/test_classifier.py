"""Patches by the paper's recipe, and a small classifier trained from scratch."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image as PillowImage
from safetensors.torch import load_file

from detector.bundles.model_card import WEIGHTS
from detector.common.progress import Progress
from detector.errors import FormatError, SettingsError, TruncatedImage
from detector.evaluation.classification import read_labels
from detector.training.classifier import LABELS, draw_patch, train
from detector.training.loop import CHECKPOINT, LOG
from detector.training.settings import ClassifierTraining, Patches


@given(st.integers(1, 2000), st.integers(1, 2000), st.integers(0, 2**32))
def test_patches_are_inside_and_of_an_allowed_shape(width: int, height: int, seed: int) -> None:
    x, y, w, h = draw_patch(width, height, Patches(), np.random.default_rng(seed))
    assert 0 <= x <= x + w <= width
    assert 0 <= y <= y + h <= height
    assert w > 0
    assert h > 0
    if 1 < max(width, height) / min(width, height) < 4 / 3 and min(width, height) >= 40:
        assert w * h >= 0.08 * width * height * 0.9
        assert 0.75 * 0.92 <= w / h <= 1.334 * 1.08


def test_patches_have_the_papers_distribution() -> None:
    rng = np.random.default_rng(0)
    patches = np.array([draw_patch(3000, 3000, Patches(), rng) for _ in range(4000)], float)
    areas = patches[:, 2] * patches[:, 3] / 3000**2
    small = areas < 0.5  # larger ones may not fit for their shape
    assert areas.min() == pytest.approx(0.08, abs=0.01)
    expected = np.quantile(np.linspace(0.08, 0.5, 1000), [0.25, 0.5, 0.75])
    np.testing.assert_allclose(np.quantile(areas[small], [0.25, 0.5, 0.75]), expected, atol=0.03)
    logs = np.log(patches[small, 2] / patches[small, 3]) / math.log(4 / 3)
    np.testing.assert_allclose(np.quantile(logs, [0.25, 0.5, 0.75]), [-0.5, 0, 0.5], atol=0.07)


def test_a_strip_gives_its_middle() -> None:
    patches = Patches(smallest=1.0)
    assert draw_patch(1000, 30, patches, np.random.default_rng(0)) == (480, 0, 40, 30)
    assert draw_patch(30, 1000, patches, np.random.default_rng(0)) == (0, 480, 30, 40)


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


def test_it_learns_colours(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    longer = recipe(40, 12, 1000, averaging=0.5, momentum=0.5, trunk_rate=0.05)
    accuracy, skipped = train(longer, folder, out, validation=folder, device="cpu")
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
    train(recipe(), folder, tmp_path / "whole", device="cpu")
    with pytest.raises(KeyboardInterrupt):
        train(recipe(), folder, tmp_path / "broken", device="cpu", show_progress=interrupted)
    assert not (tmp_path / "broken" / WEIGHTS).exists()
    train(recipe(), folder, tmp_path / "broken", device="cpu", resume=True)
    weights = [load_file(tmp_path / name / WEIGHTS) for name in ("whole", "broken")]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])


def test_photos_that_cannot_be_read_are_left_out(folder: Path, tmp_path: Path) -> None:
    photo = folder / "red" / "2.png"
    photo.write_bytes(photo.read_bytes()[:100])
    with pytest.raises(TruncatedImage, match=r"2.png"):
        train(recipe(), folder, tmp_path / "strict", strict=True, device="cpu")
    accuracy, skipped = train(recipe(), folder, tmp_path / "a", validation=folder, device="cpu")
    assert [(failure.file, failure.error) for failure in skipped] == [
        (str(photo), "truncated-image")
    ] * 2, "trained on and held out"
    assert accuracy["images"] == 5


def test_what_is_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(FormatError, match="a folder of photos for each of two or more classes"):
        train(recipe(), folder / "red", tmp_path / "out", device="cpu")
    with pytest.raises(SettingsError, match="crop_size: crops must be with auxiliary heads"):
        train(recipe().model_copy(update={"crop_size": 64}), folder, tmp_path / "a", device="cpu")
    (tmp_path / "used").mkdir()
    (tmp_path / "used" / CHECKPOINT).touch()
    with pytest.raises(SettingsError, match="give --resume, or another --out"):
        train(recipe(), folder, tmp_path / "used", device="cpu")
