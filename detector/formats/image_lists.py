"""Ids of images and classes that other formats want: from an annotation file, or counted."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from detector.errors import FormatError


@dataclass(frozen=True)
class ImageList:
    """Ids by name.

    `images` is keyed by the file's name as the list has it, that of an annotation file also by it
    without its folders where no other image has the same; `classes` is empty where the list has
    none.
    """

    images: Mapping[str, int]
    classes: Mapping[str, int]
    source: str = "the images of this run"

    @classmethod
    def counted(cls, files: Sequence[str]) -> ImageList:
        """Ids from 1 on, in the order of the files."""
        return cls({file: number for number, file in enumerate(files, start=1)}, {})

    @classmethod
    def read(cls, path: Path) -> ImageList:
        """Ids from a COCO annotation file (`.json`) or from lines `name id` as in `val.txt`.

        Raises:
            FormatError: naming the file and the line that is not one.
        """
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise FormatError(path, f"cannot be read: {error}") from error
        if path.suffix == ".json":
            return cls._from_coco(path, text)
        images = {}
        for number, line in enumerate(text.splitlines(), start=1):
            parts = line.split()
            if len(parts) != 2 or not parts[1].isdecimal():
                raise FormatError(path, f"must be a name and an id, not {line!r}", number)
            images[parts[0]] = int(parts[1])
        return cls(images, {}, str(path))

    @classmethod
    def _from_coco(cls, path: Path, text: str) -> ImageList:
        try:
            content: dict[str, Any] = json.loads(text)
            files = {image["file_name"]: image["id"] for image in content["images"]}
            count = Counter(Path(file).name for file in files)
            names = {Path(file).name: number for file, number in files.items()}
            images = {name: number for name, number in names.items() if count[name] == 1} | files
            classes = {item["name"]: item["id"] for item in content.get("categories", ())}
        except (ValueError, KeyError, TypeError) as error:
            raise FormatError(path, f"not a COCO annotation file: {error!r}") from error
        return cls(images, classes, str(path))

    def check(self, files: Iterable[str]) -> None:
        """Look all images up.

        Raises:
            FormatError: the list lacks one, or has one id for two.
        """
        seen: dict[int, str] = {}
        for file in files:
            number = self.image(file)
            if number in seen:
                raise FormatError(self.source, f"gives {seen[number]} and {file} one id, {number}")
            seen[number] = file

    def image(self, file: str) -> int:
        """The id of an image, by its path, its name, or its name without suffix.

        Raises:
            FormatError: the list lacks it.
        """
        name = Path(file)
        for key in (file, name.name, name.with_suffix("").as_posix(), name.stem):
            if key in self.images:
                return self.images[key]
        raise FormatError(self.source, f"has no image {file}")
