"""`detector-eval`: how good are detections, or a classifier?"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from detector.batch.inputs import Input
from detector.batch.proposal_cache import Photo, cache_path, gather
from detector.bundles.bundle import Bundle
from detector.commands import tables
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
from detector.commands.progress_bar import ProgressBar
from detector.common.atomic_io import atomic_write
from detector.datasets.ground_truth import AnnotatedImage
from detector.errors import FormatError, SettingsError
from detector.evaluation import benchmarks, proposals
from detector.evaluation.benchmarks import Benchmark
from detector.evaluation.bootstrap import compare
from detector.formats.proposals import ProposalsFile
from detector.formats.records import Failure
from detector.images import load
from detector.settings import Settings
from proposals import METHODS, Proposals

if TYPE_CHECKING:
    from proposals.multibox import MultiBox

RULES = ("coco", "voc2007", "voc2012")

ONLY_WITH = {
    "devkit": "ilsvrc_det", "shared_classes": "ilsvrc_det", "split": "voc", "rule": "coco",
    "weights": "classification", "labels": "classification", "crops": "classification",
    "members": "classification",
}  # fmt: skip
NOT_WITH = {
    "classification": (
        "data_root", "images", "detections", "out", "overwrite", "workers", "compare",
        "proposals", "report", "bundle",
    ),
    "proposals": ("detections", "out", "overwrite", "compare", "report", "shared_classes"),
    "detections": ("out", "overwrite", "workers", "bundle"),
    "coco": ("data_root",),
}  # fmt: skip
"""Which options need others, and which would have no effect."""


def command(arguments: Arguments = None) -> int:
    """The entry point; returns the exit code."""
    return main(_evaluate, _parser().parse_args(arguments))


def _parser() -> argparse.ArgumentParser:
    made = parser("detector-eval", "Score detections, or a classifier, against the truth.")
    add = made.add_argument_group("the truth, one of").add_argument
    add("--ilsvrc-det", choices=("val", "val1", "val2"), help="ILSVRC DET's validation set")
    add("--voc", type=int, choices=(2007, 2010, 2012), help="PASCAL VOC's tree and its rule")
    add("--coco", type=Path, metavar="ANNOTATIONS.json", help="a file in COCO's format")
    add("--classification", type=Path, metavar="DIR", help="images in a folder for each class")

    add = made.add_argument_group("about the truth").add_argument
    add("--data-root", type=Path, metavar="DIR", help="the tree ($ILSVRC_ROOT, $VOC_ROOT)")
    add("--devkit", type=Path, metavar="DIR", help="ILSVRC's kit: lists, blacklist, ground truth")
    add("--shared-classes", action="store_true", help="ILSVRC: the mean over those known first")
    add("--split", default="val", metavar="NAME", help="VOC: the list of images (val)")
    add("--rule", choices=RULES, help="COCO: how detections are scored")
    add("--images", type=Path, metavar="DIR", help="where the images are (default: by the truth)")

    add = made.add_argument_group("what is scored").add_argument
    add("--detections", type=Path, metavar="FILE", help="these (default: detect first)")
    add("--out", type=Path, metavar="FILE", help="detections it makes (ANNOTATIONS.dets.json)")
    add("--workers", type=at_least_1, metavar="N", help="processes for proposals (cores - 1)")
    add("--overwrite", action="store_true", help="detect in all images again")
    add("--compare", type=Path, metavar="FILE", help="other detections on the same truth")
    add("--proposals", metavar="FILE|ENGINE", help="how well proposals cover the truth's objects")

    add = made.add_argument_group("with --classification").add_argument
    add("--weights", type=Path, nargs="+", metavar="FILE", help="GoogLeNets")
    add("--labels", type=Path, metavar="FILE", help="a class a line")
    add(
        "--crops",
        type=int,
        nargs="+",
        choices=(1, 10, 144),
        default=[1],
        help="crops of an image, a row of the table for each number",
    )
    add("--members", type=at_least_1, metavar="N", help="the first N networks only")

    add = made.add_argument_group("results").add_argument
    add("--json", type=Path, metavar="FILE", help="write the scores with full precision")
    add("--report", type=Path, metavar="DIR", help="write a page that explains the score")
    add_detector_options(made)
    made.set_defaults(goes_on="the same command goes on from here")
    return made


def _evaluate(arguments: argparse.Namespace) -> int:
    if arguments.print_config:
        print(_settings(arguments, Bundle.load(arguments.bundle)).to_toml(), end="")
        return DONE
    _check_options(arguments)
    if arguments.classification:
        return _evaluate_classification(arguments)
    evaluate = _evaluate_proposals if arguments.proposals else _evaluate_detections
    return evaluate(arguments, _benchmark(arguments))


def _check_options(arguments: argparse.Namespace) -> None:
    """See that there is one truth, and no option that would have no effect.

    Raises:
        SettingsError: naming the options.
    """
    kinds = {
        "--ilsvrc-det val|val1|val2": arguments.ilsvrc_det,
        "--voc 2007|2010|2012": arguments.voc,
        "--coco ANNOTATIONS.json": arguments.coco,
        "--classification DIR": arguments.classification,
    }
    if sum(given is not None for given in kinds.values()) != 1:
        raise SettingsError(f"one of {', '.join(kinds)} is needed")
    defaults = _parser().parse_args([])
    given = {name for name, value in vars(arguments).items() if value != getattr(defaults, name)}
    for option, needed in ONLY_WITH.items():
        if option in given and needed not in given:
            raise SettingsError(f"{_flag(option)} goes only with {_flag(needed)}")
    for option, others in NOT_WITH.items():
        for other in others:
            if {option, other} <= given:
                raise SettingsError(f"{_flag(other)} has no effect with {_flag(option)}")


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _benchmark(arguments: argparse.Namespace) -> Benchmark:
    if arguments.coco:
        if arguments.rule is None:
            raise SettingsError(f"--coco needs --rule: allowed are {', '.join(RULES)}")
        return benchmarks.coco_file(arguments.coco, arguments.rule, arguments.images)
    variable = "ILSVRC_ROOT" if arguments.ilsvrc_det else "VOC_ROOT"
    root = arguments.data_root or (Path(os.environ[variable]) if variable in os.environ else None)
    if arguments.ilsvrc_det:
        return benchmarks.ilsvrc_det(arguments.ilsvrc_det, root, arguments.devkit)
    if root is None:
        raise SettingsError(f"--voc needs --data-root DIR (or ${variable}): VOC's tree")
    return benchmarks.voc_tree(arguments.voc, root, arguments.split)


def _evaluate_detections(arguments: argparse.Namespace, benchmark: Benchmark) -> int:
    path: Path | None = arguments.detections
    failures: Sequence[Failure] = ()
    if path is None:
        path = arguments.out or Path(f"{benchmark.name}.dets.json")
        failures = _detect(arguments, benchmark, path)
    detections = benchmark.read(path)
    score, ranked = benchmark.evaluate(detections)
    if arguments.shared_classes and not score.figures.get("shared"):
        raise SettingsError(f"--shared-classes: {path} does not say that it lacks a class")
    content = score.to_json()
    comparison = None
    if arguments.compare:
        other = benchmark.evaluate(benchmark.read(arguments.compare))
        comparison = compare((score, ranked), other, benchmark.ap)
        content["compare"] = comparison.to_json()
    _write_json(arguments, content)
    if arguments.report:
        from detector.evaluation import report

        photos = arguments.images or benchmark.photos
        report.write(
            arguments.report,
            benchmark,
            detections.found,
            score,
            ranked,
            photos=photos,
            comparison=comparison,
        )
    name_failures(failures)
    if inverted := score.figures.get("inverted_boxes"):
        print(f"warning: {inverted} boxes end before they begin", file=sys.stderr)
    if not arguments.quiet:
        tables.print_score(score, shared_first=arguments.shared_classes)
        if detections.missing:
            print(f"{detections.missing} images are not in {path}")
        if comparison:
            tables.print_comparison(comparison, path, arguments.compare)
        if arguments.report:
            print(f"report: {arguments.report / 'index.html'}")
    return SOME_FAILED if failures else DONE


def _evaluate_proposals(arguments: argparse.Namespace, benchmark: Benchmark) -> int:
    truth = benchmark.truth
    failures: Sequence[Failure] = ()
    seconds = None
    if arguments.proposals in METHODS:
        from detector.backends.pytorch import choose_device, choose_precision

        choice = {"engine": arguments.proposals}
        bundle = Bundle.load(arguments.bundle)
        settings = _settings(arguments, bundle).replace(proposals=choice)
        photos, failures = gather(
            truth.images,
            _photos(arguments, benchmark),
            settings.proposals,
            cache_path(Path(), settings.proposals),
            workers=arguments.workers,
            show_progress=lambda total, unit: ProgressBar(total, unit=unit, quiet=arguments.quiet),
        )
        seconds = sum(photo.seconds for photo in photos) / max(1, len(photos))
        found = [(photo.image, photo.proposals) for photo in photos]
        device = choose_device(arguments.device)
        precision = choose_precision(settings.classifier.precision, device)
        if multibox := bundle.multibox(
            settings.multibox.count, device, precision, arguments.backend
        ):
            found, more = _with_multibox(photos, multibox, arguments)
            seconds += more
    else:
        path = Path(arguments.proposals)
        if not path.is_file():
            raise SettingsError(
                f"--proposals {path}: is no file and no engine; engines are {', '.join(METHODS)}"
            )
        file = ProposalsFile(path)
        found = [(i, file.get(i.file, i.width, i.height)) for i in truth.images]
    name_failures(failures)
    if not found:
        raise SettingsError("there is no photo to evaluate proposals on")
    with ProgressBar(len(found), unit="image", quiet=arguments.quiet) as progress:
        qualities = proposals.evaluate(found, seconds, progress)
    _write_json(arguments, proposals.to_json(qualities, len(found)))
    if not arguments.quiet:
        tables.print_proposals(qualities, len(found))
    return SOME_FAILED if failures else DONE


def _with_multibox(
    photos: Sequence[Photo], multibox: MultiBox, arguments: argparse.Namespace
) -> tuple[list[tuple[AnnotatedImage, Proposals]], float]:
    """The engine's proposals merged with MultiBox's, and the seconds an image that those took."""
    from proposals.merge import merge

    found, seconds = [], 0.0
    with ProgressBar(len(photos), unit="image", quiet=arguments.quiet) as progress:
        for number, photo in enumerate(photos, start=1):
            image = load(photo.file)
            started = time.perf_counter()
            found.append((photo.image, merge(photo.proposals, multibox(image))))
            seconds += time.perf_counter() - started
            progress(number, number)
    return found, seconds / max(1, len(photos))


def _detect(arguments: argparse.Namespace, benchmark: Benchmark, out: Path) -> Sequence[Failure]:
    """Detect in the images of a ground truth; returns those that could not be used."""
    from detector.batch.local_executor import LocalExecutor
    from detector.batch.outputs import Outputs
    from detector.batch.runner import run
    from detector.detector import Detector

    truth, folder = benchmark.truth, _photos(arguments, benchmark)
    bundle = Bundle.load(arguments.bundle)
    settings = _settings(arguments, bundle)
    inputs = sorted(Input(image.file, folder / image.file) for image in truth.images)
    with (
        Detector(bundle, settings, device=arguments.device, backend=arguments.backend) as detector,
        ProgressBar(len(inputs), unit="image", quiet=arguments.quiet) as progress,
    ):
        summary = run(
            LocalExecutor(detector, workers=arguments.workers),
            inputs,
            Outputs(out, reads=(arguments.coco,) if arguments.coco else ()),
            overwrite=arguments.overwrite,
            progress=progress,
        )
    return summary.failures


def _photos(arguments: argparse.Namespace, benchmark: Benchmark) -> Path:
    folder: Path | None = arguments.images or benchmark.photos
    if folder is None:
        raise SettingsError("--data-root DIR (or $ILSVRC_ROOT) is needed: it has the photos")
    if not folder.is_dir():
        raise FormatError(folder, "no such folder: --images DIR says where the images are")
    return folder


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

    from detector.backends.choice import make_backend
    from detector.backends.pytorch import choose_device, choose_precision
    from detector.bundles.manifest import Normalisation
    from detector.evaluation.classification import (
        CROP_SIZE,
        find_labelled,
        read_labels,
        table,
    )
    from detector.models.googlenet import GoogLeNet
    from detector.models.weights import load_weights, read_weights

    files = arguments.weights[: arguments.members]
    if arguments.members and len(files) < arguments.members:
        raise SettingsError(f"--members {arguments.members}: --weights has {len(files)} files")
    labels = read_labels(arguments.labels)
    images = find_labelled(arguments.classification, labels)
    settings = Settings.read(config=arguments.config, assignments=arguments.assignments)
    device = choose_device(arguments.device)
    precision = choose_precision(settings.classifier.precision, device)
    members = []
    for file in files:
        network = GoogLeNet(len(labels), crop_size=CROP_SIZE).eval()
        load_weights(network, read_weights(file), file)
        members.append(make_backend(arguments.backend, network, CROP_SIZE, device, precision))
    total = len(images) * len(arguments.crops)
    with ProgressBar(total, unit="image", quiet=arguments.quiet) as progress:
        rows = table(members, Normalisation(), images, arguments.crops, progress)
    content = {"images": len(images), "precision": precision, "rows": [asdict(r) for r in rows]}
    _write_json(arguments, content)
    if not arguments.quiet:
        tables.print_classification(rows, len(images), precision)
    return DONE


def _write_json(arguments: argparse.Namespace, content: Any) -> None:
    if arguments.json:
        with atomic_write(arguments.json) as file:
            file.write(json.dumps(content, indent=2).encode() + b"\n")


if __name__ == "__main__":
    raise SystemExit(command())
