"""What a training leaves: weights, and the facts for a model card."""

from __future__ import annotations

import hashlib
import platform
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save

from detector import __version__
from detector.common.atomic_io import atomic_write
from detector.common.cpu import available_cores
from detector.models.googlenet import Trunk
from detector.training.loop import Loop

AUXILIARY_HEADS = ("loss1", "loss2")


def write_weights(path: Path, network: Trunk) -> None:
    """Write a network's weights, without auxiliary heads, which only help training."""
    plain = {
        name: tensor.contiguous().cpu()
        for name, tensor in network.state_dict().items()
        if not name.startswith(AUXILIARY_HEADS)
    }
    with atomic_write(path) as file:
        file.write(save(plain))


def start(weights: Path | None, seed: int) -> dict[str, Any]:
    """What a training starts from."""
    if weights is None:
        return {"start": None, "seed": seed}
    digest = hashlib.sha256(weights.read_bytes()).hexdigest()
    return {"start": {"file": weights.name, "sha256": digest}, "seed": seed}


def circumstances(loop: Loop[Any]) -> dict[str, Any]:
    """How long it took, on what, and with which versions."""
    if loop.device.type == "cuda":
        hardware = f"{loop.group.size} x {torch.cuda.get_device_name(loop.device)}"
    else:
        hardware = f"{available_cores()} processor cores ({platform.machine()})"
    return {
        "seconds": round(loop.seconds, 1),
        "hardware": hardware,
        "precision": loop.precision,
        "versions": {
            "detector": __version__,
            "python": platform.python_version(),
            "torch": torch.__version__,
        },
    }
