"""A run on a Ray cluster: tasks prepare images, actors that hold the networks classify them.

What is wrong with an image is its own failure; what a worker or a
machine that dies had in hand is done again.
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
from typing import TYPE_CHECKING, Any, NamedTuple, Self, cast

from detector.batch.local_executor import Finished, classify, given_fingerprint
from detector.batch.workers import Task
from detector.bundles.bundle import Bundle
from detector.errors import LostWorker, SettingsError, WorkerError
from detector.preprocessing import Prepared, Preprocessor, single_threaded
from detector.settings import Settings

if TYPE_CHECKING:
    from detector.backends.choice import BackendName

os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # it would report its use
os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")  # or its warnings stand on the terminal

try:
    import ray
    from ray import data
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy
except ImportError as error:
    raise SettingsError("--engine ray needs pip install 'going-deeper-detector[ray]'") from error

LARGEST_BLOCK = 16
"""Images that a task prepares, at most; what a kill loses is what is in work."""

MEMORY = 512 * 2**20
"""Bytes that Ray sets aside on a machine for each task that prepares images."""

ATTEMPTS = 2
"""Workers that may die at work on an image, after which it is given up."""


class RayExecutor:
    """A cluster's machines: the one that `RAY_ADDRESS` or `ray start` names, or else this one.

    Each machine has an actor that classifies with all of its cores, or one for each GPU; half of
    its cores may prepare images meanwhile. The bundle travels to the machines; photos, and a file
    of proposals, must be readable on each of them by the same path or URI.

    Args:
        given: a file of proposals to use in place of the detector's.
        workers: tasks that prepare images at once; as many as there are cores for, if not given.

    Raises:
        BundleError: its weights are missing or altered.
        SettingsError: a class is not the bundle's, or the cluster has no such device.
        FormatError: `given` cannot be read.
    """

    def __init__(
        self,
        bundle: Bundle,
        settings: Settings,
        *,
        device: str = "auto",
        backend: BackendName = "auto",
        given: Path | None = None,
        workers: int | None = None,
    ) -> None:
        from detector.detector import check_classes

        check_classes(settings, bundle.manifest.classes)
        files = bundle.contents()
        self.bundle, self.settings = bundle, settings
        has_multibox = bundle.manifest.multibox is not None
        self._recipe = _Recipe(settings, given.absolute() if given else None, has_multibox)
        self._workers = workers
        self._owns_ray = not ray.is_initialized()
        _quieten()
        if self._owns_ray:
            ray.init(include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
        try:
            self._actors = _actors(device)
            self._files = ray.put(files)
            self._arithmetic = _arithmetic(bundle, settings, self._actors, backend)
        except BaseException:
            self.close()
            raise
        self._backend = backend
        self.fingerprint: Mapping[str, Any] = {**self._arithmetic, **given_fingerprint(given)}

    def __call__(self, tasks: Iterable[Task]) -> Iterator[Finished]:
        """Each file once, in the order in which they get finished.

        Raises:
            WorkerError: the cluster is gone, or its machines compute differently.
        """
        own = {task.name: task for task in tasks}
        if not own:
            return
        images = len(own) // (8 * int(ray.cluster_resources()["CPU"]))
        here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
        actor: Any = ray.remote(_Deaths)
        deaths = actor.options(num_cpus=0, scheduling_strategy=here).remote()
        found = (
            data.from_items(
                [{"task": pickle.dumps(_absolute(task))} for task in own.values()],
                override_num_blocks=math.ceil(len(own) / min(max(images, 1), LARGEST_BLOCK)),
            )
            .map(
                partial(_prepare, self._recipe, deaths),
                compute=data.TaskPoolStrategy(self._workers),
                num_cpus=1,
                memory=MEMORY,  # and so Ray Data does not run this inside the actors
            )
            .map(
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
        )
        rows = iter(found.iter_rows())
        while row := _next(rows):
            name, prepared, result = pickle.loads(row["finished"])
            yield Finished(own[name], prepared, result)

    def close(self) -> None:
        """Leave the cluster; one that was started here ends."""
        if self._owns_ray:
            ray.shutdown()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _next(rows: Iterator[dict[str, Any]]) -> dict[str, Any] | None:
    try:
        return next(rows, None)
    except ray.exceptions.RayError as error:
        raise WorkerError(f"Ray: {str(error).strip().splitlines()[-1]}") from error


def _quieten() -> None:
    """Leave the terminal to the run's own progress and errors."""
    for name in ("ray", "ray.data"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    context = data.DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False


class _Actors(NamedTuple):
    """Those that classify, and what each takes of its machine."""

    number: int
    device: str
    cpus: int
    gpus: int


def _actors(device: str) -> _Actors:
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
    if sum(cores) <= (taken := actors.number * actors.cpus):
        raise SettingsError(
            f"--engine ray: the cluster has {sum(cores)} cores; {taken} to classify and at least "
            "one to prepare images are needed"
        )
    return actors


def _arithmetic(
    bundle: Bundle, settings: Settings, actors: _Actors, backend: BackendName
) -> dict[str, object]:
    """What changes results, on a machine that has an actor."""
    from detector.detector import fingerprint

    look: Any = ray.remote(num_cpus=actors.cpus, num_gpus=actors.gpus)(fingerprint)
    found: dict[str, object] = _get(look.remote(bundle, settings, actors.device, backend))
    return found


def _get(reference: Any) -> Any:
    """A result, or the error that was raised instead."""
    try:
        return ray.get(reference)
    except ray.exceptions.RayTaskError as error:
        raise error.cause from error


def _absolute(task: Task) -> Task:
    return task._replace(path=task.path.absolute()) if isinstance(task.path, Path) else task


class _Deaths:
    """How many workers died of each image: Ray itself would try again without end."""

    def __init__(self) -> None:
        self._begun: Counter[str] = Counter()

    def begin(self, name: str) -> None:
        """Work on an image begins. It ends with `end`, unless the worker dies.

        Raises:
            LostWorker: that has happened too often.
        """
        self._begun[name] += 1
        if self._begun[name] > ATTEMPTS:
            raise LostWorker(name, f"{ATTEMPTS} processes that worked on it died")

    def end(self, name: str) -> None:
        del self._begun[name]


class _Recipe(NamedTuple):
    """What a preparation is made of."""

    settings: Settings
    given: Path | None
    multibox: bool


@lru_cache(maxsize=1)
def _preparation(recipe: _Recipe) -> Preprocessor:
    single_threaded()
    return Preprocessor(recipe.settings, given=recipe.given, multibox=recipe.multibox)


def _prepare(recipe: _Recipe, deaths: Any, row: dict[str, Any]) -> dict[str, Any]:
    task: Task = pickle.loads(row["task"])
    try:
        _get(deaths.begin.remote(task.name))
        prepared = _preparation(recipe).file(task.path, task.name)
    except LostWorker as error:
        prepared = Prepared({}, error=error)
    deaths.end.remote(task.name)
    return {"prepared": pickle.dumps((task.name, prepared))}


class _Classifier:
    """A detector on one machine, or on one of its GPUs."""

    def __init__(
        self,
        files: ray.ObjectRef[dict[str, bytes]],
        settings: Settings,
        device: str,
        backend: BackendName,
        expected: Mapping[str, Any],
        deaths: Any,
    ) -> None:
        from detector.detector import Detector

        self._deaths = deaths
        with tempfile.TemporaryDirectory() as folder:
            for name, content in ray.get(files).items():
                Path(folder, name).write_bytes(content)
            bundle = Bundle.load(folder)
            self._detector = Detector(bundle, settings, device=device, backend=backend)
        if self._detector.fingerprint != expected:
            raise SettingsError(
                "the machines of the cluster compute differently: one has "
                f"{expected}, another {self._detector.fingerprint}"
            )

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        from detector.detector import Result

        name, prepared = pickle.loads(row["prepared"])
        try:
            _get(self._deaths.begin.remote(name))
            ((prepared, result),) = classify(self._detector, [(name, prepared)])
        except LostWorker as error:
            prepared, result = Prepared({}, error=error), Result(error=error)
        self._deaths.end.remote(name)
        return {"finished": pickle.dumps((name, replace(prepared, image=None), result))}
