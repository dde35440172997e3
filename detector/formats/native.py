"""`dets.json`: detections as this program writes and reads them.

Nothing in it tells the time or a path of the machine, so that the same images, bundle and
settings give the same bytes.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from detector.common.atomic_io import atomic_write, encode, read_json
from detector.errors import FormatError
from detector.formats.image_lists import ImageList
from detector.formats.records import Entry, Failure, Header

FORMAT = "detections/1"


def write(
    path: Path, header: Header, records: Iterable[Entry | Failure], image_list: ImageList
) -> None:
    """Write a file, image after image."""
    failures = []
    with atomic_write(path) as file:
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
    """The classes and the images of a file.

    Raises:
        FormatError: it is missing or not in this format.
    """
    content = read_json(path)
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise FormatError(path, f'must be an object with "format": "{FORMAT}"')
    for key in ("classes", "images"):
        if not isinstance(content.get(key, []), list):
            raise FormatError(path, f'"{key}" must be a list')
    entries = []
    for number, value in enumerate(content.get("images", [])):
        try:
            entries.append(Entry.from_json(value))
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise FormatError(
                path, f"images[{number}] is not an image's entry: {error!r}"
            ) from error
    return tuple(content.get("classes", ())), entries
