"""The detector: from a photo to its detections.

`Detector.detect` is the way of the data: prepare, localise, finish; each step has a module.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from os import PathLike
from pathlib import Path
from typing import Self

import cv2
import numpy as np
import PIL
import torch

from detector import __version__
from detector.backends.choice import (
    BackendName,
    choose_backend,
    choose_batch_size,
    make_backend,
)
from detector.backends.pytorch import (
    Precision,
    arithmetic,
    choose_device,
    choose_precision,
)
from detector.batch.local_executor import LocalExecutor
from detector.batch.workers import Task
from detector.bundles.bundle import Bundle
from detector.errors import ImageError, SettingsError
from detector.images import Source
from detector.preprocessing import Prepared, Preprocessor
from detector.regions.cascade import Cascade
from detector.regions.ensemble import Ensemble
from detector.regions.nms import select
from detector.results import Detection
from detector.settings import Settings
from proposals.merge import merge

IMAGES_ON_GPU = 8
"""Images of a run on one machine whose regions share batches there; on a processor, each image has
its own."""


@dataclass(frozen=True)
class Result:
    """What was found in an image.

    Args:
        width: of the upright image, in pixels; 0 where it could not be read.
        height: likewise.
        detections: best first.
        proposals: how many boxes each source gave, and their number after the merge.
        seconds: by stage: decode, proposals, classify.
        error: why there is nothing, in a stream of results.
    """

    width: int = 0
    height: int = 0
    detections: tuple[Detection, ...] = ()
    proposals: Mapping[str, int] = field(default_factory=dict)
    seconds: Mapping[str, float] = field(default_factory=dict)
    error: ImageError | None = None


class Detector:
    """Proposals, an ensemble that classifies them, and the rule that selects detections.

    As a context manager it lets go of its memory at the end; otherwise it needs no closing.
    """

    def __init__(
        self,
        bundle: Bundle,
        settings: Settings | None = None,
        *,
        device: str = "auto",
        backend: BackendName = "auto",
    ) -> None:
        """Load a bundle's networks.

        Raises:
            BundleError: its weights are missing or altered.
            SettingsError: the device is not there, the backend cannot use it, or a class is not
                the bundle's.
        """
        self.bundle = bundle
        self.settings = settings or Settings.read(base=bundle.manifest.settings)
        self.classes = bundle.manifest.classes
        check_classes(self.settings, self.classes)
        self.device = choose_device(device)
        self.backend = choose_backend(backend, self.device)
        self.precision = _precision(bundle, self.settings, self.device, self.backend)
        self.images_together = IMAGES_ON_GPU if self.device.type == "cuda" else 1
        members = bundle.manifest.members
        if self.settings.classifier.members != "all":
            members = members[: self.settings.classifier.members]
        self.ensemble = Ensemble(
            [
                (
                    make_backend(
                        backend,
                        bundle.network(member),
                        member.warp.crop_size,
                        self.device,
                        self.precision,
                        ranges=member.ranges,
                        digest=member.sha256,
                    ),
                    member.warp,
                )
                for member in members
            ],
            bundle.manifest.normalisation,
            classes=1 + len(self.classes),
            batch_size=choose_batch_size(
                self.settings.classifier.batch_size, self.device, self.backend
            ),
            cascade=_cascade(self.settings),
        )
        self.multibox = bundle.multibox(
            self.settings.multibox.count, self.device, self.precision, backend
        )
        self.preparation = self.preparing()

    @classmethod
    def load(
        cls,
        bundle: str | Path | None = None,
        *,
        device: str = "auto",
        backend: BackendName = "auto",
        preset: str = "default",
        config: Path | None = None,
    ) -> Self:
        """The shipped detector, or that of a bundle's directory or name.

        Args:
            device: "auto", "cpu", "cuda" or "cuda:N".
            backend: "auto", "torch" or "openvino".
            preset: "default", "fast" or "paper".
            config: a TOML file of settings that are laid over the preset's.

        Raises:
            BundleError: there is no such bundle, or it is damaged.
            SettingsError: the device, the preset or a setting is not allowed.
        """
        loaded = Bundle.load(bundle)
        settings = Settings.read(preset=preset, config=config, base=loaded.manifest.settings)
        return cls(loaded, settings, device=device, backend=backend)

    def under(self, settings: Settings) -> Detector:
        """A detector of the same networks under other settings, but for precision and batch size.

        Raises:
            SettingsError: a class is not the bundle's, or networks are asked for that this detector
                was loaded without.
        """
        check_classes(settings, self.classes)
        asked, loaded = settings.classifier.members, len(self.ensemble.members)
        there = len(self.bundle.manifest.members)
        if (there if asked == "all" else min(asked, there)) > loaded:
            raise SettingsError(
                f"classifier.members {asked}: this detector was loaded with {loaded}"
            )
        if settings.multibox.count and self.multibox is None and self.bundle.manifest.multibox:
            raise SettingsError("multibox.count: this detector was loaded without MultiBox")
        made = copy.copy(self)
        made.settings = settings
        made.ensemble = self.ensemble.limited(settings.classifier.members, _cascade(settings))
        if self.multibox is not None:
            count = settings.multibox.count
            made.multibox = self.multibox.limited(count) if count else None
        made.preparation = made.preparing()
        return made

    def preparing(self, given: Path | None = None) -> Preprocessor:
        """What is done to images first, with a file of proposals in place of the engine's."""
        has_multibox = self.bundle.manifest.multibox is not None
        return Preprocessor(self.settings, given=given, multibox=has_multibox)

    def detect(self, source: Source) -> Result:
        """Find the objects in an image: a path, bytes, a PIL image or an RGB array.

        Raises:
            ImageError: the image cannot be used.
        """
        prepared = self.preparation.source(source)
        return self.finish(self.localise(prepared))

    def run(
        self, paths: Iterable[str | PathLike[str]], *, workers: int | None = None
    ) -> Iterator[Result]:
        """Find the objects in many files; results come in the order of the paths.

        Proposals are computed ahead in worker processes, so a script must call this under
        `if __name__ == "__main__":`. A file that cannot be used gives a result with its `error`.

        Args:
            workers: number of processes; one less than there are cores, if not given.
        """
        tasks = (Task(Path(path), str(path)) for path in paths)
        for finished in LocalExecutor(self, workers=workers)(tasks):
            yield finished.result

    def localise(self, prepared: Prepared) -> Prepared:
        """Add MultiBox's proposals to a prepared image's, if the bundle has one."""
        if self.multibox is None or prepared.image is None or prepared.proposals is None:
            return prepared
        if prepared.complete:
            return prepared
        started = time.perf_counter()
        proposals = merge(prepared.proposals, self.multibox(prepared.image))
        seconds = dict(prepared.seconds)
        seconds["proposals"] += time.perf_counter() - started
        return replace(prepared, proposals=proposals, seconds=seconds, complete=True)

    def finish(self, prepared: Prepared) -> Result:
        """Classify a prepared image's proposals and select its detections."""
        return self.finish_together([prepared])[0]

    def finish_together(self, group: Sequence[Prepared]) -> list[Result]:
        """The same for several images, whose regions share batches."""
        started = time.perf_counter()
        parts = [
            (prepared.image, prepared.proposals.boxes)
            for prepared in group
            if prepared.image is not None and prepared.proposals is not None
        ]
        probabilities = iter(self.ensemble.together(parts))  # each float32 [N, 1 + classes]
        classified = time.perf_counter() - started
        regions = max(1, sum(len(boxes) for _, boxes in parts))
        results = []
        for prepared in group:
            if prepared.image is None or prepared.proposals is None:
                results.append(Result(error=prepared.error))
                continue
            started = time.perf_counter()
            boxes = prepared.proposals.boxes
            found = select(boxes, next(probabilities), self.classes, self.settings.detections)
            own = classified * len(boxes) / regions + time.perf_counter() - started
            height, width = prepared.image.shape[:2]
            counts = prepared.proposals.counts()
            seconds = prepared.seconds | {"classify": own}
            results.append(Result(width, height, tuple(found), counts, seconds))
        return results

    @property
    def fingerprint(self) -> dict[str, object]:
        """Everything that changes results, apart from the images."""
        return fingerprint(self.bundle, self.settings, str(self.device), self.backend)

    def close(self) -> None:
        """Let go of the networks."""
        for networks in ("ensemble", "multibox"):
            self.__dict__.pop(networks, None)
        if self.device.type == "cuda":
            torch.cuda.empty_cache()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def fingerprint(
    bundle: Bundle, settings: Settings, device: str = "auto", backend: BackendName = "auto"
) -> dict[str, object]:
    """Everything on this machine that changes results, apart from the images.

    Raises:
        SettingsError: the device is not there, or the backend cannot use it.
    """
    place = choose_device(device)
    engine = choose_backend(backend, place)
    precision = _precision(bundle, settings, place, engine)
    return {
        "bundle": bundle.sha256,
        "settings": settings.model_dump(mode="json"),
        "backend": f"{engine} {place.type} {arithmetic(precision, place)}",
        "versions": {
            "detector": __version__,
            "numpy": np.__version__,
            "opencv": cv2.__version__,
            "openvino": version("openvino"),
            "pillow": PIL.__version__,
            "selectivesearch": version("selectivesearch"),
            "torch": torch.__version__,
        },
    }


def _precision(
    bundle: Bundle, settings: Settings, device: torch.device, engine: BackendName
) -> Precision:
    integers = engine == "openvino" and bundle.has_activation_ranges
    return choose_precision(settings.classifier.precision, device, integers=integers)


def _cascade(settings: Settings) -> Cascade | None:
    threshold = settings.classifier.cascade
    return Cascade(threshold, settings.detections.nms_iou) if threshold else None


def check_classes(settings: Settings, classes: tuple[str, ...]) -> None:
    """Hold the classes to report against a bundle's.

    Raises:
        SettingsError: naming one that the bundle has not.
    """
    if settings.detections.classes == "all":
        return
    for name in settings.detections.classes:
        if name not in classes:
            raise SettingsError(f"class {name!r}: this bundle has {', '.join(classes)}")
