"""Damaged EXIF blocks in files of all formats that have them, and what dropping metadata costs.

    python -m benchmarks.image_metadata [--count 2000] [--seed 0]

Each file must load without an error, and turned exactly if the tag of its orientation is sound:
`tests/support/exif.py` says what that is. The second table has the milliseconds of reading and of
decoding a photo of 24 megapixels that has an EXIF block with a preview.
"""

from __future__ import annotations

import argparse
import collections
import random
import statistics
import time
from collections.abc import Callable

import numpy as np

from detector.images import load
from detector.images.limits import DEFAULT_LIMITS
from detector.images.loading import find_reader
from tests.support.bombs import encode, noise
from tests.support.exif import damaged_block, exif_block, expected_orientation

FORMATS = ("JPEG", "MPO", "PNG", "WEBP")
PREVIEW_BYTES = 30_000
REPETITIONS = 5


def main() -> None:
    parser = argparse.ArgumentParser(description="Damaged EXIF blocks, and the cost of metadata.")
    parser.add_argument("--count", type=int, default=2000, help="number of damaged blocks")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()

    orientations: collections.Counter[int] = collections.Counter()
    for number in range(arguments.count):
        rng = random.Random(f"{arguments.seed} {number}")
        orientations[try_block(damaged_block(rng), FORMATS[number % len(FORMATS)])] += 1
    print(f"{arguments.count} damaged blocks, all as they should be:", dict(orientations))

    print(f"{'24 megapixels':16}{'MB':>6}{'reading, ms':>13}{'decoding, ms':>14}")
    for kind in (*FORMATS, "TIFF", "BMP", "GIF"):
        measure(kind)


def try_block(block: bytes, kind: str) -> int:
    """Load an image with a block, check how it is turned, and return its orientation."""
    stored = noise(random.Random(0), 16, 8)
    options: dict[str, object] = {"lossless": True} if kind == "WEBP" else {}
    plain = load(encode(stored, kind, **options))
    loaded = load(encode(stored, kind, exif=b"Exif\0\0" + block, **options))

    orientation = expected_orientation(block)
    flipped = plain[:, ::-1] if orientation in (2, 4, 5, 7) else plain
    expected = np.rot90(flipped, {3: 2, 4: 2, 5: 1, 6: 3, 7: 3, 8: 1}.get(orientation, 0))
    np.testing.assert_array_equal(loaded, expected)
    return orientation


def measure(kind: str) -> None:
    """Print what reading the container and loading all of a photo take."""
    exif = b"Exif\0\0" + exif_block(1) + b"\x99" * PREVIEW_BYTES
    options: dict[str, object] = {} if kind in ("TIFF", "BMP", "GIF") else {"exif": exif}
    data = encode(noise(random.Random(0), 6000, 4000), kind, **options)

    reader = find_reader(data)
    reading = 0.0 if reader is None else median_ms(lambda: reader(data, "", DEFAULT_LIMITS))
    loading = median_ms(lambda: load(data))
    print(f"{kind:16}{len(data) / 1e6:6.1f}{reading:13.2f}{loading - reading:14.0f}", flush=True)


def median_ms(function: Callable[[], object]) -> float:
    """Return the median milliseconds of several calls."""
    times = []
    for _ in range(REPETITIONS):
        started = time.perf_counter()
        function()
        times.append(time.perf_counter() - started)
    return 1000 * statistics.median(times)


if __name__ == "__main__":
    main()
