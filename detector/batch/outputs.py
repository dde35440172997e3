"""What a run writes, and that it overwrites nothing else."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from detector.batch.inputs import Input
from detector.errors import SettingsError
from detector.formats import FORMATS


@dataclass(frozen=True)
class Outputs:
    """What a run writes and where.

    Args:
        path: the detections, in the format `format`; its journal stands beside it.
        proposals: JSON lines of all proposals.
        pictures: a folder for photos with boxes.
        stats: times and rates.
        reads: files, beside the images, that the run needs.
    """

    path: Path
    format: str = "native"
    proposals: Path | None = None
    pictures: Path | None = None
    stats: Path | None = None
    reads: tuple[Path, ...] = ()

    def check(self, inputs: Sequence[Input]) -> None:
        """Find out before the work what could not be written after it.

        Raises:
            SettingsError: naming the option: a place that cannot be written, is used twice, is of
                the wrong kind, or holds what the run reads or other people's files.
        """
        images = {path.resolve() for _, path in inputs if isinstance(path, Path)}
        read = {path.resolve() for path in self.reads}
        used: dict[Path, str] = {}
        for option, path in self._files():
            if not path.name:
                raise SettingsError(f"{option} {path}: must name a file or folder of its own")
            place = path.resolve()
            if place in images:
                raise SettingsError(f"{option} {path}: would overwrite that image")
            if place in read:
                raise SettingsError(f"{option} {path}: would overwrite what the run reads")
            if place in used:
                raise SettingsError(f"{option} {path}: is {used[place]} already")
            used[place] = option
            if option != "--stats":
                used[journal_path(place)] = f"the journal of {option}"
            _check_writable(option, path)
        folder = FORMATS[self.format].folder
        for option, path in self._files():
            if path.is_dir() and not (folder and path == self.path):
                raise SettingsError(
                    f"{option} {path}: is a folder, but must be a file: remove it, or name another"
                )
        if folder and self.path.is_file():
            raise SettingsError(
                f"--out {self.path}: is a file, but {self.format} makes a folder: remove it (its "
                "journal has what is finished), or name another"
            )
        full = self.path.is_dir() and any(self.path.iterdir())
        if folder and full and not journal_path(self.path).exists():
            raise SettingsError(f"--out {self.path}: is a folder with other files: name a new one")
        if self.pictures is not None:
            if self.pictures.exists() and not self.pictures.is_dir():
                raise SettingsError(f"--visualize {self.pictures}: is a file, but must be a folder")
            _check_writable("--visualize", self.pictures)
            drawn: dict[Path, str] = {}
            for name, _ in inputs:
                picture = picture_path(self.pictures, name)
                if picture.resolve() in images | read:
                    raise SettingsError(f"--visualize {self.pictures}: would overwrite {picture}")
                if picture in drawn:
                    raise SettingsError(
                        f"--visualize {self.pictures}: {picture} would be the picture of both "
                        f"{drawn[picture]} and {name}"
                    )
                drawn[picture] = name

    def _files(self) -> Iterator[tuple[str, Path]]:
        named = (("--out", self.path), ("--proposals-out", self.proposals), ("--stats", self.stats))
        yield from ((option, path) for option, path in named if path is not None)


def journal_path(output: Path) -> Path:
    """Where the record of an output's finished images is kept."""
    return output.with_name(output.name + ".journal")


def picture_path(folder: Path, name: str) -> Path:
    """Where the picture of an image goes: under its own name, as JPEG."""
    suffix = "" if name.lower().endswith((".jpg", ".jpeg")) else ".jpg"
    return folder / (name + suffix)


def _check_writable(option: str, path: Path) -> None:
    existing = next(folder for folder in path.absolute().parents if folder.exists())
    if not existing.is_dir() or not os.access(existing, os.W_OK):
        raise SettingsError(f"{option} {path}: {existing} is no folder that may be written")
