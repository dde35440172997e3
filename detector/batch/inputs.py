"""The images of a run: found in folders, files, globs, lists, and URIs of object storage."""

from __future__ import annotations

import glob
import itertools
import os
import posixpath
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from detector.common.object_storage import StoredFile, is_uri, list_files
from detector.common.text_files import read_lines
from detector.datasets.ground_truth import is_in_folder
from detector.errors import SettingsError
from detector.images import SUFFIXES


class Input(NamedTuple):
    """An image file and its name in results."""

    name: str
    """Path relative to the folder, or to the common parent of all inputs; with `/`."""
    path: Path | StoredFile


def find_images(patterns: Sequence[str], *, exclude: Iterable[Path] = ()) -> list[Input]:
    """Return the images that patterns match, each once, sorted by name.

    Args:
        patterns: Each is one of the following:

            - a folder, which is searched recursively, through links, for files with an image's
              suffix. Hidden files and folders are skipped.
            - a file
            - a glob
            - the URI of a folder or a file in object storage
            - `@list.txt`, a file with one of these in each line.
        exclude: Folders that a search skips. A run excludes the folder that it draws into.

    Raises:
        SettingsError: A pattern matches nothing, a folder cannot be searched or is excluded itself,
            no image is found, only some of the images are in object storage, or the name of one
            leads out of its folder.
        FormatError: A list cannot be read.
    """
    expanded = list(_expand_lists(patterns))
    if any(map(is_uri, expanded)):
        inputs = _find_in_storage(expanded)
    else:
        inputs = _find_on_disk(expanded, set(map(_real, exclude)))
    if not inputs:
        raise SettingsError(
            f"no image in {', '.join(patterns)}: suffixes are {', '.join(sorted(SUFFIXES))}"
        )
    for name, _ in inputs:
        if not is_in_folder(name):  # outputs named like it would be outside their folder
            raise SettingsError(f"{name}: an image's name must not have .. among its folders")
    return sorted(inputs)


def _expand_lists(patterns: Iterable[str]) -> Iterator[str]:
    """Yield the patterns, with those of a list file in place of `@list.txt`."""
    for pattern in patterns:
        if not pattern.startswith("@"):
            yield pattern
            continue
        lines = read_lines(Path(pattern[1:]))
        yield from (line.strip() for line in lines if line.strip())


def _find_on_disk(patterns: Sequence[str], excluded: set[Path]) -> list[Input]:
    """Return the images that patterns match on the disk.

    Args:
        patterns: Folders, files and globs.
        excluded: Folders to skip, without links.
    """
    roots: list[Path] = []
    files: list[Path] = []
    for pattern in patterns:
        root = _root_folder(pattern)
        roots.append(root)
        if _real(root) in excluded and not Path(pattern).is_file():
            raise SettingsError(f"{pattern}: drawings would be written among the images there")

        # A folder is excluded from the searches of its parents, but not if it was named itself.
        excluded_inside = {folder for folder in excluded if _real(root) in folder.parents}
        for path in _match(pattern):
            real = _real(path)
            if not excluded_inside.intersection([real, *real.parents]):
                files += _walk(path, excluded_inside) if path.is_dir() else [path]

    common_parent = os.path.commonpath([os.path.abspath(root) for root in roots])
    by_name = {Path(os.path.relpath(path, common_parent)).as_posix(): path for path in files}
    return [Input(name, path) for name, path in by_name.items()]


def _find_in_storage(patterns: Sequence[str]) -> list[Input]:
    """Return the images at URIs."""
    folders: list[str] = []
    files: list[StoredFile] = []
    for pattern in patterns:
        if not is_uri(pattern):
            raise SettingsError(f"{pattern}: either all images are in object storage, or none")
        listing = list_files(pattern)
        folders.append(listing.folder)
        if listing.is_file:  # the user named it, so that its suffix does not matter
            files += listing.files
        else:
            files += [f for f in listing.files if Path(f.path).suffix.lower() in SUFFIXES]

    common_parent = posixpath.commonpath(folders)
    by_name = {posixpath.relpath(file.path, common_parent): file for file in files}
    return [Input(name, file) for name, file in by_name.items()]


def _root_folder(pattern: str) -> Path:
    """Return the folder that names are relative to.

    It is the folder itself, the parent of a file, or the part of a glob before its first wildcard.
    """
    if os.path.lexists(pattern) or not glob.has_magic(pattern):
        path = Path(pattern)
        return path if path.is_dir() else path.parent
    fixed_parts = itertools.takewhile(lambda part: not glob.has_magic(part), Path(pattern).parts)
    return Path(*fixed_parts)


def _match(pattern: str) -> list[Path]:
    """Return the files and folders that a pattern names."""
    if os.path.lexists(pattern):  # a file's name may contain the characters of a glob
        return [Path(pattern)]
    matches = sorted(glob.glob(pattern, recursive=True))
    if not matches:
        raise SettingsError(
            f"{pattern}: nothing there; give a folder, an image file, a glob or @list.txt"
        )
    return [Path(match) for match in matches]


def _walk(folder: Path, excluded: set[Path]) -> Iterator[Path]:
    """Yield the images in a folder and its subfolders.

    Args:
        folder: The folder.
        excluded: Subfolders to skip, without links.
    """

    def refuse(error: OSError) -> None:
        raise SettingsError(f"{error.filename}: cannot be searched: {error.strerror}") from error

    for parent, subfolders, names in os.walk(folder, onerror=refuse, followlinks=True):
        # `os.walk` searches the subfolders that remain in its list.
        subfolders[:] = [name for name in subfolders if _is_searched(Path(parent, name), excluded)]
        for name in names:
            if Path(name).suffix.lower() in SUFFIXES and not name.startswith("."):
                yield Path(parent, name)


def _is_searched(folder: Path, excluded: set[Path]) -> bool:
    """Return whether a search enters a folder."""
    is_hidden = folder.name.startswith(".")
    return not is_hidden and _real(folder) not in excluded and not _is_loop(folder)


def _is_loop(folder: Path) -> bool:
    """Return whether a folder is a link to one that it is in."""
    parents = folder.absolute().parents
    return folder.is_symlink() and _real(folder) in set(map(_real, parents))


def _real(path: Path) -> Path:
    """Return a path without links. `Path.resolve` raises an error for a link to itself."""
    return Path(os.path.realpath(path))
