"""Gives out the images of a run to the machines of a Ray cluster, while machines come and go.

Ray tells that an actor or its machine has died, and never repeats a call by itself. What had been
given to the actor is given out again. A machine that joins gets actors as the others have.
"""

from __future__ import annotations

import pickle
import socket
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, NamedTuple

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from detector.batch.executor import Finished
from detector.batch.local_executor import failed
from detector.batch.ray_actors import ClassifyingActor, PreprocessingActor
from detector.batch.workers import Task
from detector.errors import LostWorker, WorkerError
from detector.image_types import FailedImage
from detector.preprocessing import Preprocessor
from detector.runtime import BackendName
from detector.settings import Settings

MEMORY = 512 * 2**20
"""Bytes of a machine's memory that Ray reserves for each process that preprocesses images."""

AHEAD = 2
"""Number of images that each classifying actor has or is about to get: while it works on one, the
next one travels."""

ATTEMPTS = 2
"""Number of actors that may die while classifying an image, before it is given up."""

STARTS = 3
"""Number of actors that may die one after the other on a machine, before it is no longer used."""

SECONDS_BETWEEN_LOOKS = 1.0
"""Time between two looks at which machines the cluster has."""

SECONDS_WITHOUT_HEAD = 20.0
"""Time for which the head of the cluster may be out of reach. After 60 s, Ray ends the process."""

SECONDS_WITHOUT_MACHINES = 60.0
"""Time for which the cluster may have no machine to compute on. Another may join."""

SECONDS_TO_START = 600.0
"""Time in which one of the machines must be ready: others' work may keep them busy."""

GONE = "the same command goes on from here once the cluster runs"


class Work(NamedTuple):
    """What the machines do.

    Args:
        preprocessor: The first step.
        bundle_files: Contents of the bundle's files by name.
        settings: The settings of the detector.
        device: "cpu" or "cuda".
        backend: "auto", "torch" or "openvino".
        fingerprint: The fingerprint that the detectors of all machines must have.
        workers: Maximum number of images to preprocess at the same time on all machines, or None.
    """

    preprocessor: Preprocessor
    bundle_files: Mapping[str, bytes]
    settings: Settings
    device: str
    backend: BackendName | Literal["auto"]
    fingerprint: Mapping[str, Any]
    workers: int | None


class Shares(NamedTuple):
    """How a machine's cores are divided."""

    classifiers: int
    """Number of actors that classify: one, or one for each GPU."""
    classifier_cpus: float
    """Cores of each of them."""
    preprocessing_cpus: float
    """Cores of the actor that preprocesses."""
    processes: int
    """Number of its processes."""


def live_nodes() -> dict[str, dict[str, Any]]:
    """Return Ray's description of each machine of the cluster, by id."""
    return {node["NodeID"]: node for node in ray.nodes() if node["Alive"]}


def divide(node: Mapping[str, Any], device: str) -> Shares:
    """Divide the cores of a machine between the two steps.

    Args:
        node: Ray's description of the machine.
        device: "cpu" or "cuda", what classifies.
    """
    resources = node["Resources"]
    cores = int(resources.get("CPU", 0))
    if device == "cuda":
        classifiers, classifier_cpus = int(resources.get("GPU", 0)), 1.0
        rest = max(0.0, cores - classifiers * classifier_cpus)
    elif cores <= 1:
        classifiers, classifier_cpus = cores, 0.5
        rest = 0.5 * cores
    else:
        classifiers, classifier_cpus = 1, float(cores // 2)
        rest = cores - classifier_cpus

    processes = 0
    if rest:
        processes = max(1, min(int(rest), int(resources.get("memory", 0)) // MEMORY))
    return Shares(classifiers, classifier_cpus, rest, processes)


@dataclass(eq=False)
class _Actor:
    """An actor of ours."""

    handle: Any
    node: str
    """Id of its machine."""
    capacity: int
    """Number of images that it may have."""
    classifies: bool
    ready: bool = False
    """Whether `load` has returned."""
    calls: list[Any] = field(default_factory=list)
    """References of the outcomes that it owes, oldest first."""

    @property
    def has_room(self) -> bool:
        return self.ready and len(self.calls) < self.capacity


class _Call(NamedTuple):
    """A method of an actor that was called."""

    actor: _Actor
    task: Task | None
    """The image, or None for `load`."""
    image: Any = None
    """Reference of the preprocessed image that the call makes, or None."""


class Machines:
    """The machines of the cluster that this process is connected to, for one run.

    Args:
        work: What they do.
        tasks: The images.
        reconnect: Connects to the cluster through another machine when this one's Ray has died.
    """

    def __init__(self, work: Work, tasks: Iterable[Task], reconnect: Callable[[], None]) -> None:
        self._work = work
        self._reconnect = reconnect
        self._files = ray.put(work.bundle_files)
        self._waiting = deque(tasks)
        self._preprocessed: deque[tuple[Task, Any]] = deque()
        """Images and references of them that wait for an actor that classifies."""
        self._actors: list[_Actor] = []
        self._calls: dict[Any, _Call] = {}
        """Calls by the reference of their outcome."""
        self._deaths: Counter[str] = Counter()
        """Number of actors that died while they classified an image, by its name."""
        self._failed_starts: Counter[str] = Counter()
        """Number of actors that died on a machine since it last finished something."""
        self._next_look = 0.0
        self._last_ready = time.monotonic()
        self._own_raylet = _own_raylet()
        """Address of the Ray process of this machine."""

    def run(self) -> Iterator[Finished]:
        """Yield each image once, in the order in which they are finished.

        Raises:
            WorkerError: The cluster is gone, or its machines compute differently.
        """
        try:
            while self._waiting or self._preprocessed or any(c.task for c in self._calls.values()):
                self._look_after_machines()
                self._give_out()
                if not self._calls:
                    time.sleep(SECONDS_BETWEEN_LOOKS)
                    continue
                ready, _ = ray.wait(
                    list(self._calls), timeout=SECONDS_BETWEEN_LOOKS, fetch_local=False
                )
                for reference in ready:
                    yield from self._receive(reference)
        finally:
            for actor in self._actors:
                with suppress(Exception):  # Ray has ended
                    ray.kill(actor.handle)

    def _look_after_machines(self) -> None:
        """Start the actors that machines lack, and check that there is something to wait for."""
        now = time.monotonic()
        if now < self._next_look:
            return
        self._next_look = now + SECONDS_BETWEEN_LOOKS

        _await_head()
        if not _is_in_reach(self._own_raylet):
            self._start_again()
            return
        nodes = live_nodes()
        for actor in [actor for actor in self._actors if actor.node not in nodes]:
            self._bury(actor)

        usable = {
            node: description
            for node, description in nodes.items()
            if self._failed_starts[node] < STARTS
        }
        for node, description in usable.items():
            self._start_missing(node, divide(description, self._work.device))
        self._check_progress(usable)

    def _check_progress(self, usable: Mapping[str, Any]) -> None:
        """Raise `WorkerError` if no machine has been ready for too long."""
        now = time.monotonic()
        kinds = {actor.classifies for actor in self._actors if actor.ready}
        if len(kinds) == 2:
            self._last_ready = now
        shares = [divide(node, self._work.device) for node in usable.values()]
        can_start = any(s.classifiers for s in shares) and any(s.processes for s in shares)
        patience = SECONDS_TO_START if can_start else SECONDS_WITHOUT_MACHINES
        if now - self._last_ready > patience:
            raise WorkerError(
                f"Ray: no machine of the cluster could work for {patience:.0f} s; {GONE}"
            )

    def _start_again(self) -> None:
        """Connect anew, after this machine's part of Ray has died. Actors died with it."""
        for call in self._calls.values():
            if call.task is not None:
                self._waiting.appendleft(call.task)
        self._waiting.extendleft(task for task, _ in self._preprocessed)
        self._preprocessed.clear()
        self._calls.clear()
        self._actors.clear()
        self._reconnect()
        self._own_raylet = _own_raylet()
        self._files = ray.put(self._work.bundle_files)
        self._next_look = 0.0

    def _start_missing(self, node: str, shares: Shares) -> None:
        """Start the actors that a machine lacks."""
        present = Counter(actor.classifies for actor in self._actors if actor.node == node)
        for _ in range(shares.classifiers - present[True]):
            handle = self._make(
                ClassifyingActor,
                node,
                num_cpus=shares.classifier_cpus,
                num_gpus=1 if self._work.device == "cuda" else 0,
            ).remote()
            actor = _Actor(handle, node, AHEAD, classifies=True)
            work = self._work
            self._load(actor, self._files, work.settings, work.device, work.backend)

        if shares.processes and not present[False]:
            handle = self._make(
                PreprocessingActor,
                node,
                num_cpus=shares.preprocessing_cpus,
                memory=MEMORY * shares.processes,
                max_concurrency=shares.processes,
            ).remote(self._work.preprocessor, shares.processes)
            self._load(_Actor(handle, node, shares.processes, classifies=False))

    def _make(self, kind: type, node: str, **options: Any) -> Any:
        """Return a class of actors that live on a machine and die with it."""
        remote: Any = ray.remote(kind)
        return remote.options(
            max_restarts=0,
            max_task_retries=0,
            scheduling_strategy=NodeAffinitySchedulingStrategy(node, soft=False),
            **options,
        )

    def _load(self, actor: _Actor, *arguments: Any) -> None:
        self._actors.append(actor)
        self._call(_Call(actor, None), actor.handle.load.remote(*arguments))

    def _call(self, call: _Call, reference: Any) -> None:
        """Remember a call until its outcome arrives."""
        call.actor.calls.append(reference)
        self._calls[reference] = call

    def _give_out(self) -> None:
        """Give images to all actors that have room."""
        while self._preprocessed and (actor := self._least_busy(classifies=True)):
            task, image = self._preprocessed.popleft()
            reference = actor.handle.work.remote(_with_absolute_path(task), image)
            self._call(_Call(actor, task), reference)

        # Images that nobody classifies yet fill the memory of the machines.
        classifiers = sum(actor.classifies and actor.ready for actor in self._actors)
        while self._waiting and len(self._preprocessed) < AHEAD * max(1, classifiers):
            busy = sum(len(a.calls) for a in self._actors if a.ready and not a.classifies)
            actor = self._least_busy(classifies=False)
            if actor is None or busy >= (self._work.workers or busy + 1):
                return
            task = self._waiting.popleft()
            method = actor.handle.work.options(num_returns=2)
            reference, image = method.remote(_with_absolute_path(task))
            self._call(_Call(actor, task, image), reference)

    def _least_busy(self, *, classifies: bool) -> _Actor | None:
        """Return the actor of a kind that has room and the fewest images."""
        candidates = [a for a in self._actors if a.classifies == classifies and a.has_room]
        return min(candidates, key=lambda actor: len(actor.calls) / actor.capacity, default=None)

    def _receive(self, reference: Any) -> Iterator[Finished]:
        """Take the outcome of a call, and yield the image if it is finished."""
        call = self._calls.get(reference)
        if call is None:  # its actor was buried
            return
        try:
            outcome = get(reference)
        except ray.exceptions.RayActorError:
            yield from self._bury(call.actor)
            return
        except ray.exceptions.RayError:  # the machine that had the image was lost
            self._forget(call, reference)
            if call.task is None:
                yield from self._bury(call.actor)
            else:
                self._waiting.appendleft(call.task)
            return
        self._forget(call, reference)

        if call.task is None:
            self._check(call.actor, outcome)
            call.actor.ready = True
            return
        self._failed_starts[call.actor.node] = 0
        if call.actor.classifies:
            finished: Finished = pickle.loads(outcome)
            yield replace(finished, task=call.task)
        elif outcome is None:
            self._preprocessed.append((call.task, call.image))
        else:
            yield failed(call.task, outcome)

    def _forget(self, call: _Call, reference: Any) -> None:
        del self._calls[reference]
        call.actor.calls.remove(reference)

    def _check(self, actor: _Actor, fingerprint: Mapping[str, Any]) -> None:
        """Check that an actor computes as all others do."""
        if actor.classifies and fingerprint != self._work.fingerprint:
            raise WorkerError(
                "the machines of the cluster compute differently: one has "
                f"{self._work.fingerprint}, another {fingerprint}"
            )

    def _bury(self, actor: _Actor) -> list[Finished]:
        """Take back the images of an actor that has died, and return those that are given up."""
        self._actors.remove(actor)
        self._failed_starts[actor.node] += 1
        with suppress(Exception):  # it may live, but be out of reach
            ray.kill(actor.handle)

        given_up: list[Finished] = []
        calls = [self._calls.pop(reference) for reference in actor.calls]
        tasks = [call.task for call in calls if call.task is not None]
        machine_lives = actor.node in live_nodes()
        if actor.classifies and tasks and machine_lives:
            # It works on one after the other, so it died of the first.
            task = tasks[0]
            self._deaths[task.name] += 1
            if self._deaths[task.name] >= ATTEMPTS:
                message = f"{ATTEMPTS} processes that worked on it died"
                given_up.append(failed(task, FailedImage(LostWorker(task.name, message))))
                tasks = tasks[1:]
        self._waiting.extendleft(reversed(tasks))
        return given_up


def get(reference: Any) -> Any:
    """Return a remote result, or raise the error that was raised there."""
    try:
        return ray.get(reference, timeout=SECONDS_TO_START)
    except ray.exceptions.RayTaskError as error:
        raise error.cause from error


def _await_head() -> None:
    """Wait until the head of the cluster is in reach.

    Raises:
        WorkerError: It is not.
    """
    host, _, port = ray.get_runtime_context().gcs_address.rpartition(":")
    deadline = time.monotonic() + SECONDS_WITHOUT_HEAD
    while not _is_in_reach((host.strip("[]"), int(port))):
        if time.monotonic() > deadline:
            raise WorkerError(
                f"Ray: the head of the cluster ({host}:{port}) cannot be reached; {GONE}"
            )
        time.sleep(SECONDS_BETWEEN_LOOKS)


def _own_raylet() -> tuple[str, int]:
    """Return the address of the Ray process that connects this one with the cluster.

    If it dies, Ray ends this process at some later call.
    """
    node = live_nodes()[ray.get_runtime_context().get_node_id()]
    return node["NodeManagerAddress"], node["NodeManagerPort"]


def _is_in_reach(address: tuple[str, int]) -> bool:
    """Return whether a host listens at an address."""
    try:
        socket.create_connection(address, timeout=5).close()
    except OSError:
        return False
    return True


def _with_absolute_path(task: Task) -> Task:
    return task._replace(path=task.path.absolute()) if isinstance(task.path, Path) else task
