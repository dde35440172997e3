from __future__ import annotations

import numpy as np
import pytest

from detector.datasets.ground_truth import AnnotatedImage
from detector.evaluation.proposals import IOUS, Quality, evaluate, to_json
from proposals import Proposals
from proposals.boxes import iou, round_boxes


def image(seed: int, objects: int = 4) -> AnnotatedImage:
    rng = np.random.default_rng(seed)
    corners = rng.integers(0, 150, (objects, 2))
    sizes = rng.choice([10, 25, 45, 90], (objects, 2))
    boxes = np.concatenate([corners, corners + sizes], axis=1).astype(np.float32)
    difficult = np.arange(objects) == objects - 1
    return AnnotatedImage("a", 240, 240, boxes, np.zeros(objects, np.int64), difficult)


def some(seed: int, truth: AnnotatedImage, source: str, count: int = 60) -> Proposals:
    """Boxes near the objects, with scores."""
    rng = np.random.default_rng(seed)
    near = truth.boxes[rng.integers(len(truth.boxes), size=count)] + rng.normal(0, 8, (count, 4))
    near = near[(near[:, 2:] > near[:, :2]).all(axis=1)]
    boxes = round_boxes(near, 240, 240)
    scores = rng.random(len(boxes)).astype(np.float32)
    return Proposals(boxes, scores, np.full(len(boxes), source))


def both(a: Proposals, b: Proposals) -> Proposals:
    pairs = zip(a.__dict__.values(), b.__dict__.values(), strict=True)
    boxes, scores, sources = (np.concatenate(pair) for pair in pairs)
    order = np.lexsort(boxes.T[::-1])
    return Proposals(boxes[order], scores[order], sources[order])


def literal_recall(
    images: list[tuple[AnnotatedImage, Proposals]], limit: float, source: str | None, first: int
) -> float:
    covered = objects = 0
    for truth, found in images:
        mine = [n for n in range(len(found)) if source in (None, found.sources[n])]
        mine = sorted(mine, key=lambda n: -found.scores[n])[:first]
        for box in truth.boxes[~truth.difficult]:
            objects += 1
            overlaps = [iou(box[None], found.boxes[[n]])[0, 0] for n in mine]
            covered += max(overlaps, default=0.0) >= limit
    return covered / objects


@pytest.fixture
def images() -> list[tuple[AnnotatedImage, Proposals]]:
    truths = [image(seed) for seed in range(6)]
    found = [
        both(some(seed, truth, "selective_search"), some(seed + 50, truth, "multibox", 20))
        for seed, truth in enumerate(truths[:-1])
    ]
    found.append(some(9, truths[-1], "selective_search"))  # an image with no MultiBox proposal
    return list(zip(truths, found, strict=True))


def test_equals_the_literal_version(images: list[tuple[AnnotatedImage, Proposals]]) -> None:
    qualities = evaluate(images, seconds=0.5)
    assert list(qualities) == [
        "multibox", "selective_search", "merged", "random boxes", "sliding windows",
    ]  # fmt: skip
    for name, source in (("merged", None), ("multibox", "multibox")):
        quality = qualities[name]
        recalls = [literal_recall(images, limit, source, 10**6) for limit in IOUS]
        assert list(quality.recall_by_iou.values()) == pytest.approx(recalls)
        assert quality.coverage == pytest.approx(recalls[0])
        assert quality.average_recall == pytest.approx(np.mean(recalls))
        assert quality.coverage_by_count["10"] == literal_recall(images, 0.5, source, 10)
    assert qualities["merged"].seconds == 0.5
    assert qualities["merged"].boxes == np.mean([len(found) for _, found in images])
    assert 0.3 < (qualities["merged"].coverage or 0) < 1


def test_sizes_are_of_the_shorter_side(images: list[tuple[AnnotatedImage, Proposals]]) -> None:
    merged = evaluate(images)["merged"]
    sides = np.concatenate(
        [(i.boxes[:, 2:] - i.boxes[:, :2]).min(axis=1)[~i.difficult] for i, _ in images]
    )
    expected = {"under 20 px": 10, "20-40 px": 25, "40-80 px": 45, "larger": 90}
    for name, side in expected.items():
        assert merged.coverage_by_size[name][1] == (sides == side).sum()
    total = sum((share or 0) * count for share, count in merged.coverage_by_size.values())
    assert total / len(sides) == pytest.approx(merged.coverage)


def test_without_objects() -> None:
    truth = image(0, objects=1)  # a difficult one
    quality = evaluate([(truth, some(0, image(1), "selective_search"))])["merged"]
    assert isinstance(quality, Quality)
    assert (quality.coverage, quality.average_recall) == (None, None)
    assert quality.coverage_by_size["larger"] == (None, 0)


def test_json(images: list[tuple[AnnotatedImage, Proposals]]) -> None:
    content = to_json(evaluate(images), 6)
    assert content["images"] == 6
    assert (
        content["proposals"]["merged"]["recall_by_iou"]["0.50"]
        == (content["proposals"]["merged"]["coverage"])
    )
