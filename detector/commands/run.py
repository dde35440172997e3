"""`detector-run`: find the objects in a folder of images."""

from __future__ import annotations

import argparse
import csv
import json
import resource
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from detector.batch.inputs import find_images
from detector.batch.outputs import Outputs
from detector.bundles.bundle import Bundle
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
from detector.common.atomic_io import atomic_write
from detector.drawing import MINIMUM_SCORE
from detector.errors import SettingsError
from detector.formats import FORMATS
from detector.formats.image_lists import ImageList
from detector.settings import Settings

if TYPE_CHECKING:
    from detector.batch.executor import Executor
    from detector.batch.runner import Summary


def command(arguments: Arguments = None) -> int:
    """Run the command and return its exit code."""
    return main(_run, _parser().parse_args(arguments))


def _parser() -> argparse.ArgumentParser:
    parser = make_parser("detector-run", "Find the objects in images and write them to a file.")
    add = parser.add_argument

    # Input and output.
    add("--images", nargs="+", metavar="PATH", default=[], help="folder, file, glob or @list.txt")
    add(
        "--out",
        type=Path,
        metavar="FILE",
        help="detections, or - for standard output; FILE.journal keeps what is finished",
    )
    add("--format", choices=tuple(FORMATS), default="native", help="voc and yolo make a folder")
    add("--image-list", type=Path, metavar="FILE", help="annotation JSON or val.txt: images' ids")
    drawn = f"images with boxes of score {MINIMUM_SCORE} and more"
    add("--visualize", type=Path, metavar="DIR", help=drawn)
    add("--proposals-out", type=Path, metavar="FILE", help="write all proposals (JSON lines)")
    add("--proposals-in", type=Path, metavar="FILE", help="use these proposals")
    add("--stats", type=Path, metavar="FILE", help="write times and rates (JSON)")
    add("--overwrite", action="store_true", help="compute all images again")

    # Which detections are reported.
    add("--score-threshold", type=float, metavar="P", help="report scores of P and more")
    add("--max-detections", type=int, metavar="N", help="report the best N of each image")
    add("--classes", metavar="A,B", help='report these classes; "A, B" has a comma')

    # Where the work is done.
    add("--engine", choices=("local", "ray"), default="local", help="this machine, or a cluster")
    add("--workers", type=positive_integer, metavar="N", help="processes for proposals (cores - 1)")
    add_detector_options(parser)
    parser.set_defaults(how_to_continue="the same command goes on from here")
    return parser


def _run(arguments: argparse.Namespace) -> int:
    bundle = Bundle.load(arguments.bundle)
    settings = _settings(arguments, bundle)
    if arguments.print_config:
        print(settings.to_toml(), end="")
        return DONE
    if not arguments.images or arguments.out is None:
        raise SettingsError("--images PATH… and --out FILE are needed")

    drawings = [arguments.visualize] if arguments.visualize else []
    inputs = find_images(arguments.images, exclude=drawings)
    image_list = ImageList.read(arguments.image_list) if arguments.image_list else None
    outputs = _outputs(arguments, bundle)

    from detector.batch.runner import run

    with _executor(arguments, bundle, settings) as executor:
        summary = run(
            executor,
            inputs,
            outputs,
            image_list=image_list,
            overwrite=arguments.overwrite,
            show_progress=progress_bars(quiet=arguments.quiet),
        )
    _report(arguments, summary)
    return SOME_FAILED if summary.failures else DONE


def _outputs(arguments: argparse.Namespace, bundle: Bundle) -> Outputs:
    lists = [Path(pattern[1:]) for pattern in arguments.images if pattern.startswith("@")]
    options = [arguments.image_list, arguments.proposals_in, arguments.config]
    files = [*options, *lists, *bundle.files]
    return Outputs(
        arguments.out,
        arguments.format,
        proposals=arguments.proposals_out,
        drawings=arguments.visualize,
        stats=arguments.stats,
        protected=tuple(path for path in files if path is not None),
    )


@contextmanager
def _executor(
    arguments: argparse.Namespace, bundle: Bundle, settings: Settings
) -> Iterator[Executor]:
    if arguments.engine == "ray":
        from detector.batch.ray_executor import RayExecutor

        with RayExecutor(
            bundle,
            settings,
            device=arguments.device,
            backend=arguments.backend,
            proposals_file=arguments.proposals_in,
            workers=arguments.workers,
        ) as ray_executor:
            yield ray_executor
    else:
        from detector.batch.local_executor import LocalExecutor

        with load_detector(arguments, bundle, settings) as detector:
            yield LocalExecutor(
                detector, proposals_file=arguments.proposals_in, workers=arguments.workers
            )


def _settings(arguments: argparse.Namespace, bundle: Bundle) -> Settings:
    options = {
        "score_threshold": arguments.score_threshold,
        "max_detections": arguments.max_detections,
        "classes": (None if arguments.classes is None else _class_names(arguments.classes, bundle)),
    }
    given = {key: value for key, value in options.items() if value is not None}
    return read_settings(arguments, bundle).replace(detections=given)


def _class_names(text: str, bundle: Bundle) -> list[str]:
    """Return the names in the value of `--classes`.

    A name with a comma is written in double quotes, or alone.

    Raises:
        SettingsError: It is not a line of CSV, or has an empty name.
    """
    if text in bundle.manifest.classes:
        return [text]
    try:
        names = [name.strip() for name in next(csv.reader([text], skipinitialspace=True))]
    except csv.Error as error:
        raise SettingsError(f"--classes {text[:80]!r}: must be names with commas") from error
    if not names or not all(names):
        raise SettingsError(f"--classes {text[:80]!r}: has an empty name")
    return names


def _report(arguments: argparse.Namespace, summary: Summary) -> None:
    """Write the statistics, and print the failures and a summary."""
    statistics = {
        "images": summary.images,
        "resumed": summary.resumed,
        "computed": summary.computed,
        "failed": len(summary.failures),
        "detections": summary.detections,
        "left_out": summary.left_out,
        "seconds": {stage: round(s, 3) for stage, s in sorted(summary.seconds.items())},
        "wall_seconds": round(summary.wall_seconds, 3),
        "peak_memory_bytes": _peak_memory(),
    }
    if arguments.stats:
        with atomic_write(arguments.stats) as file:
            file.write(json.dumps(statistics, indent=2).encode() + b"\n")

    print_failures(summary.failures)
    if arguments.quiet:
        return
    rate = summary.computed / summary.wall_seconds if summary.wall_seconds else 0.0
    left_out = f" ({summary.left_out} more left out)" if summary.left_out else ""
    stages = "".join(f", {stage} {spent:.1f} s" for stage, spent in summary.seconds.items())
    print(
        f"{summary.images} images ({summary.resumed} done before, {len(summary.failures)} failed), "
        f"{summary.detections} detections in {arguments.out}{left_out}\n"
        f"{rate:.2f} images a second{stages}",
        file=sys.stderr,
    )


def _peak_memory() -> int:
    """Return the most bytes that this process or one of its workers held at the same time."""
    peak = max(
        resource.getrusage(who).ru_maxrss
        for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    )
    return peak if sys.platform == "darwin" else peak * 1024  # bytes on macOS, else KiB


if __name__ == "__main__":
    raise SystemExit(command())
