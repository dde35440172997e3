"""Seconds an image by stage, and the peak of memory, of a preset.

    python benchmarks/stages.py [--images DIR] [--bundle NAME|DIR] [--preset default] [--count 8]

Without `--images` it takes the photos of scikit-image.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import sys
from pathlib import Path

from detector import Detector
from detector.images import SUFFIXES

SAMPLES = ("astronaut.png", "chelsea.png", "coffee.png", "motorcycle_left.png")
STAGES = ("decode", "proposals", "classify")


def main() -> None:
    parser = argparse.ArgumentParser(description="Seconds an image by stage, and peak memory.")
    parser.add_argument("--images", type=Path, help="a folder of photos")
    parser.add_argument("--bundle", help="a directory, or one that ships (voc20)")
    parser.add_argument("--preset", default="default")
    parser.add_argument("--count", type=int, default=8, help="photos to measure at most")
    arguments = parser.parse_args()
    paths = photos(arguments.images)[: arguments.count]
    with Detector.load(arguments.bundle, preset=arguments.preset) as detector:
        detector.detect(paths[0])  # warm
        results = [detector.detect(path) for path in paths]
        runtime = detector.networks.runtime
        print(f"{len(paths)} photos, {runtime.device}, {runtime.precision}, medians")
    for stage in STAGES:
        print(f"{stage:<12}{statistics.median(r.seconds[stage] for r in results):>9.3f} s")
    print(f"{'total':<12}{statistics.median(sum(r.seconds.values()) for r in results):>9.3f} s")
    print(f"{'boxes':<12}{statistics.median(r.proposals['merged'] for r in results):>9.0f}")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # KiB; on macOS bytes
    print(f"{'peak memory':<12}{peak / (2**20 if sys.platform == 'darwin' else 2**10):>9.0f} MiB")


def photos(folder: Path | None) -> list[Path]:
    """A folder's photos, or scikit-image's."""
    if folder is not None:
        return sorted(path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES)
    import skimage.data

    return [Path(skimage.data.__path__[0]) / name for name in SAMPLES]


if __name__ == "__main__":
    main()
