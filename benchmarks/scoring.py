"""The seconds and memory of ILSVRC DET's rule, beside pycocotools on the same detections.

    python benchmarks/scoring.py --devkit ILSVRC2015_devkit [--detections 2000000] [--skip-coco]

It scores the kit's demo predictions, or as many lines made of them by moving their boxes about
and drawing their confidences anew. Each scorer runs in a process of its own, ours from the file on
(reading included, and loading Python), pycocotools from lists that are ready, at IoU 0.5 and for
objects of all sizes only.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from detector.datasets.ilsvrc import read_validation
from detector.evaluation.detections import read_submission


def main() -> None:
    parser = argparse.ArgumentParser(description="Seconds and memory of ILSVRC DET's rule.")
    parser.add_argument("--devkit", type=Path, required=True, help="ILSVRC's development kit")
    parser.add_argument("--detections", type=int, help="make this many (default: the demo's own)")
    parser.add_argument("--skip-coco", action="store_true", help="ours alone")
    parser.add_argument("--coco", type=Path, help=argparse.SUPPRESS)  # the child's own call
    arguments = parser.parse_args()

    if arguments.coco:
        by_pycocotools(arguments.devkit, arguments.coco)
        return
    with tempfile.TemporaryDirectory() as folder:
        demo = arguments.devkit / "evaluation" / "demo.val.pred.det.txt"
        file = demo
        if arguments.detections:
            file = Path(folder) / "made.txt"
            make(demo, arguments.detections, file)
        kit = ["--devkit", str(arguments.devkit)]
        scores = Path(folder) / "scores.json"
        start = time.perf_counter()
        command = [sys.executable, "-m", "detector.commands.eval", "--ilsvrc-det", "val", *kit]
        command += ["--detections", str(file), "--quiet", "--json", str(scores)]
        subprocess.run(command, check=True)
        ours = time.perf_counter() - start
        memory = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
        mean = json.loads(scores.read_text())["mean_ap"]
        print(f"{'ours, reading included':<32}{ours:>8.2f} s{memory:>8.0f} MiB, mean AP {mean:.6f}")
        if arguments.skip_coco:
            return
        command = [sys.executable, __file__, *kit, "--coco", str(file)]
        answer = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        theirs, memory = map(float, answer.split())
        print(f"{'pycocotools, lists ready':<32}{theirs:>8.2f} s{memory:>8.0f} MiB")
        print(f"{'ratio':<32}{theirs / ours:>8.1f}")


def make(demo: Path, count: int, file: Path) -> None:
    rng = np.random.default_rng(0)
    lines = np.loadtxt(demo)
    made = lines[rng.integers(len(lines), size=count)]
    made[:, 2] = rng.random(count)
    made[:, 3:] += rng.normal(0, 20, (count, 4))
    np.savetxt(file, made, fmt="%d %d %.6f %.3f %.3f %.3f %.3f")


def by_pycocotools(devkit: Path, file: Path) -> None:
    """Prints seconds and MiB."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    truth = read_validation("val", root=None, devkit=devkit).truth
    found = read_submission(file, truth).found
    sides = found.boxes[:, 2:] - found.boxes[:, :2] + 1
    boxes = np.concatenate([found.boxes[:, :2], sides], axis=1)
    objects = [
        (position, int(label), [x1, y1, x2 - x1, y2 - y1])
        for position, image in enumerate(truth.images)
        for label, (x1, y1, x2, y2) in zip(image.labels, image.boxes.tolist(), strict=True)
    ]
    detections = [
        (position, label, box, score)
        for position, label, box, score in zip(
            found.images.tolist(),
            found.labels.tolist(),
            boxes.tolist(),
            found.scores.tolist(),
            strict=True,
        )
    ]
    content = {
        "images": [{"id": n} for n in range(len(truth.images))],
        "categories": [{"id": n} for n in range(len(truth.classes))],
    }
    truths = [
        {
            "id": n,
            "image_id": image,
            "category_id": label,
            "bbox": box,
            "area": box[2] * box[3],
            "iscrowd": 0,
        }
        for n, (image, label, box) in enumerate(objects, start=1)
    ]
    results = [
        {"image_id": image, "category_id": label, "bbox": box, "score": score}
        for image, label, box, score in detections
    ]
    del found, objects, detections
    with contextlib.redirect_stdout(io.StringIO()):
        start = time.perf_counter()
        coco = COCO()
        coco.dataset = content | {"annotations": truths}
        coco.createIndex()
        evaluation = COCOeval(coco, coco.loadRes(results), "bbox")
        evaluation.params.iouThrs = np.array([0.5])
        evaluation.params.areaRng = [[0, 1e10]]
        evaluation.params.areaRngLbl = ["all"]
        evaluation.evaluate()
        evaluation.accumulate()
        seconds = time.perf_counter() - start
    print(seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)


if __name__ == "__main__":
    main()
