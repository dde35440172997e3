"""Image files that are made to take long or much memory, each given to `detector-run`.

    python -m benchmarks.image_bombs [--count 200] [--seed 0] [--bundle voc20] [--only WORD]

Each file has a run of its own with the preset `fast`. The table has the seconds of the run until
the image reached the classifier or was refused (`ready`; with the start of the program), those
of the classifier, the processor's seconds of both, the peak memory, and what became of the file.
Every format is there: too many parts, pixels, scans, frames, tiles or bytes, metadata that unpacks
to gigabytes, loops, and large sizes that are allowed.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

from tests.support.bombs import BOMBS, make_bomb

MOST_SECONDS = 10.0
MOST_MIB = 1536


class Outcome(NamedTuple):
    """What a run on one file took, and what became of the file."""

    name: str
    size: int
    ready: float
    classify: float
    processor: float
    mib: float
    result: str

    def __str__(self) -> str:
        """Return a row of the table."""
        times = f"{self.ready:7.1f}{self.classify:10.1f}{self.processor:7.1f}"
        return f"{self.name:42}{self.size:15,}{times}{self.mib:7.0f}  {self.result}"


def main() -> None:
    parser = argparse.ArgumentParser(description="Image files that take long or much memory.")
    parser.add_argument("--count", type=int, default=200, help="number of files")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--bundle", default="voc20")
    parser.add_argument("--only", default="", help="only the kinds with this in their name")
    arguments = parser.parse_args()

    kinds = [kind for kind in BOMBS if arguments.only in kind]
    outcomes = []
    print(f"{'kind':42}{'bytes':>15}{'ready':>7}{'classify':>10}{'CPU':>7}{'MiB':>7}  result")
    for number in range(arguments.count):
        kind = kinds[number % len(kinds)]
        outcome = run(kind, arguments.seed + number // len(kinds), arguments.bundle)
        outcomes.append(outcome)
        print(outcome, flush=True)

    slowest = max(outcomes, key=lambda outcome: outcome.ready)
    largest = max(outcomes, key=lambda outcome: outcome.mib)
    print(f"{len(outcomes)} files, at most {slowest.ready:.1f} s ({slowest.name})", end=" ")
    print(f"and {largest.mib:.0f} MiB ({largest.name})")
    assert slowest.ready < MOST_SECONDS
    assert largest.mib < MOST_MIB


def run(kind: str, seed: int, bundle: str) -> Outcome:
    """Make a file and detect the objects in it."""
    with tempfile.TemporaryDirectory() as folder:
        # In a process of its own, because a run's peak memory begins with that of its parent.
        with multiprocessing.get_context("spawn").Pool(1) as maker:
            image = maker.apply(make_bomb, (kind, seed, Path(folder)))
        out = Path(folder) / "dets.json"
        stats = Path(folder) / "stats.json"
        command = [sys.executable, "-m", "detector.commands.run", "--quiet", "--preset", "fast"]
        command += ["--images", str(image), "--out", str(out), "--bundle", bundle]
        command += ["--stats", str(stats)]

        started = time.perf_counter()
        process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - started
        process.returncode = os.waitstatus_to_exitcode(status)

        classify = json.loads(stats.read_bytes())["seconds"].get("classify", 0.0)
        return Outcome(
            f"{kind} {seed}",
            image.stat().st_size,
            seconds - classify,
            classify,
            usage.ru_utime + usage.ru_stime,
            usage.ru_maxrss / 1024,
            _result(out),
        )


def _result(out: Path) -> str:
    """Return the error of the only image of a run, or the number of its detections."""
    detections = json.loads(out.read_bytes())
    failed = [f"{failure['error']}: {failure['message']}" for failure in detections["failed"]]
    return "; ".join(failed) or f"{len(detections['images'][0]['detections'])} detections"


if __name__ == "__main__":
    main()
