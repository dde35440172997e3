"""A report that explains a score: a page, JSON and tables.

The page, `index.html`, contains its images and loads nothing. `report.json` has the score, the
curves and the mistakes by kind. `classes.csv` has a line for each class, and `mistakes.csv` a line
for each mistake.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import jinja2

from detector.common.atomic_io import atomic_csv, atomic_write
from detector.common.text_files import read_bytes
from detector.errors import FormatError, SettingsError
from detector.evaluation import mistakes
from detector.evaluation.benchmarks import Benchmark
from detector.evaluation.bootstrap import Comparison, interval, mean_ap_draws
from detector.evaluation.matching import Found
from detector.evaluation.report import curves
from detector.evaluation.report.curves import Curve
from detector.evaluation.report.pictures import FOUND, OBJECT, Gallery, Mistake, listing
from detector.evaluation.score import Ranking, Score

PAGE = "index.html"

FILES = (PAGE, "report.json", "classes.csv", "mistakes.csv")
"""Names of the files of a report."""

GENERATOR = b'<meta name="generator" content="detector-eval">'
"""Part of each page, by which an earlier report is known."""


def check_folder(folder: Path) -> None:
    """Check that a folder is new, has no file of a report's name, or holds an earlier report.

    Raises:
        SettingsError: It is a file, or it holds files that are not a report's.
    """
    if folder.exists() and not folder.is_dir():
        raise SettingsError(f"--report {folder}: is a file, but must be a folder")
    taken = [name for name in FILES if os.path.lexists(folder / name)]
    if taken and not _is_report(folder / PAGE):
        raise SettingsError(
            f"--report {folder}: {taken[0]} there is not part of a report: name a new folder"
        )


def _is_report(page: Path) -> bool:
    """Return whether a file is the page of a report."""
    try:
        return GENERATOR in read_bytes(page)
    except FormatError:
        return False


def write(
    folder: Path,
    benchmark: Benchmark,
    found: Found,
    score: Score,
    rankings: Sequence[Ranking],
    *,
    photos: Path | None = None,
    comparison: Comparison | None = None,
) -> None:
    """Write a report of a score into a folder.

    Args:
        folder: Folder of the report.
        benchmark: Ground truth and rule.
        found: The detections that were scored.
        score: Their score.
        rankings: The ranking of each class.
        photos: Folder of the images, from which drawings of mistakes are made.
        comparison: Comparison with another set of detections.
    """
    truth, plain = benchmark.plain(found)
    analysis = mistakes.find(truth, plain, benchmark.ap)
    gallery = Gallery(photos)
    with atomic_csv(folder / "mistakes.csv", Mistake._fields) as table:
        for mistake in listing(truth, plain, analysis):
            gallery.offer(mistake)
            table.writerow(" ".join(map(str, x)) if isinstance(x, list) else x for x in mistake)

    if comparison:
        bounds = comparison.mean_ap[0]
    else:
        draws = mean_ap_draws([rankings], score.images, benchmark.ap)[0]
        bounds = interval(score.mean_ap or 0.0, draws)
    bins = curves.calibration(rankings)
    content = score.to_json()
    content |= {
        "interval": asdict(bounds),
        "classes": [
            item | _class_curves(ranking)
            for item, ranking in zip(content["classes"], rankings, strict=True)
        ],
        "recall_by_number": curves.recall_by_number(rankings, score.images),
        "recall_by_iou": curves.recall_by_iou(truth, plain),
        "mistakes": {
            kind: {"count": analysis.counts[kind], "cost": analysis.costs[kind]}
            for kind in mistakes.KINDS
        },
        "calibration": [asdict(item) for item in bins] if bins else None,
        "calibration_error": curves.calibration_error(bins) if bins else None,
        "compare": comparison and comparison.to_json(),
    }
    _write_classes(folder / "classes.csv", content["classes"])
    with atomic_write(folder / "report.json") as file:
        file.write(json.dumps(content, indent=1).encode() + b"\n")
    with atomic_write(folder / PAGE) as file:
        file.write(_page(benchmark.name, gallery, content).encode("utf-8", "backslashreplace"))


def _class_curves(ranking: Ranking) -> dict[str, Any]:
    best = curves.best_threshold(ranking)
    return {
        "best_threshold": best and asdict(best),
        "precision_by_recall": curves.precision_by_recall(ranking),
    }


def _write_classes(path: Path, classes: Sequence[Mapping[str, Any]]) -> None:
    curves_of = ("best_threshold", "precision_by_recall")
    plain = [key for key in next(iter(classes), {}) if key not in curves_of]
    best = ("score", "precision", "recall", "f1")
    with atomic_csv(path, [*plain, *(f"best_{key}" for key in best)]) as table:
        for item in classes:
            threshold = item["best_threshold"] or {}
            table.writerow([item[key] for key in plain] + [threshold.get(key) for key in best])


def _page(name: str, gallery: Gallery, content: Mapping[str, Any]) -> str:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters["percent"] = _percent
    return environment.get_template("page.html").render(
        content,
        name=name,
        pictures=gallery.pictures,
        colours={"found": FOUND, "object": OBJECT},
        by_ap=sorted(content["classes"], key=lambda item: (item["ap"] is None, -(item["ap"] or 0))),
        number_axis=_log_axis(content["recall_by_number"]),
    )


def _log_axis(curve: Curve) -> tuple[Curve, list[tuple[float, str]]]:
    """Return a curve with x from 0 to 1 on a logarithmic axis, and the marks of the axis."""
    if not curve:
        return [], []
    low, high = (math.log10(curve[place][0]) for place in (0, -1))
    width = max(high - low, 1e-9)
    marks = range(math.ceil(low), math.floor(high) + 1)
    return (
        [((math.log10(x) - low) / width, y) for x, y in curve],
        [((power - low) / width, f"{10.0**power:g}") for power in marks],
    )


def _percent(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:.2f}"
