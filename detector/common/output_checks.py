"""The rule that what a command reads is never written, checked before any work is done."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable
from pathlib import Path

from detector.common.atomic_io import is_standard_output, is_stream
from detector.errors import SettingsError


def check_outputs(outputs: Iterable[tuple[str, Path]], inputs: Iterable[Path]) -> None:
    """Check that each output can be written, has a file of its own, and replaces no input.

    Two paths are the same file also through links, through hard links and in other spellings.

    Args:
        outputs: The option that asks for each file, and its path.
        inputs: Files and folders that the command reads. Nothing may be written in such a folder.

    Raises:
        SettingsError: An output is refused. The message names the option and the path.
    """
    input_files: set[tuple[int, int]] = set()
    input_folders: set[tuple[int, int]] = set()
    for path in inputs:
        status = _status(path)
        if status is not None:
            known = input_folders if stat.S_ISDIR(status.st_mode) else input_files
            known.add((status.st_dev, status.st_ino))

    option_of_path: dict[str, str] = {}
    writable_folders: set[Path] = set()
    for option, path in outputs:
        if not path.name:
            raise SettingsError(f"{option} {path}: must name a file or folder of its own")
        # The real path of a pipe cannot be opened.
        place = path if is_stream(path) else Path(os.path.realpath(path))

        status = _status(place)
        if status is not None and (status.st_dev, status.st_ino) in input_files:
            raise SettingsError(f"{option} {path}: would overwrite a file that the command reads")
        key = os.fspath(place)
        if is_standard_output(path) and key != os.devnull:
            key = "-"
        if key in option_of_path:
            raise SettingsError(f"{option} {path}: is {option_of_path[key]} already")
        if key != os.devnull:
            option_of_path[key] = option

        if not is_stream(path):
            _check_kind(option, path, place)
            if place.parent not in writable_folders:
                _check_folder(option, path, place.parent, input_folders)
                writable_folders.add(place.parent)

    for folder in writable_folders:
        for parent in (folder, *folder.parents):
            if os.fspath(parent) in option_of_path:
                option = option_of_path[os.fspath(parent)]
                raise SettingsError(f"{option} {parent}: is the folder of another output")


def _check_kind(option: str, path: Path, place: Path) -> None:
    """Check that a path names a file, or nothing yet.

    Args:
        option: The option that asks for the output.
        path: The output, as the user named it.
        place: The same without links.
    """
    try:
        mode = place.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):  # the folder is checked next
        return
    except OSError as error:
        raise SettingsError(f"{option} {path}: cannot be written: {error.strerror}") from error
    if stat.S_ISDIR(mode):
        raise SettingsError(
            f"{option} {path}: is a folder, but must be a file: remove it, or name another"
        )
    if not stat.S_ISREG(mode):
        raise SettingsError(f"{option} {path}: is neither a file nor a pipe: name another")


def _check_folder(
    option: str, path: Path, parent: Path, input_folders: set[tuple[int, int]]
) -> None:
    """Check that an output's folder, existing or new, is not an input and can be written to.

    Args:
        option: The option that asks for the output.
        path: The output, as the user named it.
        parent: Its folder, without links.
        input_folders: Devices and inodes of the folders that are read.
    """
    first_existing: Path | None = None
    for folder in (parent, *parent.parents):
        status = _status(folder)
        if status is None:
            continue
        first_existing = first_existing or folder
        if (status.st_dev, status.st_ino) in input_folders:
            raise SettingsError(
                f"{option} {path}: is inside {folder}, which the command reads: name a file "
                "elsewhere"
            )
    if not (first_existing and first_existing.is_dir() and os.access(first_existing, os.W_OK)):
        raise SettingsError(
            f"{option} {path}: {first_existing} is not a folder that can be written to"
        )


def _status(path: Path) -> os.stat_result | None:
    """Return what the system knows of a file, or None if it cannot be reached."""
    try:
        return path.stat()
    except (OSError, ValueError):  # ValueError: a null character in the path
        return None
