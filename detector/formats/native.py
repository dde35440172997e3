"""`dets.json`: the program's own format of detections.

It holds no time and no path of the machine: the same images, bundle and settings give the same
bytes.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from detector.common.atomic_io import atomic_write
from detector.common.json_files import encode, read_json
from detector.errors import FormatError
from detector.formats.image_lists import ImageList
from detector.formats.records import Entry, Failure, Header

FORMAT = "detections/1"
"""Name and version of the format, as files state it."""


def write(
    path: Path, header: Header, records: Iterable[Entry | Failure], image_list: ImageList
) -> None:
    """Write detections, one image in a line; see `detector.formats.Format`."""
    failures = []
    with atomic_write(path) as file:
        # The images are written one by one into an object that is still open.
        start = {
            "format": FORMAT,
            "bundle": dict(header.bundle),
            "settings": dict(header.settings),
            "classes": list(header.classes),
        }
        file.write(encode(start)[:-1] + b',\n "images": [')

        separator = b"\n"
        for record in records:
            if isinstance(record, Failure):
                failures.append(record.to_json())
                continue
            file.write(separator + encode(record.to_json()))
            separator = b",\n"

        file.write(b'\n],\n "failed": ' + encode(failures) + b"}\n")


def read(path: Path) -> tuple[tuple[str, ...], list[Entry]]:
    """Read a file of detections.

    Returns:
        The names of the classes, and the entries of the images in the order of the file.

    Raises:
        FormatError: The file is missing or is not in this format.
    """
    return parse(path, read_json(path))


def parse(path: Path, content: Any) -> tuple[tuple[str, ...], list[Entry]]:
    """Return what the JSON of a file of detections says; see `read`."""
    _check_structure(path, content)

    entries: list[Entry] = []
    seen: dict[str, int] = {}
    for index, value in enumerate(content["images"]):
        try:
            entries.append(Entry.from_json(value))
        except ValueError as error:
            raise FormatError(path, f"images[{index}]: {error}") from error

        file = entries[-1].file
        first = seen.setdefault(file, index)
        if first != index:
            raise FormatError(path, f"images[{index}]: {file} is images[{first}] already")
    return tuple(content["classes"]), entries


def _check_structure(path: Path, content: Any) -> None:
    """Check everything but the entries of the images."""
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise FormatError(path, f'must be an object with "format": "{FORMAT}"')
    for key in ("classes", "images"):
        if not isinstance(content.get(key), list):
            raise FormatError(path, f'"{key}" must be a list')
    if not all(isinstance(name, str) for name in content["classes"]):
        raise FormatError(path, '"classes" must be names')
