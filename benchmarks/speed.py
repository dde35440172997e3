"""Every claim about speed beside its baseline, in the same run: one table, and JSON.

    python -m benchmarks.speed [--images DIR] [--bundle NAME|DIR] [--folder 100] [--rounds 5]
        [--only regions …] [--json FILE]

Medians of alternating rounds; ratios hold on a noisy machine, times do not. Each fast path is first
held against the float32 reference that it replaces. With fewer photos than `--folder` names, they
are taken again under other names.
"""

from __future__ import annotations

import argparse
import itertools
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.stages import photos
from detector import Detector
from detector.backends import Backend, ProcessorCrops, make_classifier
from detector.bundles.bundle import Bundle
from detector.bundles.manifest import Architecture
from detector.common.cpu import available_cores
from detector.images import load
from detector.models.torch_googlenet import GoogLeNet, make_googlenet
from detector.models.torch_weights import weights_of
from detector.networks import Networks
from detector.regions.crops import cut, normalise
from detector.regions.ensemble import Ensemble, Regions
from detector.runtime import Precision, Runtime
from detector.settings import Settings
from detector.training.activation_ranges import measure_activation_ranges
from proposals import SelectiveSearch
from proposals.baselines import random_boxes

BATCH = 32
SECONDS = 3.0
"""Duration of each measurement of a rate."""

FLOAT32_BOUND = 1e-3
BFLOAT16_BOUND = 0.05
BOUNDS: dict[Precision, float] = {
    "float32": FLOAT32_BOUND,
    "bfloat16": BFLOAT16_BOUND,
    "int8": 0.25,
}
"""Largest difference of a probability from the reference's."""

MULTIPLY_ADDS = 1.58e9
"""Multiply-adds of GoogLeNet for a crop of 224 pixels."""

GPU_REGIONS = 1485
GPU_MEMBERS = 6
GPU_IMAGES = 8
"""The measurement on a GPU: regions of an image, networks, images at once."""


@dataclass(frozen=True)
class Claim:
    """A figure, the baseline's, and their ratio, which is what counts."""

    name: str
    unit: str
    value: float
    baseline: float
    ratio: float

    def __str__(self) -> str:
        figures = f"{self.value:>10.3g}{self.baseline:>10.3g}{self.ratio:>8.2f}"
        return f"{self.name:<68}{self.unit:<12}{figures}"


class EagerFloat32(ProcessorCrops):
    """The reference: PyTorch as it comes, in float32, channels first."""

    micro_batch = None

    def __init__(self, network: GoogLeNet) -> None:
        self.network = network

    @torch.inference_mode()
    def __call__(self, crops: NDArray[np.float32]) -> NDArray[np.float32]:
        x = torch.as_tensor(crops).permute(0, 3, 1, 2).contiguous()
        return np.asarray(self.network(x).softmax(dim=1))


def main() -> None:
    parser = argparse.ArgumentParser(description="Every claim about speed beside its baseline.")
    parser.add_argument("--images", type=Path, help="a folder of photos (scikit-image's)")
    parser.add_argument("--bundle", help="a directory, or one that ships (voc20)")
    parser.add_argument("--folder", type=int, default=100, help="photos of a run over a folder")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", nargs="+", choices=tuple(CLAIMS), help="(all that can be)")
    parser.add_argument("--json", type=Path, default=Path("build/bench/speed.json"))
    arguments = parser.parse_args()
    claims = []
    print(f"{available_cores()} cores\n{'':<80}{'ours':>10}{'baseline':>10}{'ratio':>8}")
    without_gpu = [name for name in CLAIMS if name != "gpu"]
    for name in arguments.only or (CLAIMS if torch.cuda.is_available() else without_gpu):
        for claim in CLAIMS[name](arguments):
            print(claim, flush=True)
            claims.append(asdict(claim))
    arguments.json.parent.mkdir(parents=True, exist_ok=True)
    arguments.json.write_text(json.dumps(claims, indent=2) + "\n")


def regions(arguments: argparse.Namespace) -> Iterator[Claim]:
    """Crops a second of one network, with and without LRN, at 224 pixels and the shipped size, in
    the processor's own precision and in 8-bit integers.
    """
    bundle = Bundle.load(arguments.bundle)
    first = bundle.manifest.members[0]
    pixels = normalise(load(photos(arguments.images)[0]), bundle.manifest.normalisation)
    classes = 1 + len(bundle.manifest.classes)
    rng = np.random.default_rng(0)
    exact = Runtime.resolve(device="cpu", backend="openvino", precision="float32")
    native = Runtime.resolve(device="cpu", backend="openvino")
    integers = Runtime.resolve(device="cpu", backend="openvino", quantized=True)
    runtimes = {runtime.precision: runtime for runtime in (native, integers)}

    for size in sorted({224, first.warp.crop_size}, reverse=True):
        warp = first.warp.model_copy(update={"crop_size": size})
        crops = cut(pixels, random_boxes(pixels.shape[1], pixels.shape[0], BATCH, rng), warp)
        for normalisation in ("lrn", "none"):
            architecture = Architecture(normalisation=normalisation)
            network = GoogLeNet(classes, crop_size=size, architecture=architecture).eval()
            if architecture == first.architecture:
                network = make_googlenet(bundle.classifier_weights(first), architecture, size)
            reference = EagerFloat32(network)
            weights = weights_of(network)
            hold(
                reference(crops),
                make_classifier(weights, architecture, size, exact)(crops),
                FLOAT32_BOUND,
            )
            name = f"one network, {size} px, {'LRN' if normalisation == 'lrn' else 'no LRN'}"
            ranges = measure_activation_ranges(network, [torch.from_numpy(crops)])
            for precision, runtime in runtimes.items():
                fast = make_classifier(
                    weights, architecture, size, runtime, activation_ranges=ranges
                )
                hold(reference(crops), fast(crops), BOUNDS[precision])
                ours, baseline = alternate(
                    arguments.rounds, partial(rate, fast, crops), partial(rate, reference, crops)
                )
                about = f"{name}, {precision}, against torch eager float32"
                yield claim(about, "crops/s", ours, baseline)


def image(arguments: argparse.Namespace) -> Iterator[Claim]:
    """An image from its file to its detections, against the R-CNN that one would write first."""
    bundle = Bundle.load(arguments.bundle)
    paths = photos(arguments.images)[: arguments.rounds]
    with Detector.load(bundle, device="cpu") as ours:
        naive = Detector(naive_networks(bundle, ours.networks), Settings.read(preset="paper"))
        ours.detect(paths[0])  # warm
        measured = [[seconds(partial(d.detect, p)) for d in (ours, naive)] for p in paths]
    fast, slow = zip(*measured, strict=True)
    number = len(bundle.manifest.members)
    name = f"one image, {number} members, against the naive R-CNN"
    yield claim(name, "s", fast, slow, smaller=True)


def naive_networks(bundle: Bundle, ours: Networks) -> Networks:
    """The bundle's classifiers in eager PyTorch, in float32; MultiBox is ours."""
    members = [
        (
            EagerFloat32(
                make_googlenet(
                    bundle.classifier_weights(member), member.architecture, member.warp.crop_size
                )
            ),
            member.warp,
        )
        for member in bundle.manifest.members
    ]
    ensemble = Ensemble(
        members,
        bundle.manifest.normalisation,
        classes=1 + len(ours.classes),
        batch_size=BATCH,
    )
    return replace(ours, ensemble=ensemble)


def share(arguments: argparse.Namespace) -> Iterator[Claim]:
    """Regions a second while an image is classified, against the network alone on ready crops."""
    fast = Settings.read(preset="fast")
    with Detector.load(arguments.bundle, settings=fast, device="cpu") as detector:
        ensemble = detector.networks.ensemble
        (network, warp), *_ = ensemble.members
        propose = SelectiveSearch()
        images = [load(path) for path in photos(arguments.images)[: arguments.rounds]]
        found = [Regions(image, propose(image).boxes) for image in images]
        crops = np.zeros((ensemble.batch_size, warp.crop_size, warp.crop_size, 3), np.float32)

        def classify() -> float:
            spent = seconds(lambda: [ensemble.classify([one]) for one in found])
            return sum(len(boxes) for _, boxes in found) / spent

        ours, baseline = alternate(arguments.rounds, classify, partial(rate, network, crops))
    yield claim("classifying, against the backend on ready crops", "crops/s", ours, baseline)


def folder(arguments: argparse.Namespace) -> Iterator[Claim]:
    """What part of the cores' time a run over a folder uses."""
    with many(photos(arguments.images), arguments.folder) as files:
        for preset in ("default", "fast"):
            wall, used = run(files, "--preset", preset, *given(arguments))
            name = f"a folder of {arguments.folder} images, {preset}: processor time"
            yield Claim(name, "s", used, available_cores() * wall, used / wall / available_cores())


def cluster(arguments: argparse.Namespace) -> Iterator[Claim]:
    """A run over a folder on Ray, on this machine, against the local executor."""
    with many(photos(arguments.images), arguments.folder) as files:
        local, _ = run(files, *given(arguments))
        there, _ = run(files, "--engine", "ray", *given(arguments))
    rates = [[arguments.folder / wall] for wall in (there, local)]
    yield claim("Ray on this machine, against the local executor", "images/s", *rates)


def gpu(arguments: argparse.Namespace) -> Iterator[Claim]:
    """Images a second of six networks that see all regions, against what the same multiplications
    take in the GPU's own products of matrices.
    """
    bundle = Bundle.load(arguments.bundle)
    from detector.backends.cuda import CudaBackend

    runtime = Runtime.resolve(device="cuda", precision="bfloat16")
    classes = 1 + len(bundle.manifest.classes)
    warp = bundle.manifest.members[0].warp.model_copy(update={"crop_size": 224})
    networks = [GoogLeNet(classes).eval() for _ in range(GPU_MEMBERS)]
    weights = [weights_of(network) for network in networks]
    references = [EagerFloat32(network) for network in networks]
    members = [
        (CudaBackend(make_googlenet(one, Architecture(), 224), runtime.device, "bfloat16"), warp)
        for one in weights
    ]
    size = runtime.batch_size
    for crops in 50 * torch.randn(2, size, 224, 224, 3):  # twice: what is recorded is replayed
        for reference, (fast, _) in zip(references, members, strict=True):
            hold(reference(crops[:4].numpy()), fast(crops)[:4], BFLOAT16_BOUND)
    ensemble = Ensemble(members, bundle.manifest.normalisation, classes=classes, batch_size=size)
    rng = np.random.default_rng(0)
    images = [load(path) for path in photos(arguments.images)[:GPU_IMAGES]]
    parts = [
        Regions(image, random_boxes(image.shape[1], image.shape[0], GPU_REGIONS, rng))
        for image in images
    ]
    ensemble.classify(parts)  # warm
    spent = [seconds(partial(ensemble.classify, parts)) for _ in range(arguments.rounds)]
    operations = 2 * MULTIPLY_ADDS * GPU_REGIONS * GPU_MEMBERS
    name = f"{GPU_MEMBERS} networks, 224 px, {GPU_REGIONS:,} regions: the card's own rate"
    ours = [len(images) / each for each in spent]
    yield claim(
        name,
        "images/s",
        ours,
        [product_rate(torch.device(runtime.device)) / operations for _ in spent],
    )


def product_rate(device: torch.device) -> float:
    """Operations a second in products of large matrices in bfloat16."""
    side, repeats = 8192, 50
    a, b = torch.randn(2, side, side, device=device, dtype=torch.bfloat16)

    def multiply() -> None:
        for _ in range(repeats):
            a @ b
        torch.cuda.synchronize(device)

    multiply()
    return 2 * side**3 * repeats / seconds(multiply)


def claim(
    name: str,
    unit: str,
    ours: Sequence[float],
    baseline: Sequence[float],
    *,
    smaller: bool = False,
) -> Claim:
    """Medians, and the median of the rounds' ratios; `smaller` says that less is better."""
    pairs = zip(ours, baseline, strict=True)
    ratios = [base / own if smaller else own / base for own, base in pairs]
    medians = statistics.median(ours), statistics.median(baseline)
    return Claim(name, unit, *medians, statistics.median(ratios))


def alternate(
    rounds: int, ours: Callable[[], float], baseline: Callable[[], float]
) -> tuple[list[float], list[float]]:
    measured = [(ours(), baseline()) for _ in range(rounds)]
    return [own for own, _ in measured], [base for _, base in measured]


def rate(network: Backend, crops: NDArray[np.float32]) -> float:
    """Crops a second of ready batches."""
    started = time.perf_counter()
    done = 0
    while time.perf_counter() - started < SECONDS:
        network(crops)
        done += len(crops)
    return done / (time.perf_counter() - started)


def seconds(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def hold(reference: NDArray[np.float32], found: NDArray[np.float32], bound: float) -> None:
    worst = float(np.abs(found - reference).max())
    if worst > bound:
        raise SystemExit(f"a probability differs from the reference's by {worst:.4f}")


@contextmanager
def many(files: Sequence[Path], count: int) -> Iterator[Path]:
    """Make a folder with `count` links to the files, in turn."""
    with tempfile.TemporaryDirectory() as folder:
        for number, file in zip(range(count), itertools.cycle(files), strict=False):
            Path(folder, f"{number:05}{file.suffix}").symlink_to(file.resolve())
        yield Path(folder)


def run(files: Path, *options: str) -> tuple[float, float]:
    """The wall's and the processors' seconds of `detector-run` over a folder."""
    program = [sys.executable, "-m", "detector.commands.run", "--quiet", "--images", str(files)]
    with tempfile.TemporaryDirectory() as out:
        before, started = children_seconds(), time.perf_counter()
        subprocess.run([*program, "--out", f"{out}/dets.json", *options], check=True)
        return time.perf_counter() - started, children_seconds() - before


def children_seconds() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def given(arguments: argparse.Namespace) -> list[str]:
    return ["--bundle", arguments.bundle] if arguments.bundle else []


CLAIMS: dict[str, Callable[[argparse.Namespace], Iterator[Claim]]] = {
    "regions": regions,
    "image": image,
    "share": share,
    "folder": folder,
    "cluster": cluster,
    "gpu": gpu,
}


if __name__ == "__main__":
    main()
