"""Ids of images and classes, which some formats write instead of names."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from detector.common.json_fields import is_whole, short
from detector.common.json_files import read_json
from detector.common.text_files import read_lines
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
        if path.suffix.lower() == ".json":
            return cls._from_coco(path)
        return cls._from_lines(path)

    @classmethod
    def _from_lines(cls, path: Path) -> ImageList:
        image_ids: dict[str, int] = {}
        for line_number, line in enumerate(read_lines(path), start=1):
            name, *rest = line.strip().rsplit(maxsplit=1) or [""]
            if len(rest) != 1 or not rest[0].isascii() or not rest[0].isdecimal():
                message = f"must be a name and an id, not {line.strip()[:80]!r}"
                raise FormatError(path, message, line_number)
            if name in image_ids:
                raise FormatError(path, f"{name} is listed twice", line_number)
            image_ids[name] = int(rest[0])
        return cls(image_ids, {}, str(path))

    @classmethod
    def _from_coco(cls, path: Path) -> ImageList:
        content = read_json(path)
        if not isinstance(content, dict):
            raise FormatError(path, "not a COCO annotation file: must be an object")
        ids = _ids_by_name(path, content, "images", "file_name")
        class_ids = _ids_by_name(path, content, "categories", "name")

        # A run's images may be in another folder than the list's: a unique name suffices.
        counts = Counter(Path(file).name for file in ids)
        ids_by_name = {Path(file).name: image_id for file, image_id in ids.items()}
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


def _ids_by_name(path: Path, content: dict[str, Any], key: str, name_key: str) -> dict[str, int]:
    """Read the ids of a list of a COCO annotation file.

    Args:
        path: The file.
        content: Its JSON.
        key: The list, "images" or "categories". Only the categories may be missing.
        name_key: The key of an item's name.

    Raises:
        FormatError: There is no such list, or an item is wrong or has the name of another.
    """
    items = content.get(key, [] if key == "categories" else None)
    if not isinstance(items, list):
        raise FormatError(path, f'not a COCO annotation file: needs a list "{key}"')
    ids: dict[str, int] = {}
    for index, item in enumerate(items):
        if not isinstance(item, dict):
            raise FormatError(path, f"{key}[{index}]: must be an object, not {short(item)}")
        name = item.get(name_key)
        if not isinstance(name, str) or not is_whole(item.get("id")):
            raise FormatError(
                path, f"{key}[{index}]: needs {name_key}, a text, and id, a whole number"
            )
        if name in ids:
            raise FormatError(path, f"{key}[{index}]: {name_key} {name} is there twice")
        ids[name] = item["id"]
    return ids
