"""A run's record of finished images: the run continues from it, and its output is made from it.

A journal is a file of JSON lines. The first line holds a fingerprint of everything that changes
results. Each other line is the record of a finished image, with the digest of the image's bytes.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple, Self

from detector.common.json_files import encode
from detector.errors import FormatError, SettingsError

START = b'{"fingerprint": '
"""First bytes of every journal."""


class _Line(NamedTuple):
    """The record of an image in the file."""

    offset: int
    """In bytes."""
    digest: str


class Journal:
    """A file of records by image name. If an image has several, the last one counts.

    Only one process can have a journal open. Call `begin` before anything else.

    Args:
        path: The file. It is created if it does not exist.

    Raises:
        SettingsError: The file cannot be written, or another run has it open.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lines: dict[str, _Line] = {}
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = open(path, "a+b")  # noqa: SIM115 - closed by `close`
        except OSError as error:
            raise SettingsError(f"{path}: cannot be written: {error.strerror}") from error
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            self._file.close()
            raise SettingsError(f"{path}: another run is writing this output") from error

    def begin(self, fingerprint: Mapping[str, Any], *, overwrite: bool = False) -> None:
        """Read the records of earlier runs, or start a new journal if there are none.

        A last line without a line break, which a killed process can leave, is dropped.

        Args:
            fingerprint: Everything that changes results.
            overwrite: Drop all earlier records.

        Raises:
            SettingsError: The earlier records have another fingerprint.
            FormatError: The file is not a journal.
        """
        if overwrite:
            self._file.truncate(0)

        # JSON turns tuples into lists: compare what a journal would hold.
        expected = json.loads(encode(fingerprint))
        length = self._read_lines(expected)
        self._file.truncate(length)
        if length == 0:
            self._file.write(encode({"fingerprint": expected}) + b"\n")
            self._file.flush()

    def __iter__(self) -> Iterator[str]:
        """Return the names of the recorded images."""
        return iter(self._lines)

    def digest(self, name: str) -> str | None:
        """Return the digest in the record of an image, or None if it has no record."""
        line = self._lines.get(name)
        return line.digest if line else None

    def __getitem__(self, name: str) -> dict[str, Any]:
        """Return the record of an image."""
        self._file.seek(self._lines[name].offset)
        return dict(json.loads(self._file.readline()))

    def append(self, record: Mapping[str, Any]) -> None:
        """Write a record. Once written, it survives if the process is killed.

        Args:
            record: JSON values, among them the image's name as "file" and its "digest".
        """
        offset = self._file.seek(0, os.SEEK_END)
        self._file.write(encode(record) + b"\n")
        self._file.flush()
        self._lines[record["file"]] = _Line(offset, record["digest"])

    def close(self) -> None:
        """Close the file, so that another run can open it."""
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _read_lines(self, expected_fingerprint: dict[str, Any]) -> int:
        """Read all complete lines and return their length in bytes."""
        self._file.seek(0)
        offset = 0
        for number, line in enumerate(self._file, start=1):
            try:
                if not line.endswith(b"\n"):
                    if number == 1 and line[: len(START)] != START[: len(line)]:
                        raise ValueError("another file")
                    break
                record = json.loads(line)
                if number == 1:
                    self._compare(record["fingerprint"], expected_fingerprint)
                else:
                    self._lines[record["file"]] = _Line(offset, record["digest"])
            except (ValueError, KeyError, TypeError) as error:
                raise FormatError(
                    self.path, "not a line of a journal; --overwrite starts over", number
                ) from error
            offset += len(line)
        return offset

    def _compare(self, before: dict[str, Any], now: dict[str, Any]) -> None:
        """Raise `SettingsError` if fingerprints differ."""
        differences = [f"{key} was {old}, is {new}" for key, old, new in _differences(before, now)]
        if differences:
            raise SettingsError(
                f"{self.path}: the finished part was computed differently "
                f"({'; '.join(differences)}); choose another --out, or give --overwrite to start "
                "over"
            )


def _differences(before: Any, now: Any, key: str = "") -> list[tuple[str, Any, Any]]:
    """Return the differences of JSON values as keys such as `a.b`, old values and new values."""
    if isinstance(before, dict) and isinstance(now, dict):
        return [
            difference
            for name in sorted(before.keys() | now.keys())
            for difference in _differences(
                before.get(name), now.get(name), f"{key}.{name}" if key else name
            )
        ]
    return [] if before == now else [(key, before, now)]
