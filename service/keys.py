"""API keys, which detections may need."""

from __future__ import annotations

import hmac
import os
from collections.abc import Sequence
from http import HTTPStatus
from pathlib import Path

from starlette.requests import Request

from detector.errors import FormatError
from service.problems import Problem

VARIABLE = "DETECTOR_API_KEYS"
"""The environment variable with keys."""

MIN_LENGTH = 16
"""Smallest number of characters of a key."""


def read_keys(file: Path | None) -> tuple[str, ...]:
    """Read the keys of the environment and of a file.

    Args:
        file: A file with one key per line. The variable has commas between keys.

    Raises:
        FormatError: The file cannot be read, the file or the variable has no key, or a key is too
            short.
    """
    keys = _read_variable()
    if file is not None:
        keys += _read_file(file)
    return tuple(keys)


def _read_variable() -> list[str]:
    if VARIABLE not in os.environ:
        return []
    keys = [key.strip() for key in os.environ[VARIABLE].split(",") if key.strip()]
    if not keys:
        raise FormatError(VARIABLE, "has no key: set one, or unset it")
    for key in keys:
        _check_key(key, VARIABLE)
    return keys


def _read_file(file: Path) -> list[str]:
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not UTF-8"
        raise FormatError(file, f"cannot be read: {reason}") from error

    keys = []
    for number, line in enumerate(lines, start=1):
        key = line.strip()
        if key:
            _check_key(key, str(file), number)
            keys.append(key)
    if not keys:
        raise FormatError(file, "has no key: write one per line")
    return keys


def _check_key(key: str, source: str, line: int | None = None) -> None:
    if len(key) < MIN_LENGTH or not key.isascii():
        raise FormatError(source, f"a key must have at least {MIN_LENGTH} ASCII characters", line)


class Keys:
    """Checks the key of a request.

    Args:
        allowed: The keys, at least one.
    """

    def __init__(self, allowed: Sequence[str]) -> None:
        self._allowed = [key.encode() for key in allowed]

    def __call__(self, request: Request) -> None:
        """Check that a request has a key: `Authorization: Bearer KEY` or `X-API-Key: KEY`.

        Raises:
            Problem: 401, because it has none or a wrong one.
        """
        scheme, _, bearer = request.headers.get("authorization", "").partition(" ")
        key = bearer if scheme.lower() == "bearer" else request.headers.get("x-api-key", "")
        data = key.strip().encode("utf-8", "replace")

        # All keys are compared in constant time, so that the time tells nothing about them.
        matches = [hmac.compare_digest(data, allowed) for allowed in self._allowed]
        if not any(matches):
            raise Problem(
                HTTPStatus.UNAUTHORIZED,
                "bad-key",
                "a key is needed: Authorization: Bearer KEY, or X-API-Key: KEY",
            )
