"""The detection system of *Going deeper with convolutions*.

>>> from detector import Detector
>>> with Detector.load() as detector:  # doctest: +SKIP
...     result = detector.detect("photo.jpg")
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from detector import errors as errors
from detector.errors import DetectorError, ImageError

if TYPE_CHECKING:
    from detector.bundles.bundle import Bundle
    from detector.detector import Detector
    from detector.networks import Networks
    from detector.results import Detection, FailedResult, Result
    from detector.runtime import Runtime
    from detector.settings import Settings

__all__ = [
    "Bundle",
    "Detection",
    "Detector",
    "DetectorError",
    "FailedResult",
    "ImageError",
    "Networks",
    "Result",
    "Runtime",
    "Settings",
    "__version__",
    "errors",
]

__version__ = "0.1.0"

_MODULES = {
    "Bundle": "detector.bundles.bundle",
    "Detection": "detector.results",
    "Detector": "detector.detector",
    "FailedResult": "detector.results",
    "Networks": "detector.networks",
    "Result": "detector.results",
    "Runtime": "detector.runtime",
    "Settings": "detector.settings",
}


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used, so that `import detector` is quick."""
    if name in _MODULES:
        return getattr(import_module(_MODULES[name]), name)
    raise AttributeError(f"module 'detector' has no attribute {name!r}")
