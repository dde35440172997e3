"""Runs on a Ray cluster: tasks preprocess images, and actors that hold the networks classify them.

An image that cannot be used is a failure of its own. What a worker or a machine was working on
when it died is done again.
"""

from __future__ import annotations

import logging
import math
import os
import pickle
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, Literal, NamedTuple, Self, cast

from detector.batch.executor import DetectedImage, Finished
from detector.batch.local_executor import failed, predict_or_fail, propose_or_fail
from detector.batch.workers import Task
from detector.bundles.bundle import Bundle
from detector.detector import Detector, check_classes, load_networks, resolve_runtime
from detector.errors import LostWorker, SettingsError, WorkerError, install_hint
from detector.fingerprint import fingerprint, proposals_file_fingerprint
from detector.formats.records import Header
from detector.image_types import FailedImage
from detector.preprocessing import Preprocessor, use_one_opencv_thread
from detector.runtime import BackendName
from detector.settings import Settings

try:
    import ray
    from ray import data
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy
except ImportError as error:
    raise SettingsError(f"--engine ray needs {install_hint('ray')}") from error

LARGEST_BLOCK = 16
"""Maximum number of images per task. A killed worker loses only its current block."""

MEMORY = 512 * 2**20
"""Bytes of a machine's memory that Ray reserves for each task that preprocesses images."""

ATTEMPTS = 2
"""Number of workers that may die while working on an image, before it is given up."""

ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",  # Ray would report its use
    "RAY_BACKEND_LOG_LEVEL": "fatal",  # Ray would print its warnings on the terminal
}
"""Variables that a cluster started here gets, unless they are set."""


class RayExecutor:
    """The machines of a cluster: one named by `RAY_ADDRESS` or `ray start`, or else this machine.

    Each machine has an actor that classifies with all of its cores, or one for each GPU. Half of
    its cores may preprocess images meanwhile. The bundle travels to the machines. Images, and a
    file of proposals, must be readable on each of them by the same path or URI.

    Args:
        bundle: The bundle.
        settings: The settings of the detector.
        device: "auto", "cpu" or "cuda".
        backend: "auto", "torch" or "openvino".
        proposals_file: A file of proposals that replaces the detector's.
        workers: Number of tasks that preprocess images at the same time. By default as many as
            there are cores for.

    Raises:
        BundleError: Weights are missing or altered.
        SettingsError: A class is not the bundle's, or the cluster has no such device.
        FormatError: The file of proposals cannot be read.
    """

    def __init__(
        self,
        bundle: Bundle,
        settings: Settings,
        *,
        device: str = "auto",
        backend: BackendName | Literal["auto"] = "auto",
        proposals_file: Path | None = None,
        workers: int | None = None,
    ) -> None:
        manifest = bundle.manifest
        check_classes(settings, manifest.classes)
        files = bundle.read_files()
        self.settings = settings
        self.header = Header.of_bundle(manifest.name, bundle.sha256, settings, manifest.classes)
        self._backend = backend
        self._workers = workers
        self._recipe = _PreprocessorRecipe(
            settings,
            has_multibox=manifest.multibox is not None,
            proposals_file=proposals_file.absolute() if proposals_file else None,
        )

        self._owns_ray = not ray.is_initialized()
        _silence_ray()
        if self._owns_ray:
            _start_ray()
        try:
            self._actors = _plan_actors(device)
            self._files = ray.put(files)
            self._arithmetic = _remote_fingerprint(bundle, settings, self._actors, backend)
            self.fingerprint: Mapping[str, Any] = {
                **self._arithmetic,
                **proposals_file_fingerprint(proposals_file),
            }
        except BaseException:
            self.close()
            raise

    def __call__(self, tasks: Iterable[Task]) -> Iterator[Finished]:
        """Yield each image once, in the order in which they are finished.

        Raises:
            WorkerError: The cluster is gone, or its machines compute differently.
        """
        by_name = {task.name: task for task in tasks}
        if not by_name:
            return
        rows = iter(self._pipeline(list(by_name.values())).iter_rows())
        while row := _next_row(rows):
            finished: Finished = pickle.loads(row["finished"])
            yield replace(finished, task=by_name[finished.task.name])

    def _pipeline(self, tasks: list[Task]) -> Any:
        """Return Ray's dataset of finished images."""
        deaths = _start_death_counter()
        images_per_block = len(tasks) // (8 * int(ray.cluster_resources()["CPU"]))
        images_per_block = min(max(images_per_block, 1), LARGEST_BLOCK)
        rows = data.from_items(
            [{"task": pickle.dumps(_with_absolute_path(task))} for task in tasks],
            override_num_blocks=math.ceil(len(tasks) / images_per_block),
        )

        preprocessed = rows.map(
            partial(_preprocess, self._recipe, deaths),
            compute=data.TaskPoolStrategy(self._workers),
            num_cpus=1,
            memory=MEMORY,  # also keeps Ray Data from running this inside the actors
        )
        return preprocessed.map(
            cast(Any, _Classifier),
            fn_constructor_kwargs={
                "files": self._files,
                "settings": self.settings,
                "device": self._actors.device,
                "backend": self._backend,
                "expected": self._arithmetic,
                "deaths": deaths,
            },
            compute=data.ActorPoolStrategy(size=self._actors.number),
            num_cpus=self._actors.cpus,
            num_gpus=self._actors.gpus,
        )

    def close(self) -> None:
        """Leave the cluster; one that was started here ends."""
        if self._owns_ray:
            ray.shutdown()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _start_ray() -> None:
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    ray.init(include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)


def _silence_ray() -> None:
    """Leave the terminal to the run's own progress and errors."""
    for name in ("ray", "ray.data"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    context = data.DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False


def _next_row(rows: Iterator[dict[str, Any]]) -> dict[str, Any] | None:
    try:
        return next(rows, None)
    except ray.exceptions.RayError as error:
        raise WorkerError(f"Ray: {str(error).strip().splitlines()[-1]}") from error


class _Actors(NamedTuple):
    """The actors that classify, and what each of them takes of its machine."""

    number: int
    device: str
    cpus: int
    gpus: int


def _plan_actors(device: str) -> _Actors:
    """Decide how many actors classify, and where.

    Raises:
        SettingsError: The cluster has no such device, or too few cores.
    """
    if device not in ("auto", "cpu", "cuda"):
        raise SettingsError(f"device {device!r}: on a cluster allowed are auto, cpu and cuda")
    gpus = int(ray.cluster_resources().get("GPU", 0))
    if device == "cuda" and not gpus:
        raise SettingsError("device 'cuda': no machine of the cluster has a GPU")

    machines = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    cores = [int(resources["CPU"]) for resources in machines if resources.get("CPU", 0) >= 1]
    if gpus and device != "cpu":
        actors = _Actors(gpus, "cuda", cpus=1, gpus=1)
    else:
        actors = _Actors(len(cores), "cpu", cpus=max(1, min(cores, default=0) // 2), gpus=0)

    taken = actors.number * actors.cpus
    if sum(cores) <= taken:
        raise SettingsError(
            f"--engine ray: the cluster has {sum(cores)} cores; {taken} to classify and at least "
            "one to prepare images are needed"
        )
    return actors


def _remote_fingerprint(
    bundle: Bundle, settings: Settings, actors: _Actors, backend: BackendName | Literal["auto"]
) -> dict[str, object]:
    """Return the fingerprint on a machine that has an actor."""
    remote: Any = ray.remote(num_cpus=actors.cpus, num_gpus=actors.gpus)(_own_fingerprint)
    found: dict[str, object] = _get(remote.remote(bundle, settings, actors.device, backend))
    return found


def _own_fingerprint(
    bundle: Bundle, settings: Settings, device: str, backend: BackendName | Literal["auto"]
) -> dict[str, object]:
    runtime = resolve_runtime(bundle, settings, device=device, backend=backend)
    return fingerprint(bundle.sha256, settings, runtime)


def _get(reference: Any) -> Any:
    """Return a remote result, or raise the error that was raised there."""
    try:
        return ray.get(reference)
    except ray.exceptions.RayTaskError as error:
        raise error.cause from error


def _with_absolute_path(task: Task) -> Task:
    return task._replace(path=task.path.absolute()) if isinstance(task.path, Path) else task


class _DeathCounter:
    """Counts the workers that died while working on an image: Ray would try again for ever."""

    def __init__(self) -> None:
        self._begun: Counter[str] = Counter()

    def begin(self, name: str) -> None:
        """Note that work on an image begins; `end` follows, unless the worker dies.

        Raises:
            LostWorker: Too many workers died of this image.
        """
        self._begun[name] += 1
        if self._begun[name] > ATTEMPTS:
            raise LostWorker(name, f"{ATTEMPTS} processes that worked on it died")

    def end(self, name: str) -> None:
        """Note that the work on an image ended."""
        del self._begun[name]


def _start_death_counter() -> Any:
    """Start the counter on this machine, which outlives the others."""
    this_machine = ray.get_runtime_context().get_node_id()
    actor: Any = ray.remote(_DeathCounter)
    return actor.options(
        num_cpus=0, scheduling_strategy=NodeAffinitySchedulingStrategy(this_machine, soft=False)
    ).remote()


class _PreprocessorRecipe(NamedTuple):
    """The arguments of a preprocessor."""

    settings: Settings
    has_multibox: bool
    proposals_file: Path | None


@lru_cache(maxsize=1)
def _preprocessor(recipe: _PreprocessorRecipe) -> Preprocessor:
    """Return the preprocessor of this worker process."""
    use_one_opencv_thread()
    return Preprocessor(
        recipe.settings,
        has_multibox=recipe.has_multibox,
        proposals_file=recipe.proposals_file,
    )


def _preprocess(recipe: _PreprocessorRecipe, deaths: Any, row: dict[str, Any]) -> dict[str, Any]:
    """Preprocess a row's task, as a Ray task."""
    task: Task = pickle.loads(row["task"])
    try:
        _get(deaths.begin.remote(task.name))
        image = _preprocessor(recipe).preprocess_file(task.path, task.name)
    except LostWorker as error:
        image = FailedImage(error)
    deaths.end.remote(task.name)
    return {"preprocessed": pickle.dumps((task, image))}


class _Classifier:
    """A detector on one machine or one GPU, as a Ray actor."""

    def __init__(
        self,
        files: ray.ObjectRef[dict[str, bytes]],
        settings: Settings,
        device: str,
        backend: BackendName | Literal["auto"],
        expected: Mapping[str, Any],
        deaths: Any,
    ) -> None:
        self._deaths = deaths
        with tempfile.TemporaryDirectory() as folder:
            for name, content in ray.get(files).items():
                Path(folder, name).write_bytes(content)
            bundle = Bundle.load(folder)
            runtime = resolve_runtime(bundle, settings, device=device, backend=backend)
            self._detector = Detector(load_networks(bundle, settings, runtime), settings)
        if self._detector.fingerprint != expected:
            raise SettingsError(
                "the machines of the cluster compute differently: one has "
                f"{expected}, another {self._detector.fingerprint}"
            )

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        """Propose, classify and select the detections of a row's image."""
        task, preprocessed = pickle.loads(row["preprocessed"])
        finished: Finished
        try:
            _get(self._deaths.begin.remote(task.name))
            proposed = propose_or_fail(self._detector, task.name, preprocessed)
            (finished,) = predict_or_fail(self._detector, [(task, proposed)])
        except LostWorker as error:
            finished = failed(task, FailedImage(error))
        self._deaths.end.remote(task.name)

        # The pixels do not travel back.
        if isinstance(finished, DetectedImage):
            finished = replace(finished, pixels=None)
        return {"finished": pickle.dumps(finished)}
