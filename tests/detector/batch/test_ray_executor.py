"""Runs on a Ray cluster of two machines, which are groups of processes on this one."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import ray
from PIL import Image as PillowImage
from ray.cluster_utils import Cluster

from detector import Detector
from detector.batch import ray_machines
from detector.batch.inputs import find_images
from detector.batch.local_executor import LocalExecutor
from detector.batch.outputs import Outputs
from detector.batch.ray_executor import RayExecutor
from detector.batch.ray_machines import divide
from detector.batch.runner import Summary, run
from detector.bundles.bundle import Bundle
from detector.commands.run import command
from detector.errors import BundleError, FormatError, SettingsError, WorkerError
from detector.preprocessing import Preprocessor
from detector.settings import Settings
from tests.support.images import scene
from tests.support.progress import reporting_to

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")


QUICK_TO_NOTICE = {
    "health_check_initial_delay_ms": 1000,
    "health_check_period_ms": 500,
    "health_check_timeout_ms": 5000,
    "health_check_failure_threshold": 3,
}
"""That a machine is lost; Ray's own defaults take a quarter of a minute."""


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_AUTH_MODE", "disabled")
        head = {"num_cpus": 2, "_system_config": QUICK_TO_NOTICE}
        made = Cluster(initialize_head=True, head_node_args=head)
        made.add_node(num_cpus=2)
        ray.init(address=made.address, log_to_driver=False)
        yield made
        ray.shutdown()
        made.shutdown()


@pytest.fixture
def engine(cluster: Cluster, multibox_bundle: Bundle) -> Iterator[RayExecutor]:
    with RayExecutor(multibox_bundle, Settings(), backend="torch") as made:
        yield made


def compute(engine: Any, photos: Path, out: Path) -> Summary:
    outputs = Outputs(out, proposals=out.with_suffix(".jsonl"))
    return run(engine, find_images([str(photos)]), outputs)


def test_same_bytes_as_this_machines(
    engine: RayExecutor, multibox_bundle: Bundle, photos: Path, tmp_path: Path
) -> None:
    (photos / "text.png").write_text("text")
    (photos / "empty.png").touch()
    with Detector.load(multibox_bundle, backend="torch", device="cpu") as detector:
        local = compute(LocalExecutor(detector), photos, tmp_path / "local.json")
    there = compute(engine, photos, tmp_path / "ray.json")
    assert (there.computed, len(there.failures)) == (local.computed, len(local.failures)) == (5, 2)
    for suffix in (".json", ".jsonl"):
        first, second = ((tmp_path / name).with_suffix(suffix) for name in ("ray", "local"))
        assert first.read_bytes() == second.read_bytes()
    again = compute(engine, photos, tmp_path / "local.json")
    assert (again.computed, again.resumed) == (0, 5), "the engines continue each other's runs"


class Deadly:
    """Kills the process that unpickles it for the given time."""

    def __init__(self, times: int) -> None:
        self.times = times

    def __reduce__(self) -> tuple[Any, ...]:
        return _unpickle_deadly, (self.times - 1,)


def _unpickle_deadly(times: int) -> Deadly:
    if times == 0:
        os._exit(1)
    return Deadly(times)


class DeadlyPreprocessor(Preprocessor):
    """Makes of one image what kills the actor that classifies it."""

    def preprocess_file(self, path: Any, name: str) -> Any:
        if name == "deadly.png":
            return Deadly(2)  # the process that hands it on survives
        return super().preprocess_file(path, name)


def test_an_image_that_kills_what_classifies_it_fails_alone(
    engine: RayExecutor, photos: Path, tmp_path: Path
) -> None:
    shutil.copy(next(photos.glob("*.*")), photos / "deadly.png")
    engine._work = engine._work._replace(preprocessor=DeadlyPreprocessor(Settings()))
    summary = compute(engine, photos, tmp_path / "dets.json")
    (failure,) = summary.failures
    assert (failure.file, failure.error) == ("deadly.png", "lost-worker")
    assert failure.message == "2 processes that worked on it died"
    assert len(json.loads((tmp_path / "dets.json").read_bytes())["images"]) == 3


def test_what_a_lost_machine_had_in_hand_is_done_again(
    cluster: Cluster, multibox_bundle: Bundle, tmp_path: Path
) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    for number in range(24):
        PillowImage.fromarray(scene(number, height=24)).save(photos / f"{number}.png")
    machine = cluster.add_node(num_cpus=2)

    def pull_the_plug(finished: int, computed: int, note: str = "") -> None:
        if finished == 4:
            cluster.remove_node(machine, allow_graceful=False)

    with RayExecutor(multibox_bundle, Settings(), backend="torch") as larger:
        out = tmp_path / "dets.json"
        inputs = find_images([str(photos)])
        show_progress = reporting_to(pull_the_plug)
        summary = run(larger, inputs, Outputs(out), show_progress=show_progress)
    assert (summary.computed, summary.failures) == (24, [])


def test_wrong_calls_are_found_before_the_work(
    cluster: Cluster, tiny_bundle: Bundle, tmp_path: Path
) -> None:
    with pytest.raises(SettingsError, match="no machine of the cluster has a GPU"):
        RayExecutor(tiny_bundle, Settings(), device="cuda")
    with pytest.raises(SettingsError, match="on a cluster allowed are auto, cpu and cuda"):
        RayExecutor(tiny_bundle, Settings(), device="cuda:1")
    with pytest.raises(SettingsError, match="class 'cow': this bundle has cat, dog, person"):
        RayExecutor(tiny_bundle, Settings().replace(detections={"classes": ("cow",)}))
    with pytest.raises(FormatError, match=r"absent\.jsonl: cannot be read"):
        RayExecutor(tiny_bundle, Settings(), proposals_file=tmp_path / "absent.jsonl")
    damaged = tmp_path / "damaged"
    shutil.copytree(tiny_bundle.directory, damaged)
    (damaged / "member_2.safetensors").write_bytes(b"text")
    with pytest.raises(BundleError, match="sha256 is"):
        RayExecutor(Bundle.load(damaged), Settings())


@pytest.mark.parametrize(
    ("resources", "device", "shares"),
    [
        ({"CPU": 8.0, "memory": 2**33}, "cpu", (1, 4.0, 4.0, 4)),
        ({"CPU": 3.0, "memory": 2**33}, "cpu", (1, 1.0, 2.0, 2)),
        ({"CPU": 1.0, "memory": 2**33}, "cpu", (1, 0.5, 0.5, 1)),
        ({"CPU": 8.0, "memory": 2**30}, "cpu", (1, 4.0, 4.0, 2)),
        ({"memory": 2**33}, "cpu", (0, 0.5, 0.0, 0)),
        ({"CPU": 8.0, "GPU": 2.0, "memory": 2**33}, "cuda", (2, 1.0, 6.0, 6)),
        ({"CPU": 8.0, "memory": 2**33}, "cuda", (0, 1.0, 8.0, 8)),
        ({"CPU": 1.0, "GPU": 1.0, "memory": 2**33}, "cuda", (1, 1.0, 0.0, 0)),
    ],
)
def test_the_cores_of_a_machine_are_divided(
    resources: dict[str, float], device: str, shares: tuple[float, ...]
) -> None:
    assert divide({"Resources": resources}, device) == shares


def test_a_cluster_without_a_core_to_prepare_images_is_refused(
    cluster: Cluster, tiny_bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine = {"NodeID": "1", "Alive": True, "Resources": {"memory": 2.0**33}}
    monkeypatch.setattr(ray, "nodes", lambda: [machine])
    with pytest.raises(SettingsError, match="has 0 cores and 0 GPUs; one core for each GPU"):
        RayExecutor(tiny_bundle, Settings())


def test_machines_that_compute_differently_are_refused(
    engine: RayExecutor, photos: Path, tmp_path: Path
) -> None:
    engine._work = engine._work._replace(fingerprint={"versions": {"torch": "0"}})
    with pytest.raises(WorkerError, match="the machines of the cluster compute differently"):
        compute(engine, photos, tmp_path / "dets.json")


def test_a_head_that_cannot_be_reached_is_one_line(
    engine: RayExecutor, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ray_machines, "SECONDS_WITHOUT_HEAD", 0.0)
    monkeypatch.setattr(ray_machines, "_is_in_reach", lambda _: False)
    with pytest.raises(
        WorkerError, match=r"head of the cluster \(.*\) cannot be reached; the same"
    ):
        compute(engine, photos, tmp_path / "dets.json")


def test_command_starts_a_cluster_of_its_own(
    tiny_bundle: Bundle, photos: Path, tmp_path: Path
) -> None:
    environment = {key: value for key, value in os.environ.items() if key != "RAY_ADDRESS"}
    arguments = ["--images", str(photos), "--bundle", str(tiny_bundle.directory), "--out"]
    program = [sys.executable, "-m", "detector.commands.run", "--backend", "torch", *arguments]
    there = subprocess.run(
        [*program, str(tmp_path / "ray.json"), "--engine", "ray"],
        env=environment | {"RAY_ADDRESS": "local"},
        capture_output=True,
        text=True,
    )
    assert there.returncode == 0, there.stderr
    assert "Traceback" not in there.stderr
    assert command([*program[3:], str(tmp_path / "local.json")]) == 0
    assert (tmp_path / "ray.json").read_bytes() == (tmp_path / "local.json").read_bytes()


def test_without_ray_the_extra_is_named(
    photos: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.delitem(sys.modules, "detector.batch.ray_executor")
    monkeypatch.setitem(sys.modules, "ray", None)
    out = tmp_path / "dets.json"
    assert command(["--images", str(photos), "--out", str(out), "--engine", "ray"]) == 2
    expected = "error: --engine ray needs pip install 'going-deeper-detector[ray]'\n"
    assert capsys.readouterr().err == expected
