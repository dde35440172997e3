from __future__ import annotations

import os
from pathlib import Path

import pytest

from detector.common.output_checks import check_outputs
from detector.errors import SettingsError


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Change to a folder with an input, names for it, and a folder of inputs."""
    monkeypatch.chdir(tmp_path)
    Path("input").write_text("input")
    Path("link").symlink_to("input")
    Path("hard").hardlink_to("input")
    Path("loop").symlink_to("loop")
    Path("inputs").mkdir()
    Path("to inputs").symlink_to("inputs")
    os.mkfifo("pipe")


@pytest.mark.parametrize(
    ("outputs", "message"),
    [
        (["input"], "--a input: would overwrite a file that the command reads"),
        (["absent/../input"], "--a absent/../input: would overwrite a file that"),
        (["link"], "--a link: would overwrite a file that"),
        (["hard"], "--a hard: would overwrite a file that"),
        (["inputs/new"], "--a inputs/new: is inside .*/inputs, which the command reads"),
        (["to inputs/more/new"], "--a to inputs/more/new: is inside .*/inputs, which"),
        (["inputs"], "--a inputs: is a folder, but must be a file"),
        (["loop"], "--a loop: cannot be written: Too many levels"),
        (["x" * 256], "cannot be written: File name too long"),
        (["input/x"], "input is not a folder that can be written to"),
        ([""], "--a .: must name a file"),
        (["new", "./new"], "--b new: is --a already"),
        (["new", "new/more"], "--a .*/new: is the folder of another output"),
        (["new/more", "new"], "--b .*/new: is the folder of another output"),
        (["-", "-"], "--b -: is --a already"),
    ],
)
def test_refused(outputs: list[str], message: str) -> None:
    pairs = zip(("--a", "--b"), map(Path, outputs), strict=False)
    with pytest.raises(SettingsError, match=message):
        check_outputs(pairs, [Path("input"), Path("inputs"), Path("not there")])


@pytest.mark.parametrize(
    "outputs", [["new", "other"], ["more/new"], ["-"], ["pipe"], ["/dev/null", "/dev/null"]]
)
def test_accepted(outputs: list[str]) -> None:
    pairs = zip(("--a", "--b"), map(Path, outputs), strict=False)
    check_outputs(pairs, [Path("input"), Path("inputs"), Path("not there")])


def test_sockets_and_disks_are_no_outputs() -> None:
    import socket

    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("socket")
        with pytest.raises(SettingsError, match="socket: is neither a file nor a pipe"):
            check_outputs([("--a", Path("socket"))], [])
