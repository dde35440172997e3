"""Trainings of a small network on painted photos, from annotations to a member."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from detector import Detector
from detector.bundles.manifest import Architecture
from detector.bundles.model_card import MEMBER, WEIGHTS, make_recipe, read_member
from detector.bundles.pack import pack
from detector.commands.train import command
from detector.common.config import read_toml
from detector.common.cpu import has_int8
from detector.datasets import coco
from detector.datasets.ground_truth import GroundTruth
from detector.errors import BundleError, FormatError, SettingsError
from detector.settings import Settings
from detector.training.data_set import DataSet, DataSets
from detector.training.out_folder import CHECKPOINT, LOG, how_to_continue
from detector.training.regions import RegionOptions, train_regions
from detector.training.settings import RegionTraining
from tests.support.tiny_bundle import load_network

ROOT = Path(__file__).parents[3]


def data_set(file: Path) -> DataSet:
    return DataSet(file, coco.read(file), file.with_suffix(""))


def alone(data: DataSet) -> DataSets:
    return DataSets(data, validation=None, objects=None)


@pytest.fixture
def recipe(training: Path) -> RegionTraining:
    return RegionTraining.model_validate(read_toml(training))


@pytest.fixture
def start(tiny_weights: list[Path]) -> Path:
    return tiny_weights[0]


def test_from_annotations_to_a_detector(
    painted: Path, recipe: RegionTraining, start: Path, tmp_path: Path
) -> None:
    out, data = tmp_path / "one", data_set(painted)
    options = RegionOptions(out, device="cpu", cache=painted.parent, workers=1)
    summary = train_regions(recipe, DataSets(data, data, None), start, options)
    assert not summary.skipped
    assert sorted(path.name for path in out.iterdir()) == sorted(
        [CHECKPOINT, LOG, MEMBER, WEIGHTS, "validation-6.jsonl"]
    )
    member = read_member(out)
    assert member == summary.member
    assert member.classes == ("red", "blue")
    facts = member.training
    assert facts["data"] == {
        "annotations": "painted.json",
        "photos": 4,
        "boxes": 8,
        "difficult": 0,
    }
    assert facts["scores"]["images"] == 4
    log = [json.loads(line) for line in (out / LOG).read_text().splitlines()]
    assert [line["step"] for line in log] == [1, 2, 3, 4, 5, 6, 6]
    assert log[-1]["mean_ap"] == facts["scores"]["mean_ap"]

    bundle = pack(
        tmp_path / "mine", make_recipe({out: member}, name="mine", version="1"), [out / WEIGHTS]
    )
    exact = Settings.read(scoring=True, assignments=["classifier.precision=float32"])
    with Detector.load(bundle, settings=exact, device="cpu") as detector:
        found = detector.detect(data.folder / "0.png")
    classifier = load_network(bundle, bundle.manifest.members[0]).classifier
    assert classifier.out_features == 3
    # The bundle finds what the validation of the training found.
    journal = (out / "validation-6.jsonl").read_text().splitlines()
    first = next(entry for entry in map(json.loads, journal[1:]) if entry["file"] == "0.png")
    detections = [(d.label, list(d.box)) for d in found.detections]
    assert detections == [(d["label"], d["box"]) for d in first["detections"]]
    # In 8-bit integers, whose ranges the training measured, it finds nearly that.
    if has_int8():
        fast = Settings.read(scoring=True, assignments=["classifier.precision=int8"])
        with Detector.load(bundle, settings=fast, device="cpu") as detector:
            near = detector.detect(data.folder / "0.png").detections
            assert str(detector.fingerprint["backend"]).startswith("openvino cpu int8 ")
        assert near[0].score == pytest.approx(found.detections[0].score, abs=0.1)


def test_it_learns(painted: Path, recipe: RegionTraining, start: Path, tmp_path: Path) -> None:
    optimisation = {"steps": 40, "head_rate": 0.1, "precision": "float32", "averaging": 0.0}
    changes = {"optimisation": optimisation, "run": {"log_every": 1}}
    longer = RegionTraining.model_validate(recipe.model_dump() | changes)
    options = RegionOptions(tmp_path / "a", device="cpu", cache=painted.parent)
    train_regions(longer, alone(data_set(painted)), start, options)
    log = (tmp_path / "a" / LOG).read_text().splitlines()
    losses = [json.loads(line)["loss"] for line in log]
    assert sum(losses[-10:]) < 0.5 * sum(losses[:10])


def test_auxiliary_heads_help_training_and_are_not_shipped(
    painted: Path, recipe: RegionTraining, start: Path, tmp_path: Path
) -> None:
    changes = {"warp": {"crop_size": 96}, "optimisation": {"steps": 1, "auxiliary": 0.3}}
    with_heads = RegionTraining.model_validate(recipe.model_dump() | changes)
    options = RegionOptions(tmp_path / "a", device="cpu", cache=painted.parent)
    train_regions(with_heads, alone(data_set(painted)), start, options)
    names = load_file(tmp_path / "a" / WEIGHTS)
    assert not [name for name in names if name.startswith("loss")]
    assert any(name.startswith("network.loss1.") for name in load_file(tmp_path / "a" / CHECKPOINT))


def test_killed_and_resumed_ends_with_the_same_weights(
    painted: Path, training: Path, start: Path, tmp_path: Path
) -> None:
    """`kill -9` between two checkpoints, then the same command with --resume."""

    def arguments(out: Path) -> list[str]:
        files = ["--config", training, "--data", painted, "--weights", start, "--out", out]
        options = ["--cache", painted.parent, "--device", "cpu", "--set", "optimisation.steps=20"]
        return ["regions", *map(str, files), *map(str, options)]

    assert command([*arguments(tmp_path / "whole"), "--quiet"]) == 0
    broken = tmp_path / "broken"
    process = subprocess.Popen(
        [sys.executable, "-m", "detector.commands.train", *arguments(broken), "--quiet"],
        cwd=ROOT,
    )
    while not (broken / LOG).exists() or len((broken / LOG).read_bytes().splitlines()) < 5:
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (broken / WEIGHTS).exists()
    assert command([*arguments(broken), "--quiet", "--resume"]) == 0
    weights = [load_file(folder / WEIGHTS) for folder in (tmp_path / "whole", broken)]
    assert weights[0].keys() == weights[1].keys()
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
    losses = [
        [json.loads(line)["loss"] for line in (folder / LOG).read_text().splitlines()]
        for folder in (tmp_path / "whole", broken)
    ]
    assert losses[0] == losses[1]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_by_a_signal_to_all_its_processes(
    number: signal.Signals, painted: Path, training: Path, start: Path, tmp_path: Path
) -> None:
    """While it computes proposals: nothing is lost, nothing is left, and it says what to do."""
    out = tmp_path / "out"
    files = ["--config", training, "--data", painted, "--weights", start, "--out", out]
    process = subprocess.Popen(
        [sys.executable, "-m", "detector.commands.train", "regions", *map(str, files)],
        cwd=ROOT,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    while not list(tmp_path.glob("proposals-*.jsonl")):
        assert process.poll() is None
        time.sleep(0.01)
    os.killpg(process.pid, number)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert errors == f"interrupted: {how_to_continue(out)}\n"
    states = subprocess.run(
        ["ps", "-eo", "pgid=,stat="], capture_output=True, text=True, check=True
    ).stdout
    group = [line.split()[1] for line in states.splitlines() if line.split()[0] == str(process.pid)]
    # One that has ended may wait for its new parent to notice.
    assert all(state.startswith("Z") for state in group)


def test_bounded_memory_trains_the_same(
    painted: Path, recipe: RegionTraining, start: Path, tmp_path: Path
) -> None:
    """Photos beyond the cache's size are read again, with the same result."""
    weights = []
    for name, cache_gib in (("all", 1.0), ("none", 0.0)):
        run = recipe.run.model_copy(update={"cache_gib": cache_gib})
        bounded = recipe.model_copy(update={"run": run})
        options = RegionOptions(tmp_path / name, device="cpu", cache=painted.parent)
        train_regions(bounded, alone(data_set(painted)), start, options)
        weights.append(load_file(tmp_path / name / WEIGHTS))
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])


def test_what_is_refused_before_the_work(
    painted: Path, recipe: RegionTraining, start: Path, tmp_path: Path
) -> None:
    data = data_set(painted)
    other = DataSet(painted, GroundTruth({"red": 1}, data.truth.images[:0]), data.folder)
    with pytest.raises(SettingsError, match="has other classes than"):
        train_regions(recipe, DataSets(data, other, None), start, RegionOptions(tmp_path / "a"))
    with pytest.raises(FormatError, match="class 'red' has no box"):
        train_regions(recipe, alone(other), start, RegionOptions(tmp_path / "a"))
    (tmp_path / "used").mkdir()
    (tmp_path / "used" / CHECKPOINT).touch()
    with pytest.raises(SettingsError, match="has a checkpoint: give --resume, or another --out"):
        train_regions(recipe, alone(data), start, RegionOptions(tmp_path / "used"))
    wider = recipe.model_copy(update={"architecture": Architecture(width=0.5)})
    with pytest.raises(BundleError, match=r"0\.safetensors: conv1\S* has shape \[16.*not \[32"):
        train_regions(wider, alone(data), start, RegionOptions(tmp_path / "b", device="cpu"))
    assert not (tmp_path / "b").exists()


def test_more_objects_are_no_background(
    painted: Path, recipe: RegionTraining, start: Path, tmp_path: Path
) -> None:
    """Data of which only objects are trained on gives no proposal, and of each class a few."""
    content = json.loads(painted.read_text())
    content["images"] = [image | {"id": image["id"] + 10} for image in content["images"]]
    content["annotations"] = [
        item | {"image_id": item["image_id"] + 10} for item in content["annotations"]
    ]
    file = tmp_path / "more.json"
    file.write_text(json.dumps(content))
    more = DataSet(file, coco.read(file), painted.with_suffix(""))
    sampling = recipe.sampling.model_copy(update={"more_objects": 3})
    summary = train_regions(
        recipe.model_copy(update={"sampling": sampling}),
        DataSets(data_set(painted), None, more),
        start,
        RegionOptions(tmp_path / "out", device="cpu", cache=painted.parent, workers=1),
    )
    facts = summary.member.training
    assert facts["objects"]["boxes"] == 6  # 3 red, 3 blue
    about = json.loads(Path(tmp_path / "out" / MEMBER).read_text())
    assert about["training"]["objects"]["annotations"] == "more.json"
