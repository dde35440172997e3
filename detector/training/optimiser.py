"""The optimiser: which parameters learn, at which rates, and how rates change with the steps."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from detector.errors import SettingsError
from detector.training.settings import Optimisation


def make_optimiser(
    network: nn.Module, settings: Optimisation, new_layers: Sequence[str]
) -> torch.optim.SGD:
    """Return stochastic gradient descent with momentum over the parameters that are not frozen.

    Each group of parameters has an entry "base", its learning rate before the schedule.

    Args:
        network: The network.
        settings: Learning rates, momentum, and weight decay.
        new_layers: Names of the layers that have the head's learning rate.
    """
    prefixes = tuple(f"{layer}." for layer in new_layers)
    groups: dict[tuple[bool, bool], dict[str, Any]] = {
        (is_new, decays): {
            "params": [],
            "base": settings.head_rate if is_new else settings.trunk_rate,
            "weight_decay": settings.weight_decay if decays else 0.0,
        }
        for is_new in (False, True)
        for decays in (False, True)
    }
    for name, parameter in network.named_parameters():
        if parameter.requires_grad:
            decays = parameter.ndim > 1  # biases and BatchNorm's factors do not decay
            groups[name.startswith(prefixes), decays]["params"].append(parameter)

    used = [group for group in groups.values() if group["params"]]
    return torch.optim.SGD(used, lr=0.0, momentum=settings.momentum)


def freeze_layers(network: nn.Module, layers: Sequence[str]) -> None:
    """Exclude layers from training.

    Raises:
        SettingsError: One of them is not a layer of the network.
    """
    known = dict(network.named_children())
    for layer in layers:
        if layer not in known:
            raise SettingsError(
                f"optimisation.frozen: {layer!r} is no layer; there are {', '.join(known)}"
            )
        known[layer].requires_grad_(requires_grad=False)


def learning_rate_factor(settings: Optimisation, step: int, steps_per_epoch: int) -> float:
    """Return the factor on all learning rates at a step.

    Args:
        settings: The schedule and its numbers.
        step: Number of the step, from 0.
        steps_per_epoch: Number of steps in which every training example is seen once.
    """
    if step < settings.warmup:
        return (step + 1) / settings.warmup
    if settings.schedule == "cosine":
        done = (step - settings.warmup) / max(1, settings.steps - settings.warmup)
        return (1 + math.cos(math.pi * done)) / 2
    if settings.schedule == "steps":
        return float(0.1 ** (step // settings.drop_every))
    return float(0.96 ** (step // (8 * steps_per_epoch)))
