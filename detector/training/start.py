"""How every training starts: its options, its processes and its device."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from detector.backends.pytorch import limit_threads
from detector.common.progress import ShowProgress, no_progress
from detector.runtime import Runtime
from detector.training.out_folder import prepare_folder
from detector.training.parallel import Group
from detector.training.settings import TrainingRecipe, settings_that_change_weights

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class TrainingOptions:
    """The options that all trainings share.

    Args:
        out: The folder for the weights, the log and the checkpoint.
        seed: Seed of everything random.
        resume: Whether to go on from the checkpoint in `out`. If there is none, the training starts
            from step 0.
        strict: Whether an image, a box or a class that cannot be used is an error. Otherwise it is
            left out, and a box that reaches out of its image is clipped.
        device: "auto", "cpu", "cuda" or "cuda:N".
        show_progress: Shows how far the training is.
        inputs: Files and folders that the training reads, none of which it may overwrite.
    """

    out: Path
    seed: int = 0
    resume: bool = False
    strict: bool = False
    device: str = "auto"
    show_progress: ShowProgress = no_progress
    inputs: Sequence[Path] = ()


@dataclass(frozen=True)
class Training:
    """A training that has started: everything that its stages share.

    Args:
        recipe: The settings of the training.
        options: The options of the training.
        group: The processes that share the work.
        runtime: The device of this process, and the precision of the network's arithmetic.
    """

    recipe: TrainingRecipe
    options: TrainingOptions
    group: Group
    runtime: Runtime

    @property
    def device(self) -> torch.device:
        """The device of this process."""
        return torch.device(self.runtime.device)

    def say(self, notes: Sequence[str]) -> None:
        """Tell the user what was done to the data; only the first process does."""
        if self.group.first:
            for note in notes:
                logger.warning("warning: %s", note)

    def fingerprint(self, data: Mapping[str, Any], facts: Mapping[str, Any]) -> dict[str, Any]:
        """Return everything that changes results.

        Args:
            data: What the training data was made into, such as the number of regions.
            facts: Data sets, initial weights and seed.
        """
        return {
            "recipe": settings_that_change_weights(self.recipe),
            **data,
            "processes": self.group.size,
            **facts,
        }


@contextmanager
def start_training(
    recipe: TrainingRecipe, options: TrainingOptions, *, results: Sequence[str]
) -> Iterator[Training]:
    """Check the output folder, join the group of processes, and choose the device.

    Args:
        recipe: The settings of the training.
        options: The options of the training.
        results: Names of the files that the training writes at its end.

    Raises:
        SettingsError: The folder has files that would be overwritten, or the device is missing.
    """
    processes = Group()
    if processes.first:
        prepare_folder(options.out, results, options.inputs, resume=options.resume)

    with processes as group:
        runtime = Runtime.resolve(
            device=group.device(options.device),
            backend="torch",
            precision=recipe.optimisation.precision,
        )
        if not runtime.on_gpu:
            limit_threads()
        yield Training(recipe, options, group, runtime)
