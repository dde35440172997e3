"""Files in object storage, by URIs such as `s3://bucket/photos`, read through Apache Arrow.

Credentials and the endpoint are those that the storage's own tools use: `AWS_ACCESS_KEY_ID`,
`AWS_ENDPOINT_URL`, `~/.aws`, a machine's role.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

from detector.errors import SettingsError, install_hint

if TYPE_CHECKING:
    from pyarrow.fs import FileSystem


@dataclass(frozen=True)
class StoredFile:
    """A file in object storage, which is read as a `Path` is.

    Args:
        place: the URI that was given, which names the storage.
        path: the bucket and the key.
    """

    place: str
    path: str

    def __str__(self) -> str:
        return f"{self.place.partition('://')[0]}://{self.path}"

    def read_bytes(self) -> bytes:
        """The whole file.

        Raises:
            OSError: it cannot be read.
        """
        system, _ = _storage(self.place)
        with system.open_input_file(self.path) as file:
            return bytes(file.readall())


def is_stored(pattern: str) -> bool:
    """Whether a path is a URI."""
    return "://" in pattern


class Listing(NamedTuple):
    """What is at a URI: the files of a folder, hidden ones left out, or a file alone."""

    folder: str
    """Bucket and key."""
    files: list[StoredFile]
    is_file: bool


def list_files(place: str) -> Listing:
    """What is at a URI.

    Raises:
        SettingsError: there is no such place, or it may not be read.
    """
    system, path = _storage(place)
    from pyarrow.fs import FileSelector, FileType

    try:
        if system.get_file_info(path).type == FileType.File:
            return Listing(path.rpartition("/")[0], [StoredFile(place, path)], is_file=True)
        found = system.get_file_info(FileSelector(path, recursive=True))
    except OSError as error:
        raise SettingsError(f"{place}: cannot be listed: {_reason(error)}") from error
    folder = path.rstrip("/")
    files = [
        StoredFile(place, info.path)
        for info in found
        if info.type == FileType.File and "/." not in info.path.removeprefix(folder)
    ]
    return Listing(folder, files, is_file=False)


@lru_cache
def _storage(place: str) -> tuple[FileSystem, str]:
    try:
        from pyarrow.fs import FileSystem
    except ImportError as error:
        raise SettingsError(
            f"{place}: object storage needs {install_hint('ray')}"
        ) from error
    try:
        system, path = FileSystem.from_uri(place)
    except (OSError, ValueError) as error:
        raise SettingsError(f"{place}: {_reason(error)}") from error
    return system, path


def _reason(error: Exception) -> str:
    return " ".join(str(error).partition(" Detail:")[0].split())
