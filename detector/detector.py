"""The detector, in the order in which an image passes through it:

preprocess → propose → classify → postprocess. `Detector.detect` shows the four steps for one image;
`Detector.predict_batch` has the last two for several images. The commands, the service, evaluation
and validation in training all go this way.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from os import PathLike
from pathlib import Path
from typing import Any, Literal, Self

from detector.batch.local_executor import LocalExecutor
from detector.batch.workers import Task
from detector.bundles.bundle import Bundle
from detector.errors import BundleError, SettingsError
from detector.fingerprint import fingerprint
from detector.image_types import ClassifiedImage, PreprocessedImage, ProposedImage
from detector.images import Source
from detector.networks import Networks
from detector.preprocessing import Preprocessor
from detector.regions.cascade import Cascade
from detector.regions.ensemble import Regions
from detector.regions.nms import select_detections
from detector.results import FailedResult, Result
from detector.runtime import BackendName, Runtime
from detector.settings import Settings
from proposals.merge import merge


class Detector:
    """Finds objects: proposals, an ensemble that classifies them, non-maximum suppression.

    A detector is cheap to make. As a context manager it releases its networks at the end;
    otherwise it needs no closing.

    Args:
        networks: Loaded networks, which several detectors may share.
        settings: What to do with them.

    Raises:
        SettingsError: A class is not the networks', or the settings need networks that were not
            loaded.
    """

    def __init__(self, networks: Networks, settings: Settings) -> None:
        check_classes(settings, networks.classes)
        _check_loaded(settings, networks)
        self.networks = networks
        self.settings = settings
        self._cascade = _cascade(settings)
        self.preprocessor = self.make_preprocessor()

    @classmethod
    def load(
        cls,
        bundle: str | PathLike[str] | Bundle | None = None,
        *,
        device: str = "auto",
        backend: BackendName | Literal["auto"] = "auto",
        preset: str = "default",
        config: str | PathLike[str] | None = None,
        settings: Settings | Mapping[str, Mapping[str, Any]] | None = None,
        threshold: float | None = None,
    ) -> Self:
        """Load the shipped detector, or that of another bundle.

        Args:
            bundle: A bundle's directory or name. By default the shipped one.
            device: "auto", "cpu", "cuda" or "cuda:N".
            backend: "auto", "torch" or "openvino".
            preset: "default", "fast" or "paper".
            config: A TOML file of settings that override the preset's.
            settings: Tables of settings that override both, such as
                `{"detections": {"max_detections": 10}}`, or complete `Settings` in their place.
            threshold: Least score of a detection, between 0 and 1.

        Raises:
            BundleError: There is no such bundle, or it is damaged.
            SettingsError: The device, the preset or a setting is not allowed.
            TypeError: An argument has the wrong type.
        """
        if not isinstance(bundle, Bundle):
            bundle = Bundle.load(_as_path(bundle, "bundle"))
        if not isinstance(settings, Settings):
            tables = _as_tables(settings)
            layers = Settings.read(
                preset=preset, config=_as_path(config, "config"), base=bundle.manifest.settings
            )
            settings = layers.replace(**tables)
        settings = _for_call(settings, threshold=threshold, classes=None)
        runtime = resolve_runtime(bundle, settings, device=device, backend=backend)
        return cls(load_networks(bundle, settings, runtime), settings)

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of all classes, without the background."""
        return self.networks.classes

    @property
    def multibox_count(self) -> int:
        """Largest number of boxes that MultiBox adds to an image."""
        return self.settings.multibox.count if self.networks.multibox else 0

    @property
    def fingerprint(self) -> dict[str, object]:
        """Everything that changes results, apart from the images."""
        return fingerprint(self.networks.sha256, self.settings, self.networks.runtime)

    def detect(
        self,
        source: Source,
        *,
        threshold: float | None = None,
        classes: Sequence[str] | None = None,
        settings: Mapping[str, Mapping[str, Any]] | None = None,
    ) -> Result:
        """Find the objects in an image.

        Args:
            source: A path, the bytes of a file, a PIL image, or an RGB `uint8 [H, W, 3]` array.
            threshold: Least score of a detection, between 0 and 1.
            classes: Names of the classes to report.
            settings: Tables of settings that override the detector's.

        Raises:
            ImageError: The image cannot be used.
            SettingsError: A class or a setting is not allowed.
            TypeError: An argument has the wrong type.
        """
        wanted = self.settings.replace(**_as_tables(settings))
        wanted = _for_call(wanted, threshold=threshold, classes=classes)
        detector = self if wanted == self.settings else Detector(self.networks, wanted)

        preprocessed = detector.preprocessor.preprocess(source)
        proposed = detector.propose(preprocessed)
        (classified,) = detector.classify([proposed])
        return detector.postprocess(classified)

    def run(
        self, paths: Iterable[str | PathLike[str]], *, workers: int | None = None
    ) -> Iterator[Result | FailedResult]:
        """Find the objects in many files; results come in the order of the paths.

        Worker processes preprocess the images ahead, so a script must call this under
        `if __name__ == "__main__":`. A file that cannot be used yields a result with an `error`.

        Args:
            paths: The files.
            workers: Number of worker processes. By default one less than there are cores.

        Raises:
            TypeError: A path has the wrong type.
        """
        if isinstance(paths, str | bytes | PathLike):
            raise TypeError(f"paths must be a list of paths, not a single {type(paths).__name__}")
        tasks = (Task(Path(path), str(path)) for path in paths)
        for finished in LocalExecutor(self, workers=workers)(tasks):
            yield finished.result

    def make_preprocessor(self, proposals_file: Path | None = None) -> Preprocessor:
        """Return the first step: decoding, and the boxes of the proposal method.

        Args:
            proposals_file: A file of proposals that replaces the proposal method.
        """
        has_multibox = self.networks.multibox is not None
        return Preprocessor(self.settings, has_multibox=has_multibox, proposals_file=proposals_file)

    def propose(self, image: PreprocessedImage) -> ProposedImage:
        """Add MultiBox's boxes to a preprocessed image's, if there is a MultiBox.

        Raises:
            BundleError: MultiBox's weights are so large that it computes no numbers.
        """
        started = time.perf_counter()
        proposals = image.proposals
        multibox = self.networks.multibox
        if multibox is not None and self.settings.multibox.count > 0 and not image.from_file:
            with _bundle_errors(self.networks):
                found = multibox(image.pixels, self.settings.multibox.count)
            proposals = merge(proposals, found)

        spent = image.seconds["proposals"] + time.perf_counter() - started
        seconds = {**image.seconds, "proposals": spent}
        return ProposedImage(image.pixels, proposals, seconds, image.path, image.digest)

    def classify(self, images: Sequence[ProposedImage]) -> list[ClassifiedImage]:
        """Compute the class probabilities of the images' proposals, which share batches.

        Raises:
            BundleError: The weights are so large that the networks compute no numbers.
            MemoryError: There is not enough memory.
        """
        started = time.perf_counter()
        with _bundle_errors(self.networks):
            probabilities = self.networks.ensemble.classify(
                [Regions(image.pixels, image.proposals.boxes) for image in images],
                members=self.settings.classifier.members,
                cascade=self._cascade,
            )

        spent = time.perf_counter() - started
        regions = max(1, sum(len(image.proposals) for image in images))
        return [
            ClassifiedImage(
                image,
                image_probabilities,
                {**image.seconds, "classify": spent * len(image.proposals) / regions},
            )
            for image, image_probabilities in zip(images, probabilities, strict=True)
        ]

    def postprocess(self, classified: ClassifiedImage) -> Result:
        """Select the detections of a classified image."""
        started = time.perf_counter()
        image = classified.image
        detections = select_detections(
            image.proposals.boxes,
            classified.probabilities,
            self.classes,
            self.settings.detections,
        )

        spent = classified.seconds["classify"] + time.perf_counter() - started
        height, width = image.pixels.shape[:2]
        return Result(
            path=image.path,
            width=width,
            height=height,
            detections=tuple(detections),
            proposals=image.proposals.counts(),
            seconds={**classified.seconds, "classify": spent},
            classes=self.classes,
            pixels=image.pixels if image.path is None else None,
        )

    def predict_batch(self, images: Sequence[ProposedImage]) -> list[Result]:
        """Classify the proposals of several images together and select their detections.

        Raises:
            MemoryError: There is not enough memory.
        """
        return [self.postprocess(classified) for classified in self.classify(images)]

    def close(self) -> None:
        """Release the networks, also for other detectors that share them."""
        self.networks.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def resolve_runtime(
    bundle: Bundle,
    settings: Settings,
    *,
    device: str = "auto",
    backend: BackendName | Literal["auto"] = "auto",
) -> Runtime:
    """Choose where and how a bundle's networks run under these settings.

    Raises:
        SettingsError: The device is missing, or the backend or the precision does not fit it.
    """
    return Runtime.resolve(
        device=device,
        backend=backend,
        precision=settings.classifier.precision,
        batch_size=settings.classifier.batch_size,
        quantized=bundle.has_activation_ranges,
    )


def load_networks(bundle: Bundle, settings: Settings, runtime: Runtime) -> Networks:
    """Load the networks that these settings need.

    Raises:
        BundleError: Weights are missing, altered, or of another architecture.
        SettingsError: A class is not the bundle's.
    """
    check_classes(settings, bundle.manifest.classes)
    return Networks.load(
        bundle,
        runtime,
        members=settings.classifier.members,
        multibox=settings.multibox.count > 0,
    )


def check_classes(settings: Settings, classes: tuple[str, ...]) -> None:
    """Check that the classes to report exist.

    Raises:
        SettingsError: One of them is not among `classes`.
    """
    if settings.detections.classes == "all":
        return
    for name in settings.detections.classes:
        if name not in classes:
            raise SettingsError(f"class {name!r}: this bundle has {', '.join(classes)}")


def _check_loaded(settings: Settings, networks: Networks) -> None:
    """Check that the networks that the settings need are loaded, in the precision they name.

    Raises:
        SettingsError: They are not.
    """
    classifier = settings.classifier
    available = networks.available_members
    needed = available if classifier.members == "all" else min(classifier.members, available)
    loaded = len(networks.ensemble.members)
    if needed > loaded:
        raise SettingsError(
            f"classifier.members {classifier.members}: this detector was loaded with {loaded}"
        )
    if settings.multibox.count and networks.has_multibox and networks.multibox is None:
        raise SettingsError("multibox.count: this detector was loaded without MultiBox")
    precision = networks.runtime.precision
    if classifier.precision not in ("auto", precision):
        raise SettingsError(
            f"classifier.precision {classifier.precision}: this detector was loaded in {precision}"
        )


@contextmanager
def _bundle_errors(networks: Networks) -> Iterator[None]:
    """Blame the bundle for outputs that are not finite.

    Raises:
        BundleError: There are some.
    """
    try:
        yield
    except FloatingPointError as error:
        raise BundleError(networks.name, f"{error}: some weights are too large") from error


def _cascade(settings: Settings) -> Cascade | None:
    threshold = settings.classifier.cascade
    return Cascade(threshold, settings.detections.nms_iou) if threshold else None


def _for_call(
    settings: Settings, *, threshold: float | None, classes: Sequence[str] | None
) -> Settings:
    """Return the settings with the options of one call.

    Raises:
        TypeError: An option has the wrong type.
        SettingsError: Its value is not allowed.
    """
    detections: dict[str, Any] = {}
    if threshold is not None:
        if isinstance(threshold, bool) or not isinstance(threshold, int | float):
            raise TypeError(f"threshold must be a number, not {type(threshold).__name__}")
        detections["score_threshold"] = threshold
    if classes is not None:
        if isinstance(classes, str | bytes):
            raise TypeError(
                f"classes must be a list of names, not a single {type(classes).__name__}"
            )
        detections["classes"] = tuple(classes)
    return settings.replace(detections=detections) if detections else settings


def _as_path(value: str | PathLike[str] | None, name: str) -> Path | None:
    if value is None:
        return None
    if not isinstance(value, str | PathLike):
        raise TypeError(f"{name} must be a path, not {type(value).__name__}")
    return Path(value)


def _as_tables(
    settings: Mapping[str, Mapping[str, Any]] | None,
) -> Mapping[str, Mapping[str, Any]]:
    if settings is None:
        return {}
    if not isinstance(settings, Mapping):
        raise TypeError(
            "settings must be tables such as {'detections': {'max_detections': 10}}, "
            f"not {type(settings).__name__}"
        )
    return settings
