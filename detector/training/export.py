"""What a training leaves in its folder: the weights, and facts for a model card."""

from __future__ import annotations

import hashlib
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save

from detector import __version__
from detector.bundles.model_card import WEIGHTS
from detector.common.atomic_io import atomic_write
from detector.common.cpu import available_cores
from detector.models.torch_googlenet import GoogLeNet, Trunk
from detector.models.torch_weights import as_shipped, weights_of
from detector.models.weights import Weights
from detector.training.start import Training

AUXILIARY_HEADS = ("loss1", "loss2")
"""Names of the heads that help training and are not shipped."""


def export(training: Training, network: Trunk, files: Mapping[str, bytes]) -> None:
    """Write the weights and other files into the output folder; only the first process writes.

    Args:
        training: The training.
        network: The trained network.
        files: Contents of the other files by their names.
    """
    if not training.group.first:
        return
    out = training.options.out
    write_weights(out / WEIGHTS, network)
    for name, content in files.items():
        with atomic_write(out / name) as file:
            file.write(content)


def write_weights(path: Path, network: Trunk) -> None:
    """Write a network's weights without auxiliary heads."""
    tensors = {
        name: tensor.contiguous().cpu()
        for name, tensor in network.state_dict().items()
        if not name.startswith(AUXILIARY_HEADS)
    }
    with atomic_write(path) as file:
        file.write(save(tensors))


def shipped_weights(network: GoogLeNet) -> Weights:
    """Return a network's weights as a bundle has them: rounded, and without auxiliary heads."""
    return {
        name: tensor
        for name, tensor in weights_of(as_shipped(network)).items()
        if not name.startswith(AUXILIARY_HEADS)
    }


def describe_start(weights: Path | None, seed: int) -> dict[str, Any]:
    """Return the facts about where a training starts.

    Args:
        weights: The file of initial weights, or None for random ones.
        seed: Seed of the training.
    """
    if weights is None:
        return {"start": None, "seed": seed}
    digest = hashlib.sha256(weights.read_bytes()).hexdigest()
    return {"start": {"file": weights.name, "sha256": digest}, "seed": seed}


def describe_run(training: Training, seconds: float) -> dict[str, Any]:
    """Return how long a training took, on which hardware, and with which versions.

    Args:
        training: The training.
        seconds: Time of all its steps.
    """
    if training.runtime.on_gpu:
        hardware = f"{training.group.size} x {torch.cuda.get_device_name(training.device)}"
    else:
        hardware = f"{available_cores()} processor cores ({platform.machine()})"
    return {
        "seconds": round(seconds, 1),
        "hardware": hardware,
        "precision": training.runtime.float_precision,
        "versions": {
            "detector": __version__,
            "python": platform.python_version(),
            "torch": torch.__version__,
        },
    }
