"""`detector-eval`: how good are detections, or a classifier?"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from detector.batch.inputs import Input
from detector.bundle import Bundle
from detector.commands.options import (
    DONE,
    SOME_FAILED,
    Arguments,
    add_detector_options,
    at_least_1,
    main,
    name_failures,
    parser,
)
from detector.commands.progress import Progress
from detector.datasets import coco
from detector.datasets import ilsvrc as ilsvrc_data
from detector.datasets.ground_truth import GroundTruth
from detector.errors import FormatError, SettingsError
from detector.evaluation import ilsvrc, submissions, voc
from detector.evaluation.matching import from_entries
from detector.evaluation.score import Score
from detector.formats import native
from detector.formats.files import replacing
from detector.settings import Settings


def command(arguments: Arguments = None) -> int:
    """The entry point; returns the exit code."""
    return main(_evaluate, _parser().parse_args(arguments))


def _parser() -> argparse.ArgumentParser:
    made = parser("detector-eval", "Score detections, or a classifier, against the truth.")
    add = made.add_argument
    add("--ilsvrc-det", choices=("val", "val1", "val2"), help="ILSVRC DET's validation set")
    add("--data-root", type=Path, metavar="DIR", help="its photos and annotations ($ILSVRC_ROOT)")
    add("--devkit", type=Path, metavar="DIR", help="its kit: lists, blacklist, ground truth")
    add("--shared-classes", action="store_true", help="the mean over classes the detector knows")
    add("--coco", type=Path, metavar="ANNOTATIONS.json", help="ground truth in COCO's format")
    add("--rule", choices=("voc2007",), help="with --coco: how detections are scored")
    add("--images", type=Path, metavar="DIR", help="where the images are (default: by the truth)")
    add("--detections", type=Path, metavar="FILE", help="score these (default: detect first)")
    add("--out", type=Path, metavar="FILE", help="detections it makes (ANNOTATIONS.dets.json)")
    add("--workers", type=at_least_1, metavar="N", help="processes for proposals (cores - 1)")
    add("--overwrite", action="store_true", help="detect in all images again")
    add("--classification", type=Path, metavar="DIR", help="images in a folder for each class")
    add("--weights", type=Path, metavar="FILE", help="with --classification: a GoogLeNet's")
    add("--labels", type=Path, metavar="FILE", help="with --classification: a class a line")
    add("--crops", type=int, choices=(1,), default=1, help="with --classification: the centre")
    add("--json", type=Path, metavar="FILE", help="write the scores with full precision")
    add_detector_options(made)
    made.set_defaults(resumable=True)
    return made


def _evaluate(arguments: argparse.Namespace) -> int:
    if arguments.print_config:
        print(_settings(arguments, Bundle.load(arguments.bundle)).to_toml(), end="")
        return DONE
    kinds = {
        "--ilsvrc-det val|val1|val2": (arguments.ilsvrc_det, _evaluate_ilsvrc),
        "--coco ANNOTATIONS.json": (arguments.coco, _evaluate_detections),
        "--classification DIR": (arguments.classification, _evaluate_classification),
    }
    chosen = [evaluate for given, evaluate in kinds.values() if given]
    if len(chosen) != 1:
        raise SettingsError(f"one of {', '.join(kinds)} is needed")
    return chosen[0](arguments)


def _evaluate_ilsvrc(arguments: argparse.Namespace) -> int:
    from_environment = os.environ.get("ILSVRC_ROOT")
    root = arguments.data_root or (Path(from_environment) if from_environment else None)
    validation = ilsvrc_data.read_validation(
        arguments.ilsvrc_det, root=root, devkit=arguments.devkit
    )
    path: Path | None = arguments.detections
    failures: Sequence[native.Failure] = ()
    if path is None:
        if root is None:
            raise SettingsError(
                "without --detections FILE, --data-root DIR (or $ILSVRC_ROOT) is needed: it has "
                "the photos to detect in"
            )
        folder = root / ilsvrc_data.PHOTOS
        out = arguments.out or Path(f"ilsvrc_det_{arguments.ilsvrc_det}.dets.json")
        path, failures = out, _detect(arguments, validation.truth, folder, out)
    found, known = submissions.read(path, validation)
    everything = len(validation.truth.classes)
    shared = known if known is not None and len(known) < everything else None
    if arguments.shared_classes and shared is None:
        raise SettingsError(f"--shared-classes: {path} does not say that it lacks a class")
    result = ilsvrc.score(validation.truth, found, blacklist=validation.blacklist, shared=shared)
    _write_json(arguments, result.to_json())
    name_failures(failures)
    if inverted := result.figures["inverted_boxes"]:
        print(f"warning: {inverted} boxes end before they begin", file=sys.stderr)
    if not arguments.quiet:
        means = {
            "mean": result.mean_ap,
            "median": result.median_ap,
            "mean, IoU 0.5 throughout": result.figures["mean_ap_iou50"],
            "mean, the official code's": result.figures["official"]["mean_ap"],
        }
        if both := result.figures["shared"]:
            row = {f"mean, {len(both['classes'])} shared classes": both["mean_ap"]}
            means = row | means if arguments.shared_classes else means | row
        _print_score(result, means)
    return SOME_FAILED if failures else DONE


def _evaluate_detections(arguments: argparse.Namespace) -> int:
    if arguments.rule is None:
        raise SettingsError("--coco needs --rule: allowed is voc2007")
    truth = coco.read(arguments.coco)
    failures: Sequence[native.Failure] = ()
    path = arguments.detections
    if path is None:
        path = arguments.out or Path(f"{arguments.coco.stem}.dets.json")
        folder = arguments.images or arguments.coco.with_suffix("")
        failures = _detect(arguments, truth, folder, path)
    found, missing = from_entries(native.read(path)[1], truth)
    result = voc.score(truth, voc.rank(truth, found))
    _write_json(arguments, result.to_json())
    name_failures(failures)
    if not arguments.quiet:
        by_points = result.figures["mean_ap_11point"]
        _print_score(result, {"mean": result.mean_ap, "mean, 11-point": by_points})
        print(f"{missing} images are not in {path}")
    return SOME_FAILED if failures else DONE


def _print_score(result: Score, means: Mapping[str, float | None]) -> None:
    figures = {key: None for item in result.classes for key in item.figures}
    titles = "".join(f"{key:>12}" for key in figures)
    print(f"{'class':<28}{'AP':>8}{titles}{'objects':>9}{'detections':>12}")
    for item in result.classes:
        columns = "".join(f"{_percent(item.figures[key]):>12}" for key in figures)
        counts = f"{item.positives:>9}{item.detections:>12}"
        print(f"{item.name:<28}{_percent(item.ap):>8}{columns}{counts}")
    for name, value in means.items():
        print(f"{name:<28}{_percent(value):>8}")
    empty = sum(item.ap is None for item in result.classes)
    without = f", {empty} classes without ground truth" if empty else ""
    print(f"{result.images} images{without}; rule: {result.rule}")


def _detect(
    arguments: argparse.Namespace, truth: GroundTruth, folder: Path, out: Path
) -> Sequence[native.Failure]:
    """Detect in the images of a ground truth; returns those that could not be used."""
    from detector.batch.outputs import Outputs
    from detector.batch.runner import run
    from detector.pipeline import Detector

    if not folder.is_dir():
        raise FormatError(folder, "no such folder: --images DIR says where the images are")
    bundle = Bundle.load(arguments.bundle)
    settings = _settings(arguments, bundle)
    inputs = sorted(Input(image.file, folder / image.file) for image in truth.images)
    with (
        Detector(bundle, settings, device=arguments.device, backend=arguments.backend) as detector,
        Progress(len(inputs), unit="image", quiet=arguments.quiet) as progress,
    ):
        summary = run(
            detector,
            inputs,
            Outputs(out),
            workers=arguments.workers,
            overwrite=arguments.overwrite,
            progress=progress,
        )
    return summary.failures


def _settings(arguments: argparse.Namespace, bundle: Bundle) -> Settings:
    return Settings.read(
        preset=arguments.preset,
        config=arguments.config,
        assignments=arguments.assignments,
        base=bundle.manifest.settings,
        scoring=True,
    )


def _evaluate_classification(arguments: argparse.Namespace) -> int:
    if not (arguments.weights and arguments.labels):
        raise SettingsError("--classification needs --weights FILE and --labels FILE")

    from detector.backends.pytorch import PyTorchBackend, choose_device, choose_precision
    from detector.evaluation.classification import (
        CROP_SIZE,
        evaluate,
        find_labelled,
        read_labels,
    )
    from detector.googlenet import GoogLeNet
    from detector.manifest import Normalisation
    from detector.weights import load_weights, read_weights

    labels = read_labels(arguments.labels)
    images = find_labelled(arguments.classification, labels)
    network = GoogLeNet(len(labels), crop_size=CROP_SIZE).eval()
    load_weights(network, read_weights(arguments.weights), arguments.weights)
    settings = Settings.read(config=arguments.config, assignments=arguments.assignments)
    device = choose_device(arguments.device)
    precision = choose_precision(settings.classifier.precision, device)
    backend = PyTorchBackend(network, device, precision)
    with Progress(len(images), unit="image", quiet=arguments.quiet) as progress:
        result = evaluate(backend, Normalisation(), images, progress)
    _write_json(arguments, {"crops": 1, "precision": precision, **vars(result)})
    if not arguments.quiet:
        print(f"{result.images} images, centre crop, {precision}:")
        print(f"top-1 {result.top1:.3f}, top-5 {result.top5:.3f}")
    return DONE


def _write_json(arguments: argparse.Namespace, content: Any) -> None:
    if arguments.json:
        with replacing(arguments.json) as file:
            file.write(json.dumps(content, indent=2).encode() + b"\n")


def _percent(value: float | None) -> str:
    return "none" if value is None else f"{100 * value:.2f}"


if __name__ == "__main__":
    raise SystemExit(command())
