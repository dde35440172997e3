"""The files that a run writes, and checks that it overwrites no others."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from detector.batch.inputs import Input
from detector.errors import SettingsError
from detector.formats import FORMATS


@dataclass(frozen=True)
class Outputs:
    """The files that a run writes.

    Args:
        path: File or folder of the detections; see `journal_path` for their journal.
        format: Format of the detections, a key of `detector.formats.FORMATS`.
        proposals: File of all proposals, as JSON lines.
        drawings: Folder of images with their boxes.
        stats: File of times and rates.
        protected: Files that the run reads, besides the images. It must not overwrite them.
    """

    path: Path
    format: str = "native"
    proposals: Path | None = None
    drawings: Path | None = None
    stats: Path | None = None
    protected: tuple[Path, ...] = ()

    def check(self, inputs: Sequence[Input]) -> None:
        """Check, before the work, that everything can be written after it.

        Args:
            inputs: The images of the run.

        Raises:
            SettingsError: A path cannot be written, is used twice, is a file and should be a folder
                or the other way round, or would overwrite a file that the run reads or that
                another program wrote. The error names the option.
        """
        images = {path.resolve() for _, path in inputs if isinstance(path, Path)}
        protected = {path.resolve() for path in self.protected}
        self._check_paths(images, protected)
        self._check_no_folders()
        if FORMATS[self.format].is_folder:
            self._check_output_folder()
        if self.drawings is not None:
            _check_drawings(self.drawings, inputs, images | protected)

    def _files(self) -> Iterator[tuple[str, Path]]:
        """Yield the options and the paths of all outputs but the drawings."""
        options = (
            ("--out", self.path),
            ("--proposals-out", self.proposals),
            ("--stats", self.stats),
        )
        yield from ((option, path) for option, path in options if path is not None)

    def _check_paths(self, images: Collection[Path], protected: Collection[Path]) -> None:
        """Check that each output has a path of its own that can be written.

        Args:
            images: The images, without links.
            protected: Other files that the run reads, without links.
        """
        used: dict[Path, str] = {}  # paths, with what will be written there
        for option, path in self._files():
            if not path.name:
                raise SettingsError(f"{option} {path}: must name a file or folder of its own")

            resolved = path.resolve()
            if resolved in images:
                raise SettingsError(f"{option} {path}: would overwrite that image")
            if resolved in protected:
                raise SettingsError(f"{option} {path}: would overwrite a file that the run reads")
            if resolved in used:
                raise SettingsError(f"{option} {path}: is {used[resolved]} already")

            used[resolved] = option
            if option != "--stats":
                used[journal_path(resolved)] = f"the journal of {option}"
            _check_writable(option, path)

    def _check_no_folders(self) -> None:
        """Check that no output that is a file would replace a folder."""
        is_folder = FORMATS[self.format].is_folder
        for option, path in self._files():
            if path.is_dir() and not (is_folder and path == self.path):
                raise SettingsError(
                    f"{option} {path}: is a folder, but must be a file: remove it, or name another"
                )

    def _check_output_folder(self) -> None:
        """Check that the folder of detections is new, or was written by an earlier run."""
        if self.path.is_file():
            raise SettingsError(
                f"--out {self.path}: is a file, but {self.format} makes a folder: remove it (its "
                "journal has what is finished), or name another"
            )
        has_files = self.path.is_dir() and any(self.path.iterdir())
        if has_files and not journal_path(self.path).exists():
            raise SettingsError(f"--out {self.path}: is a folder with other files: name a new one")


def journal_path(output: Path) -> Path:
    """Return the path of the journal of an output, in which finished images are recorded."""
    return output.with_name(output.name + ".journal")


def drawing_path(folder: Path, name: str) -> Path:
    """Return the path of the drawing of an image, a JPEG file.

    Args:
        folder: Folder of the drawings.
        name: Name of the image.
    """
    suffix = "" if name.lower().endswith((".jpg", ".jpeg")) else ".jpg"
    return folder / (name + suffix)


def _check_drawings(folder: Path, inputs: Sequence[Input], files_to_keep: Collection[Path]) -> None:
    """Check that each image has a drawing of its own that can be written.

    Args:
        folder: Folder of the drawings.
        inputs: The images.
        files_to_keep: Files that must not be overwritten, without links.
    """
    if folder.exists() and not folder.is_dir():
        raise SettingsError(f"--visualize {folder}: is a file, but must be a folder")
    _check_writable("--visualize", folder)

    names: dict[Path, str] = {}  # drawings, with the name of their image
    for name, _ in inputs:
        path = drawing_path(folder, name)
        if path.resolve() in files_to_keep:
            raise SettingsError(f"--visualize {folder}: would overwrite {path}")
        if path in names:
            raise SettingsError(
                f"--visualize {folder}: {path} would be the drawing of both {names[path]} and "
                f"{name}"
            )
        names[path] = name


def _check_writable(option: str, path: Path) -> None:
    """Check that the first existing parent of a path is a folder in which files can be made."""
    parent = next(folder for folder in path.absolute().parents if folder.exists())
    if not parent.is_dir() or not os.access(parent, os.W_OK):
        raise SettingsError(f"{option} {path}: {parent} is not a folder that can be written to")
