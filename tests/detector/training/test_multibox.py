"""Trainings of a small MultiBox on painted photos, and the pictures that it sees."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from safetensors.torch import load_file

from detector.bundles.manifest import Normalisation, TrainedMultiBox, Warp
from detector.bundles.model_card import MULTIBOX, WEIGHTS
from detector.datasets import coco
from detector.datasets.ground_truth import AnnotatedImage
from detector.errors import FormatError, SettingsError, TrainingError, UnreadableImage
from detector.training.batches import Batch, cut_batch
from detector.training.data_set import DataSet
from detector.training.distortion import NEUTRAL
from detector.training.loop import LOG
from detector.training.multibox import draw_picture, objects_in, train
from detector.training.multibox_loss import loss
from detector.training.settings import MultiBoxTraining, Pictures
from proposals.multibox import MultiBox


@pytest.fixture
def recipe() -> MultiBoxTraining:
    return MultiBoxTraining.model_validate(
        {
            "size": 64,
            "priors": 6,
            "hidden": 16,
            "architecture": {"width": 0.25},
            "pictures": {"batch_size": 4},
            "optimisation": {"steps": 6, "averaging": 0.5, "precision": "float32"},
            "run": {"log_every": 1, "checkpoint_every": 2},
        }
    )


@pytest.fixture
def data(painted: Path) -> DataSet:
    return DataSet(painted, coco.read(painted), painted.with_suffix(""))


@pytest.fixture
def start(tiny_weights: list[Path]) -> Path:
    return tiny_weights[0]


def losses(out: Path) -> list[float]:
    return [json.loads(line)["loss"] for line in (out / LOG).read_text().splitlines()]


def test_what_a_training_leaves(
    data: DataSet, recipe: MultiBoxTraining, start: Path, tmp_path: Path
) -> None:
    summary = train(recipe, data, start, tmp_path, validation=data, device="cpu")
    assert not summary.skipped
    read = TrainedMultiBox.model_validate_json((tmp_path / MULTIBOX).read_bytes())
    assert read == summary.multibox
    assert (read.size, read.priors) == (64, 6)
    assert read.training["data"]["boxes"] == 8
    assert read.training["scores"]["images"] == 4
    assert 0 < read.training["scores"]["boxes"] <= 6
    weights = load_file(tmp_path / WEIGHTS)
    assert weights["priors"].shape == (6, 4)
    assert ((weights["priors"] >= 0) & (weights["priors"] <= 1)).all()


@pytest.mark.parametrize("matching", ["priors", "boxes"])
def test_it_learns(
    matching: str, data: DataSet, recipe: MultiBoxTraining, start: Path, tmp_path: Path
) -> None:
    optimisation = {"steps": 80, "trunk_rate": 0.003, "head_rate": 0.03, "precision": "float32"}
    changes = {
        "optimisation": optimisation,
        "pictures": {"whole": 1.0, "batch_size": 8},
        "augmentation": {"mirror": False},
        "run": {"log_every": 1},
    }
    longer = recipe.model_dump() | changes | {"matching": matching}
    train(MultiBoxTraining.model_validate(longer), data, start, tmp_path, device="cpu")
    values = losses(tmp_path)
    assert sum(values[-10:]) < 0.8 * sum(values[:10])


def test_resumed_ends_with_the_same_weights(
    data: DataSet,
    recipe: MultiBoxTraining,
    start: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    train(recipe, data, start, tmp_path / "whole", device="cpu")
    steps = iter(range(100))

    def stops(*arguments: torch.Tensor, **more: float) -> torch.Tensor:
        if next(steps) == 3:
            raise KeyboardInterrupt
        return loss(*arguments, **more)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr("detector.training.multibox.loss", stops)
        with pytest.raises(KeyboardInterrupt):
            train(recipe, data, start, tmp_path / "broken", device="cpu")
    with pytest.raises(SettingsError, match="has a checkpoint: give --resume"):
        train(recipe, data, start, tmp_path / "broken", device="cpu")
    train(recipe, data, start, tmp_path / "broken", device="cpu", resume=True)
    whole, broken = (load_file(tmp_path / name / WEIGHTS) for name in ("whole", "broken"))
    assert all(torch.equal(whole[name], broken[name]) for name in whole)
    assert losses(tmp_path / "whole") == losses(tmp_path / "broken")


def test_what_is_wrong_is_named(
    data: DataSet, recipe: MultiBoxTraining, start: Path, tmp_path: Path
) -> None:
    many = recipe.model_copy(update={"priors": 500})
    with pytest.raises(TrainingError, match=r"painted.json: 500 priors need as many distinct"):
        train(many, data, start, tmp_path / "a", device="cpu")
    first, *others = data.truth.images
    lost = AnnotatedImage("lost.png", *list(vars(first).values())[1:])
    truth = type(data.truth)(data.truth.classes, (lost, *others))
    incomplete = data._replace(truth=truth)
    with pytest.raises(UnreadableImage, match=r"lost\.png"):
        train(recipe, incomplete, start, tmp_path / "a", device="cpu", strict=True)
    summary = train(recipe, incomplete, start, tmp_path / "a", device="cpu")
    assert [failure.file for failure in summary.skipped] == ["lost.png"]
    wrong = AnnotatedImage(first.file, 10_000, *list(vars(first).values())[2:])
    other = data._replace(truth=type(data.truth)(data.truth.classes, (wrong,)))
    with pytest.raises(FormatError, match=r"but its annotations say 10000x"):
        train(recipe, other, start, tmp_path / "b", device="cpu")


@pytest.mark.parametrize(("width", "height"), [(500, 375), (200, 40), (40, 200), (50, 50)])
def test_pictures_in_training_are_those_in_detection(width: int, height: int) -> None:
    """Also where one axis shrinks and the other grows."""
    seen: list[NDArray[np.uint8]] = []

    def network(pictures: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        seen.append(pictures)
        return np.zeros((1, 1, 4), np.float32), np.zeros((1, 1), np.float32)

    rng = np.random.default_rng(0)
    photo = rng.integers(0, 256, (height, width, 3), np.uint8)
    MultiBox(network, size=96)(photo)
    whole = np.array([[0, 0, width, height]], np.float32)
    n = np.zeros(1, np.int64)
    batch = Batch(n.astype(np.int32), whole, n, n.astype(np.bool_), NEUTRAL[None])
    plain = Normalisation(channels="rgb", mean=(0, 0, 0))
    warp = Warp(crop_size=96, context=0, resampling="area")
    trained = cut_batch(batch, {0: photo}, warp, plain, torch.device("cpu"))[0].numpy()
    assert np.abs(trained - seen[0][0]).max() <= 1.5  # of 255: rounding


IMAGE = AnnotatedImage(
    "a",
    200,
    100,
    np.array([[0, 0, 100, 100], [150, 50, 200, 100], [20, 20, 30, 30]], np.float32),
    np.zeros(3, np.int64),
    np.zeros(3, np.bool_),
)


def test_objects_of_a_part() -> None:
    window = np.array([50, 0, 150, 100], np.float32)
    # Half of the first is inside, none of the others.
    assert objects_in(IMAGE, window, 0.5).tolist() == [[0, 0, 0.5, 1]]
    assert objects_in(IMAGE, window, 0.51).tolist() == []
    whole = np.array([0, 0, 200, 100], np.float32)
    assert objects_in(IMAGE, whole, 1).tolist()[1] == [0.75, 0.5, 1, 1]


@given(st.integers(0, 10_000), st.integers(1, 3000), st.integers(1, 3000))
def test_pictures_are_parts_of_the_photo(seed: int, width: int, height: int) -> None:
    nothing = np.zeros((0, 4), np.float32)
    image = AnnotatedImage(
        "a", width, height, nothing, np.zeros(0, np.int64), np.zeros(0, np.bool_)
    )
    rng = np.random.default_rng(seed)
    for whole in (0.0, 1.0):
        x1, y1, x2, y2 = draw_picture(image, Pictures(whole=whole, smallest=0.2), rng).tolist()
        assert 0 <= x1 < x2 <= width
        assert 0 <= y1 < y2 <= height
        if whole:
            assert (x1, y1, x2, y2) == (0, 0, width, height)
        elif min(width, height) > 100:
            assert (x2 - x1) * (y2 - y1) >= 0.19 * width * height
