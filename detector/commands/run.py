"""`detector-run`: the objects in a folder of photos."""

from __future__ import annotations

import argparse
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
    at_least_1,
    main,
    name_failures,
    parser,
)
from detector.commands.progress_bar import ProgressBar
from detector.common.atomic_io import atomic_write
from detector.drawing import MINIMUM_SCORE
from detector.errors import SettingsError
from detector.formats import FORMATS
from detector.formats.image_lists import ImageList
from detector.settings import Settings

if TYPE_CHECKING:
    from detector.batch.local_executor import Executor
    from detector.batch.runner import Summary


def command(arguments: Arguments = None) -> int:
    """The entry point; returns the exit code."""
    return main(_run, _parser().parse_args(arguments))


def _parser() -> argparse.ArgumentParser:
    made = parser("detector-run", "Find the objects in photos and write them to a file.")
    add = made.add_argument
    add("--images", nargs="+", metavar="PATH", default=[], help="folder, file, glob or @list.txt")
    add("--out", type=Path, metavar="FILE", help="detections; FILE.journal keeps what is finished")
    add("--format", choices=tuple(FORMATS), default="native", help="voc and yolo make a folder")
    add("--image-list", type=Path, metavar="FILE", help="annotation JSON or val.txt: images' ids")
    add("--score-threshold", type=float, metavar="P", help="report scores of P and more")
    add("--max-detections", type=int, metavar="N", help="report the best N of each image")
    add("--classes", metavar="A,B", help="report these classes")
    drawn = f"photos with boxes of score {MINIMUM_SCORE} and more"
    add("--visualize", type=Path, metavar="DIR", help=drawn)
    add("--proposals-out", type=Path, metavar="FILE", help="write all proposals (JSON lines)")
    add("--proposals-in", type=Path, metavar="FILE", help="use these proposals")
    add("--engine", choices=("local", "ray"), default="local", help="this machine, or a cluster")
    add("--workers", type=at_least_1, metavar="N", help="processes for proposals (cores - 1)")
    add("--stats", type=Path, metavar="FILE", help="write times and rates (JSON)")
    add("--overwrite", action="store_true", help="do all images again")
    add_detector_options(made)
    made.set_defaults(goes_on="the same command goes on from here")
    return made


def _run(arguments: argparse.Namespace) -> int:
    bundle = Bundle.load(arguments.bundle)
    settings = _settings(arguments, bundle)
    if arguments.print_config:
        print(settings.to_toml(), end="")
        return DONE
    if not arguments.images or arguments.out is None:
        raise SettingsError("--images PATH… and --out FILE are needed")
    leave_out = [arguments.visualize] if arguments.visualize else []
    inputs = find_images(arguments.images, leave_out=leave_out)
    image_list = ImageList.read(arguments.image_list) if arguments.image_list else None

    from detector.batch.runner import run

    lists = [Path(pattern[1:]) for pattern in arguments.images if pattern.startswith("@")]
    read = [arguments.image_list, arguments.proposals_in, arguments.config, *lists]
    outputs = Outputs(
        arguments.out,
        arguments.format,
        arguments.proposals_out,
        arguments.visualize,
        arguments.stats,
        tuple(path for path in read if path is not None),
    )
    with (
        _engine(arguments, bundle, settings) as engine,
        ProgressBar(len(inputs), unit="image", quiet=arguments.quiet) as progress,
    ):
        summary = run(
            engine,
            inputs,
            outputs,
            image_list=image_list,
            overwrite=arguments.overwrite,
            progress=progress,
        )
    _report(arguments, summary)
    return SOME_FAILED if summary.failures else DONE


@contextmanager
def _engine(
    arguments: argparse.Namespace, bundle: Bundle, settings: Settings
) -> Iterator[Executor]:
    given, workers = arguments.proposals_in, arguments.workers
    where = {"device": arguments.device, "backend": arguments.backend}
    if arguments.engine == "ray":
        from detector.batch.ray_executor import RayExecutor

        with RayExecutor(bundle, settings, given=given, workers=workers, **where) as engine:
            yield engine
    else:
        from detector.batch.local_executor import LocalExecutor
        from detector.detector import Detector

        with Detector(bundle, settings, **where) as detector:
            yield LocalExecutor(detector, given=given, workers=workers)


def _settings(arguments: argparse.Namespace, bundle: Bundle) -> Settings:
    settings = Settings.read(
        preset=arguments.preset,
        config=arguments.config,
        assignments=arguments.assignments,
        base=bundle.manifest.settings,
    )
    given = {
        "score_threshold": arguments.score_threshold,
        "max_detections": arguments.max_detections,
        "classes": arguments.classes and [name.strip() for name in arguments.classes.split(",")],
    }
    return settings.replace(detections={k: v for k, v in given.items() if v is not None})


def _report(arguments: argparse.Namespace, summary: Summary) -> None:
    stats = {
        "images": summary.images,
        "resumed": summary.resumed,
        "computed": summary.computed,
        "failed": len(summary.failures),
        "detections": summary.detections,
        "seconds": {stage: round(s, 3) for stage, s in sorted(summary.seconds.items())},
        "wall_seconds": round(summary.wall_seconds, 3),
        "peak_memory_bytes": _peak_memory(),
    }
    if arguments.stats:
        with atomic_write(arguments.stats) as file:
            file.write(json.dumps(stats, indent=2).encode() + b"\n")
    name_failures(summary.failures)
    if arguments.quiet:
        return
    rate = summary.computed / summary.wall_seconds if summary.wall_seconds else 0.0
    stages = "".join(f", {stage} {spent:.1f} s" for stage, spent in summary.seconds.items())
    print(
        f"{summary.images} images ({summary.resumed} done before, {len(summary.failures)} failed), "
        f"{summary.detections} detections in {arguments.out}\n"
        f"{rate:.2f} images a second{stages}",
        file=sys.stderr,
    )


def _peak_memory() -> int:
    """The most bytes that this process or one of its workers has held at once."""
    peak = max(
        resource.getrusage(who).ru_maxrss
        for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    )
    return peak if sys.platform == "darwin" else peak * 1024


if __name__ == "__main__":
    raise SystemExit(command())
