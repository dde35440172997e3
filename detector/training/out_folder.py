"""The folder of a training's outputs, checked before any work is done."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

from detector.common.atomic_io import remove_partial_files
from detector.common.output_checks import check_outputs
from detector.common.text_files import read_lines
from detector.errors import DetectorError, SettingsError

CHECKPOINT = "checkpoint.safetensors"
"""Name of the checkpoint in the output folder."""

LOG = "log.jsonl"
"""Name of the log in the output folder."""


def prepare_folder(
    out: Path, results: Iterable[str], inputs: Iterable[Path], *, resume: bool
) -> None:
    """Check that a training overwrites nothing, and remove what a killed one left half-written.

    Args:
        out: The folder. It need not exist.
        results: Names of the files that the training writes at its end.
        inputs: Files and folders that the training reads.
        resume: Whether the training continues an earlier one.

    Raises:
        SettingsError: A file would be overwritten that the training reads, or that another training
            or something else has written; or the folder cannot be written to.
    """
    results = tuple(results)
    check_outputs((("--out", out / name) for name in (CHECKPOINT, LOG, *results)), inputs)

    if _exists(out / CHECKPOINT):
        if not resume:
            raise SettingsError(f"{out}: has a checkpoint: give --resume, or another --out")
    else:
        for name in results:
            if _exists(out / name):
                raise SettingsError(
                    f"{out}: has {name}, but no checkpoint that it belongs to: choose another --out"
                )
        _check_log(out, resume=resume)
    remove_partial_files(out, recursive=False)


def how_to_continue(out: Path) -> str:
    """Return what an interrupted training tells its user."""
    if (out / CHECKPOINT).exists():
        return "the same command with --resume goes on from here"
    return "no step was saved: the same command with --resume starts from the beginning"


def _check_log(out: Path, *, resume: bool) -> None:
    """Check that a log without a checkpoint is that of a training which may start anew.

    Raises:
        SettingsError: It is not.
    """
    path = out / LOG
    if not _exists(path) or path.stat().st_size == 0:
        return
    if not resume:
        raise SettingsError(f"{out}: has a log: give --resume to start over, or another --out")
    try:
        is_log = "step" in json.loads(read_lines(path)[0])
    except (DetectorError, ValueError, TypeError, RecursionError):
        is_log = False
    if not is_log:
        raise SettingsError(f"{path}: is not the log of a training: choose another --out")


def _exists(path: Path) -> bool:
    """Return whether there is something of that name, were it a link that leads nowhere."""
    return path.exists() or path.is_symlink()
