"""What an ensemble is worth: mAP of each member, of the first 2, 3, …, of their mean and maximum.

    python benchmarks/ensemble.py --coco ANNOTATIONS.json --images DIR --proposals FILE.jsonl \
        --cache DIR [--bundle NAME|DIR] [--count N] [--members N] [--cascade 0.01 …]
        [--precision bfloat16]

Each member looks at each region once. Its probabilities are kept in the cache, box by box, so that
every row comes from the same passes, a killed run goes on, and other proposals of the same photos
cost only their new boxes. Intervals are of a paired bootstrap over the photos. `--cascade` adds,
for each threshold, the ensemble under that `classifier.cascade`, and how many members see a region
on average.
"""

from __future__ import annotations

import argparse
import hashlib
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import get_args

import numpy as np
from numpy.typing import NDArray

from detector.backends import make_classifier
from detector.bundles.bundle import Bundle
from detector.bundles.manifest import Member
from detector.commands.progress_bar import ProgressBar
from detector.common.atomic_io import atomic_write
from detector.datasets import coco
from detector.datasets.ground_truth import AnnotatedImage, GroundTruth
from detector.evaluation import voc
from detector.evaluation.average_precision import area
from detector.evaluation.bootstrap import interval, mean_ap_draws
from detector.evaluation.detections import from_entries
from detector.evaluation.score import Ranking, Score
from detector.formats.proposals import ProposalsFile
from detector.formats.records import Entry
from detector.images import load
from detector.regions.cascade import Cascade
from detector.regions.ensemble import Ensemble, Regions
from detector.regions.nms import select_detections
from detector.runtime import Precision, Runtime
from detector.settings import DetectionSettings, Settings
from proposals.types import Boxes

NMS_IOU = DetectionSettings().nms_iou

Probabilities = NDArray[np.float32]
"""`[N, 1 + classes]`, of the boxes of an image."""

Stack = NDArray[np.float32]
"""`[members, N, 1 + classes]`."""


def main() -> None:
    parser = argparse.ArgumentParser(description="What an ensemble is worth.")
    parser.add_argument("--coco", type=Path, required=True, help="annotations")
    parser.add_argument("--images", type=Path, required=True, help="the folder of photos")
    parser.add_argument("--proposals", type=Path, required=True, help="detector-run's")
    parser.add_argument("--cache", type=Path, required=True, help="a folder for probabilities")
    parser.add_argument("--bundle", help="a directory, or one that ships (voc20)")
    parser.add_argument("--count", type=int, help="photos, from the first on (all)")
    parser.add_argument("--members", type=int, help="the bundle's first so many (all)")
    parser.add_argument("--cascade", type=float, nargs="+", default=[], help="thresholds")
    parser.add_argument("--precision", default="auto", choices=("auto", *get_args(Precision)))
    arguments = parser.parse_args()

    bundle = Bundle.load(arguments.bundle)
    runtime = Runtime.resolve(
        device="cpu",
        backend="openvino",
        precision=arguments.precision,
        batch_size=32,
        quantized=bundle.has_activation_ranges,
    )

    whole = coco.read(arguments.coco)
    truth = GroundTruth(whole.classes, whole.images[: arguments.count])
    file = ProposalsFile(arguments.proposals)
    boxes = {i.file: file.get(i.file, i.width, i.height).boxes for i in truth.images}

    passes: list[Mapping[str, Probabilities]] = []
    for member in bundle.manifest.members[: arguments.members]:
        one = Pass(bundle, member, arguments.images, arguments.cache, runtime)
        with ProgressBar(len(truth.images), unit="photo", quiet=False) as progress:
            found = {}
            for number, image in enumerate(truth.images, start=1):
                found[image.file] = one(image, boxes[image.file])
                progress(number, number)
        passes.append(found)

    print(runtime.precision)
    print_table(truth, boxes, bundle.manifest.classes, passes, arguments.cascade)
    print_disagreement(passes)


class Pass:
    """A member's probabilities of regions, each computed once.

    Args:
        photos: the folder of photos.
        cache: a folder; what is computed goes there.
    """

    def __init__(
        self, bundle: Bundle, member: Member, photos: Path, cache: Path, runtime: Runtime
    ) -> None:
        self._bundle = bundle
        self._member = member
        self._runtime = runtime
        content = member.model_dump_json(exclude={"file"})
        about = f"{content} {bundle.manifest.normalisation} {runtime.precision}"
        name = hashlib.sha256(about.encode()).hexdigest()[:12]
        self._photos = photos
        self._cache = cache / name

    def __call__(self, image: AnnotatedImage, boxes: Boxes) -> Probabilities:
        """The probabilities of a photo's boxes `[N, 4]`."""
        path = self._cache / f"{image.file}.npz"
        known = np.zeros((0, 4), np.float32)
        values = np.zeros((0, 1 + len(self._bundle.manifest.classes)), np.float32)
        if path.exists():
            with np.load(path) as file:
                known, values = file["boxes"], file["probabilities"]
        places = {tuple(box): place for place, box in enumerate(known.tolist())}
        keys = [tuple(box) for box in boxes.tolist()]
        new = boxes[[key not in places for key in keys]]
        if len(new):
            pixels = load(self._photos / image.file)
            (found,) = self._ensemble.classify([Regions(pixels, new)])
            known, values = np.concatenate([known, new]), np.concatenate([values, found])
            places |= {tuple(box): len(places) + n for n, box in enumerate(new.tolist())}
            path.parent.mkdir(parents=True, exist_ok=True)
            with atomic_write(path) as written:
                np.savez(written, boxes=known, probabilities=values)
        chosen: Probabilities = values[[places[key] for key in keys]]
        return chosen

    @cached_property
    def _ensemble(self) -> Ensemble:
        member = self._member
        manifest = self._bundle.manifest
        network = make_classifier(
            self._bundle.classifier_weights(member),
            member.architecture,
            member.warp.crop_size,
            self._runtime,
            activation_ranges=member.ranges,
        )
        return Ensemble(
            [(network, member.warp)],
            manifest.normalisation,
            classes=1 + len(manifest.classes),
            batch_size=self._runtime.batch_size,
        )


def print_table(
    truth: GroundTruth,
    boxes: Mapping[str, Boxes],
    classes: tuple[str, ...],
    passes: list[Mapping[str, Probabilities]],
    thresholds: Sequence[float],
) -> None:
    """A row for each member, each ensemble and each cascade, against the best member."""
    count = len(passes)
    rules: dict[str, Callable[[Stack, Boxes], Probabilities]] = {
        f"member {number + 1}": partial(mean, first=number, last=number + 1)
        for number in range(count)
    }
    for size in range(2, count + 1):
        rules[f"mean of {size}"] = partial(mean, last=size)
    if count > 1:
        rules[f"maximum of {count}"] = lambda stack, boxes: stack.max(axis=0)

    asked: dict[str, list[NDArray[np.float32]]] = {}
    for threshold in thresholds:
        seen = asked[name := f"cascade {threshold:g}"] = []
        rules[name] = partial(cascaded, cascade=Cascade(threshold, NMS_IOU), asked=seen)

    scored = {}
    for name, combine in rules.items():
        together = {f: combine(np.stack([one[f] for one in passes]), b) for f, b in boxes.items()}
        scored[name] = score(truth, boxes, classes, together)
    best = max(list(scored)[:count], key=lambda name: scored[name][0].mean_ap or 0.0)
    draws = mean_ap_draws([ranked for _, ranked in scored.values()], len(truth.images), area)
    place = list(scored).index(best)

    print(f"{len(truth.images)} photos, {np.mean([len(b) for b in boxes.values()]):.0f} boxes each")
    print(f"{'':<24}{'mAP':>8}{'11-point':>10}   95 % interval     over the best member")
    for number, (name, (result, _)) in enumerate(scored.items()):
        value = result.mean_ap or 0.0
        own = interval(value, draws[number])
        over = interval(value - (scored[best][0].mean_ap or 0.0), draws[number] - draws[place])
        members = f": {np.concatenate(asked[name]).mean():.2f}" if name in asked else ""
        text = f"{name + members:<24}{value:>8.4f}{result.figures['mean_ap_11point']:>10.4f}"
        text += f"   {own.low:.4f}-{own.high:.4f}"
        if name != best:
            text += f"   {over.value:+.4f} ({over.low:+.4f} to {over.high:+.4f})"
        print(text)


def mean(stack: Stack, boxes: Boxes, first: int = 0, last: int | None = None) -> Probabilities:
    chosen: Probabilities = stack[first:last].mean(axis=0)
    return chosen


def cascaded(
    stack: Stack, boxes: Boxes, cascade: Cascade, asked: list[NDArray[np.float32]]
) -> Probabilities:
    """As `Ensemble` has it: the mean of the members asked, whose numbers `[N, 1]` are added."""
    total = stack[0].copy()
    count = np.ones((len(boxes), 1), np.float32)
    undecided = np.ones(len(boxes), np.bool_)
    for probabilities in stack[1:]:
        undecided &= cascade.undecided(boxes, total / count)
        total[undecided] += probabilities[undecided]
        count[undecided] += 1
    asked.append(count)
    found: Probabilities = total / count
    return found


def print_disagreement(passes: list[Mapping[str, Probabilities]]) -> None:
    """The share of regions to which two members give different top classes, where one of the two
    is an object's.
    """
    tops = [np.concatenate([one.argmax(axis=1) for one in found.values()]) for found in passes]
    for number, own in enumerate(tops[1:], start=1):
        shares = [np.mean(own[objects := (own > 0) | (o > 0)] != o[objects]) for o in tops[:number]]
        print(
            f"member {number + 1} disagrees with those before: "
            + " ".join(f"{s:.3f}" for s in shares)
        )


def score(
    truth: GroundTruth,
    boxes: Mapping[str, Boxes],
    classes: tuple[str, ...],
    probabilities: Mapping[str, Probabilities],
) -> tuple[Score, tuple[Ranking, ...]]:
    """VOC 2007's score of what is selected as `detector-eval` selects."""
    settings = Settings.read(scoring=True).detections
    entries = []
    for image in truth.images:
        found = select_detections(boxes[image.file], probabilities[image.file], classes, settings)
        entries.append(Entry(image.file, image.width, image.height, {}, tuple(found)))
    labels = {name: label for label, name in enumerate(truth.classes)}
    columns, _ = from_entries(entries, truth.images, labels)
    return voc.evaluate(truth, columns)


if __name__ == "__main__":
    main()
