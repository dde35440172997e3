"""Importing the packages changes nothing in the process."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

CHECK = """
import importlib, logging, os, sys, warnings


def state():
    root = logging.getLogger()
    return {
        "environment": dict(os.environ),
        "level": root.level,
        "disabled": logging.root.manager.disable,
        "handlers": list(root.handlers),
        "filters": list(root.filters),
        "blocked modules": sorted(n for n, module in sys.modules.items() if module is None),
    }


module = sys.argv[1]
for library in sys.argv[2:]:  # what other libraries do on import is theirs
    importlib.import_module(library)
before = state()
importlib.import_module(module)
after = state()
changed = [key for key in before if before[key] != after[key]]
sys.exit(f"{module} changes {changed}" if changed else 0)
"""

LIBRARIES = ("cv2", "openvino", "torch")

SET_BY_COMMANDS = {"OMP_WAIT_POLICY", "RAY_BACKEND_LOG_LEVEL", "RAY_USAGE_STATS_ENABLED"}
"""Variables that other tests may have set in this process, by calling commands."""


def check(module: str, *libraries: str, folder: Path = ROOT) -> subprocess.CompletedProcess[str]:
    environment = {key: os.environ[key] for key in os.environ.keys() - SET_BY_COMMANDS}
    return subprocess.run(
        [sys.executable, "-c", CHECK, module, *libraries],
        capture_output=True,
        text=True,
        cwd=folder,
        env=environment,
    )


@pytest.mark.parametrize("module", ["detector", "service"])
def test_packages_change_nothing(module: str) -> None:
    result = check(module)
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize(
    "module",
    [
        "detector.backends.openvino",
        "detector.backends.pytorch",
        "detector.batch.runner",
        "detector.commands.run",
        "detector.commands.train",
        "detector.detector",
        "detector.training.regions",
        "proposals",
        "service.app",
    ],
)
def test_modules_change_nothing(module: str) -> None:
    result = check(module, *LIBRARIES)
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize(
    ("line", "what"),
    [
        ("import os; os.environ['OMP_WAIT_POLICY'] = 'PASSIVE'", "environment"),
        ("import logging; logging.disable(logging.WARNING)", "disabled"),
        ("import logging; logging.getLogger().setLevel(logging.DEBUG)", "level"),
        ("import sys; sys.modules['some_library'] = None", "blocked modules"),
    ],
)
def test_the_check_can_fail(line: str, what: str, tmp_path: Path) -> None:
    (tmp_path / "guilty.py").write_text(line)
    result = check("guilty", folder=tmp_path)
    assert result.returncode == 1
    assert f"guilty changes ['{what}']" in result.stderr
