from __future__ import annotations

import io
import json
import os
import re
import resource
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import httpx2
import pytest
from PIL import Image as PillowImage

from benchmarks.interruptions import LIMIT, interrupt_service
from benchmarks.large_uploads import GROWTH, attack_service
from benchmarks.soak import children, soak
from detector.bundles.bundle import Bundle
from detector.commands.process import INTERRUPTED
from service.command import command
from service.settings import ServeSettings
from tests.service.test_workers import QUICK, SLOW
from tests.support.images import scene

ROOT = Path(__file__).parents[2]


def broken_tiff() -> bytes:
    """One about which its library complains on stderr."""
    buffer = io.BytesIO()
    PillowImage.fromarray(scene(0)).save(buffer, format="TIFF", compression="tiff_adobe_deflate")
    data = bytearray(buffer.getvalue())
    data[8:200] = bytes(192)
    return bytes(data)


BROKEN_TIFF = broken_tiff()


@contextmanager
def started(bundle: Bundle, *options: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """The command as a process, and its address."""
    arguments = ["--bundle", str(bundle.directory), "--device", "cpu", "--port", "0", *options]
    process = subprocess.Popen(
        [sys.executable, "-m", "service.command", *arguments],
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )
    assert process.stderr is not None
    try:
        for line in process.stderr:
            if found := re.search(r"running on (http://[\d.:]+)", line):
                yield process, found[1]
                break
    finally:
        process.kill()
        process.wait()
        process.stderr.close()


def test_sigterm_lets_what_runs_finish(tiny_bundle: Bundle) -> None:
    options = ("--set", "service.drain_notice=1", "--set", "service.workers=1")
    with (
        started(tiny_bundle, *options) as (process, url),
        httpx2.Client(base_url=url, timeout=60) as client,
        ThreadPoolExecutor(1) as other,
    ):
        assert client.get("/readyz").status_code == 200
        running = other.submit(httpx2.post, f"{url}/detect", content=SLOW, timeout=60)
        time.sleep(0.2)
        process.send_signal(signal.SIGTERM)
        time.sleep(0.1)
        assert client.get("/readyz").status_code == 503
        assert client.get("/healthz").status_code == 200
        late = client.post("/detect", content=QUICK)  # traffic comes until all know
        assert late.status_code == 200
        assert running.result().status_code == 200
        assert process.wait(30) == 0
    with pytest.raises(httpx2.ConnectError):
        httpx2.get(f"{url}/healthz")


def test_what_takes_too_long_after_sigterm_is_503(tiny_bundle: Bundle) -> None:
    options = ("--set", "service.drain_notice=0", "--set", "service.drain=0.1")
    with started(tiny_bundle, *options) as (process, url), ThreadPoolExecutor(8) as others:
        running = [
            others.submit(httpx2.post, f"{url}/detect", content=SLOW, timeout=60) for _ in range(8)
        ]
        time.sleep(0.5)
        process.send_signal(signal.SIGTERM)
        statuses = [future.result().status_code for future in running]
        assert set(statuses) <= {200, 503}
        assert statuses.count(503) >= 1
        assert process.wait(30) == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_second_signal_ends_the_running_requests(
    tiny_bundle: Bundle, number: signal.Signals
) -> None:
    options = ("--set", "service.drain_notice=60", "--set", "service.workers=1")
    with started(tiny_bundle, *options) as (process, url), ThreadPoolExecutor(8) as others:
        running = [
            others.submit(httpx2.post, f"{url}/detect", content=SLOW, timeout=60) for _ in range(8)
        ]
        time.sleep(0.5)
        process.send_signal(number)
        time.sleep(0.2)
        process.send_signal(number)
        statuses = [future.result().status_code for future in running]
        assert set(statuses) <= {200, 503}
        assert statuses.count(503) >= 1
        assert process.wait(30) == (0 if number == signal.SIGTERM else INTERRUPTED)


@pytest.mark.parametrize(("seconds", "count"), [(0.3, 1), (1.5, 3), (5.0, 2)])
def test_interrupted_at_any_moment(tiny_bundle: Bundle, seconds: float, count: int) -> None:
    """`benchmarks/interruptions.py` has more moments."""
    options = ("--bundle", str(tiny_bundle.directory), "--set", "service.drain_notice=0.5")
    assert interrupt_service(options, seconds, count) < LIMIT


def test_an_answer_that_nobody_reads_does_not_hold_the_end(tiny_bundle: Bundle) -> None:
    options = ("--set", "service.drain_notice=0", "--set", "service.drain=0.1")
    with started(tiny_bundle, *options) as (process, url):
        address = urlsplit(url)
        with socket.create_connection((address.hostname, address.port), timeout=30) as client:
            line = b"GET /docs/assets/swagger-ui-bundle.js HTTP/1.1\r\nhost: x\r\n\r\n"
            client.sendall(20 * line)
            time.sleep(0.5)
            process.send_signal(signal.SIGTERM)
            assert process.wait(30) == 0
        assert process.stderr is not None
        assert "Traceback" not in process.stderr.read()


def test_an_upload_that_is_refused_does_not_hold_the_end(tiny_bundle: Bundle) -> None:
    options = ("--set", "service.drain_notice=0", "--set", "service.drain=0.1")
    with started(tiny_bundle, *options) as (process, url):
        address = urlsplit(url)
        with socket.create_connection((address.hostname, address.port), timeout=30) as client:
            client.sendall(b"POST /healthz HTTP/1.1\r\nhost: x\r\ncontent-length: 99\r\n\r\nI")
            process.send_signal(signal.SIGTERM)
            assert process.wait(30) == 0
        assert process.stderr is not None
        assert "Traceback" not in process.stderr.read()


def test_an_upload_that_takes_too_long_after_sigterm_is_503(tiny_bundle: Bundle) -> None:
    options = ("--set", "service.drain_notice=0", "--set", "service.drain=0.1")
    with started(tiny_bundle, *options) as (process, url):
        address = urlsplit(url)
        with socket.create_connection((address.hostname, address.port), timeout=30) as sender:
            sender.sendall(b"POST /detect HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\nI am")
            time.sleep(0.3)
            process.send_signal(signal.SIGTERM)
            assert sender.recv(1000).startswith(b"HTTP/1.1 503")
        assert process.wait(30) == 0


def test_no_process_is_left_after_a_kill(tiny_bundle: Bundle) -> None:
    with started(tiny_bundle) as (process, url):
        httpx2.post(f"{url}/detect", content=QUICK, timeout=60)
        if not Path("/proc").exists():
            pytest.skip("needs Linux's /proc")
        tasks = Path(f"/proc/{process.pid}/task").glob("*/children")
        workers = [pid for task in tasks for pid in task.read_text().split()]
        assert workers
        process.kill()
        process.wait()
    for _ in range(100):
        if not any(map(is_running, workers)):
            return
        time.sleep(0.1)
    raise AssertionError("worker processes outlive the service")


def is_running(pid: str) -> bool:
    """Return whether a process runs. One that has ended may wait for its new parent to notice."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        return False
    return stat.rpartition(")")[2].split()[0] != "Z"


def test_sigterm_of_the_whole_group_loses_no_image(tiny_bundle: Bundle) -> None:
    """Supervisors such as systemd send a signal to all processes of a service."""
    options = ("--set", "service.drain_notice=0", "--set", "service.workers=1")
    with started(tiny_bundle, *options) as (process, url), ThreadPoolExecutor(2) as others:
        running = [
            others.submit(httpx2.post, f"{url}/detect", content=SLOW, timeout=60) for _ in range(2)
        ]
        time.sleep(0.3)
        tasks = Path(f"/proc/{process.pid}/task").glob("*/children")
        for pid in [pid for task in tasks for pid in task.read_text().split()]:
            os.kill(int(pid), signal.SIGTERM)
        process.send_signal(signal.SIGTERM)
        assert [future.result().status_code for future in running] == [200, 200]
        assert process.wait(30) == 0


def worker_of(process: subprocess.Popen[str]) -> int:
    """Return the worker process of a service that has one."""
    for pid in children(process.pid):
        if b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes():
            return pid
    raise AssertionError("there is no worker")


def test_readiness_while_no_descriptor_is_free(tiny_bundle: Bundle) -> None:
    """A worker dies and cannot be replaced, until there are descriptors again."""
    with (
        started(tiny_bundle, "--set", "service.workers=1") as (process, url),
        httpx2.Client(base_url=url, timeout=60) as client,
    ):
        assert client.post("/detect", content=QUICK).status_code == 200
        open_now = len(list(Path(f"/proc/{process.pid}/fd").iterdir()))
        limits = resource.prlimit(process.pid, resource.RLIMIT_NOFILE)
        resource.prlimit(process.pid, resource.RLIMIT_NOFILE, (open_now, limits[1]))
        os.kill(worker_of(process), signal.SIGKILL)
        wait_for_status(client, 503)
        lost = client.post("/detect", content=QUICK)
        assert (lost.status_code, lost.json()["type"]) == (503, "lost-worker")

        resource.prlimit(process.pid, resource.RLIMIT_NOFILE, limits)
        wait_for_status(client, 200)
        assert client.post("/detect", content=QUICK).status_code == 200


def wait_for_status(client: httpx2.Client, status: int) -> None:
    """Wait until the service's readiness has a status."""
    for _ in range(200):
        if client.get("/readyz").status_code == status:
            return
        time.sleep(0.1)
    raise AssertionError(f"/readyz never is {status}")


def test_more_connections_than_descriptors(tiny_bundle: Bundle) -> None:
    """They leave some for a worker, and the log stays short."""
    with started(tiny_bundle, "--set", "service.workers=1") as (process, url):
        resource.prlimit(process.pid, resource.RLIMIT_NOFILE, (64, 64))
        address = urlsplit(url)
        with ExitStack() as stack:
            for _ in range(100):
                idle = socket.create_connection((address.hostname, address.port), timeout=30)
                stack.enter_context(idle)
            os.kill(worker_of(process), signal.SIGKILL)
            time.sleep(1)
        with httpx2.Client(base_url=url, timeout=60) as client:
            assert client.post("/detect", content=QUICK).status_code == 200
        process.kill()
        assert process.stderr is not None
        log = process.stderr.read()
        assert "Traceback" not in log
        assert len(log.splitlines()) < 20


def test_many_large_uploads(tiny_bundle: Bundle) -> None:
    """`benchmarks/large_uploads.py` has the long form."""
    mib = 2**20
    options = ["--bundle", str(tiny_bundle.directory), "--preset", "fast"]
    for setting in (f"service.max_bytes={2 * mib}", f"service.max_waiting_bytes={4 * mib}"):
        options += ["--set", setting]
    uploads = attack_service(12, 3 * mib // 2, *options)
    assert uploads.statuses.keys() <= {"200", "503 busy"}
    assert uploads.statuses["200"] >= 1
    assert uploads.statuses["503 busy"] >= 1
    assert uploads.after < GROWTH * uploads.before


def test_a_short_soak(tiny_bundle: Bundle) -> None:
    """Under load with a worker killed in the middle; `benchmarks/soak.py` has the long form."""
    statuses = soak(10, 4, "--bundle", str(tiny_bundle.directory), growth=0.2)
    assert statuses[200] > 20
    assert statuses[400] > 5


def test_a_line_of_json_for_each_request(tiny_bundle: Bundle) -> None:
    with started(tiny_bundle, "--set", "service.drain_notice=0") as (process, url):
        httpx2.get(f"{url}/healthz")
        httpx2.post(f"{url}/detect", content=b"x", headers={"x-request-id": "mine-1"})
        assert httpx2.post(f"{url}/detect", content=BROKEN_TIFF).status_code == 400
        httpx2.post(f"{url}/detect", content=b"x", headers={"x-request-id": "not\tmine"})
        process.send_signal(signal.SIGTERM)
        assert process.stderr is not None
        records = [json.loads(line) for line in process.stderr.read().splitlines()]
    requests = [record for record in records if record["message"] == "request"]
    assert [record["path"] for record in requests] == ["/detect"] * 3
    assert requests[0]["request_id"] == "mine-1"
    assert re.fullmatch(r"[0-9a-f]{32}", requests[2]["request_id"])
    assert {"time", "level", "method", "status", "seconds"} <= requests[0].keys()


def test_settings_of_both(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "serve.toml"
    file.write_text('[service]\nmax_crops = 100\n[detections]\nclasses = ["cat"]\n')
    arguments = ["--print-config", "--config", str(file), "--set", "service.drain=5"]
    assert command(arguments) == 0
    printed = tmp_path / "printed.toml"
    printed.write_text(capsys.readouterr().out)
    settings = ServeSettings.read(config=printed)
    assert settings.service.max_crops == 100
    assert settings.service.drain == 5
    assert settings.detector().detections.classes == ("cat",)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--set", "service.max_crop=1"], "unknown key service.max_crop; known here: presets"),
        (["--set", "service.presets=['best']"], "is no preset: allowed are default, fast, paper"),
        (["--bundle", "nowhere"], "no bundle"),
        (["--device", "cuda:99"], "device 'cuda:99': this machine has"),
        (["--set", "detections.classes=['unicorn']"], "class 'unicorn': this bundle has"),
        (["--api-keys", "nowhere"], "nowhere: cannot be read"),
    ],
)
def test_wrong_calls(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command(arguments) == 2
    error = capsys.readouterr().err
    assert message in error
    assert len(error.splitlines()) == 1


@pytest.mark.parametrize("port", ["70000", "-1", "http"])
def test_wrong_ports(port: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        command(["--port", port])
    assert ended.value.code == 2
    assert "must be a port, 0 to 65535" in capsys.readouterr().err


def test_a_port_that_is_taken(
    tiny_bundle: Bundle, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(signal, "signal", lambda *_: None)  # the command takes SIGTERM for itself
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        arguments = ["--bundle", str(tiny_bundle.directory), "--port", str(port), "--quiet"]
        assert command(arguments) == 2
    assert f"error: cannot serve on 127.0.0.1:{port}" in capsys.readouterr().err
