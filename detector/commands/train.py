"""`detector-train`: from annotated photos to the weights of a member."""

from __future__ import annotations

import argparse
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from detector.bundles.bundle import Bundle
from detector.commands.options import (
    DONE,
    SOME_FAILED,
    Arguments,
    add_action,
    add_backend_option,
    add_settings_options,
    main,
    make_parser,
    positive_integer,
    print_failures,
)
from detector.commands.progress_bar import ProgressBar
from detector.common.config import Frozen, parse_assignment, read_toml, validate_layers
from detector.datasets import coco, ilsvrc, voc
from detector.datasets.ground_truth import GroundTruth
from detector.errors import FormatError, SettingsError
from detector.formats.records import Failure

if TYPE_CHECKING:
    from detector.common.progress import ShowProgress
    from detector.training.data_set import DataSet

Settings = TypeVar("Settings", bound=Frozen)

TREES = {"voc": voc, "ilsvrc": ilsvrc}


def command(arguments: Arguments = None) -> int:
    """The entry point; returns the exit code."""
    made = make_parser("detector-train", "Train networks on photos of one's own.")
    actions = made.add_subparsers(metavar="regions|multibox|classifier", required=True)

    regions = add_action(actions, "regions", _regions, "a bundle's member, from annotated photos")
    multibox = add_action(actions, "multibox", _multibox, "a bundle's MultiBox, likewise")
    for action in (regions, multibox):
        add = action.add_argument
        add("--data", type=Path, metavar="PATH", help="annotations.json, or a tree")
        add("--images", type=Path, metavar="DIR", help="where the photos are (by the data)")
        add("--format", choices=("coco", *TREES), default="coco", help="of the data")
        add("--split", default="train", metavar="NAME", help="of a voc or ilsvrc tree")
        add("--validation", metavar="PATH|NAME", help="held-out annotations, or a tree's split")
        add("--validation-images", type=Path, metavar="DIR", help="where their photos are")
        add("--weights", type=Path, metavar="FILE", help="to start from (the shipped bundle's)")
    add_backend_option(regions)
    add = regions.add_argument
    add("--cache", type=Path, metavar="DIR", help="where proposals are kept (beside --out)")
    add("--workers", type=positive_integer, metavar="N", help="processes for proposals (cores)")
    add("--objects", metavar="PATH|NAME", help="more data, of which only objects are trained on")
    add("--objects-images", type=Path, metavar="DIR", help="where its photos are")

    classifier = add_action(
        actions, "classifier", _classifier, "a trunk, from a folder of photos for each class"
    )
    add = classifier.add_argument
    add("--data", type=Path, metavar="DIR", help="photos in a folder a class")
    add("--validation", type=Path, metavar="DIR", help="held-out photos, likewise")

    classifier.add_argument("--weights", type=Path, metavar="FILE", help="to start from (none)")
    for action in (regions, multibox, classifier):
        add = action.add_argument
        add("--config", type=Path, metavar="FILE.toml", help="settings (configs/training/…)")
        add("--out", type=Path, metavar="DIR", help="for weights, log, checkpoint")
        add("--strict", action="store_true", help="a photo that cannot be used is an error")
        add("--resume", action="store_true", help="go on from the checkpoint in --out, if any")
        add("--seed", type=_seed, default=0, metavar="N", help="of all that is random")
        add_settings_options(action)
        action.set_defaults(how_to_continue="the same command with --resume goes on from here")

    parsed = made.parse_args(arguments)
    return main(parsed.action, parsed)


def _seed(text: str) -> int:
    """A number that all generators of random numbers take."""
    if not text.isdecimal() or int(text) >= 2**31:
        raise argparse.ArgumentTypeError("must be a whole number from 0 to 2147483647")
    return int(text)


def _regions(arguments: argparse.Namespace) -> int:
    from detector.training.regions import train
    from detector.training.settings import RegionTraining

    recipe = _settings(RegionTraining, arguments)
    if arguments.print_config:
        print(recipe.to_toml(), end="")
        return DONE
    data, validation, objects = _data_sets(arguments)
    summary = train(
        recipe,
        data,
        arguments.weights or _shipped_weights(),
        arguments.out,
        objects=objects,
        validation=validation,
        cache=arguments.cache,
        seed=arguments.seed,
        resume=arguments.resume,
        strict=arguments.strict,
        device=arguments.device,
        backend=arguments.backend,
        workers=arguments.workers,
        show_progress=_reports(arguments),
    )
    score = ""
    if scores := summary.member.training["scores"]:
        score = f"mAP {100 * scores['mean_ap']:.2f} on {scores['images']} held-out photos"
    return _end(arguments, recipe.optimisation.steps, score, summary.skipped)


def _multibox(arguments: argparse.Namespace) -> int:
    from detector.training.multibox import train
    from detector.training.settings import MultiBoxTraining

    recipe = _settings(MultiBoxTraining, arguments)
    if arguments.print_config:
        print(recipe.to_toml(), end="")
        return DONE
    data, validation, _ = _data_sets(arguments)
    summary = train(
        recipe,
        data,
        arguments.weights or _shipped_weights(),
        arguments.out,
        validation=validation,
        seed=arguments.seed,
        resume=arguments.resume,
        strict=arguments.strict,
        device=arguments.device,
        show_progress=_reports(arguments),
    )
    score = ""
    if scores := summary.multibox.training["scores"]:
        share = scores["coverage"]
        covered = "no object to cover" if share is None else f"coverage {100 * share:.2f}"
        boxes = f"{scores['boxes']:.0f} boxes in each of {scores['images']} held-out photos"
        score = f"{covered} by {boxes}"
    return _end(arguments, recipe.optimisation.steps, score, summary.skipped)


def _classifier(arguments: argparse.Namespace) -> int:
    from detector.training.classifier import train
    from detector.training.settings import ClassifierTraining

    recipe = _settings(ClassifierTraining, arguments)
    if arguments.print_config:
        print(recipe.to_toml(), end="")
        return DONE
    accuracy, skipped = train(
        recipe,
        arguments.data,
        arguments.out,
        weights=arguments.weights,
        validation=arguments.validation,
        seed=arguments.seed,
        resume=arguments.resume,
        strict=arguments.strict,
        device=arguments.device,
        show_progress=_reports(arguments),
    )
    score = ""
    if accuracy:
        score = f"top-1 {accuracy['top1']:.3f}, top-5 {accuracy['top5']:.3f}"
    return _end(arguments, recipe.optimisation.steps, score, skipped)


def _end(arguments: argparse.Namespace, steps: int, score: str, skipped: Sequence[Failure]) -> int:
    """Say what was done; returns the exit code."""
    print_failures(skipped)
    if not arguments.quiet:
        print(f"{arguments.out}: trained for {steps} steps")
        if score:
            print(score)
        if skipped:
            print(f"{len(skipped)} photos were left out")
    return SOME_FAILED if skipped else DONE


def _settings(model: type[Settings], arguments: argparse.Namespace) -> Settings:
    """Settings from the file and then the assignments.

    Raises:
        SettingsError: naming the place and the key, or a needed option that is not there.
    """
    if not (arguments.print_config or (arguments.data and arguments.out)):
        raise SettingsError("--data PATH and --out DIR are needed")
    layers = [(f"--set {text}", parse_assignment(text)) for text in arguments.assignments]
    if arguments.config:
        layers.insert(0, (str(arguments.config), read_toml(arguments.config)))
    return validate_layers(model, layers)


def _shipped_weights() -> Path:
    bundle = Bundle.load()
    return bundle.directory / bundle.manifest.members[0].file


def _data_sets(
    arguments: argparse.Namespace,
) -> tuple[DataSet, DataSet | None, DataSet | None]:
    """The photos to train on, those held out, and those of which only objects are trained on.

    A tree's classes are those that have an object to train on.
    """
    others = arguments.validation, getattr(arguments, "objects", None)
    if arguments.format == "coco":
        folders = arguments.validation_images, getattr(arguments, "objects_images", None)
        options = "--validation-images", "--objects-images"
        held_out, objects = (
            _from_file(Path(file), folder, option) if file else None
            for file, folder, option in zip(others, folders, options, strict=True)
        )
        return _from_file(arguments.data, arguments.images, "--images"), held_out, objects
    data = _from_tree(arguments, arguments.split)
    classes = data.truth.classes_with_objects
    data = data._replace(truth=data.truth.with_classes(classes))
    held_out, objects = (
        _of_classes(_from_tree(arguments, split), classes, data) if split else None
        for split in others
    )
    return data, held_out, objects


def _of_classes(other: DataSet, classes: Mapping[str, int], data: DataSet) -> DataSet:
    try:
        return other._replace(truth=other.truth.with_classes(classes))
    except ValueError as error:
        raise FormatError(other.file, f"{error} in {data.file}") from error


def _from_file(path: Path, images: Path | None, option: str) -> DataSet:
    return _with_photos(path, coco.read(path), images or path.with_suffix(""), option)


def _from_tree(arguments: argparse.Namespace, split: str) -> DataSet:
    root, tree = arguments.data, TREES[arguments.format]
    photos = arguments.images or root / tree.IMAGE_FOLDER
    return _with_photos(
        root / tree.LIST_FOLDER / f"{split}.txt", tree.read(root, split), photos, "--images"
    )


def _with_photos(file: Path, truth: GroundTruth, photos: Path, option: str) -> DataSet:
    from detector.training.data_set import DataSet

    if not photos.is_dir():
        raise FormatError(photos, f"no such folder: {option} DIR says where the photos are")
    return DataSet(file, truth, photos)


def _reports(arguments: argparse.Namespace) -> ShowProgress:
    quiet = arguments.quiet or int(os.environ.get("RANK", "0")) > 0
    return lambda total, unit: ProgressBar(total, unit=unit, quiet=quiet)


if __name__ == "__main__":
    raise SystemExit(command())
