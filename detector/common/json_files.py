"""JSON, read with errors that name the file, and written as lines of UTF-8."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from detector.common.text_files import decode_text, read_bytes
from detector.errors import FormatError


def read_json(path: Path) -> Any:
    """Read a JSON file.

    Raises:
        FormatError: The file cannot be read or is not JSON.
    """
    return decode_json(path, read_bytes(path))


def decode_json(path: Path, data: bytes) -> Any:
    """Decode the content of a JSON file; see `read_json`."""
    try:
        return json.loads(decode_text(path, data))
    except json.JSONDecodeError as error:
        raise FormatError(path, f"not JSON: {error.msg}", error.lineno) from error
    except ValueError as error:  # a number of thousands of digits
        raise FormatError(path, f"not JSON: {error}") from error
    except RecursionError as error:
        raise FormatError(path, "not JSON that can be read: it is nested too deep") from error


def encode(value: Any) -> bytes:
    """Encode a value as one line of UTF-8 JSON.

    Bytes of file names that are not UTF-8 become JSON escapes, which read back unchanged.
    """
    return json.dumps(value, ensure_ascii=False).encode("utf-8", "backslashreplace")
