"""A run's record of what is finished, from which it is continued and its output is rendered.

JSON lines: the first holds a fingerprint of everything that changes results, the others a record
for each finished image, with the digest of the image's bytes.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple, Self

from detector.common.atomic_io import encode
from detector.errors import FormatError, SettingsError

START = b'{"fingerprint": '
"""Of every journal."""


class _Place(NamedTuple):
    offset: int
    digest: str


class Journal:
    """A file of records by the image's name, of which the last one counts.

    Only one process may have it open. It is of use once `begin` has read it.

    Args:
        path: the file; it is made if need be.

    Raises:
        SettingsError: it cannot be written, or another run has it open.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._places: dict[str, _Place] = {}
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
        """Read what is there. A last line without its end, which a killed process leaves, is
        dropped.

        Args:
            fingerprint: everything that changes results.
            overwrite: start anew, whatever is there.

        Raises:
            SettingsError: its fingerprint differs.
            FormatError: it is not a journal.
        """
        if overwrite:
            self._file.truncate(0)
        self._read(json.loads(encode(fingerprint)))

    def __iter__(self) -> Iterator[str]:
        """The names of the images."""
        return iter(self._places)

    def digest(self, name: str) -> str | None:
        """The digest in the record of an image, if there is one."""
        place = self._places.get(name)
        return place.digest if place else None

    def __getitem__(self, name: str) -> dict[str, Any]:
        """The record of an image."""
        self._file.seek(self._places[name].offset)
        return dict(json.loads(self._file.readline()))

    def append(self, record: Mapping[str, Any]) -> None:
        """Write a record, which has the keys `file` and `digest`; it survives a kill."""
        offset = self._file.seek(0, os.SEEK_END)
        self._file.write(encode(record) + b"\n")
        self._file.flush()
        self._places[record["file"]] = _Place(offset, record["digest"])

    def close(self) -> None:
        """Let another run have it."""
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _read(self, fingerprint: dict[str, Any]) -> None:
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
                    self._compare(record["fingerprint"], fingerprint)
                else:
                    self._places[record["file"]] = _Place(offset, record["digest"])
            except (ValueError, KeyError, TypeError) as error:
                raise FormatError(
                    self.path, "not a line of a journal; --overwrite starts anew", number
                ) from error
            offset += len(line)
        self._file.truncate(offset)
        if offset == 0:
            self._file.write(encode({"fingerprint": fingerprint}) + b"\n")
            self._file.flush()

    def _compare(self, before: dict[str, Any], now: dict[str, Any]) -> None:
        differences = [f"{key} was {old}, is {new}" for key, old, new in _differences(before, now)]
        if differences:
            raise SettingsError(
                f"{self.path}: the finished part was made otherwise ({'; '.join(differences)}); "
                "choose another --out, or give --overwrite to start anew"
            )


def _differences(before: Any, now: Any, key: str = "") -> list[tuple[str, Any, Any]]:
    if isinstance(before, dict) and isinstance(now, dict):
        return [
            difference
            for name in sorted(before.keys() | now.keys())
            for difference in _differences(
                before.get(name), now.get(name), f"{key}.{name}" if key else name
            )
        ]
    return [] if before == now else [(key, before, now)]
