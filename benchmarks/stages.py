"""Seconds an image by stage, regions a second, and peak memory of the shipped bundle.

    python benchmarks/stages.py [--images DIR] [--count 8] [--json FILE]

Without `--images` it takes the photos of scikit-image. The bare network's rate on ready crops is
measured in the same run, so that the ratio holds on a noisy machine.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import torch

from detector import Detector
from detector.images import SUFFIXES

SAMPLES = ("astronaut.png", "chelsea.png", "coffee.png", "motorcycle_left.png")


def main() -> None:
    parser = argparse.ArgumentParser(description="Seconds an image by stage, and peak memory.")
    parser.add_argument("--images", type=Path, help="a folder of photos")
    parser.add_argument("--count", type=int, default=8, help="photos to measure at most")
    parser.add_argument("--json", type=Path, default=Path("build/bench/stages.json"))
    arguments = parser.parse_args()
    paths = photos(arguments.images)[: arguments.count]
    result = measure(paths)
    arguments.json.parent.mkdir(parents=True, exist_ok=True)
    arguments.json.write_text(json.dumps(result, indent=2) + "\n")
    print(f"{result['photos']} photos, {result['device']}, {result['precision']}, medians")
    for stage, seconds in result["seconds"].items():
        print(f"{stage:<28}{seconds:>9.3f} s")
    print(f"{'proposals an image':<28}{result['proposals']:>9.0f}")
    print(f"{'regions a second':<28}{result['regions_per_second']:>9.0f}")
    print(f"{'bare network, crops ready':<28}{result['bare_network_per_second']:>9.0f}")
    print(f"{'ratio':<28}{result['ratio']:>9.2f}")
    print(f"{'peak memory':<28}{result['peak_memory_bytes'] / 1e6:>9.0f} MB")


def photos(folder: Path | None) -> list[Path]:
    if folder is not None:
        return sorted(path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES)
    import skimage.data

    return [Path(skimage.data.__path__[0]) / name for name in SAMPLES]


def measure(paths: list[Path]) -> dict[str, Any]:
    with Detector.load() as detector:
        detector.detect(paths[0])  # warm
        results = [detector.detect(path) for path in paths]
        rates = [bare_network(detector) for _ in range(3)]
    stages = ("decode", "proposals", "classify")
    seconds = {stage: statistics.median(r.seconds[stage] for r in results) for stage in stages}
    seconds["total"] = statistics.median(sum(r.seconds.values()) for r in results)
    counts = [r.proposals["merged"] for r in results]
    regions = sum(counts) / sum(r.seconds["classify"] for r in results)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {
        "photos": len(paths),
        "device": str(detector.device),
        "precision": detector.precision,
        "seconds": seconds,
        "proposals": statistics.median(counts),
        "regions_per_second": regions,
        "bare_network_per_second": statistics.median(rates),
        "ratio": regions / statistics.median(rates),
        "peak_memory_bytes": peak if sys.platform == "darwin" else peak * 1024,
    }


def bare_network(detector: Detector) -> float:
    """Crops a second of the first member on a ready batch, without cutting or selecting."""
    size = detector.bundle.manifest.members[0].warp.crop_size
    batch = detector.ensemble.batch_size
    crops = torch.zeros(batch, size, size, 3, device=detector.device)
    backend = detector.ensemble.members[0][0]
    started = time.perf_counter()
    repeats = 10
    for _ in range(repeats):
        backend(crops)
    return repeats * batch / (time.perf_counter() - started)


if __name__ == "__main__":
    main()
