"""`detector-eval`: how good are detections, or a classifier?"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
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
from detector.datasets.ground_truth import GroundTruth
from detector.errors import FormatError, SettingsError
from detector.evaluation import voc
from detector.formats import native
from detector.formats.files import replacing
from detector.settings import Settings


def command(arguments: Arguments = None) -> int:
    """The entry point; returns the exit code."""
    return main(_evaluate, _parser().parse_args(arguments))


def _parser() -> argparse.ArgumentParser:
    made = parser("detector-eval", "Score detections, or a classifier, against the truth.")
    add = made.add_argument
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
    if arguments.coco and not arguments.classification:
        return _evaluate_detections(arguments)
    if arguments.classification and not arguments.coco:
        return _evaluate_classification(arguments)
    raise SettingsError("one of --coco ANNOTATIONS.json and --classification DIR is needed")


def _evaluate_detections(arguments: argparse.Namespace) -> int:
    if arguments.rule is None:
        raise SettingsError("--coco needs --rule: allowed is voc2007")
    truth = coco.read(arguments.coco)
    failures: Sequence[native.Failure] = ()
    path = arguments.detections
    if path is None:
        path, failures = _detect(arguments, truth)
    result = voc.score(truth, native.read(path)[1])
    _write_json(arguments, voc.to_json(result))
    name_failures(failures)
    if not arguments.quiet:
        _print_scores(result, path)
    return SOME_FAILED if failures else DONE


def _print_scores(result: voc.Score, path: Path) -> None:
    print(f"{'class':<20}{'AP':>8}{'11-point':>10}{'objects':>9}{'detections':>12}")
    for item in result.classes:
        columns = f"{_percent(item.ap):>8}{_percent(item.ap_11point):>10}"
        print(f"{item.name:<20}{columns}{item.positives:>9}{item.detections:>12}")
    print(f"{'mean':<20}{_percent(result.mean_ap):>8}{_percent(result.mean_ap_11point):>10}")
    missing = result.without_detections
    print(f"{result.images} images, {missing} of them not in {path}; rule: {voc.RULE}")


def _detect(
    arguments: argparse.Namespace, truth: GroundTruth
) -> tuple[Path, Sequence[native.Failure]]:
    from detector.batch.outputs import Outputs
    from detector.batch.runner import run
    from detector.pipeline import Detector

    folder = arguments.images or arguments.coco.with_suffix("")
    if not folder.is_dir():
        raise FormatError(folder, "no such folder: --images DIR says where the images are")
    out: Path = arguments.out or Path(f"{arguments.coco.stem}.dets.json")
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
    return out, summary.failures


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
