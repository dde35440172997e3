"""The loop against literal arithmetic, and resumed trainings against undisturbed ones."""

from __future__ import annotations

import json
import math
import os
import random
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import pytest
import torch
from torch import Tensor

from detector.bundles.manifest import Architecture
from detector.common.progress import no_progress
from detector.errors import BundleError, OutputError, SettingsError, TrainingError
from detector.models.torch_googlenet import GoogLeNet
from detector.runtime import Runtime
from detector.training.checkpoint import open_log
from detector.training.fit import Loop
from detector.training.out_folder import CHECKPOINT, LOG
from detector.training.parallel import Group
from detector.training.settings import RegionTraining
from detector.training.start import Training, TrainingOptions


class Noise:
    """Random crops with random labels, drawn by the step, and how to learn from them."""

    def __init__(
        self, *, stop_at: int | None = None, signal_at: int | None = None, scale: float = 1.0
    ) -> None:
        self.stop_at, self.signal_at, self.scale = stop_at, signal_at, scale
        self.steps = 0
        self.validated: list[int] = []
        self.dies = False
        """In the next validation."""

    def make_batch(self, step: int) -> tuple[Tensor, Tensor]:
        rng = torch.Generator().manual_seed(step)
        crops = torch.randn(4, 3, 64, 64, generator=rng)
        labels = torch.randint(3, (4,), generator=rng)
        if step == self.stop_at:
            raise KeyboardInterrupt
        return crops, labels

    def loss(self, network: GoogLeNet, batch: tuple[Tensor, Tensor]) -> Tensor:
        crops, labels = batch
        if self.steps == self.signal_at:
            signal.raise_signal(signal.SIGINT)
        self.steps += 1
        return torch.nn.functional.cross_entropy(network(crops), labels) * self.scale

    def validate(self, network: GoogLeNet, step: int) -> Mapping[str, Any]:
        if self.dies:
            raise KeyboardInterrupt
        self.validated.append(step)
        return {"norm": float(sum(p.detach().square().sum() for p in network.parameters()))}


def make_loop(
    out: Path,
    architecture: Architecture | None = None,
    *,
    seed: int = 3,
    checkpoint_every: int = 2,
    validate_every: int = 100,
    log_every: int = 1,
    **optimisation: Any,
) -> Loop[GoogLeNet]:
    torch.manual_seed(0)
    settings = {"steps": 5, "averaging": 0.5, "precision": "float32"} | optimisation
    recipe = RegionTraining.model_validate(
        {
            "optimisation": settings,
            "validation": {"every": validate_every},
            "run": {"log_every": log_every, "checkpoint_every": checkpoint_every},
        }
    )
    runtime = Runtime.resolve(device="cpu", backend="torch", precision="float32")
    return Loop(
        Training(recipe, TrainingOptions(out, seed=seed), Group(), runtime),
        GoogLeNet(3, crop_size=64, architecture=architecture or Architecture(width=0.25)),
        new_layers=("classifier",),
        steps_per_epoch=10,
        fingerprint={"seed": seed},
    )


def run(loop: Loop[GoogLeNet], task: Noise) -> dict[str, Tensor]:
    with no_progress(0, "step") as progress:
        loop.run(task.make_batch, task.loss, task.validate, progress)
    with loop.averaged():
        return {name: tensor.clone() for name, tensor in loop.network.state_dict().items()}


def equal(a: Mapping[str, Tensor], b: Mapping[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def test_resumed_ends_with_the_same_weights(tmp_path: Path) -> None:
    for name in ("whole", "broken", "other"):
        (tmp_path / name).mkdir()
    whole = run(make_loop(tmp_path / "whole"), Noise())
    with pytest.raises(KeyboardInterrupt):
        run(make_loop(tmp_path / "broken"), Noise(stop_at=3))
    resumed = make_loop(tmp_path / "broken")
    resumed.resume()
    assert resumed.step == 2
    assert equal(run(resumed, Noise()), whole)
    losses = [
        [json.loads(line).get("loss") for line in (tmp_path / name / LOG).read_text().splitlines()]
        for name in ("whole", "broken")
    ]
    assert losses[0] == losses[1]
    assert len(losses[0]) == 5 + 1  # and the validation
    assert not equal(run(make_loop(tmp_path / "other", seed=4), Noise()), whole)  # another dropout


@pytest.mark.parametrize("step", [0, 2])
def test_an_interruption_loses_nothing(step: int, tmp_path: Path) -> None:
    """The step is finished and saved, and so is what the next line of the log needs."""
    for name in ("whole", "broken"):
        (tmp_path / name).mkdir()
    often: dict[str, Any] = {"checkpoint_every": 1000, "log_every": 4, "validate_every": 3}
    whole = run(make_loop(tmp_path / "whole", **often), Noise())
    with pytest.raises(KeyboardInterrupt):
        run(make_loop(tmp_path / "broken", **often), Noise(signal_at=step))
    resumed = make_loop(tmp_path / "broken", **often)
    resumed.resume()
    assert resumed.step == step + 1
    assert equal(run(resumed, Noise()), whole)
    logs = [(tmp_path / name / LOG).read_text().splitlines() for name in ("whole", "broken")]
    lines = [[json.loads(line) | {"seconds": 0} for line in log] for log in logs]
    assert lines[0] == lines[1]
    assert [line["step"] for line in lines[0]] == [3, 4, 5, 5]


def test_an_interrupted_validation_is_made_again(tmp_path: Path) -> None:
    interrupted = Noise()
    interrupted.dies = True
    with pytest.raises(KeyboardInterrupt):
        run(make_loop(tmp_path, checkpoint_every=1000, validate_every=3), interrupted)
    resumed, task = make_loop(tmp_path, checkpoint_every=1000, validate_every=3), Noise()
    resumed.resume()
    assert resumed.step == 3
    run(resumed, task)
    assert task.validated == [3, 5]
    steps = [json.loads(line)["step"] for line in (tmp_path / LOG).read_text().splitlines()]
    assert steps == [1, 2, 3, 3, 4, 5, 5]


def test_validation_sees_the_average_and_changes_nothing(tmp_path: Path) -> None:
    (tmp_path / "often").mkdir()
    task, seldom = Noise(), Noise()
    assert equal(
        run(make_loop(tmp_path / "often", validate_every=2), task), run(make_loop(tmp_path), seldom)
    )
    assert task.validated == [2, 4, 5]
    assert seldom.validated == [5]


def test_a_killed_validation_is_due_again(tmp_path: Path) -> None:
    killed, resumed = Noise(), make_loop(tmp_path, validate_every=2)
    killed.dies = True
    with pytest.raises(KeyboardInterrupt):
        run(resumed, killed)
    task, resumed = Noise(), make_loop(tmp_path, validate_every=2)
    resumed.resume()
    run(resumed, task)
    assert task.validated == [2, 4, 5]


def test_the_average_is_polyaks(tmp_path: Path) -> None:
    loop = make_loop(tmp_path, averaging=0.5, steps=4)
    name = "inception_3a.1x1.weight"
    expected = loop.network.state_dict()[name].double()
    task = Noise()
    for step in range(4):
        loop.update(task.make_batch(step), task.loss)
        loop.step += 1
        keep = min(0.5, (1 + step) / (10 + step))
        expected = keep * expected + (1 - keep) * loop.network.state_dict()[name].double()
    torch.testing.assert_close(loop.average[name].double(), expected, atol=1e-6, rtol=1e-5)


def test_one_step_is_sgd_with_two_rates(tmp_path: Path) -> None:
    loop = make_loop(
        tmp_path, trunk_rate=0.1, head_rate=0.5, weight_decay=0.01, momentum=0.9, steps=9
    )
    loop.network.dropout.p = 0.0
    before = {name: p.detach().clone() for name, p in loop.network.named_parameters()}
    task = Noise()
    loop.update(task.make_batch(0), task.loss)
    for name, parameter in loop.network.named_parameters():
        assert parameter.grad is not None
        decay = 0.01 * before[name] if name.endswith("weight") else 0.0
        rate = 0.5 if name.startswith("classifier") else 0.1
        expected = before[name] - rate * (parameter.grad + decay)
        torch.testing.assert_close(parameter.detach(), expected)


@pytest.mark.parametrize("normalisation", ["lrn", "batchnorm"])
def test_frozen_layers_stay(tmp_path: Path, normalisation: Literal["lrn", "batchnorm"]) -> None:
    architecture = Architecture(width=0.25, normalisation=normalisation)
    loop = make_loop(tmp_path, architecture, frozen=("conv1", "inception_3a"), steps=1)
    before = {name: tensor.clone() for name, tensor in loop.network.state_dict().items()}
    run(loop, Noise())
    changed = {
        name.split(".")[0]
        for name, tensor in loop.network.state_dict().items()
        if not torch.equal(tensor, before[name])
    }
    assert not {"conv1", "inception_3a"} & changed
    assert {"conv2", "inception_3b", "classifier"} <= changed
    with pytest.raises(SettingsError, match="'conv9' is no layer; there are conv1"):
        make_loop(tmp_path, frozen=("conv9",))


def test_a_loss_that_is_not_finite(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="the loss is nan at step 1: lower the learning rates"):
        run(make_loop(tmp_path), Noise(scale=math.nan))
    assert not (tmp_path / CHECKPOINT).exists()


def test_what_cannot_be_resumed(tmp_path: Path) -> None:
    run(make_loop(tmp_path), Noise())
    with pytest.raises(SettingsError, match="was made with another seed: 3, not 4"):
        make_loop(tmp_path, seed=4).resume()
    file = tmp_path / CHECKPOINT
    file.write_bytes(file.read_bytes()[:1000])
    with pytest.raises(BundleError, match="not a checkpoint"):
        make_loop(tmp_path).resume()


def test_damaged_checkpoints_are_named(tmp_path: Path) -> None:
    """Flipped bits, in the header and in the weights, and files that are cut off."""
    run(make_loop(tmp_path, steps=1), Noise())
    file = tmp_path / CHECKPOINT
    whole = file.read_bytes()
    header = 8 + int.from_bytes(whole[:8], "little")
    rng = random.Random(0)
    loop = make_loop(tmp_path, steps=1)
    for number in range(24):
        data = bytearray(whole)
        if number % 4 == 3:
            del data[rng.randrange(len(whole)) :]
        else:
            position = rng.randrange(header if number % 2 else len(whole))
            data[position] ^= 1 << rng.randrange(8)
        file.write_bytes(data)
        with pytest.raises(BundleError, match=r"a damaged one .* if it is removed"):
            loop.resume()
    file.write_bytes(whole)
    loop.resume()
    assert loop.step == 1


@pytest.mark.parametrize("damage", ["folder", "pipe", "pickle"])
def test_what_is_no_checkpoint_is_named(damage: str, tmp_path: Path) -> None:
    file = tmp_path / CHECKPOINT
    if damage == "folder":
        file.mkdir()
    elif damage == "pipe":
        os.mkfifo(file)
    else:
        torch.save({"step": 1}, file)
    with pytest.raises(BundleError, match=r"checkpoint.safetensors: is not a checkpoint"):
        make_loop(tmp_path).resume()


def test_damaged_logs(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(KeyboardInterrupt):
        run(make_loop(tmp_path), Noise(stop_at=4))
    (tmp_path / LOG).write_bytes(b"\xff\n{")
    resumed = make_loop(tmp_path)
    resumed.resume()
    run(resumed, Noise())
    assert caplog.messages == [f"warning: {tmp_path / LOG}: lines are missing at its end"]
    first, *others = (tmp_path / LOG).read_bytes().splitlines()
    assert first == b"\xff"
    assert [json.loads(line)["step"] for line in others] == [5, 5]


def test_two_trainings_cannot_share_a_folder(tmp_path: Path) -> None:
    with (
        open_log(tmp_path / LOG, 0),
        pytest.raises(OutputError, match="another training is writing this output"),
    ):
        run(make_loop(tmp_path), Noise())


def test_a_torn_line_of_the_log_is_dropped(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        run(make_loop(tmp_path), Noise(stop_at=4))
    with open(tmp_path / LOG, "ab") as log:
        log.write(b'{"step": 5, "lo')
    resumed = make_loop(tmp_path)
    resumed.resume()
    run(resumed, Noise())
    steps = [json.loads(line)["step"] for line in (tmp_path / LOG).read_text().splitlines()]
    assert steps == [1, 2, 3, 4, 5, 5]
