"""Thousands of damaged detections, lists of images and proposals: how each of them ends.

    python -m benchmarks.damaged_detections [--count 2000] [--seed 0]

Files of each format are flipped, cut, repeated, and given values of other types, as in the tests.
Each must be refused in one line, or be read as it literally stands. Annotations, bundles and
journals have commands of their own: `damaged_annotations`, `damaged_bundles`, `damaged_journals`.
"""

from __future__ import annotations

import argparse
import logging
import random
import time
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.detector.formats.test_damaged_detections import KINDS, Kind


def main() -> None:
    parser = argparse.ArgumentParser(description="Thousands of damaged detections.")
    parser.add_argument("--count", type=int, default=2000, help="number of files of each kind")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()

    logging.disable(logging.WARNING)
    rng = random.Random(arguments.seed)
    with TemporaryDirectory() as folder:
        for kind in KINDS:
            try_kind(kind, Path(folder) / kind.file, rng, arguments.count)


def try_kind(kind: Kind, path: Path, rng: random.Random, count: int) -> None:
    """Damage a file and read it again and again; print how many were read and the longest time.

    Raises:
        AssertionError: A file is misread, or ends in another way than in one line.
    """
    read = 0
    longest = 0.0
    for _ in range(count):
        path.write_bytes(kind.damaged(rng))
        started = time.perf_counter()
        read += kind.check(path)
        longest = max(longest, time.perf_counter() - started)
    print(
        f"{kind.file:<24}{count:>6} files, {count - read} refused, {read} read, "
        f"longest {longest:.2f} s"
    )


if __name__ == "__main__":
    main()
