"""`detector-train`: train networks on annotated images."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

from detector.bundles.bundle import Bundle
from detector.commands.options import (
    DONE,
    SOME_FAILED,
    Arguments,
    Parser,
    add_action,
    add_backend_option,
    add_settings_options,
    main,
    make_parser,
    positive_integer,
    print_failures,
    progress_bars,
)
from detector.common.config import Frozen, parse_assignment, read_toml, validate_layers
from detector.errors import SettingsError
from detector.formats.records import Failure
from detector.training.data_set import TREES, DataSets, read_coco_sets, read_tree_sets
from detector.training.out_folder import how_to_continue

Recipe = TypeVar("Recipe", bound=Frozen)


def command(arguments: Arguments = None) -> int:
    """Run `detector-train`, and return the exit code.

    Args:
        arguments: Arguments without the command's name. By default `sys.argv[1:]`.
    """
    parser = make_parser("detector-train", "Train networks on your own photos.")
    parser.set_defaults(extra="train")
    actions = parser.add_subparsers(metavar="regions|multibox|classifier", required=True)

    regions = add_action(
        actions, "regions", _train_regions, "train a member of a bundle on annotated photos"
    )
    _add_common_options(regions)
    _add_data_options(regions)
    _add_region_options(regions)

    multibox = add_action(
        actions, "multibox", _train_multibox, "train the MultiBox of a bundle on annotated photos"
    )
    _add_common_options(multibox)
    _add_data_options(multibox)
    multibox.set_defaults(objects=None, objects_images=None)

    classifier = add_action(
        actions, "classifier", _train_classifier, "train a trunk on a folder of photos per class"
    )
    _add_common_options(classifier)
    _add_classifier_options(classifier)

    return main(_train, parser.parse_args(arguments))


def _train(arguments: argparse.Namespace) -> int:
    """Run an action. If it is interrupted, what is said about it depends on its checkpoint."""
    try:
        return int(arguments.action(arguments))
    except KeyboardInterrupt:
        if arguments.out and _is_first_process():
            arguments.how_to_continue = how_to_continue(arguments.out)
        raise


def _add_common_options(parser: Parser) -> None:
    """Add the options that all trainings share."""
    add = parser.add_argument
    add("--config", type=Path, metavar="FILE.toml", help="settings (configs/training/…)")
    add("--out", type=Path, metavar="DIR", help="folder for weights, log and checkpoint")
    add("--strict", action="store_true", help="refuse what would be left out or clipped")
    add("--resume", action="store_true", help="go on from the checkpoint in --out, if any")
    add("--seed", type=_seed, default=0, metavar="N", help="seed of everything random")
    add_settings_options(parser)


def _add_data_options(parser: Parser) -> None:
    """Add the options that choose annotated images."""
    add = parser.add_argument
    add("--data", type=Path, metavar="PATH", help="annotations.json, or a tree of folders")
    add("--images", type=Path, metavar="DIR", help="folder of the photos (default: by the data)")
    add("--format", choices=("coco", *TREES), default="coco", help="format of the data")
    add("--split", default="train", metavar="NAME", help="list of photos of a voc or ilsvrc tree")
    add("--validation", metavar="PATH|NAME", help="held-out annotations, or a tree's split")
    add("--validation-images", type=Path, metavar="DIR", help="folder of the held-out photos")
    add("--weights", type=Path, metavar="FILE", help="initial weights (default: shipped bundle)")


def _add_region_options(parser: Parser) -> None:
    """Add the options that only the training of regions has."""
    add_backend_option(parser)
    add = parser.add_argument
    add("--cache", type=Path, metavar="DIR", help="folder of proposals (default: beside --out)")
    add(
        "--workers",
        type=positive_integer,
        metavar="N",
        help="processes that compute proposals (default: number of cores)",
    )
    add("--objects", metavar="PATH|NAME", help="more data, used only for its objects")
    add("--objects-images", type=Path, metavar="DIR", help="folder of the photos of --objects")


def _add_classifier_options(parser: Parser) -> None:
    """Add the options that only the training of a classifier has."""
    add = parser.add_argument
    add("--data", type=Path, metavar="DIR", help="a folder with a folder of photos per class")
    add("--validation", type=Path, metavar="DIR", help="a folder of held-out photos, as --data")
    add("--weights", type=Path, metavar="FILE", help="initial weights (default: random)")


def _seed(text: str) -> int:
    """Parse a seed that all generators of random numbers accept.

    Raises:
        argparse.ArgumentTypeError: It is not one.
    """
    if not text.isdecimal() or int(text) >= 2**31:
        raise argparse.ArgumentTypeError("must be a whole number from 0 to 2147483647")
    return int(text)


def _train_regions(arguments: argparse.Namespace) -> int:
    from detector.training.regions import RegionOptions, train_regions
    from detector.training.settings import RegionTraining

    recipe = _read_recipe(RegionTraining, arguments)
    if arguments.print_config:
        return _print_config(recipe)
    summary = train_regions(
        recipe,
        _read_data_sets(arguments),
        arguments.weights or _shipped_weights(),
        RegionOptions(
            **_common_options(arguments),
            cache=arguments.cache,
            workers=arguments.workers,
            backend=arguments.backend,
        ),
    )
    score = ""
    if scores := summary.member.training["scores"]:
        score = f"mAP {100 * scores['mean_ap']:.2f} on {scores['images']} held-out photos"
    return _report(arguments, recipe.optimisation.steps, score, summary.skipped)


def _train_multibox(arguments: argparse.Namespace) -> int:
    from detector.training.multibox import train_multibox
    from detector.training.settings import MultiBoxTraining
    from detector.training.start import TrainingOptions

    recipe = _read_recipe(MultiBoxTraining, arguments)
    if arguments.print_config:
        return _print_config(recipe)
    summary = train_multibox(
        recipe,
        _read_data_sets(arguments),
        arguments.weights or _shipped_weights(),
        TrainingOptions(**_common_options(arguments)),
    )
    score = ""
    if scores := summary.multibox.training["scores"]:
        share = scores["coverage"]
        covered = "no object to cover" if share is None else f"coverage {100 * share:.2f}"
        boxes = f"{scores['boxes']:.0f} boxes in each of {scores['images']} held-out photos"
        score = f"{covered} by {boxes}"
    return _report(arguments, recipe.optimisation.steps, score, summary.skipped)


def _train_classifier(arguments: argparse.Namespace) -> int:
    from detector.training.classifier import train_classifier
    from detector.training.settings import ClassifierTraining
    from detector.training.start import TrainingOptions

    recipe = _read_recipe(ClassifierTraining, arguments)
    if arguments.print_config:
        return _print_config(recipe)
    accuracy, skipped = train_classifier(
        recipe,
        arguments.data,
        TrainingOptions(**_common_options(arguments)),
        weights=arguments.weights,
        validation=arguments.validation,
    )
    score = ""
    if accuracy:
        score = f"top-1 {accuracy['top1']:.3f}, top-5 {accuracy['top5']:.3f}"
    return _report(arguments, recipe.optimisation.steps, score, skipped)


def _read_recipe(model: type[Recipe], arguments: argparse.Namespace) -> Recipe:
    """Return the settings of `--config`, overridden by those of `--set`.

    Raises:
        SettingsError: A setting is not allowed, or a required option is missing.
    """
    if not (arguments.print_config or (arguments.data and arguments.out)):
        raise SettingsError("--data PATH and --out DIR are needed")
    layers = [(f"--set {text}", parse_assignment(text)) for text in arguments.assignments]
    if arguments.config:
        layers.insert(0, (str(arguments.config), read_toml(arguments.config)))
    return validate_layers(model, layers)


def _print_config(recipe: Frozen) -> int:
    print(recipe.to_toml(), end="")
    return DONE


def _read_data_sets(arguments: argparse.Namespace) -> DataSets:
    """Read the annotations that the options name."""
    if arguments.format == "coco":
        return read_coco_sets(
            arguments.data,
            arguments.images,
            validation=Path(arguments.validation) if arguments.validation else None,
            validation_images=arguments.validation_images,
            objects=Path(arguments.objects) if arguments.objects else None,
            objects_images=arguments.objects_images,
        )
    return read_tree_sets(
        arguments.format,
        arguments.data,
        arguments.images,
        split=arguments.split,
        validation=arguments.validation,
        objects=arguments.objects,
    )


def _shipped_weights() -> Path:
    """Return the weights of the shipped bundle's first member."""
    bundle = Bundle.load()
    return bundle.directory / bundle.manifest.members[0].file


def _common_options(arguments: argparse.Namespace) -> dict[str, Any]:
    """Return the values of `TrainingOptions`."""
    return {
        "out": arguments.out,
        "seed": arguments.seed,
        "resume": arguments.resume,
        "strict": arguments.strict,
        "device": arguments.device,
        "show_progress": progress_bars(quiet=arguments.quiet or not _is_first_process()),
        "inputs": _inputs(arguments),
    }


def _is_first_process() -> bool:
    """Return whether this is the process that writes and speaks; `torchrun` starts several."""
    return os.environ.get("RANK", "0") == "0"


def _inputs(arguments: argparse.Namespace) -> list[Path]:
    """Return the files and folders that a training reads and must not overwrite."""
    named = [arguments.data, arguments.config, arguments.weights]
    named += [getattr(arguments, option, None) for option in ("validation", "objects")]
    return [Path(path) for path in named if path]


def _report(
    arguments: argparse.Namespace, steps: int, score: str, skipped: Sequence[Failure]
) -> int:
    """Print what was done, and return the exit code."""
    print_failures(skipped)
    if not arguments.quiet:
        print(f"{arguments.out}: trained for {steps} steps")
        if score:
            print(score)
        if skipped:
            print(f"{len(skipped)} photos were left out")
    return SOME_FAILED if skipped else DONE


if __name__ == "__main__":
    raise SystemExit(command())
