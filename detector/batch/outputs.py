"""The files that a run writes, and checks that it overwrites no others."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from detector.batch.inputs import Input
from detector.common.atomic_io import is_stream, remove_partial_files
from detector.common.output_checks import check_outputs
from detector.errors import SettingsError
from detector.formats import FORMATS

LONGEST_NAME = 255
"""Longest name of a file in bytes, on all common file systems."""


@dataclass(frozen=True)
class Outputs:
    """The files that a run writes.

    Args:
        path: File, folder or stream of the detections. A file or folder has a journal; see
            `journal_path`.
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

    def check(self, inputs: Sequence[Input], classes: Sequence[str]) -> None:
        """Check, before the work, that everything can be written after it.

        Args:
            inputs: The images of the run.
            classes: The names of all classes.

        Raises:
            SettingsError: A path cannot be written, is used twice, is a file and should be a folder
                or the other way round, or would overwrite a file that the run reads or that
                another program wrote. The error names the option.
        """
        names = [name for name, _ in inputs]
        images = [path for _, path in inputs if isinstance(path, Path)]
        if FORMATS[self.format].is_folder:
            self._check_output_folder()
        if self.drawings is not None:
            _check_drawings(self.drawings, names)
        check_outputs(self._files(names, classes), [*images, *self.protected])

    def remove_partial_files(self) -> None:
        """Remove the temporary files that killed runs left where this run writes."""
        for path in (self.path, self.proposals, self.stats):
            if path is not None and not is_stream(path):
                target = Path(os.path.realpath(path))
                remove_partial_files(target.parent, recursive=False)
        for folder in (self.path, self.drawings):
            if folder is not None and folder.is_dir():
                remove_partial_files(folder, recursive=True)

    def _files(self, names: Iterable[str], classes: Sequence[str]) -> Iterator[tuple[str, Path]]:
        """Yield all files that the run writes, each with the option that asks for it."""
        output_format = FORMATS[self.format]
        if output_format.is_folder:
            files = output_format.files(names, classes)
            yield from (("--out", self.path / file) for file in files)
        else:
            yield "--out", self.path
        yield from _journal("--out", self.path)

        if self.proposals is not None:
            yield "--proposals-out", self.proposals
            yield from _journal("--proposals-out", self.proposals)
        if self.stats is not None:
            yield "--stats", self.stats
        if self.drawings is not None:
            for name in names:
                yield "--visualize", drawing_path(self.drawings, name)

    def _check_output_folder(self) -> None:
        """Check that the folder of detections is new, or was written by an earlier run."""
        if is_stream(self.path):
            raise SettingsError(
                f"--out {self.path}: {self.format} makes a folder, which is no stream: name one"
            )
        if not self.path.name:
            raise SettingsError(f"--out {self.path}: must name a file or folder of its own")
        if self.path.is_file():
            raise SettingsError(
                f"--out {self.path}: is a file, but {self.format} makes a folder: remove it (its "
                "journal has what is finished), or name another"
            )
        has_files = self.path.is_dir() and any(self.path.iterdir())
        if has_files and not journal_path(self.path).exists():
            raise SettingsError(f"--out {self.path}: is a folder with other files: name a new one")


def journal_path(output: Path) -> Path:
    """Return the path of the journal of an output, in which finished images are recorded.

    It is beside the file that a link leads to, so that each output has only one.
    """
    target = Path(os.path.realpath(output))
    return target.with_name(target.name + ".journal")


def drawing_path(folder: Path, name: str) -> Path:
    """Return the path of the drawing of an image, a JPEG file.

    Args:
        folder: Folder of the drawings.
        name: Name of the image. If the drawing's name would be longer than a file system allows,
            it ends in a digest instead.
    """
    if name.lower().endswith((".jpg", ".jpeg")):
        return folder / name
    path = folder / f"{name}.jpg"
    if len(os.fsencode(path.name)) <= LONGEST_NAME:
        return path
    digest = hashlib.sha256(os.fsencode(name)).hexdigest()[:16]
    ending = f"-{digest}.jpg"
    start = os.fsencode(path.name)[: LONGEST_NAME - len(ending)]
    return path.with_name(start.decode("utf-8", "ignore") + ending)


def _journal(option: str, output: Path) -> Iterator[tuple[str, Path]]:
    """Yield the journal of an output; a stream has none."""
    if not is_stream(output):
        yield f"the journal of {option}", journal_path(output)


def _check_drawings(folder: Path, names: Iterable[str]) -> None:
    """Check that each image has a drawing of its own in a folder.

    Args:
        folder: Folder of the drawings.
        names: Names of the images.
    """
    if folder.exists() and not folder.is_dir():
        raise SettingsError(f"--visualize {folder}: is a file, but must be a folder")

    images: dict[Path, str] = {}
    for name in names:
        path = drawing_path(folder, name)
        if path in images:
            raise SettingsError(
                f"--visualize {folder}: {path} would be the drawing of both {images[path]} and "
                f"{name}"
            )
        images[path] = name
