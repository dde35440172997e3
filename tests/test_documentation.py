"""The commands that the documents show are ones that the programs take."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from types import ModuleType

import pytest

import service.command
from detector.commands import bundle, eval, run, train  # noqa: A004

ROOT = Path(__file__).parents[1]
PROGRAMS: dict[str, ModuleType] = {
    "detector-bundle": bundle,
    "detector-eval": eval,
    "detector-run": run,
    "detector-serve": service.command,
    "detector-train": train,
}


def shown(document: str) -> list[list[str]]:
    """The programs' calls in a document's blocks of code."""
    found = []
    for block in (ROOT / document).read_text().split("```")[1::2]:
        for line in block.replace("\\\n", " ").replace("$n", "1").splitlines():
            words = shlex.split(line, comments=True) if "detector-" in line else []
            places = [place for place, word in enumerate(words) if word in PROGRAMS]
            found += [words[place:] for place in places]
    return found


@pytest.mark.parametrize(
    ("document", "least"),
    [("README.md", 12), ("docs/clusters.md", 3), ("docs/operations.md", 1), ("docs/results.md", 6)],
)
def test_commands(
    document: str,
    least: int,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for program in PROGRAMS.values():
        monkeypatch.setattr(program, "main", lambda *_: 0)  # options alone, and no action
    calls = shown(document)
    assert len(calls) >= least
    for name, *arguments in calls:
        try:
            PROGRAMS[name].command(arguments)
        except SystemExit:
            pytest.fail(f"{name} {shlex.join(arguments)}: {capsys.readouterr().err}")


def test_files_that_documents_link_to() -> None:
    documents = [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]
    for document in documents:
        for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", document.read_text()):
            assert (document.parent / target).exists(), f"{document.name}: {target}"
