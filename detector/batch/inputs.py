"""Which images a run is about: folders, files, globs, lists, and URIs of object storage."""

from __future__ import annotations

import glob
import itertools
import os
import posixpath
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from detector.common.object_storage import StoredFile, is_stored, list_files
from detector.errors import FormatError, SettingsError
from detector.images import SUFFIXES


class Input(NamedTuple):
    """An image file and the name it has in results."""

    name: str
    """Relative to the given folder, or to what all inputs have in common; with `/`."""
    path: Path | StoredFile


def find_images(patterns: Sequence[str], *, leave_out: Iterable[Path] = ()) -> list[Input]:
    """The images meant by `patterns`, sorted by name, each once.

    Args:
        patterns: each a folder (searched recursively, through links, for files with an image's
            suffix, hidden ones left out), a file, a glob, the URI of a folder or file in object
            storage, or `@list.txt` with one of these a line.
        leave_out: folders in those that are searched, whose files are not taken: where a run
            writes its pictures.

    Raises:
        SettingsError: a pattern matches nothing, a folder cannot be searched or is to be left out
            itself, no image is found, or some are in object storage and some are not.
        FormatError: a list cannot be read.
    """
    expanded = list(_expand_lists(patterns))
    if any(map(is_stored, expanded)):
        found = _in_storage(expanded)
    else:
        found = _on_disk(expanded, {path.resolve() for path in leave_out})
    if not found:
        raise SettingsError(
            f"no image in {', '.join(patterns)}: suffixes are {', '.join(sorted(SUFFIXES))}"
        )
    return sorted(found)


def _on_disk(patterns: Sequence[str], hidden: set[Path]) -> list[Input]:
    roots: list[Path] = []
    files: list[Path] = []
    for pattern in patterns:
        roots.append(root := _root(pattern))
        if root.resolve() in hidden and not Path(pattern).is_file():
            raise SettingsError(f"{pattern}: pictures would come among the photos there")
        inside = {folder for folder in hidden if root.resolve() in folder.parents}
        for path in _match(pattern):
            if not inside.intersection([path.resolve(), *path.resolve().parents]):
                files += _walk(path, inside) if path.is_dir() else [path]
    base = os.path.commonpath([os.path.abspath(root) for root in roots])
    named = {Path(os.path.relpath(path, base)).as_posix(): path for path in files}
    return [Input(name, path) for name, path in named.items()]


def _in_storage(patterns: Sequence[str]) -> list[Input]:
    folders: list[str] = []
    files: list[StoredFile] = []
    for pattern in patterns:
        if not is_stored(pattern):
            raise SettingsError(f"{pattern}: either all images are in object storage, or none")
        found = list_files(pattern)
        folders.append(found.folder)
        alone = found.files[:1] if found.is_file else []
        files += alone or [f for f in found.files if Path(f.path).suffix.lower() in SUFFIXES]
    base = posixpath.commonpath(folders)
    named = {posixpath.relpath(file.path, base): file for file in files}
    return [Input(name, file) for name, file in named.items()]


def _expand_lists(patterns: Iterable[str]) -> Iterator[str]:
    for pattern in patterns:
        if not pattern.startswith("@"):
            yield pattern
            continue
        file = Path(pattern[1:])
        try:
            lines = file.read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise FormatError(file, f"the list of images cannot be read: {error}") from error
        yield from (line.strip() for line in lines if line.strip())


def _root(pattern: str) -> Path:
    """The folder that names are relative to: a glob's is the part before its first wildcard."""
    if os.path.lexists(pattern) or not glob.has_magic(pattern):
        path = Path(pattern)
        return path if path.is_dir() else path.parent
    plain = itertools.takewhile(lambda part: not glob.has_magic(part), Path(pattern).parts)
    return Path(*plain)


def _match(pattern: str) -> list[Path]:
    if os.path.lexists(pattern):  # a name may contain a glob's characters
        return [Path(pattern)]
    matches = sorted(glob.glob(pattern, recursive=True))
    if not matches:
        raise SettingsError(
            f"{pattern}: nothing there; give a folder, an image file, a glob or @list.txt"
        )
    return [Path(match) for match in matches]


def _walk(folder: Path, hidden: set[Path]) -> Iterator[Path]:
    def refuse(error: OSError) -> None:
        raise SettingsError(f"{error.filename}: cannot be searched: {error.strerror}") from error

    for parent, folders, names in os.walk(folder, onerror=refuse, followlinks=True):
        folders[:] = [
            name
            for name in folders
            if not name.startswith(".")
            and (place := Path(parent, name)).resolve() not in hidden
            and not _leads_back(place)
        ]
        for name in names:
            if Path(name).suffix.lower() in SUFFIXES and not name.startswith("."):
                yield Path(parent, name)


def _leads_back(place: Path) -> bool:
    """Is this a link to a folder that it is in?"""
    return place.is_symlink() and place.resolve() in {p.resolve() for p in place.absolute().parents}
