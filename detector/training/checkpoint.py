"""Checkpoints and the log: what a training leaves in its folder so that it can be continued."""

from __future__ import annotations

import fcntl
import hashlib
import json
import logging
import os
import stat
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import torch
from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor

from detector.common.atomic_io import atomic_write
from detector.errors import BundleError, OutputError, SettingsError

logger = logging.getLogger(__name__)


class Checkpoint(NamedTuple):
    """Everything that the next step of a training needs."""

    step: int
    """Number of finished steps."""
    seconds: float
    """Time that they took."""
    losses: Sequence[float]
    """Losses of the steps since the last line of the log."""
    log_bytes: int | None
    """Length of the log. What a killed training wrote after it is written again."""
    network: Mapping[str, Tensor]
    """Weights and buffers of the network."""
    average: Mapping[str, Tensor]
    """Averaged weights; empty without averaging."""
    momentum: Mapping[str, Tensor]
    """Momentum of each trained parameter; empty before the first step."""


GROUPS = ("network", "average", "momentum")
"""Fields of a checkpoint that hold tensors."""


def write_checkpoint(path: Path, checkpoint: Checkpoint, fingerprint: Mapping[str, Any]) -> None:
    """Write a checkpoint; the file of the previous one is replaced as a whole.

    Args:
        path: The file to write.
        checkpoint: The state of the training.
        fingerprint: Everything that changes results.
    """
    tensors = {
        f"{group}.{name}": tensor.contiguous().cpu()
        for group in GROUPS
        for name, tensor in getattr(checkpoint, group).items()
    }
    facts = {
        "step": checkpoint.step,
        "seconds": checkpoint.seconds,
        "losses": list(checkpoint.losses),
        "log_bytes": checkpoint.log_bytes,
        "fingerprint": fingerprint,
    }
    about = json.dumps(facts)
    with atomic_write(path) as file:
        file.write(save(tensors, {"about": about, "sha256": _digest(about, tensors)}))


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
        facts, tensors = _read(path)
        groups = _group(tensors, device)
        checkpoint = Checkpoint(
            int(facts["step"]),
            float(facts["seconds"]),
            [float(loss) for loss in facts.get("losses", [])],
            facts.get("log_bytes"),
            **groups,
        )
        before = dict(facts["fingerprint"])
    except Exception as error:  # safetensors raises several types, a damaged header any type
        raise damaged(path, str(error)) from error

    for key in sorted(before.keys() | fingerprint.keys()):
        if before.get(key) != fingerprint.get(key):
            raise SettingsError(
                f"{path}: was made with another {key}: {before.get(key)}, not "
                f"{fingerprint.get(key)}; choose another --out"
            )
    return checkpoint


def damaged(path: Path, reason: str) -> BundleError:
    """Return the error of a checkpoint that cannot be used."""
    return BundleError(
        path,
        f"is not a checkpoint, or a damaged one ({reason}): --resume starts from the beginning if "
        "it is removed",
    )


@contextmanager
def open_log(path: Path, length: int | None) -> Iterator[BinaryIO]:
    """Open the log to add lines to it.

    An earlier run may have written lines after its last checkpoint. They are dropped, because this
    run makes those steps again.

    Args:
        path: The file.
        length: Number of bytes to keep; None keeps all lines.

    Raises:
        OutputError: The path is not a file, or another training writes it.
    """
    flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_NONBLOCK | os.O_CLOEXEC
    with open(os.open(path, flags, mode=0o666), "a+b") as log:
        if not stat.S_ISREG(os.fstat(log.fileno()).st_mode):
            raise OutputError(f"{path}: is no file, but must be one: remove it")
        try:
            fcntl.flock(log, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise OutputError(f"{path}: another training is writing this output") from error
        except OSError:  # a file system without locks, such as some of NFS
            pass

        log.seek(0)
        kept = log.read() if length is None else log.read(length)
        whole = kept.rpartition(b"\n")[0] + b"\n" if b"\n" in kept else b""
        if length is not None and len(whole) < length:
            logger.warning("warning: %s: lines are missing at its end", path)
        log.truncate(len(whole))
        yield log


def _read(path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Return what a checkpoint holds; any error means that it is damaged."""
    if not path.is_file():
        raise ValueError("it is no file")
    with safe_open(path, "pt") as file:
        metadata = file.metadata()
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    about = metadata["about"]
    digest = _digest(about, tensors)
    if metadata.get("sha256", digest) != digest:  # version 0.1.0 wrote none
        raise ValueError("its checksum is another one")
    return dict(json.loads(about)), tensors


def _group(tensors: Mapping[str, Tensor], device: torch.device) -> dict[str, dict[str, Tensor]]:
    """Return the tensors of each of a checkpoint's fields."""
    groups: dict[str, dict[str, Tensor]] = {group: {} for group in GROUPS}
    for name, tensor in tensors.items():
        group, _, name_in_group = name.partition(".")
        groups[group][name_in_group] = tensor.to(device)
    return groups


def _digest(about: str, tensors: Mapping[str, Tensor]) -> str:
    """Return the SHA-256 of everything in a checkpoint; safetensors itself would not see damage."""
    digest = hashlib.sha256(about.encode())
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tensor.dtype} {list(tensor.shape)}".encode())
        digest.update(tensor.contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()
