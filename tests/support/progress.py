"""Progress that a test looks at."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from detector.common.progress import Progress, ShowProgress


def reporting_to(progress: Progress) -> ShowProgress:
    """Return what reports every progress to one function."""

    @contextmanager
    def show_progress(total: int, unit: str) -> Iterator[Progress]:
        yield progress

    return show_progress
