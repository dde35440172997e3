"""Benchmarks: a ground truth with the rule by which detections are scored on it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

from detector.datasets import coco as coco_data
from detector.datasets import ilsvrc as ilsvrc_data
from detector.datasets import voc as voc_data
from detector.datasets.ground_truth import GroundTruth
from detector.evaluation import coco, ilsvrc, voc
from detector.evaluation.average_precision import (
    AveragePrecision,
    area,
    hundred_and_one_points,
)
from detector.evaluation.detections import Detections, read, read_submission
from detector.evaluation.matching import Found
from detector.evaluation.score import Ranking, Score
from detector.formats.ilsvrc import class_numbers

Rule = Literal["coco", "voc2007", "voc2012"]


@dataclass(frozen=True, eq=False)
class Benchmark:
    """A ground truth and its rule.

    Args:
        name: Name for files of detections.
        truth: Annotated images, with files relative to a folder.
        photos: That folder, if the data set has it.
        read: Reads detections from a file.
        evaluate: Returns the score of detections, and the rankings that it comes from.
        plain: Returns ground truth and detections for the analysis of mistakes: only what counts by
            the rule, in the coordinates of the ground truth.
        ap: The average precision of a ranking by the rule.
        sources: Files and folders that the ground truth is read from.
    """

    name: str
    truth: GroundTruth
    photos: Path | None
    read: Callable[[Path], Detections]
    evaluate: Callable[[Detections], tuple[Score, tuple[Ranking, ...]]]
    plain: Callable[[Found], tuple[GroundTruth, Found]]
    ap: AveragePrecision
    sources: tuple[Path, ...]


def ilsvrc_det(split: ilsvrc_data.Split, root: Path | None, devkit: Path | None) -> Benchmark:
    """Return ILSVRC DET's validation set, or one of R-CNN's halves of it.

    Raises:
        FormatError: A file is missing or wrong. The message names it and tells where to get it.
    """
    validation = ilsvrc_data.read_validation(split, root=root, devkit=devkit)
    truth = validation.truth

    def evaluate(detections: Detections) -> tuple[Score, tuple[Ranking, ...]]:
        shared = None
        if detections.classes is not None:
            numbers = class_numbers()
            shared = {numbers[name] - 1 for name in detections.classes if name in numbers}
        return ilsvrc.evaluate(
            truth, detections.found, blacklist=validation.blacklist, shared=shared
        )

    return Benchmark(
        f"ilsvrc_det_{split}",
        truth,
        root / ilsvrc_data.IMAGE_FOLDER if root else None,
        partial(read_submission, truth=truth),
        evaluate,
        lambda found: ilsvrc.plain(truth, found, validation.blacklist),
        area,
        ilsvrc_data.source_folders(root, devkit),
    )


def voc_tree(year: int, root: Path, split: str) -> Benchmark:
    """Return a data set in PASCAL VOC's tree, with the rule of its year.

    Raises:
        FormatError: A file is missing or wrong. The message names it.
    """
    truth = voc_data.read(root, split)
    photos = root / voc_data.IMAGE_FOLDER
    return _by_vocs_rule(f"voc{year}_{split}", truth, photos, year, voc_data.source_folders(root))


def coco_file(path: Path, rule: Rule, photos: Path | None) -> Benchmark:
    """Return a data set in COCO's format, with the rule that is asked for.

    Raises:
        FormatError: The file is missing, or an item is wrong. The message names it.
    """
    content = coco_data.read_content(path)
    truth = coco_data.make_ground_truth(content)
    folder = photos or path.with_suffix("")
    if rule != "coco":
        return _by_vocs_rule(path.stem, truth, folder, int(rule.removeprefix("voc")), (path,))
    coco.check(path, content)
    return Benchmark(
        path.stem,
        truth,
        folder,
        partial(read, truth=truth),
        lambda detections: coco.evaluate(truth, content, detections.found),
        lambda found: (truth, found),
        hundred_and_one_points,
        (path,),
    )


def _by_vocs_rule(
    name: str, truth: GroundTruth, photos: Path, year: int, sources: tuple[Path, ...]
) -> Benchmark:
    return Benchmark(
        name,
        truth,
        photos,
        partial(read, truth=truth),
        lambda detections: voc.evaluate(
            truth, detections.found, year=2007 if year == 2007 else 2010
        ),
        lambda found: (truth, found),
        area,
        sources,
    )
