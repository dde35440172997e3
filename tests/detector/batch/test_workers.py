from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from detector.batch import workers as local
from detector.batch.workers import Task, default_workers, preprocess_ahead
from detector.common.object_storage import StoredFile
from detector.errors import LostWorker, NotAnImage, WorkerError
from detector.image_types import FailedImage, PreprocessedImage
from detector.preprocessing import Preprocessor
from detector.settings import Settings
from proposals import Proposals


class Killed(Preprocessor):
    """Dies on files called `deadly`, as a crash in a decoder would make it."""

    def preprocess_file(
        self, path: Path | StoredFile, name: str
    ) -> PreprocessedImage | FailedImage:
        if "deadly" in name:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().preprocess_file(path, name)


@pytest.mark.parametrize("workers", [1, 2])
def test_order_is_kept_and_errors_are_results(photos: Path, workers: int) -> None:
    (photos / "bad.png").write_text("text")
    names = ["b c é.png", "bad.png", "a.png", "more/d.png"] * 2
    tasks = [Task(photos / name, name) for name in names]
    preparation = Preprocessor(Settings())
    prepared = list(preprocess_ahead(preparation, tasks, workers=workers))
    assert [task.name for task, _ in prepared] == names
    for task, result in prepared:
        expected = preparation.preprocess_file(*task)
        assert result.digest == expected.digest
        if task.name == "bad.png":
            assert isinstance(result, FailedImage)
            assert isinstance(result.error, NotAnImage)
            assert str(result.error).startswith("bad.png: ")
        else:
            assert isinstance(result, PreprocessedImage)
            assert isinstance(expected, PreprocessedImage)
            assert result.proposals.boxes.tolist() == expected.proposals.boxes.tolist()


def test_image_that_kills_its_worker_is_reported_and_the_others_are_done(photos: Path) -> None:
    names = ["a.png", "deadly.png", "b c é.png", "deadly 2.png", "more/d.png"]
    tasks = [Task(photos / name, name) for name in names]
    prepared = list(preprocess_ahead(Killed(Settings()), tasks, workers=2))
    assert [task.name for task, _ in prepared] == names
    for task, result in prepared:
        assert isinstance(result, FailedImage) == ("deadly" in task.name)
        if isinstance(result, FailedImage):
            assert isinstance(result.error, LostWorker)


class Unstartable(Preprocessor):
    """Cannot be sent to a process: what a broken environment looks like."""

    def __setstate__(self, state: object) -> None:
        raise ImportError("something is missing")


def test_processes_that_cannot_start_are_one_error(photos: Path) -> None:
    tasks = [Task(photos / "a.png", "a.png")]
    with pytest.raises(WorkerError, match="worker processes cannot start"):
        list(preprocess_ahead(Unstartable(Settings()), tasks, workers=1))


class Starved(Preprocessor):
    """Has no memory for its engine."""

    def _propose(self, *_: object) -> Proposals:
        raise MemoryError


def test_lack_of_memory_is_reported_and_not_remembered(photos: Path) -> None:
    prepared = Starved(Settings()).preprocess_file(photos / "a.png", "a.png")
    assert isinstance(prepared, FailedImage)
    assert isinstance(prepared.error, LostWorker)
    assert str(prepared.error) == "a.png: could not be worked on: out of memory"
    assert prepared.digest == "", "so that the next run tries again"


def test_images_are_taken_a_bounded_number_ahead(photos: Path) -> None:
    taken = 0

    def tasks() -> object:
        nonlocal taken
        for _ in range(50):
            taken += 1
            yield Task(photos / "a.png", "a.png")

    stream = preprocess_ahead(Preprocessor(Settings()), tasks(), workers=1)  # type: ignore[arg-type]
    next(stream)
    assert taken <= 4
    stream.close()


def test_workers_end_when_their_parent_is_killed(photos: Path) -> None:
    code = (
        "import sys, time\n"
        "from pathlib import Path\n"
        "from detector.batch.workers import Task, preprocess_ahead\n"
        "from detector.preprocessing import Preprocessor\n"
        "from detector.settings import Settings\n"
        "if __name__ == '__main__':\n"
        "    tasks = (Task(Path(sys.argv[1]), 'a') for _ in range(1000))\n"
        "    for _ in preprocess_ahead(Preprocessor(Settings()), tasks, workers=2):\n"
        "        print('ready', flush=True)\n"
        "        time.sleep(60)\n"
    )
    script = photos / "run.py"
    script.write_text(code)
    root = Path(__file__).parents[3]
    parent = subprocess.Popen(
        [sys.executable, str(script), str(photos / "a.png")],
        stdout=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": str(root)},
    )
    with parent:
        assert parent.stdout is not None
        assert parent.stdout.readline() == b"ready\n"
        workers = children(parent.pid)
        assert len(workers) >= 2
        parent.kill()
    deadline = time.monotonic() + 20
    while any(map(is_alive, workers)) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not any(map(is_alive, workers))


def children(pid: int) -> list[int]:
    found = subprocess.run(["ps", "-eo", "pid=,ppid="], capture_output=True, text=True, check=True)
    pairs = (map(int, line.split()) for line in found.stdout.splitlines())
    return [child for child, parent in pairs if parent == pid]


def is_alive(pid: int) -> bool:
    state = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True)
    return bool(state.stdout.strip()) and not state.stdout.strip().startswith("Z")


@pytest.mark.parametrize(("cores", "workers"), [(1, 1), (2, 1), (8, 7)])
def test_default_leaves_a_core_to_the_classifier(
    cores: int, workers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local, "available_cores", lambda: cores)
    assert default_workers() == workers
