"""Scores as tables on the terminal, in percent."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from detector.common.text_files import one_line
from detector.evaluation import proposals
from detector.evaluation.bootstrap import Comparison
from detector.evaluation.detections import Unmatched
from detector.evaluation.score import Score

if TYPE_CHECKING:  # it needs torch
    from detector.evaluation.classification import Row


def print_score(score: Score, *, shared_first: bool) -> None:
    """A row for each class, the means, and the rule in words."""
    columns = {key: None for item in score.classes for key in item.figures}
    titles = "".join(f"{key:>12}" for key in columns)
    print(f"{'class':<28}{'AP':>8}{titles}{'objects':>9}{'detections':>12}")
    for item in score.classes:
        figures = "".join(f"{_percent(item.figures[key]):>12}" for key in columns)
        counts = f"{item.positives:>9}{item.detections:>12}"
        print(f"{item.name:<28}{_percent(item.ap):>8}{figures}{counts}")
    means = {"mean": score.mean_ap, "median": score.median_ap}
    means |= {key: value for key, value in score.figures.items() if isinstance(value, float)}
    if official := score.figures.get("official"):
        means["mean, the official code's"] = official["mean_ap"]
    if shared := score.figures.get("shared"):
        row = {f"mean, {len(shared['classes'])} shared classes": shared["mean_ap"]}
        means = row | means if shared_first else means | row
    for name, value in means.items():
        print(f"{name:<28}{_percent(value):>8}")
    empty = sum(item.ap is None for item in score.classes)
    without = f", {empty} classes without ground truth" if empty else ""
    print(f"{score.images} images{without}; rule: {score.rule}")


def print_comparison(comparison: Comparison, path: Path, other: Path) -> None:
    """Both sets of detections by class, and how sure their difference is."""
    mean = comparison.mean_ap
    print(f"\n{path} against {other}, with 95 % intervals (paired bootstrap over images):")
    for item in comparison.classes:
        print(f"{item.name:<28}{_percent(item.ap):>8}{_percent(item.other_ap):>8}")
    print(f"{'mean':<28}{_percent(mean[0].value):>8}{_percent(mean[1].value):>8}")
    low, high = _percent(comparison.difference.low), _percent(comparison.difference.high)
    verdict = "" if comparison.clear else ": the difference may be chance"
    value = _percent(comparison.difference.value)
    print(f"{'difference of the means':<28}{value:>8}  from {low} to {high}{verdict}")


def print_proposals(qualities: Mapping[str, proposals.Quality], images: int) -> None:
    """How well proposals cover objects, a row for each source."""
    sizes = "".join(f"{name:>13}" for name in proposals.SIZES)
    print(f"{'proposals':<18}{'boxes':>8}{'coverage':>10}{'AR':>8}{sizes}")
    for name, item in qualities.items():
        by_size = "".join(f"{_percent(share):>13}" for share, _ in item.coverage_by_size.values())
        means = f"{_percent(item.coverage):>10}{_percent(item.average_recall):>8}"
        print(f"{name:<18}{item.boxes:>8.0f}{means}{by_size}")
    merged = qualities["merged"]
    objects = "".join(f"{count:>13}" for _, count in merged.coverage_by_size.values())
    print(f"{'objects':<44}{objects}")
    if merged.seconds is not None:
        print(f"{merged.seconds:.2f} seconds an image and core")
    print(f"{images} images; rule: {proposals.RULE}")


def print_classification(rows: Sequence[Row], images: int, precision: str) -> None:
    """As the paper's Table 3 is laid out."""
    print("models  crops   cost   top-1 error   top-5 error   against the first row      paper")
    for row in rows:
        errors = f"{_percent(1 - row.accuracy.top1):>14}{_percent(1 - row.accuracy.top5):>14}"
        gain = row.gain
        value, low, high = (0.0 - 100 * x for x in (gain.value, gain.high, gain.low))  # no -0.00
        change = f"{value:+.2f} ({low:+.2f} to {high:+.2f})"
        paper = _percent(row.paper)
        print(f"{row.models:>6}{row.crops:>7}{row.cost:>7}{errors}{change:>25}{paper:>10}")
    print(
        f"{images} images, {precision}; errors in %, intervals of 95 % by paired bootstrap over "
        "images; the paper's column is for all 50,000 photos of ILSVRC2012's validation set, so "
        "only directions compare with other images"
    )


def _percent(value: float | None) -> str:
    return "none" if value is None else f"{100 * value:.2f}"


def describe_unmatched(unmatched: Unmatched, path: Path) -> list[str]:
    """Return lines that say what of a file of detections, or of the ground truth, did not count.

    Args:
        unmatched: What has no counterpart.
        path: The file.
    """
    lines: list[str] = []
    if names := unmatched.images:
        lines.append(f"{len(names)} images are not in {path}, such as {names[0]}")
    if names := unmatched.entries:
        lines.append(
            f"{len(names)} images of {path} are not in the ground truth, such as {names[0]}"
        )
    if names := unmatched.classes:
        lines.append(
            f"{path} has detections of classes that the ground truth lacks: {', '.join(names)}"
        )
    if names := unmatched.missing_classes:
        lines.append(f"{path} lacks {len(names)} classes of the ground truth, such as {names[0]}")
    if names := unmatched.resized:
        lines.append(
            f"{len(names)} images have another size in {path} than in the ground truth, such as "
            f"{names[0]}"
        )
    if pairs := unmatched.moved:
        image, entry = pairs[0]
        lines.append(
            f"{len(pairs)} images of {path} are in other folders than in the ground truth, such as "
            f"{entry}, which is taken for {image}"
        )
    return list(map(one_line, lines))
