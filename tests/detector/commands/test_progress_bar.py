from __future__ import annotations

import pytest

from detector.commands import progress_bar as progress
from detector.commands.progress_bar import ProgressBar


def test_lines_where_there_is_no_terminal(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    times = iter([100.0, 100.0, 110.0, 120.0, 121.0])
    monkeypatch.setattr("time.monotonic", lambda: next(times))
    with ProgressBar(200, unit="image", quiet=False) as count:
        for finished in (90, 95, 100, 101):
            count(finished, finished - 90)
    assert capsys.readouterr().err == "100 of 200 images, 0.50 a second, 200 s left\n"


def test_quiet(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "SECONDS_BETWEEN_LINES", 0.0)
    with ProgressBar(2, unit="image", quiet=True) as count:
        count(1, 1)
    assert capsys.readouterr().err == ""
