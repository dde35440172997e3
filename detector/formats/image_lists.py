"""Ids of images and classes, which some formats write instead of names."""

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
    """Ids of images and classes by their names.

    Args:
        image_ids: Ids of images by file name, as the list spells it. Images of an annotation file
            also have their name without folders as a key, if no other image has the same one.
        class_ids: Ids of classes by name; empty if the list has none.
        source: Where the ids come from, for errors.
    """

    image_ids: Mapping[str, int]
    class_ids: Mapping[str, int]
    source: str = "the images of this run"

    @classmethod
    def from_files(cls, files: Sequence[str]) -> ImageList:
        """Make a list that counts files from 1, in their order."""
        return cls({file: number for number, file in enumerate(files, start=1)}, {})

    @classmethod
    def read(cls, path: Path) -> ImageList:
        """Read a COCO annotation file (`.json`) or a file with lines `name id`, such as `val.txt`.

        Raises:
            FormatError: The file cannot be read, or a line is not a name and an id.
        """
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise FormatError(path, f"cannot be read: {error}") from error

        if path.suffix == ".json":
            return cls._parse_coco(path, text)
        return cls._parse_lines(path, text)

    @classmethod
    def _parse_lines(cls, path: Path, text: str) -> ImageList:
        image_ids = {}
        for line_number, line in enumerate(text.splitlines(), start=1):
            fields = line.split()
            if len(fields) != 2 or not fields[1].isdecimal():
                raise FormatError(path, f"must be a name and an id, not {line!r}", line_number)
            image_ids[fields[0]] = int(fields[1])
        return cls(image_ids, {}, str(path))

    @classmethod
    def _parse_coco(cls, path: Path, text: str) -> ImageList:
        try:
            content: dict[str, Any] = json.loads(text)
            ids = {image["file_name"]: image["id"] for image in content["images"]}
            class_ids = {item["name"]: item["id"] for item in content.get("categories", ())}

            # A run's images may be in another folder than the list's: a unique name suffices.
            counts = Counter(Path(file).name for file in ids)
            ids_by_name = {Path(file).name: image_id for file, image_id in ids.items()}
        except (ValueError, KeyError, TypeError) as error:
            raise FormatError(path, f"not a COCO annotation file: {error!r}") from error

        unique = {name: image_id for name, image_id in ids_by_name.items() if counts[name] == 1}
        return cls(unique | ids, class_ids, str(path))

    def check(self, files: Iterable[str]) -> None:
        """Check that every image has an id of its own.

        Raises:
            FormatError: The list lacks an image, or has the same id for two.
        """
        seen: dict[int, str] = {}
        for file in files:
            image_id = self.image_id(file)
            if image_id in seen:
                raise FormatError(
                    self.source, f"has the same id, {image_id}, for {seen[image_id]} and {file}"
                )
            seen[image_id] = file

    def image_id(self, file: str) -> int:
        """Return the id of an image by its path, its name, or either without the suffix.

        Raises:
            FormatError: The list lacks the image.
        """
        path = Path(file)
        for key in (file, path.name, path.with_suffix("").as_posix(), path.stem):
            if key in self.image_ids:
                return self.image_ids[key]
        raise FormatError(self.source, f"has no image {file}")
