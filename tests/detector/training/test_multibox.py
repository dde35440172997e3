"""Trainings of a small MultiBox on painted images."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from detector.bundles.manifest import TrainedMultiBox
from detector.bundles.model_card import MULTIBOX, WEIGHTS
from detector.datasets import coco
from detector.datasets.ground_truth import AnnotatedImage
from detector.errors import FormatError, SettingsError, TrainingError, UnreadableImage
from detector.training.data_set import DataSet, DataSets
from detector.training.multibox import train_multibox
from detector.training.multibox_loss import assignment_loss
from detector.training.out_folder import LOG
from detector.training.settings import MultiBoxTraining
from detector.training.start import TrainingOptions


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


def alone(data: DataSet) -> DataSets:
    return DataSets(data, validation=None, objects=None)


def on_cpu(out: Path, **options: Any) -> TrainingOptions:
    return TrainingOptions(out, device="cpu", **options)


def losses(out: Path) -> list[float]:
    return [json.loads(line)["loss"] for line in (out / LOG).read_text().splitlines()]


def test_what_a_training_leaves(
    data: DataSet, recipe: MultiBoxTraining, start: Path, tmp_path: Path
) -> None:
    summary = train_multibox(recipe, DataSets(data, data, None), start, on_cpu(tmp_path))
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
    train_multibox(MultiBoxTraining.model_validate(longer), alone(data), start, on_cpu(tmp_path))
    values = losses(tmp_path)
    assert sum(values[-10:]) < 0.8 * sum(values[:10])


def test_resumed_ends_with_the_same_weights(
    data: DataSet,
    recipe: MultiBoxTraining,
    start: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    train_multibox(recipe, alone(data), start, on_cpu(tmp_path / "whole"))
    steps = iter(range(100))

    def stops(*arguments: torch.Tensor, **more: float) -> torch.Tensor:
        if next(steps) == 3:
            raise KeyboardInterrupt
        return assignment_loss(*arguments, **more)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr("detector.training.multibox_loss.assignment_loss", stops)
        with pytest.raises(KeyboardInterrupt):
            train_multibox(recipe, alone(data), start, on_cpu(tmp_path / "broken"))
    with pytest.raises(SettingsError, match="has a checkpoint: give --resume"):
        train_multibox(recipe, alone(data), start, on_cpu(tmp_path / "broken"))
    train_multibox(recipe, alone(data), start, on_cpu(tmp_path / "broken", resume=True))
    whole, broken = (load_file(tmp_path / name / WEIGHTS) for name in ("whole", "broken"))
    assert all(torch.equal(whole[name], broken[name]) for name in whole)
    assert losses(tmp_path / "whole") == losses(tmp_path / "broken")


def test_what_is_wrong_is_named(
    data: DataSet, recipe: MultiBoxTraining, start: Path, tmp_path: Path
) -> None:
    many = recipe.model_copy(update={"priors": 500})
    with pytest.raises(TrainingError, match=r"painted.json: 500 priors need as many distinct"):
        train_multibox(many, alone(data), start, on_cpu(tmp_path / "a"))
    first, *others = data.truth.images
    lost = AnnotatedImage("lost.png", *list(vars(first).values())[1:])
    truth = type(data.truth)(data.truth.classes, (lost, *others))
    incomplete = data._replace(truth=truth)
    with pytest.raises(UnreadableImage, match=r"lost\.png"):
        train_multibox(recipe, alone(incomplete), start, on_cpu(tmp_path / "a", strict=True))
    summary = train_multibox(recipe, alone(incomplete), start, on_cpu(tmp_path / "a"))
    assert [failure.file for failure in summary.skipped] == ["lost.png"]
    wrong = AnnotatedImage(first.file, 10_000, *list(vars(first).values())[2:])
    other = data._replace(truth=type(data.truth)(data.truth.classes, (wrong,)))
    with pytest.raises(FormatError, match=r"but its annotations say 10000x"):
        train_multibox(recipe, alone(other), start, on_cpu(tmp_path / "b"))
