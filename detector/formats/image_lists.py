"""Ids of images and classes, which some formats write instead of names."""

from __future__ import annotations

import posixpath
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from detector.common.json_fields import is_whole, short
from detector.common.json_files import read_json
from detector.common.text_files import read_lines
from detector.errors import FormatError
from detector.formats.image_names import SPELLINGS


@dataclass(frozen=True)
class ImageList:
    """Ids of images and classes by their names.

    Args:
        image_ids: Ids of images by file name, as the list spells it.
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
        names: dict[int, str] = {}
        for line_number, line in enumerate(read_lines(path), start=1):
            name, *rest = line.strip().rsplit(maxsplit=1) or [""]
            if len(rest) != 1 or not re.fullmatch("[0-9]{1,18}", rest[0]):
                message = f"must be a name and an id, not {line.strip()[:80]!r}"
                raise FormatError(path, message, line_number)

            image_id = int(rest[0])
            if name in image_ids:
                raise FormatError(path, f"{name} is listed twice", line_number)
            if image_id in names:
                message = f"{name} has the id {image_id}, which {names[image_id]} has"
                raise FormatError(path, message, line_number)
            image_ids[name] = image_id
            names[image_id] = name
        return cls(image_ids, {}, str(path))

    @classmethod
    def _from_coco(cls, path: Path) -> ImageList:
        content = read_json(path)
        if not isinstance(content, dict):
            raise FormatError(path, "not a COCO annotation file: must be an object")
        image_ids = _ids_by_name(path, content, "images", "file_name")
        class_ids = _ids_by_name(path, content, "categories", "name")
        return cls(image_ids, class_ids, str(path))

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
        """Return the id of an image.

        The list may have its path, in any spelling, or its name without folders, or either without
        the suffix.

        Raises:
            FormatError: The list lacks the image, or it may be one of several.
        """
        if file in self.image_ids:
            return self.image_ids[file]
        for spell, listed in zip(SPELLINGS, self._files_by_spelling, strict=True):
            name = spell(file)
            for key in (name, posixpath.splitext(name)[0]):
                files = listed.get(key, ())
                if len(files) > 1:
                    raise FormatError(
                        self.source, f"has {files[0]} and {files[1]}, but has no image {file}"
                    )
                if files:
                    return self.image_ids[files[0]]
        raise FormatError(self.source, f"has no image {file}")

    @cached_property
    def _files_by_spelling(self) -> Sequence[Mapping[str, Sequence[str]]]:
        """The files of the list by what each of `SPELLINGS` makes of them."""
        spellings: list[Mapping[str, Sequence[str]]] = []
        for spell in SPELLINGS:
            files: defaultdict[str, list[str]] = defaultdict(list)
            for file in self.image_ids:
                files[spell(file)].append(file)
            spellings.append(files)
        return spellings


def _ids_by_name(path: Path, content: dict[str, Any], key: str, name_key: str) -> dict[str, int]:
    """Read the ids of a list of a COCO annotation file.

    Args:
        path: The file.
        content: Its JSON.
        key: The list, "images" or "categories". Only the categories may be missing.
        name_key: The key of an item's name.

    Raises:
        FormatError: There is no such list, or an item is wrong or has the name or id of another.
    """
    items = content.get(key, [] if key == "categories" else None)
    if not isinstance(items, list):
        raise FormatError(path, f'not a COCO annotation file: needs a list "{key}"')
    ids: dict[str, int] = {}
    indices: dict[str | int, int] = {}
    for index, item in enumerate(items):
        if not isinstance(item, dict):
            raise FormatError(path, f"{key}[{index}]: must be an object, not {short(item)}")
        name: Any = item.get(name_key)
        image_id: Any = item.get("id")
        if not isinstance(name, str) or not is_whole(image_id):
            raise FormatError(
                path,
                f"{key}[{index}]: needs {name_key}, a text, and id, a whole number, "
                f"not {short(name)} and {short(image_id)}",
            )

        for field, value in ((name_key, name), ("id", image_id)):
            first = indices.setdefault(value, index)
            if first != index:
                raise FormatError(
                    path, f"{key}[{index}]: {field} {short(value)} is that of {key}[{first}]"
                )
        ids[name] = image_id
    return ids
