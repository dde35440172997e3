"""Runs on a Ray cluster. `detector.batch.ray_machines` gives out the images.

An image that cannot be used is a failure of its own. What a worker or a machine was working on
when it died is done again.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, Self

from detector.batch.executor import Finished
from detector.batch.workers import Task
from detector.bundles.bundle import Bundle
from detector.detector import check_classes, resolve_runtime
from detector.errors import SettingsError, WorkerError, install_hint
from detector.fingerprint import fingerprint, proposals_file_fingerprint
from detector.formats.records import Header
from detector.preprocessing import Preprocessor
from detector.runtime import BackendName
from detector.settings import Settings

try:
    import ray

    from detector.batch.ray_machines import GONE, Machines, Work, divide, get, live_nodes
except ImportError as error:
    raise SettingsError(f"--engine ray needs {install_hint('ray')}") from error

ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",  # Ray would report its use
    "RAY_BACKEND_LOG_LEVEL": "fatal",  # Ray would print its warnings on the terminal
}
"""Variables that a cluster started here gets, unless they are set."""

SECONDS_TO_NOTICE = 30.0
"""Time after which the head of a cluster knows that a machine is lost, with Ray's own settings."""


class RayExecutor:
    """The machines of a cluster: one named by `RAY_ADDRESS` or `ray start`, or else this machine.

    Each machine classifies with half of its cores, or with each of its GPUs, and preprocesses
    images with the other cores. The bundle travels to the machines. Images, and a file of
    proposals, must be readable on each of them by the same path or URI.

    Args:
        bundle: The bundle.
        settings: The settings of the detector.
        device: "auto", "cpu" or "cuda".
        backend: "auto", "torch" or "openvino".
        proposals_file: A file of proposals that replaces the detector's.
        workers: Maximum number of images that the cluster preprocesses at the same time. By default
            as many as there are cores for.

    Raises:
        BundleError: Weights are missing or altered.
        SettingsError: A class is not the bundle's, or the cluster has no such device.
        FormatError: The file of proposals cannot be read.
        WorkerError: There is no cluster, or it ended.
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
        proposals_fingerprint = proposals_file_fingerprint(proposals_file)
        self.settings = settings
        self.header = Header.of_bundle(manifest.name, bundle.sha256, settings, manifest.classes)
        preprocessor = Preprocessor(
            settings,
            has_multibox=manifest.multibox is not None,
            proposals_file=proposals_file.absolute() if proposals_file else None,
        )

        self._owns_ray = not ray.is_initialized()
        _silence_ray()
        if self._owns_ray:
            _connect(None)
        try:
            self._address: str = ray.get_runtime_context().gcs_address
            device = _choose_device(device)
            arithmetic = _remote_fingerprint(bundle, settings, device, backend)
        except BaseException:
            self.close()
            raise
        self._work = Work(preprocessor, files, settings, device, backend, arithmetic, workers)
        self.fingerprint: Mapping[str, Any] = {**arithmetic, **proposals_fingerprint}

    def __call__(self, tasks: Iterable[Task]) -> Iterator[Finished]:
        """Yield each image once, in the order in which they are finished.

        Raises:
            WorkerError: The cluster is gone, or its machines compute differently.
        """
        by_name = {task.name: task for task in tasks}
        if not by_name:
            return
        try:
            machines = Machines(self._work, by_name.values(), self._reconnect)
            yield from machines.run()
        except ray.exceptions.RayError as error:
            raise _as_worker_error(error) from error

    def close(self) -> None:
        """Leave the cluster; one that was started here ends."""
        if self._owns_ray:
            ray.shutdown()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _reconnect(self) -> None:
        """Connect to the cluster again, through another of its machines on this host.

        Raises:
            WorkerError: There is none.
        """
        if not self._owns_ray:
            raise WorkerError(f"Ray: this machine has left the cluster; {GONE}")
        ray.shutdown()
        time.sleep(SECONDS_TO_NOTICE)
        _connect(self._address)


def _connect(address: str | None) -> None:
    """Connect to a cluster, or start one if there is none and `address` is None.

    Raises:
        WorkerError: There is no cluster at the address, or none can be started.
    """
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    try:
        ray.init(address, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
    except (OSError, RuntimeError, ValueError, ray.exceptions.RayError) as error:
        raise _as_worker_error(error) from error


def _as_worker_error(error: Exception) -> WorkerError:
    """Return an error of Ray as one line."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return WorkerError(f"Ray: {lines[-1].strip()}")


def _silence_ray() -> None:
    """Leave the terminal to the run's own progress and errors."""
    logging.getLogger("ray").setLevel(logging.CRITICAL)


def _choose_device(device: str) -> str:
    """Return "cuda" or "cpu", where the networks run.

    Raises:
        SettingsError: The cluster has no such device, or too few cores.
    """
    if device not in ("auto", "cpu", "cuda"):
        raise SettingsError(f"device {device!r}: on a cluster allowed are auto, cpu and cuda")
    gpus = int(ray.cluster_resources().get("GPU", 0))
    if device == "cuda" and not gpus:
        raise SettingsError("device 'cuda': no machine of the cluster has a GPU")

    chosen = "cuda" if gpus and device != "cpu" else "cpu"
    machines = live_nodes().values()
    if not any(divide(machine, chosen).processes for machine in machines):
        cores = sum(int(machine["Resources"].get("CPU", 0)) for machine in machines)
        raise SettingsError(
            f"--engine ray: the cluster has {cores} cores and {gpus} GPUs; one core for each GPU "
            "and at least one to prepare images are needed"
        )
    return chosen


def _remote_fingerprint(
    bundle: Bundle, settings: Settings, device: str, backend: BackendName | Literal["auto"]
) -> Mapping[str, Any]:
    """Return the fingerprint on a machine that classifies."""
    remote: Any = ray.remote(num_cpus=0.5, num_gpus=1 if device == "cuda" else 0)(_own_fingerprint)
    try:
        found: Mapping[str, Any] = get(remote.remote(bundle, settings, device, backend))
    except ray.exceptions.RayError as error:
        raise _as_worker_error(error) from error
    return found


def _own_fingerprint(
    bundle: Bundle, settings: Settings, device: str, backend: BackendName | Literal["auto"]
) -> dict[str, object]:
    runtime = resolve_runtime(bundle, settings, device=device, backend=backend)
    return fingerprint(bundle.sha256, settings, runtime)
