"""What is in each place? The detection system of *Going deeper with convolutions*.

>>> from detector import Detector
>>> with Detector.load() as detector:  # doctest: +SKIP
...     result = detector.detect("photo.jpg")
"""

from __future__ import annotations

import os
from importlib import import_module
from typing import TYPE_CHECKING, Any

from detector.errors import DetectorError, ImageError

if TYPE_CHECKING:
    from detector.detector import Detector, Result
    from detector.results import Detection

# Waiting threads of a network sleep instead of spinning, for the processes that make proposals
# need the same cores. It counts only if it is set before torch is loaded.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

__all__ = ["Detection", "Detector", "DetectorError", "ImageError", "Result", "__version__"]

__version__ = "0.1.0"

_LAZY = {
    "Detection": "detector.results",
    "Detector": "detector.detector",
    "Result": "detector.detector",
}


def __getattr__(name: str) -> Any:
    """Load what needs torch when it is first used, so that commands without networks start at
    once.
    """
    if name in _LAZY:
        return getattr(import_module(_LAZY[name]), name)
    raise AttributeError(f"module 'detector' has no attribute {name!r}")
