"""The loop that all trainings share: steps, rates, averages, records, checkpoints.

A step's batch and its dropout depend on the seed and the step alone, and a checkpoint has all
that the next step needs: a training that was killed and goes on ends with the same weights as one
that was not (bit for bit on a processor in float32).
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, Generic, Protocol, TypeVar

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor

from detector.common.atomic_io import atomic_write, encode
from detector.common.progress import Progress
from detector.errors import BundleError, SettingsError, TrainingError
from detector.models.googlenet import Trunk
from detector.runtime import Runtime
from detector.training.parallel import Group
from detector.training.settings import Optimisation, Run

CHECKPOINT = "checkpoint.safetensors"
LOG = "log.jsonl"


Network = TypeVar("Network", bound=Trunk)
Trained = TypeVar("Trained", bound=Trunk, contravariant=True)


class Task(Protocol[Trained]):
    """What a loop trains a network to do."""

    def loss(self, network: Trained, step: int) -> Tensor:
        """The mean loss of this process's part of a step's batch."""
        ...

    def validate(self, network: Trained, step: int) -> Mapping[str, Any]:
        """What to record of the network at this step; empty where there is nothing."""
        ...


def check_folder(out: Path, *, resume: bool) -> None:
    """See that a new training does not overwrite another's checkpoint.

    Raises:
        SettingsError: it would.
    """
    if not resume and (out / CHECKPOINT).exists():
        raise SettingsError(f"{out}: has a checkpoint: give --resume, or another --out")


class Loop(Generic[Network]):
    """A training of one network.

    Args:
        network: with its starting weights; it is moved to the device and trained in place.
        heads: the layers that start anew, which have a learning rate of their own.
        optimisation: how.
        run: how often to record.
        out: the folder of checkpoint and log.
        fingerprint: everything that changes results; a checkpoint of another is refused.
        steps_per_epoch: for schedules that count epochs.
        seed: of the dropout.
        device: where.
        group: the processes that share the work.

    Raises:
        SettingsError: a frozen layer is none of the network's.
    """

    def __init__(
        self,
        network: Network,
        *,
        heads: Sequence[str],
        optimisation: Optimisation,
        run: Run,
        out: Path,
        fingerprint: Mapping[str, Any],
        steps_per_epoch: int,
        seed: int,
        device: torch.device,
        group: Group,
    ) -> None:
        self.network = network.to(device).to(memory_format=torch.channels_last)
        self.optimisation, self.run_settings, self.out = optimisation, run, out
        self.fingerprint = json.loads(encode(fingerprint))
        self.steps_per_epoch, self.seed, self.device, self.group = (
            steps_per_epoch,
            seed,
            device,
            group,
        )
        self.step = 0
        self.seconds = 0.0
        runtime = Runtime.resolve(
            device=str(device), backend="torch", precision=optimisation.precision
        )
        self.precision = runtime.float_precision
        self._freeze(optimisation.frozen)
        self.optimiser = torch.optim.SGD(
            self._groups(tuple(f"{head}." for head in heads)),
            lr=0.0,
            momentum=optimisation.momentum,
        )
        self.average = {
            name: tensor.clone()
            for name, tensor in network.state_dict().items()
            if optimisation.averaging
        }

    def run(self, task: Task[Network], report: Progress, *, validate_every: int) -> None:
        """Train until the last step, and validate the result.

        Raises:
            TrainingError: the loss is no longer finite.
        """
        settings = self.optimisation
        first, started, seconds_before = self.step, time.perf_counter(), self.seconds
        losses: list[Tensor] = []
        with self._log() as log:
            while self.step < settings.steps:
                losses.append(self._step(task))
                self.step += 1
                self.seconds = seconds_before + time.perf_counter() - started
                last = self.step == settings.steps
                if last or self.step % self.run_settings.log_every == 0:
                    loss = self.group.mean(torch.stack(losses).mean())
                    losses.clear()
                    if not math.isfinite(loss):
                        raise TrainingError(
                            f"the loss is {loss} at step {self.step}: lower the learning rates "
                            "(optimisation.trunk_rate, optimisation.head_rate)"
                        )
                    rate = settings.trunk_rate * self.factor(self.step - 1)
                    self._record(log, loss=loss, trunk_rate=rate)
                    report(self.step, self.step - first, f"loss {loss:.4f}, rate {rate:.2g}")
                if not last and self.step % validate_every == 0:
                    self._validate(task, log)  # before the checkpoint: one that is killed is due
                if last or self.step % self.run_settings.checkpoint_every == 0:
                    self.save()
            self._validate(task, log)

    def factor(self, step: int) -> float:
        """What both learning rates are multiplied by at a step, counted from 0."""
        settings = self.optimisation
        if step < settings.warmup:
            return (step + 1) / settings.warmup
        if settings.schedule == "cosine":
            done = (step - settings.warmup) / max(1, settings.steps - settings.warmup)
            return (1 + math.cos(math.pi * done)) / 2
        if settings.schedule == "steps":
            return float(0.1 ** (step // settings.drop_every))
        return float(0.96 ** (step // (8 * self.steps_per_epoch)))

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """Give the network its averaged weights meanwhile, if there are any."""
        if not self.average:
            yield
            return
        own = {name: tensor.clone() for name, tensor in self.network.state_dict().items()}
        self.network.load_state_dict(self.average)
        try:
            yield
        finally:
            self.network.load_state_dict(own)

    def _step(self, task: Task[Network]) -> Tensor:
        """One update of the weights; returns the loss, which stays on the device."""
        factor = self.factor(self.step)
        for group in self.optimiser.param_groups:
            group["lr"] = group["base"] * factor
        sequence = np.random.SeedSequence((self.seed, self.step, self.group.rank))
        torch.manual_seed(int(sequence.generate_state(1)[0]))
        self.network.train()
        for layer in self.optimisation.frozen:  # BatchNorm's statistics stay as well
            self.network.get_submodule(layer).eval()
        self.optimiser.zero_grad()
        half = self.precision == "bfloat16"
        with torch.autocast(self.device.type, torch.bfloat16, enabled=half):
            loss = task.loss(self.network, self.step)
        loss.backward()  # type: ignore[no-untyped-call]
        self.group.average_gradients(self.network)
        self.optimiser.step()
        self._average()
        return loss.detach()

    def _validate(self, task: Task[Network], log: BinaryIO | None) -> None:
        with self.averaged():
            found = task.validate(self.network, self.step)
        if found:
            self._record(log, **found)

    def _average(self) -> None:
        if not self.average:
            return
        keep = min(self.optimisation.averaging, (1 + self.step) / (10 + self.step))
        for name, tensor in self.network.state_dict().items():
            if tensor.is_floating_point():
                self.average[name].lerp_(tensor, 1 - keep)
            else:  # BatchNorm's counts
                self.average[name].copy_(tensor)

    def _freeze(self, layers: Sequence[str]) -> None:
        known = dict(self.network.named_children())
        for layer in layers:
            if layer not in known:
                raise SettingsError(
                    f"optimisation.frozen: {layer!r} is no layer; there are {', '.join(known)}"
                )
            known[layer].requires_grad_(requires_grad=False)

    def _groups(self, heads: tuple[str, ...]) -> list[dict[str, Any]]:
        """Trunk and heads, each with and without decay."""
        settings = self.optimisation
        groups: dict[tuple[bool, bool], dict[str, Any]] = {
            (head, decay): {
                "params": [],
                "base": settings.head_rate if head else settings.trunk_rate,
                "weight_decay": settings.weight_decay if decay else 0.0,
            }
            for head in (False, True)
            for decay in (False, True)
        }
        for name, parameter in self.network.named_parameters():
            if parameter.requires_grad:
                groups[name.startswith(heads), parameter.ndim > 1]["params"].append(parameter)
        return [group for group in groups.values() if group["params"]]

    @contextmanager
    def _log(self) -> Iterator[BinaryIO | None]:
        """The record, without what an earlier run wrote after the checkpoint it left."""
        if not self.group.first:
            yield None
            return
        path = self.out / LOG
        kept = path.read_bytes().splitlines(keepends=True) if self.step and path.exists() else []
        with open(path, "wb") as log:
            log.writelines(line for line in kept if _is_before(line, self.step))
            yield log

    def _record(self, log: BinaryIO | None, **values: Any) -> None:
        if log is not None:
            log.write(encode({"step": self.step, "seconds": round(self.seconds, 1)} | values))
            log.write(b"\n")
            log.flush()

    def save(self) -> None:
        """Write a checkpoint, aside first."""
        if not self.group.first:
            return
        tensors = {f"network.{name}": t for name, t in self.network.state_dict().items()}
        tensors |= {f"average.{name}": tensor for name, tensor in self.average.items()}
        for name, parameter in self.network.named_parameters():
            if "momentum_buffer" in (state := self.optimiser.state.get(parameter, {})):
                tensors[f"momentum.{name}"] = state["momentum_buffer"]
        about = {"step": self.step, "seconds": self.seconds, "fingerprint": self.fingerprint}
        plain = {name: tensor.contiguous().cpu() for name, tensor in tensors.items()}
        with atomic_write(self.out / CHECKPOINT) as file:
            file.write(save(plain, {"about": json.dumps(about)}))

    def resume(self) -> None:
        """Go on from the checkpoint, if there is one.

        Raises:
            BundleError: it is damaged.
            SettingsError: it is that of another training.
        """
        path = self.out / CHECKPOINT
        if not path.exists():
            return
        try:
            with safe_open(path, "pt") as file:
                about = json.loads(file.metadata()["about"])
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        except Exception as error:  # safetensors raises several, and a damaged header any
            raise BundleError(path, f"not a checkpoint: {error}") from error
        before, now = about["fingerprint"], self.fingerprint
        for key in sorted(before.keys() | now.keys()):
            if before.get(key) != now.get(key):
                raise SettingsError(
                    f"{path}: was made with another {key}: {before.get(key)}, not {now.get(key)}; "
                    "choose another --out"
                )
        parts: dict[str, dict[str, Tensor]] = {"network": {}, "average": {}, "momentum": {}}
        for name, tensor in tensors.items():
            part, _, rest = name.partition(".")
            parts[part][rest] = tensor.to(self.device)
        self.network.load_state_dict(parts["network"])
        self.average = parts["average"]
        for name, parameter in self.network.named_parameters():
            if name in parts["momentum"]:
                buffer = torch.empty_like(parameter).copy_(parts["momentum"][name])
                self.optimiser.state[parameter]["momentum_buffer"] = buffer
        self.step, self.seconds = about["step"], about["seconds"]


def _is_before(line: bytes, step: int) -> bool:
    """Was a line of the log written at this step or earlier, and whole?"""
    try:
        return bool(json.loads(line)["step"] <= step)
    except ValueError:  # the torn last line of a killed training
        return False
