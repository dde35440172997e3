"""`detector-eval`: score detections, proposals, or a classifier."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from detector.batch.inputs import Input
from detector.batch.outputs import Outputs, journal_path
from detector.bundles.bundle import Bundle
from detector.commands import tables
from detector.commands.options import (
    DONE,
    SOME_FAILED,
    Arguments,
    add_detector_options,
    load_detector,
    main,
    make_parser,
    positive_integer,
    print_failures,
    progress_bars,
    read_settings,
)
from detector.common.atomic_io import atomic_write, is_standard_output, is_stream
from detector.common.output_checks import check_outputs
from detector.errors import FormatError, SettingsError
from detector.evaluation import benchmarks, proposals
from detector.evaluation.benchmarks import Benchmark
from detector.evaluation.bootstrap import compare
from detector.evaluation.detections import Detections
from detector.evaluation.proposing import ProposedImages, propose, read_proposals
from detector.formats.records import Failure
from detector.settings import Settings
from proposals import METHODS

RULES = ("coco", "voc2007", "voc2012")

ONLY_WITH = {
    "devkit": "ilsvrc_det", "shared_classes": "ilsvrc_det", "split": "voc", "rule": "coco",
    "weights": "classification", "labels": "classification", "crops": "classification",
    "members": "classification",
}  # fmt: skip
"""Options that need another option."""

NOT_WITH = {
    "classification": (
        "data_root", "images", "detections", "out", "overwrite", "workers", "compare",
        "proposals", "report", "bundle",
    ),
    "proposals": ("detections", "out", "overwrite", "compare", "report", "shared_classes"),
    "detections": ("out", "overwrite", "workers", "bundle"),
    "coco": ("data_root",),
}  # fmt: skip
"""Options that have no effect beside another option."""


def command(arguments: Arguments = None) -> int:
    """Run the command and return its exit code."""
    return main(_evaluate, _parser().parse_args(arguments))


def _parser() -> argparse.ArgumentParser:
    parser = make_parser("detector-eval", "Score detections, or a classifier, on ground truth.")
    add = parser.add_argument_group("ground truth, one of").add_argument
    add("--ilsvrc-det", choices=("val", "val1", "val2"), help="ILSVRC DET's validation set")
    add("--voc", type=int, choices=(2007, 2010, 2012), help="PASCAL VOC's tree and its rule")
    add("--coco", type=Path, metavar="ANNOTATIONS.json", help="a file in COCO's format")
    add("--classification", type=Path, metavar="DIR", help="images in a folder for each class")

    add = parser.add_argument_group("about the ground truth").add_argument
    add("--data-root", type=Path, metavar="DIR", help="the tree ($ILSVRC_ROOT, $VOC_ROOT)")
    add("--devkit", type=Path, metavar="DIR", help="ILSVRC's kit: lists, blacklist, ground truth")
    add("--shared-classes", action="store_true", help="ILSVRC: the mean over known classes first")
    add("--split", default="val", metavar="NAME", help="VOC: the list of images (val)")
    add("--rule", choices=RULES, help="COCO: how detections are scored")
    add("--images", type=Path, metavar="DIR", help="where the images are (default: by the truth)")

    add = parser.add_argument_group("what is scored").add_argument
    add("--detections", type=Path, metavar="FILE", help="these (default: detect first)")
    add("--out", type=Path, metavar="FILE", help="detections it makes (ANNOTATIONS.dets.json)")
    add("--workers", type=positive_integer, metavar="N", help="processes for proposals (cores - 1)")
    add("--overwrite", action="store_true", help="detect in all images again")
    add("--compare", type=Path, metavar="FILE", help="other detections on the same ground truth")
    add("--proposals", metavar="FILE|METHOD", help="how well proposals cover the objects")

    add = parser.add_argument_group("with --classification").add_argument
    add("--weights", type=Path, nargs="+", metavar="FILE", help="GoogLeNets")
    add("--labels", type=Path, metavar="FILE", help="a class a line")
    crops = "crops of an image, a row of the table for each number"
    add("--crops", type=int, nargs="+", choices=(1, 10, 144), default=[1], help=crops)
    add("--members", type=positive_integer, metavar="N", help="the first N networks only")

    add = parser.add_argument_group("results").add_argument
    add("--json", type=Path, metavar="FILE", help="write the scores with full precision")
    add("--report", type=Path, metavar="DIR", help="write a page that explains the score")
    add_detector_options(parser)
    parser.set_defaults(how_to_continue="the same command goes on from here")
    return parser


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
    path: Path = arguments.detections or arguments.out or Path(f"{benchmark.name}.dets.json")
    _check_outputs(arguments, _inputs(arguments, benchmark), out=path)
    failures = () if arguments.detections else _detect(arguments, benchmark, path)

    detections = benchmark.read(path)
    score, ranked = benchmark.evaluate(detections)
    if arguments.shared_classes and not score.figures.get("shared"):
        raise SettingsError(f"--shared-classes: {path} does not say that it lacks a class")
    content = score.to_json()
    if detections.unmatched:
        content["unmatched"] = detections.unmatched.to_json()
    comparison = others = None
    if arguments.compare:
        others = benchmark.read(arguments.compare)
        comparison = compare((score, ranked), benchmark.evaluate(others), benchmark.ap)
        content["compare"] = comparison.to_json()
        if others.unmatched:
            content["compare"]["unmatched"] = others.unmatched.to_json()

    _write_json(arguments, content)
    if arguments.report:
        from detector.evaluation import report

        report.write(
            arguments.report,
            benchmark,
            detections.found,
            score,
            ranked,
            photos=arguments.images or benchmark.photos,
            comparison=comparison,
        )

    print_failures(failures)
    if inverted := score.figures.get("inverted_boxes"):
        print(f"warning: {inverted} boxes end before they begin", file=sys.stderr)
    if _prints_tables(arguments):
        tables.print_score(score, shared_first=arguments.shared_classes)
    _print_unmatched(arguments, detections, path)
    if others:
        _print_unmatched(arguments, others, arguments.compare)
    if _prints_tables(arguments):
        if comparison:
            tables.print_comparison(comparison, path, arguments.compare)
        if arguments.report:
            print(f"report: {arguments.report / 'index.html'}")
    return SOME_FAILED if failures else DONE


def _print_unmatched(arguments: argparse.Namespace, detections: Detections, path: Path) -> None:
    """Print what had no counterpart, to stderr if standard output has no table.

    With `--quiet`, that is printed only if it may lower scores. The JSON always has it.
    """
    unmatched = detections.unmatched
    if unmatched is None:
        return
    lines = tables.describe_unmatched(unmatched, path)
    if _prints_tables(arguments):
        print("".join(f"{line}\n" for line in lines), end="")
    elif unmatched.may_lower_scores or not arguments.quiet:
        print("".join(f"warning: {line}\n" for line in lines), end="", file=sys.stderr)


def _inputs(arguments: argparse.Namespace, benchmark: Benchmark) -> Iterator[Path]:
    """Yield the files and folders that an evaluation on a ground truth reads."""
    yield from benchmark.sources
    for given in (arguments.detections, arguments.compare):
        if given is not None:
            yield from given.glob("*.txt") if given.is_dir() else [given]
    if arguments.proposals and arguments.proposals not in METHODS:
        yield Path(arguments.proposals)
    folder = arguments.images or benchmark.photos
    if folder is not None:
        yield from (folder / image.file for image in benchmark.truth.images)
    if arguments.detections is None:
        yield from Bundle.load(arguments.bundle).files


def _check_outputs(
    arguments: argparse.Namespace, inputs: Iterable[Path], out: Path | None = None
) -> None:
    """Check that all outputs can be written and replace nothing that is read.

    Args:
        arguments: The options of the command.
        inputs: Files and folders that the command reads, besides those of its options.
        out: The detections that it makes or, if it scores given ones, reads.
    """
    outputs: list[tuple[str, Path]] = []
    if out is not None and arguments.detections is None:
        if is_stream(out):
            raise SettingsError(f"--out {out}: must be a file, because it is read for the scores")
        outputs += [("--out", out), ("the journal of --out", journal_path(out))]
    if arguments.json:
        outputs.append(("--json", arguments.json))
    if arguments.report:
        from detector.evaluation import report

        report.check_folder(arguments.report)
        outputs += [("--report", arguments.report / name) for name in report.FILES]
    config = [arguments.config] if arguments.config else []
    check_outputs(outputs, [*inputs, *config])


def _detect(arguments: argparse.Namespace, benchmark: Benchmark, out: Path) -> Sequence[Failure]:
    """Detect in the images of the ground truth, and return those that could not be used."""
    from detector.batch.local_executor import LocalExecutor
    from detector.batch.runner import run

    folder = _image_folder(arguments, benchmark)
    bundle = Bundle.load(arguments.bundle)
    settings = _settings(arguments, bundle)
    inputs = sorted(Input(image.file, folder / image.file) for image in benchmark.truth.images)
    with load_detector(arguments, bundle, settings) as detector:
        summary = run(
            LocalExecutor(detector, workers=arguments.workers),
            inputs,
            Outputs(out),
            overwrite=arguments.overwrite,
            show_progress=progress_bars(quiet=arguments.quiet),
        )
    return summary.failures


def _evaluate_proposals(arguments: argparse.Namespace, benchmark: Benchmark) -> int:
    _check_outputs(arguments, _inputs(arguments, benchmark))
    proposed = _propose(arguments, benchmark)
    print_failures(proposed.failures)
    if not proposed.images:
        raise SettingsError("there is no photo to evaluate proposals on")

    show_progress = progress_bars(quiet=arguments.quiet)
    with show_progress(len(proposed.images), "image") as progress:
        qualities = proposals.evaluate(proposed.images, proposed.seconds, progress)
    _write_json(arguments, proposals.to_json(qualities, len(proposed.images)))
    if _prints_tables(arguments):
        tables.print_proposals(qualities, len(proposed.images))
    return SOME_FAILED if proposed.failures else DONE


def _propose(arguments: argparse.Namespace, benchmark: Benchmark) -> ProposedImages:
    """Read the proposals of a file, or run a proposal method and MultiBox."""
    images = benchmark.truth.images
    if arguments.proposals not in METHODS:
        path = Path(arguments.proposals)
        if not path.is_file():
            raise SettingsError(
                f"--proposals {path}: is no file and no engine; engines are {', '.join(METHODS)}"
            )
        return read_proposals(images, path)

    from detector.detector import resolve_runtime
    from detector.networks import load_multibox

    bundle = Bundle.load(arguments.bundle)
    settings = _settings(arguments, bundle).replace(proposals={"engine": arguments.proposals})
    multibox = None
    if settings.multibox.count > 0:
        runtime = resolve_runtime(
            bundle, settings, device=arguments.device, backend=arguments.backend
        )
        multibox = load_multibox(bundle, runtime)
    return propose(
        images,
        _image_folder(arguments, benchmark),
        settings,
        multibox,
        workers=arguments.workers,
        show_progress=progress_bars(quiet=arguments.quiet),
    )


def _evaluate_classification(arguments: argparse.Namespace) -> int:
    if not (arguments.weights and arguments.labels):
        raise SettingsError("--classification needs --weights FILE and --labels FILE")
    files = arguments.weights[: arguments.members]
    if arguments.members and len(files) < arguments.members:
        raise SettingsError(f"--members {arguments.members}: --weights has {len(files)} files")

    from detector.bundles.manifest import Normalisation
    from detector.evaluation.classification import find_labelled, read_labels, table
    from detector.evaluation.classifiers import load_classifiers
    from detector.runtime import Runtime

    labels = read_labels(arguments.labels)
    images = find_labelled(arguments.classification, labels)
    _check_outputs(arguments, [arguments.labels, *files, *(path for path, _ in images)])
    settings = Settings.read(config=arguments.config, assignments=arguments.assignments)
    runtime = Runtime.resolve(
        device=arguments.device,
        backend=arguments.backend,
        precision=settings.classifier.precision,
    )
    members = load_classifiers(files, len(labels), runtime)

    show_progress = progress_bars(quiet=arguments.quiet)
    rows = table(members, Normalisation(), images, arguments.crops, show_progress)
    content = {
        "images": len(images),
        "precision": runtime.precision,
        "rows": [asdict(row) for row in rows],
    }
    _write_json(arguments, content)
    if _prints_tables(arguments):
        tables.print_classification(rows, len(images), runtime.precision)
    return DONE


def _image_folder(arguments: argparse.Namespace, benchmark: Benchmark) -> Path:
    folder: Path | None = arguments.images or benchmark.photos
    if folder is None:
        raise SettingsError("--data-root DIR (or $ILSVRC_ROOT) is needed: it has the photos")
    if not folder.is_dir():
        raise FormatError(folder, "no such folder: --images DIR says where the images are")
    return folder


def _settings(arguments: argparse.Namespace, bundle: Bundle) -> Settings:
    return read_settings(arguments, bundle, scoring=True)


def _prints_tables(arguments: argparse.Namespace) -> bool:
    """Return whether tables go to standard output. They do not if the JSON goes there."""
    return not arguments.quiet and not (arguments.json and is_standard_output(arguments.json))


def _write_json(arguments: argparse.Namespace, content: Any) -> None:
    if arguments.json:
        with atomic_write(arguments.json) as file:
            file.write(json.dumps(content, indent=2).encode() + b"\n")


if __name__ == "__main__":
    raise SystemExit(command())
