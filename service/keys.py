"""API keys: who may ask for detections."""

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
SHORTEST = 16
"""Characters of a key."""


def read_keys(file: Path | None) -> tuple[str, ...]:
    """The keys of a file, a line each, and those of the environment, with commas between them.

    Raises:
        FormatError: the file cannot be read, it or the variable has no key, or a key is too short.
    """
    keys: list[tuple[str, int | None, str]] = [
        (VARIABLE, None, key) for key in os.environ.get(VARIABLE, "").split(",")
    ]
    if VARIABLE in os.environ and not any(key.strip() for _, _, key in keys):
        raise FormatError(VARIABLE, "has no key: set one, or unset it")
    if file is not None:
        try:
            lines = file.read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or "not UTF-8"
            raise FormatError(file, f"cannot be read: {reason}") from error
        keys += [(str(file), number, line) for number, line in enumerate(lines, start=1)]
        if not any(line.strip() for line in lines):
            raise FormatError(file, "has no key: a line each is needed")
    for place, number, key in keys:
        if key.strip() and (len(key.strip()) < SHORTEST or not key.isascii()):
            what = f"a key must have at least {SHORTEST} ASCII characters"
            raise FormatError(place, what, number)
    return tuple(key.strip() for _, _, key in keys if key.strip())


class Keys:
    """Checks a request's key, in a time that does not tell how much of it is right.

    Args:
        allowed: the keys, at least one.
    """

    def __init__(self, allowed: Sequence[str]) -> None:
        self._allowed = [key.encode() for key in allowed]

    def __call__(self, request: Request) -> None:
        """See that a request has a key, as `Authorization: Bearer KEY` or `X-API-Key: KEY`.

        Raises:
            Problem: 401.
        """
        scheme, _, bearer = request.headers.get("authorization", "").partition(" ")
        given = bearer if scheme.lower() == "bearer" else request.headers.get("x-api-key", "")
        data = given.strip().encode("utf-8", "replace")
        matches = [hmac.compare_digest(data, key) for key in self._allowed]  # all of them, always
        if not any(matches):
            raise Problem(
                HTTPStatus.UNAUTHORIZED,
                "bad-key",
                "a key is needed: Authorization: Bearer KEY, or X-API-Key: KEY",
            )
