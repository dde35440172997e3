"""Seconds per image in each stage of a preset, and the peak memory.

    python benchmarks/stages.py [--images DIR] [--bundle NAME|DIR] [--preset default] [--count 8]

Without `--images` the photos of scikit-image are measured.
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
    parser = argparse.ArgumentParser(description="Seconds per image and stage, and peak memory.")
    parser.add_argument("--images", type=Path, help="folder of images (scikit-image's)")
    parser.add_argument("--bundle", help="directory or name of a bundle (voc20)")
    parser.add_argument("--preset", default="default")
    parser.add_argument("--count", type=int, default=8, help="maximum number of images")
    arguments = parser.parse_args()

    paths = photos(arguments.images)[: arguments.count]
    with Detector.load(arguments.bundle, preset=arguments.preset) as detector:
        detector.detect(paths[0])  # warm up
        results = [detector.detect(path) for path in paths]
        runtime = detector.networks.runtime

    print(f"{len(paths)} images, {runtime.device}, {runtime.precision}, medians")
    for stage in STAGES:
        print(f"{stage:<12}{statistics.median(r.seconds[stage] for r in results):>9.3f} s")
    print(f"{'total':<12}{statistics.median(sum(r.seconds.values()) for r in results):>9.3f} s")
    print(f"{'boxes':<12}{statistics.median(r.proposals['merged'] for r in results):>9.0f}")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # KiB; bytes on macOS
    print(f"{'peak memory':<12}{peak / (2**20 if sys.platform == 'darwin' else 2**10):>9.0f} MiB")


def photos(folder: Path | None) -> list[Path]:
    """Return the images of a folder, or those of scikit-image if there is no folder."""
    if folder is not None:
        return sorted(path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES)
    import skimage.data

    return [Path(skimage.data.__path__[0]) / name for name in SAMPLES]


if __name__ == "__main__":
    main()
