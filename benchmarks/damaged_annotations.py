"""Thousands of damaged annotation files: how each of them ends, and how long it takes.

    python -m benchmarks.damaged_annotations [--count 2000] [--seed 0] [--kind KIND]

COCO, VOC and ILSVRC files, lists, the blacklist and the kit's `.mat` are flipped, cut, repeated,
and given values of other types. Each file must be refused in one line at exit code 2, or be read
as a literal reader reads it; perfect detections of what that reader finds must then score 1. What
counts as misread is defined in `tests/support/damaged_annotations.py`.
"""

from __future__ import annotations

import argparse
import collections
import signal
import tempfile
import time
import traceback
from pathlib import Path

from tests.support.damaged_annotations import KINDS
from tests.support.trials import Outcome, attempt, make_data_set

SECONDS = 60
"""Time after which a file counts as one that hangs."""


class HangError(BaseException):
    """A file takes too long. No handler of errors in the program catches it."""


def main() -> None:
    parser = argparse.ArgumentParser(description="Thousands of damaged annotation files.")
    parser.add_argument("--count", type=int, default=2000, help="number of files of all kinds")
    parser.add_argument("--seed", type=int, default=0, help="seed of the first file")
    parser.add_argument("--kind", choices=KINDS, help="one kind only")
    arguments = parser.parse_args()

    signal.signal(signal.SIGALRM, stop)
    names = [arguments.kind] if arguments.kind else list(KINDS)
    failures = 0
    print(f"{'':<22}{'files':>7}{'refused':>9}{'altered':>9}{'same':>7}{'wrong':>7}  longest")
    for position, name in enumerate(names):
        count = len(range(position, arguments.count, len(names)))
        failures += try_kind(name, range(arguments.seed, arguments.seed + count))
    assert not failures, f"{failures} files end in another way than they should"


def try_kind(name: str, seeds: range) -> int:
    """Try damaged files of a kind, print a row, and return how many end wrongly."""
    outcomes: collections.Counter[Outcome | None] = collections.Counter()
    longest = 0.0
    with tempfile.TemporaryDirectory() as folder:
        data_set = make_data_set(KINDS[name], Path(folder) / "set")
        for seed in seeds:
            start = time.perf_counter()
            signal.alarm(SECONDS)
            try:
                outcome = attempt(data_set, data_set.damaged(seed))
            except (Exception, HangError):
                outcome = None
                print(f"{name}, seed {seed}:")
                traceback.print_exc()
            finally:
                signal.alarm(0)
            outcomes[outcome] += 1
            longest = max(longest, time.perf_counter() - start)

    figures = (outcomes[Outcome.REFUSED], outcomes[Outcome.ALTERED], outcomes[Outcome.UNCHANGED])
    columns = "".join(
        f"{number:>{width}}" for number, width in zip(figures, (9, 9, 7), strict=True)
    )
    print(f"{name:<22}{len(seeds):>7}{columns}{outcomes[None]:>7}  {longest:.2f} s", flush=True)
    return outcomes[None]


def stop(*_: object) -> None:
    """End the try of a file."""
    raise HangError


if __name__ == "__main__":
    main()
