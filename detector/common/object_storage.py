"""Files in object storage, named by URIs such as `s3://bucket/photos` and read by Apache Arrow.

Credentials and the endpoint come from where the storage's own tools look for them, such as
`AWS_ACCESS_KEY_ID`, `AWS_ENDPOINT_URL`, `~/.aws`, or the role of the machine.
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
    """A file in object storage, with the same `read_bytes` as a `Path`.

    Args:
        storage_uri: URI by which the storage is opened. It may be that of a folder.
        path: Bucket and key of the file.
    """

    storage_uri: str
    path: str

    def __str__(self) -> str:
        scheme = self.storage_uri.partition("://")[0]
        return f"{scheme}://{self.path}"

    def read_bytes(self) -> bytes:
        """Return the content of the file.

        Raises:
            OSError: The file cannot be read.
        """
        file_system, _ = _open_storage(self.storage_uri)
        with file_system.open_input_file(self.path) as file:
            return bytes(file.readall())


class Listing(NamedTuple):
    """The files at a URI: all in a folder but the hidden ones, or a single one."""

    folder: str
    """Bucket and key of the folder. For a single file, the folder that it is in."""
    files: list[StoredFile]
    is_file: bool
    """Whether the URI names a single file."""


def is_uri(pattern: str) -> bool:
    """Return whether a path on the command line is a URI."""
    return "://" in pattern


def list_files(uri: str) -> Listing:
    """List the files in a folder and its subfolders, or a single file.

    Args:
        uri: URI of the folder or file.

    Raises:
        SettingsError: There is nothing at the URI, it may not be read, or Arrow is not installed.
    """
    file_system, path = _open_storage(uri)
    from pyarrow.fs import FileSelector, FileType

    try:
        if file_system.get_file_info(path).type == FileType.File:
            parent = path.rpartition("/")[0]
            return Listing(parent, [StoredFile(uri, path)], is_file=True)
        items = file_system.get_file_info(FileSelector(path, recursive=True))
    except OSError as error:
        raise SettingsError(f"{uri}: cannot be listed: {_reason(error)}") from error

    folder = path.rstrip("/")
    files = [
        StoredFile(uri, item.path)
        for item in items
        if item.type == FileType.File and "/." not in item.path.removeprefix(folder)
    ]
    return Listing(folder, files, is_file=False)


@lru_cache
def _open_storage(uri: str) -> tuple[FileSystem, str]:
    """Return the file system of a URI, and the bucket and key that the URI names in it."""
    try:
        from pyarrow.fs import FileSystem
    except ImportError as error:
        raise SettingsError(f"{uri}: object storage needs {install_hint('ray')}") from error
    try:
        file_system, path = FileSystem.from_uri(uri)
    except (OSError, ValueError) as error:
        raise SettingsError(f"{uri}: {_reason(error)}") from error
    return file_system, path


def _reason(error: Exception) -> str:
    """Return Arrow's message in one line, without the details of the request."""
    return " ".join(str(error).partition(" Detail:")[0].split())
