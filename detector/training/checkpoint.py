"""Checkpoints and the log: what a training leaves in its folder so that it can be continued."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import torch
from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor

from detector.common.atomic_io import atomic_write
from detector.errors import BundleError, SettingsError

CHECKPOINT = "checkpoint.safetensors"
"""Name of the checkpoint in the output folder."""

LOG = "log.jsonl"
"""Name of the log in the output folder."""


class Checkpoint(NamedTuple):
    """Everything that the next step of a training needs."""

    step: int
    """Number of finished steps."""
    seconds: float
    """Time that they took."""
    network: Mapping[str, Tensor]
    """Weights and buffers of the network."""
    average: Mapping[str, Tensor]
    """Averaged weights; empty without averaging."""
    momentum: Mapping[str, Tensor]
    """Momentum of each trained parameter; empty before the first step."""


def check_folder(out: Path) -> None:
    """Check that a new training does not overwrite the checkpoint of another one.

    Raises:
        SettingsError: It would.
    """
    if (out / CHECKPOINT).exists():
        raise SettingsError(f"{out}: has a checkpoint: give --resume, or another --out")


def write_checkpoint(path: Path, checkpoint: Checkpoint, fingerprint: Mapping[str, Any]) -> None:
    """Write a checkpoint; the file of the previous one is replaced as a whole.

    Args:
        path: The file to write.
        checkpoint: The state of the training.
        fingerprint: Everything that changes results.
    """
    groups = {
        "network": checkpoint.network,
        "average": checkpoint.average,
        "momentum": checkpoint.momentum,
    }
    tensors = {
        f"{group}.{name}": tensor.contiguous().cpu()
        for group, members in groups.items()
        for name, tensor in members.items()
    }
    facts = {
        "step": checkpoint.step,
        "seconds": checkpoint.seconds,
        "fingerprint": fingerprint,
    }
    with atomic_write(path) as file:
        file.write(save(tensors, {"about": json.dumps(facts)}))


def read_checkpoint(
    path: Path, fingerprint: Mapping[str, Any], device: torch.device
) -> Checkpoint | None:
    """Read a checkpoint, or return None if there is none.

    Args:
        path: The file to read.
        fingerprint: Everything that changes results, as JSON would return it.
        device: Where to put the tensors.

    Raises:
        BundleError: The file is damaged.
        SettingsError: It is the checkpoint of a training with another fingerprint.
    """
    if not path.exists():
        return None
    try:
        with safe_open(path, "pt") as file:
            facts = json.loads(file.metadata()["about"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except Exception as error:  # safetensors raises several types, a damaged header any type
        raise BundleError(path, f"not a checkpoint: {error}") from error

    before = facts["fingerprint"]
    for key in sorted(before.keys() | fingerprint.keys()):
        if before.get(key) != fingerprint.get(key):
            raise SettingsError(
                f"{path}: was made with another {key}: {before.get(key)}, not "
                f"{fingerprint.get(key)}; choose another --out"
            )

    groups: dict[str, dict[str, Tensor]] = {"network": {}, "average": {}, "momentum": {}}
    for name, tensor in tensors.items():
        group, _, name_in_group = name.partition(".")
        groups[group][name_in_group] = tensor.to(device)
    return Checkpoint(facts["step"], facts["seconds"], **groups)


@contextmanager
def open_log(path: Path, step: int) -> Iterator[BinaryIO]:
    """Open the log to add lines to it.

    An earlier run may have written lines after its last checkpoint. They are dropped, because this
    run makes those steps again.

    Args:
        path: The file.
        step: Number of steps that are finished.
    """
    lines = path.read_bytes().splitlines(keepends=True) if step and path.exists() else []
    with open(path, "wb") as log:
        log.writelines(line for line in lines if _is_before(line, step))
        yield log


def _is_before(line: bytes, step: int) -> bool:
    """Return whether a line of the log is whole and was written at this step or earlier."""
    try:
        return bool(json.loads(line)["step"] <= step)
    except ValueError:  # the torn last line of a killed training
        return False
