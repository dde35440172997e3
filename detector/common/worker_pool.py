"""Processes that work on one task each, within limits of time and memory.

A process that dies, or that needs more than its task may have, takes only that task with it: its
future gets an error, and another process takes its place. Processes are spawned, ignore the signals
that a terminal or a supervisor sends to the whole group, and end when their parent dies.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from pathlib import Path
from typing import Any, Generic, TypeVar

Argument = TypeVar("Argument")
Outcome = TypeVar("Outcome")

SECONDS_BETWEEN_LOOKS = 0.1
"""Time between two looks at the memory of busy processes."""

SECONDS_BETWEEN_STARTS = 1.0
"""Time after which a process that could not be started is tried again."""

SPAWN = multiprocessing.get_context("spawn")


class WorkerDied(Exception):
    """The process that worked on a task died."""


class WorkerUnstartable(Exception):
    """No process can be started, or it dies before it takes a task."""


class TaskTooLarge(Exception):
    """A task needed more time or memory than it may have. The message says which, and how much."""


@dataclass(frozen=True)
class Limits:
    """What one task may need.

    Args:
        seconds: Time.
        memory: Resident memory of the process in bytes. It is known on Linux only.
    """

    seconds: float
    memory: int


@dataclass(eq=False)
class _Job(Generic[Argument, Outcome]):
    argument: Argument
    limits: Limits
    future: Future[Outcome] = field(default_factory=Future)


@dataclass(eq=False)
class _Worker:
    """A process and the end of its pipe."""

    process: SpawnProcess
    connection: Connection
    ready: bool = False
    """Whether it has started."""
    job: _Job[Any, Any] | None = None
    deadline: float = 0.0


class WorkerPool(Generic[Argument, Outcome]):
    """A number of processes. Tasks wait in line for a free one.

    Args:
        count: Number of processes. They are started when there are tasks for them.
        prepare: Is called in each process at its start, and returns the function that works on a
            task. It is sent to the processes, as arguments and outcomes are.
    """

    def __init__(self, count: int, prepare: Callable[[], Callable[[Argument], Outcome]]) -> None:
        self._count = count
        self._prepare = prepare
        self._jobs: deque[_Job[Argument, Outcome]] = deque()
        self._workers: list[_Worker] = []
        self._wanted = 0
        """Number of processes to keep running."""
        self._next_start = 0.0
        """Time from which another process may be started."""
        self.startable = True
        """Whether the last attempt to start a process succeeded."""
        self.deaths = 0
        """Number of processes that died, or were ended because their task was too large."""
        self._started = threading.Event()
        self._closed = False
        self._lock = threading.Lock()
        self._wakeup, self._waker = SPAWN.Pipe(duplex=False)
        self._thread = threading.Thread(target=self._run, name="worker pool", daemon=True)
        self._thread.start()

    @property
    def ready(self) -> bool:
        """Whether all processes that should run do so, or can be started when they are needed."""
        return self.startable and not self._closed

    def submit(self, argument: Argument, limits: Limits) -> Future[Outcome]:
        """Add a task to the line.

        Args:
            argument: What the function of the processes gets.
            limits: What the task may need.

        Returns:
            The future outcome. Its error is one of the function, or `WorkerDied`, `TaskTooLarge` or
            `WorkerUnstartable`.
        """
        job: _Job[Argument, Outcome] = _Job(argument, limits)
        with self._lock:
            if self._closed:
                raise RuntimeError("the pool is closed")
            self._jobs.append(job)
        self._wake()
        return job.future

    def start(self) -> None:
        """Start all processes now, and keep that number running."""
        with self._lock:
            self._wanted = self._count
        self._wake()

    def wait_until_started(self) -> None:
        """Wait until all processes that should run have started, or one could not be started."""
        self._started.wait()

    def close(self) -> None:
        """End all processes at once; tasks that are not finished are cancelled."""
        with self._lock:
            self._closed = True
        self._wake()
        self._thread.join()

    def _wake(self) -> None:
        with suppress(OSError):  # the thread has ended
            self._waker.send_bytes(b"")

    def _run(self) -> None:
        """Hand out tasks and collect outcomes, until the pool is closed."""
        try:
            while not self._closed:
                self._start_processes()
                self._hand_out()
                connections = [worker.connection for worker in self._workers]
                for ready in wait([self._wakeup, *connections], self._timeout()):
                    if ready is self._wakeup:
                        self._wakeup.recv_bytes()
                    else:
                        self._receive(next(w for w in self._workers if w.connection is ready))
                self._end_overrunning()
        finally:
            self._end_all()

    def _start_processes(self) -> None:
        """Start a process for each task that waits for one, within the pool's number."""
        with self._lock:
            waiting = len(self._jobs)
        idle = sum(worker.job is None for worker in self._workers)
        missing = max(waiting - idle, self._wanted - len(self._workers))
        room = self._count - len(self._workers)
        for _ in range(min(missing, room)):
            if time.monotonic() < self._next_start:
                return
            try:
                self._workers.append(_start(self._prepare))
            except OSError as error:  # no descriptors, no memory, no processes left
                self._refuse_start(f"no process can be started: {error.strerror or error}")
                return

    def _refuse_start(self, reason: str) -> None:
        """Remember that a process could not be started, and fail the tasks that wait for one."""
        self.startable = False
        self._started.set()
        self._next_start = time.monotonic() + SECONDS_BETWEEN_STARTS
        if not any(worker.ready for worker in self._workers):
            with self._lock:
                jobs = list(self._jobs)
                self._jobs.clear()
            for job in jobs:
                _fail(job, WorkerUnstartable(reason))

    def _hand_out(self) -> None:
        """Give a task to each process that is free."""
        for worker in list(self._workers):
            if not worker.ready or worker.job is not None:
                continue
            job = self._next_job()
            if job is None:
                return
            worker.job = job
            worker.deadline = time.monotonic() + job.limits.seconds
            try:
                worker.connection.send(job.argument)
            except OSError:  # it died while it was idle
                worker.job = None
                with self._lock:
                    self._jobs.appendleft(job)
                self._remove(worker)

    def _next_job(self) -> _Job[Argument, Outcome] | None:
        with self._lock:
            while self._jobs:
                job = self._jobs.popleft()
                # One that was handed to a dying process is running already.
                if job.future.running() or job.future.set_running_or_notify_cancel():
                    return job
        return None

    def _receive(self, worker: _Worker) -> None:
        """Take what a process has sent: that it has started, or the outcome of its task."""
        try:
            message = worker.connection.recv()
        except (EOFError, OSError):
            self._bury(worker)
            return
        except Exception as error:  # an outcome that cannot be read back
            message = (False, error)

        if not worker.ready:
            worker.ready = True
            self.startable = True
            if sum(other.ready for other in self._workers) >= self._wanted:
                self._started.set()
            return
        job = worker.job
        worker.job = None
        if job is None:
            return
        succeeded, outcome = message
        with suppress(InvalidStateError):
            if succeeded:
                job.future.set_result(outcome)
            else:
                job.future.set_exception(outcome)

    def _bury(self, worker: _Worker) -> None:
        """Fail the task of a process that has died."""
        job = worker.job
        was_ready = worker.ready
        self._remove(worker)
        self.deaths += 1
        if job is not None:
            _fail(job, WorkerDied(f"it ended with {worker.process.exitcode}"))
        elif not was_ready:
            self._refuse_start("it dies when it starts")

    def _end_overrunning(self) -> None:
        """End the processes whose tasks need more than they may."""
        now = time.monotonic()
        for worker in list(self._workers):
            job = worker.job
            if job is None:
                continue
            if now >= worker.deadline:
                reason = f"{job.limits.seconds:g} s"
            elif _resident_bytes(worker.process.pid) > job.limits.memory:
                reason = f"{job.limits.memory >> 20} MiB"
            else:
                continue
            self._remove(worker)
            self.deaths += 1
            _fail(job, TaskTooLarge(f"needs more than {reason}"))

    def _timeout(self) -> float | None:
        """Return after how many seconds something may have to be done."""
        if any(worker.job is not None for worker in self._workers):
            return SECONDS_BETWEEN_LOOKS
        with self._lock:
            waits = bool(self._jobs) or len(self._workers) < self._wanted
        return SECONDS_BETWEEN_STARTS if waits else None

    def _remove(self, worker: _Worker) -> None:
        self._workers.remove(worker)
        worker.process.kill()
        worker.process.join()
        worker.connection.close()

    def _end_all(self) -> None:
        self._closed = True
        self._started.set()
        running = [worker.job for worker in self._workers if worker.job is not None]
        for worker in list(self._workers):
            self._remove(worker)
        with self._lock:
            waiting = list(self._jobs)
            self._jobs.clear()
        for job in waiting:
            job.future.cancel()
        for job in running:
            _fail(job, WorkerDied("the pool was closed"))
        self._wakeup.close()
        self._waker.close()


def use_signals_of_parent() -> None:
    """Ignore the signals that a terminal or a supervisor sends to all processes of a group.

    The parent decides what they mean.
    """
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)


def end_with_parent() -> None:
    """End this process when its parent dies."""
    parent = multiprocessing.parent_process()
    if parent is None:
        return

    def wait_for_end() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=wait_for_end, daemon=True).start()


def _start(prepare: Callable[[], Callable[[Any], Any]]) -> _Worker:
    """Start a process, from the pool's thread.

    Raises:
        OSError: The system does not allow it.
    """
    # The process inherits blocked signals until it can ignore them, so that Ctrl-C does not tear
    # its start. Python's resource tracker would unblock them if the first process started it.
    resource_tracker.ensure_running()
    signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGINT, signal.SIGTERM))
    ours, theirs = SPAWN.Pipe()
    process = SPAWN.Process(target=_work, args=(theirs, prepare), daemon=True)
    try:
        process.start()
    except BaseException:
        ours.close()
        raise
    finally:
        theirs.close()
    return _Worker(process, ours)


def _work(connection: Connection, prepare: Callable[[], Callable[[Any], Any]]) -> None:
    """Work on tasks until the parent closes the pipe."""
    use_signals_of_parent()
    end_with_parent()
    function = prepare()
    connection.send(None)
    while True:
        try:
            argument = connection.recv()
        except EOFError:
            return
        try:
            message = (True, function(argument))
        except Exception as error:  # it belongs to the task
            message = (False, error)
        connection.send(message)
        del argument, message


def _fail(job: _Job[Any, Any], error: Exception) -> None:
    if not job.future.running() and not job.future.set_running_or_notify_cancel():
        return
    with suppress(InvalidStateError):
        job.future.set_exception(error)


def _resident_bytes(pid: int | None) -> int:
    """Return the resident memory of a process, or 0 where the system does not tell."""
    try:
        fields = Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()
    except OSError:
        return 0
    return int(fields[1]) * os.sysconf("SC_PAGE_SIZE")
