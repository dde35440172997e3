"""The loop that all trainings share: update, log, save, validate.

A step's batch and its dropout depend on the seed and the step alone, and a checkpoint has
everything that the next step needs. A training that was killed and continued therefore ends with
the same weights as one that was not (bit for bit on a processor in float32). If it is interrupted,
by SIGINT or SIGTERM, it finishes its step and writes a checkpoint; a second signal ends it at once.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, BinaryIO, Generic, NamedTuple, TypeVar

import numpy as np
import torch
from torch import Tensor

from detector.common.json_files import encode
from detector.common.prefetcher import Prefetcher
from detector.common.progress import Progress
from detector.errors import TrainingError
from detector.models.torch_googlenet import Trunk
from detector.training.checkpoint import (
    Checkpoint,
    damaged,
    open_log,
    read_checkpoint,
    write_checkpoint,
)
from detector.training.interruption import PostponedSignals
from detector.training.optimiser import freeze_layers, learning_rate_factor, make_optimiser
from detector.training.out_folder import CHECKPOINT, LOG
from detector.training.start import Training

Network = TypeVar("Network", bound=Trunk)
Batch = TypeVar("Batch")
Validate = Callable[[Network, int], Mapping[str, Any]]
"""Function from a network and the number of finished steps to scores; empty if there are none."""


class Fitted(NamedTuple):
    """The outcome of `fit`; the network itself was trained in place."""

    seconds: float
    """Time of all steps, those before a resume included."""
    scores: Mapping[str, Any]
    """Scores of the last validation; empty if there was none."""


def fit(
    training: Training,
    network: Network,
    make_batch: Callable[[int], Batch],
    loss: Callable[[Network, Batch], Tensor],
    validate: Validate[Network],
    *,
    new_layers: Sequence[str],
    steps_per_epoch: int,
    fingerprint: Mapping[str, Any],
) -> Fitted:
    """Train a network in place; at the end it has its averaged weights, if they are averaged.

    Args:
        training: Settings, options, processes and device.
        network: A network with its initial weights.
        make_batch: Returns this process's share of a step's batch. It runs on a thread, one step
            ahead.
        loss: Returns the mean loss of a batch.
        validate: Returns the scores of the network in its present state.
        new_layers: Names of the layers that start from random weights and have the head's learning
            rate.
        steps_per_epoch: Number of steps in an epoch, for schedules that count epochs.
        fingerprint: Everything that changes results. A checkpoint with another one is refused.

    Raises:
        BundleError: The checkpoint is damaged.
        SettingsError: The checkpoint is that of another training, or a frozen layer does not exist.
        TrainingError: The loss is no longer finite.
    """
    options = training.options
    options.out.mkdir(parents=True, exist_ok=True)
    loop = Loop(
        training,
        network,
        new_layers=new_layers,
        steps_per_epoch=steps_per_epoch,
        fingerprint=fingerprint,
    )
    if options.resume:
        loop.resume()

    steps = training.recipe.optimisation.steps
    with (
        closing(Prefetcher(make_batch, steps)) as batches,
        options.show_progress(steps, "step") as progress,
    ):
        loop.run(batches, loss, validate, progress)

    if loop.average:
        network.load_state_dict(loop.average)
    return Fitted(loop.seconds, loop.scores)


class Loop(Generic[Network]):
    """The state of a training, and what happens in a step.

    Args:
        training: Settings, options, processes and device.
        network: A network with its initial weights. It is moved to the device.
        new_layers: See `fit`.
        steps_per_epoch: See `fit`.
        fingerprint: See `fit`.

    Raises:
        SettingsError: A frozen layer does not exist.
    """

    def __init__(
        self,
        training: Training,
        network: Network,
        *,
        new_layers: Sequence[str],
        steps_per_epoch: int,
        fingerprint: Mapping[str, Any],
    ) -> None:
        self.training = training
        self.settings = training.recipe.optimisation
        self.network = network.to(training.device).to(memory_format=torch.channels_last)
        self.steps_per_epoch = steps_per_epoch
        self.fingerprint: dict[str, Any] = json.loads(encode(fingerprint))

        freeze_layers(network, self.settings.frozen)
        self.optimiser = make_optimiser(network, self.settings, new_layers)

        # What changes with the steps.
        self.step = 0
        self.seconds = 0.0
        self.losses: list[Tensor] = []
        """Losses since the last line of the log."""
        self.log: BinaryIO | None = None
        """The log while `run` has it open; only the first process has one."""
        self.log_bytes: int | None = 0
        self.scores: Mapping[str, Any] = {}
        self.average: dict[str, Tensor] = {}
        if self.settings.averaging:
            self.average = {name: t.clone() for name, t in network.state_dict().items()}

    def run(
        self,
        batches: Callable[[int], Batch],
        loss: Callable[[Network, Batch], Tensor],
        validate: Validate[Network],
        progress: Progress,
    ) -> None:
        """Train until the last step, and validate the result.

        Raises:
            KeyboardInterrupt: The training was interrupted. A checkpoint of the last finished step
                is written, unless a second signal has come.
            TrainingError: The loss is no longer finite.
        """
        group = self.training.group
        first_step = self.step
        started = time.perf_counter() - self.seconds
        stops = False
        with (
            self._open_log(),
            # `torchrun` sends each process the signals that it got from the terminal already.
            PostponedSignals(once=group.size == 1) as signals,
        ):
            # A checkpoint is written before its validation, so that a killed one is made again.
            while not stops:
                if self._has_validation():
                    with signals.admitted():
                        self._validate(validate)
                if self.step == self.settings.steps:
                    return

                # One update of the weights.
                self.losses.append(self.update(batches(self.step), loss))
                self.step += 1
                self.seconds = time.perf_counter() - started
                self._log_loss(progress, computed=self.step - first_step)

                stops = group.any(signals.received, self.training.device)
                if stops or self._has_checkpoint():
                    self.save()
        raise KeyboardInterrupt  # the signal came to another process of the group

    def update(self, batch: Batch, loss: Callable[[Network, Batch], Tensor]) -> Tensor:
        """Update the weights once; return the loss, which stays on the device."""
        # The learning rate of this step.
        factor = learning_rate_factor(self.settings, self.step, self.steps_per_epoch)
        for parameters in self.optimiser.param_groups:
            parameters["lr"] = parameters["base"] * factor

        # Each step seeds dropout, so that a resumed training draws the same.
        seed = (self.training.options.seed, self.step, self.training.group.rank)
        torch.manual_seed(int(np.random.SeedSequence(seed).generate_state(1)[0]))
        self.network.train()
        for layer in self.settings.frozen:  # BatchNorm's statistics stay as well
            self.network.get_submodule(layer).eval()

        # Forward, backward, and the mean of the gradients over all processes.
        self.optimiser.zero_grad()
        runtime = self.training.runtime
        is_half = runtime.float_precision == "bfloat16"
        with torch.autocast(self.training.device.type, torch.bfloat16, enabled=is_half):
            value = loss(self.network, batch)
        value.backward()  # type: ignore[no-untyped-call]
        self.training.group.average_gradients(self.network)

        self.optimiser.step()
        self._update_average()
        return value.detach()

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """Give the network its averaged weights inside the block, if they are averaged."""
        if not self.average:
            yield
            return
        weights = {name: tensor.clone() for name, tensor in self.network.state_dict().items()}
        self.network.load_state_dict(self.average)
        try:
            yield
        finally:
            self.network.load_state_dict(weights)

    def save(self) -> None:
        """Write a checkpoint; only the first process does."""
        if not self.training.group.first:
            return
        momentum = {
            name: self.optimiser.state[parameter]["momentum_buffer"]
            for name, parameter in self.network.named_parameters()
            if "momentum_buffer" in self.optimiser.state.get(parameter, {})
        }
        checkpoint = Checkpoint(
            self.step,
            self.seconds,
            [float(loss) for loss in self.losses],
            self.log.tell() if self.log else None,
            self.network.state_dict(),
            self.average,
            momentum,
        )
        write_checkpoint(self.training.options.out / CHECKPOINT, checkpoint, self.fingerprint)

    def resume(self) -> None:
        """Load the state of the checkpoint. Without a checkpoint the training starts from step 0.

        Raises:
            BundleError: The checkpoint is damaged.
            SettingsError: The checkpoint is that of another training.
        """
        path = self.training.options.out / CHECKPOINT
        checkpoint = read_checkpoint(path, self.fingerprint, self.training.device)
        if checkpoint is None:
            return

        self._check_tensors(path, checkpoint)
        self.step = checkpoint.step
        self.seconds = checkpoint.seconds
        self.losses = list(torch.tensor(checkpoint.losses, device=self.training.device))
        self.log_bytes = checkpoint.log_bytes
        self.network.load_state_dict(checkpoint.network)
        self.average = dict(checkpoint.average)
        for name, parameter in self.network.named_parameters():
            if name in checkpoint.momentum:
                # A buffer has its parameter's memory format, as the optimiser would make it.
                buffer = torch.empty_like(parameter).copy_(checkpoint.momentum[name])
                self.optimiser.state[parameter]["momentum_buffer"] = buffer

    def _update_average(self) -> None:
        """Move the averaged weights towards the present ones."""
        if not self.average:
            return
        # The share of the old average grows with the steps, so that the initial weights are
        # forgotten quickly.
        share = min(self.settings.averaging, (1 + self.step) / (10 + self.step))
        for name, tensor in self.network.state_dict().items():
            if tensor.is_floating_point():
                self.average[name].lerp_(tensor, 1 - share)
            else:  # BatchNorm's counts
                self.average[name].copy_(tensor)

    def _has_validation(self) -> bool:
        """Return whether the network is validated after its present step."""
        is_last = self.step == self.settings.steps
        return is_last or (self.step > 0 and self.step % self.training.recipe.validation.every == 0)

    def _has_checkpoint(self) -> bool:
        """Return whether a checkpoint is written after the present step."""
        return self._has_validation() or self.step % self.training.recipe.run.checkpoint_every == 0

    def _check_tensors(self, path: Path, checkpoint: Checkpoint) -> None:
        """Check that the tensors of a checkpoint are those of the network.

        Raises:
            BundleError: They are not.
        """
        expected = {name: tensor.shape for name, tensor in self.network.state_dict().items()}
        for tensors, is_complete in (
            (checkpoint.network, True),
            (checkpoint.average, bool(self.average)),
            (checkpoint.momentum, False),
        ):
            shapes = {name: tensor.shape for name, tensor in tensors.items()}
            known = expected if is_complete else {n: expected.get(n) for n in shapes}
            if shapes != known:
                raise damaged(path, "its tensors are not those of the network")

    def _validate(self, validate: Validate[Network]) -> None:
        with self.averaged():
            scores = validate(self.network, self.step)
        if scores:
            self.scores = scores
            self._write_line(scores)

    @contextmanager
    def _open_log(self) -> Iterator[None]:
        """Open the log; only the first process has one."""
        if not self.training.group.first:
            yield
            return
        with open_log(self.training.options.out / LOG, self.log_bytes) as self.log:
            yield
        self.log = None

    def _log_loss(self, progress: Progress, *, computed: int) -> None:
        """Write and show the mean of the losses since the last line, if a line is due.

        Raises:
            TrainingError: It is not finite.
        """
        is_last = self.step == self.settings.steps
        if not is_last and self.step % self.training.recipe.run.log_every != 0:
            return
        mean = self.training.group.mean(torch.stack(self.losses).mean())
        self.losses.clear()
        if not math.isfinite(mean):
            raise TrainingError(
                f"the loss is {mean} at step {self.step}: lower the learning rates "
                "(optimisation.trunk_rate, optimisation.head_rate)"
            )
        factor = learning_rate_factor(self.settings, self.step - 1, self.steps_per_epoch)
        rate = self.settings.trunk_rate * factor
        self._write_line({"loss": mean, "trunk_rate": rate})
        progress(self.step, computed, f"loss {mean:.4f}, rate {rate:.2g}")

    def _write_line(self, values: Mapping[str, Any]) -> None:
        if self.log is None:
            return
        line = {"step": self.step, "seconds": round(self.seconds, 1), **values}
        self.log.write(encode(line) + b"\n")
        self.log.flush()
