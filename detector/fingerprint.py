"""Everything that changes the results of a run, apart from its images."""

from __future__ import annotations

import hashlib
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import cv2
import numpy as np
import PIL

from detector import __version__
from detector.common.text_files import open_file
from detector.runtime import Runtime
from detector.settings import Settings


def fingerprint(bundle_sha256: str, settings: Settings, runtime: Runtime) -> dict[str, object]:
    """Return what changes results on this machine: bundle, settings, arithmetic, libraries."""
    return {
        "bundle": bundle_sha256,
        "settings": settings.recorded(),
        "backend": runtime.describe(),
        "versions": {
            "detector": __version__,
            "numpy": np.__version__,
            "opencv": cv2.__version__,
            "openvino": version("openvino"),
            "pillow": PIL.__version__,
            **optional_versions("selectivesearch", "torch"),
        },
    }


def optional_versions(*packages: str) -> dict[str, str]:
    """Return the versions of those packages that are installed."""
    versions = {}
    for package in packages:
        with suppress(PackageNotFoundError):
            versions[package] = version(package)
    return versions


def proposals_file_fingerprint(proposals_file: Path | None) -> dict[str, str]:
    """Return the part of a fingerprint that a file of proposals adds.

    Raises:
        FormatError: The file cannot be read.
    """
    if proposals_file is None:
        return {}
    with open_file(proposals_file) as file:
        return {"proposals_in": hashlib.file_digest(file, "sha256").hexdigest()}
