"""Imports go service → detector → proposals, and commands without networks load no torch."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ABOVE = {"proposals": {"detector", "service"}, "detector": {"service"}, "service": set[str]()}


def imported(file: Path) -> set[str]:
    """The first part of every absolute import in a file."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: relative import"
            names.add((node.module or "").split(".")[0])
    return names


@pytest.mark.parametrize("package", ABOVE)
def test_imports_go_one_way_only(package: str) -> None:
    files = sorted((ROOT / package).rglob("*.py"))
    assert files
    for file in files:
        assert not imported(file) & ABOVE[package], file


@pytest.mark.parametrize(
    "code",
    [
        pytest.param("import detector", id="the package"),
        pytest.param("import proposals", id="proposals"),
        pytest.param("import detector.preprocessing", id="what workers run"),
        pytest.param(
            "from detector.commands.run import command; command(['--print-config'])", id="print"
        ),
        pytest.param("from detector.commands.bundle import command; command(['show'])", id="show"),
        pytest.param("from detector.commands import eval", id="scoring"),
    ],
)
def test_loads_no_torch(code: str) -> None:
    check = f"{code}\nimport sys\nassert 'torch' not in sys.modules, 'torch was loaded'"
    subprocess.run([sys.executable, "-c", check], check=True, capture_output=True, cwd=ROOT)


def test_unknown_attribute_is_an_error() -> None:
    import detector

    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        detector.nothing  # noqa: B018
