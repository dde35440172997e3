"""Where the images of an annotation file are, whatever a labelling tool wrote before their names.

Label Studio names an image by its own address, such as `/data/local-files/?d=photos/a.jpg` or
`/data/upload/1/0a1b2c3d-a.jpg`, and in an export `images/1/0a1b2c3d-a.jpg`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from urllib.parse import unquote

from detector.datasets.ground_truth import GroundTruth
from detector.errors import FormatError, ImageError, UnreadableImage
from detector.formats.records import Failure

LOCAL_FILE = re.compile(r"(?:https?://[^/]+)?/?data/local-files/\?d=(.+)")
"""An image in a folder that Label Studio was given. Only the end of the path need be known here."""

UPLOADED = re.compile(r"(?:https?://[^/]+)?/?(?:data/)?(?:upload|images)/\d+/(.+)")
"""An image that was uploaded to one of Label Studio's projects, which have numbers."""

UPLOAD_ID = re.compile(r"[0-9a-f]{8}-(.+)")
"""The name of an uploaded image; what it was called before comes after the id."""


def find_images(truth: GroundTruth, folder: Path, file: Path) -> GroundTruth:
    """Return a ground truth with the names that its images have in a folder.

    A name that leads to no image, in any way that is understood, stays as it is.

    Args:
        truth: The annotations.
        folder: The folder of the images.
        file: The file of the annotations, for the error message.

    Raises:
        FormatError: Two names lead to one image.
    """
    images = []
    name_of: dict[str, str] = {}
    for image in truth.images:
        names = (name for name in possible_names(image.file) if _exists(folder / name))
        found = next(names, image.file)
        first = name_of.setdefault(found, image.file)
        if first != image.file:
            raise FormatError(file, f"{first} and {image.file} are one image: {folder / found}")
        images.append(image if found == image.file else replace(image, file=found))
    return GroundTruth(truth.classes, tuple(images))


def possible_names(name: str) -> Iterator[str]:
    """Yield the names under which an image may be found, beginning with the one it has."""
    yield name
    name = name.replace("\\", "/")
    yield name
    if match := LOCAL_FILE.fullmatch(name):
        parts = unquote(match[1]).strip("/").split("/")
        for start in range(len(parts)):
            yield "/".join(parts[start:])
    elif match := UPLOADED.fullmatch(name):
        uploaded = unquote(match[1])
        yield uploaded
        if match := UPLOAD_ID.fullmatch(uploaded):
            yield match[1]


def name_path(error: ImageError, name: str, folder: Path) -> ImageError:
    """Return the error of an image, which says where the image was looked for if it is missing.

    Args:
        error: What is wrong with the image.
        name: Name of the image.
        folder: The folder of the images.
    """
    is_missing = isinstance(error, UnreadableImage)
    place = f": {folder / name}" if is_missing else ""
    return type(error)(name, f"{error.message}{place}")


def name_path_of_failure(failure: Failure, folder: Path) -> Failure:
    """Return a failure that says where an image was looked for if it is missing.

    Args:
        failure: What is wrong with an image.
        folder: The folder of the images.
    """
    if failure.error != UnreadableImage.code:
        return failure
    return Failure(failure.file, failure.error, f"{failure.message}: {folder / failure.file}")


def _exists(path: Path) -> bool:
    """Return whether there is a file. A name that the system does not allow leads to none."""
    try:
        return path.exists()
    except OSError:
        return False
