"""Where the data are that some tests need."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

DATA = Path(os.environ.get("DETECTOR_DATA", Path(__file__).parents[3] / "shared" / "data"))


def needs(path: Path) -> Path:
    """The path, if it is there; otherwise the test is skipped."""
    if not path.exists():
        pytest.skip(f"needs {path.name}; DETECTOR_DATA names the folder of the data")
    return path
