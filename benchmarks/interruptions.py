"""Ctrl-C at random moments: commands that end, leave no process, and go on to the same bytes.

    python -m benchmarks.interruptions [--count 20] [--seed 0] [--only run,eval,serve]

Each command is run once undisturbed. Then it is started and gets one, two or three SIGINTs, half a
second apart, at a moment drawn from its duration. The figures are the longest time from the first
signal to the end, and what the next, undisturbed run of the same command wrote. The service gets
its signals within the eight seconds after its start, while two clients send images. Trainings have
a command of their own.
"""

from __future__ import annotations

import argparse
import random
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import httpx2
import numpy as np

from benchmarks.soak import children, random_png
from detector.bundles.pack import pack
from tests.support.images import paint
from tests.support.tiny_bundle import RECIPE, write_tiny_weights

LIMIT = 10.0
"""Seconds within which an interrupted command must end."""

PHOTOS = 12
"""Number of images; each is new to every command."""


class Command(NamedTuple):
    """A command in a folder of its own."""

    name: str
    arguments: Callable[[Path], list[str]]
    output: str


COMMANDS = {
    "run": Command(
        "detector_run",
        lambda folder: [
            "--images", str(folder / "photos"), "--out", str(folder / "dets.json"),
            "--bundle", str(folder / "bundle"), "--device", "cpu", "--quiet",
        ],
        "dets.json",
    ),
    "eval": Command(
        "detector_eval",
        lambda folder: [
            "--coco", str(folder / "truth.json"), "--rule", "voc2007", "--images",
            str(folder / "photos"), "--out", str(folder / "dets.json"), "--json",
            str(folder / "scores.json"), "--bundle", str(folder / "bundle"), "--device", "cpu",
            "--quiet",
        ],
        "scores.json",
    ),
}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description="Ctrl-C at random moments.")
    parser.add_argument("--count", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", default=",".join([*COMMANDS, "serve"]))
    arguments = parser.parse_args()

    rng = random.Random(arguments.seed)
    for name in arguments.only.split(","):
        if name == "serve":
            longest = interrupt_services(arguments.count, rng)
            print(f"serve: {arguments.count} moments, ended after at most {longest:.1f} s")
            continue
        longest = interrupt(COMMANDS[name], arguments.count, rng)
        print(f"{name}: {arguments.count} moments, ended after at most {longest:.1f} s, same bytes")


def interrupt(command: Command, count: int, rng: random.Random) -> float:
    """Interrupt a command at random moments and return the longest time that its end took."""
    longest = 0.0
    with TemporaryDirectory() as temporary:
        root = Path(temporary)
        prepare(root / "inputs")
        shutil.copytree(root / "inputs", root / "whole")
        started = time.monotonic()
        assert start(command, root / "whole").wait() == 0
        duration = time.monotonic() - started
        expected = (root / "whole" / command.output).read_bytes()

        for number in range(count):
            folder = root / str(number)
            shutil.copytree(root / "inputs", folder)
            process = start(command, folder)
            time.sleep(rng.uniform(0.05, duration))
            workers = children(process.pid)
            longest = max(longest, send_signals(process, number % 3 + 1))
            assert process.returncode in {0, 130, -signal.SIGINT}, process.returncode
            time.sleep(0.5)
            assert not any(map(is_running, workers)), "a process is left"

            again = start(command, folder)
            assert again.wait() == 0
            assert (folder / command.output).read_bytes() == expected, "other bytes"
            assert not list(folder.rglob("*.partial")), "a temporary file is left"
    return longest


def interrupt_services(count: int, rng: random.Random) -> float:
    """Interrupt services at random moments and return the longest time that an end took."""
    longest = 0.0
    with TemporaryDirectory() as temporary:
        prepare(Path(temporary) / "inputs")
        bundle = str(Path(temporary) / "inputs" / "bundle")
        for number in range(count):
            seconds = interrupt_service(("--bundle", bundle), rng.uniform(0.05, 8), number % 3 + 1)
            longest = max(longest, seconds)
    return longest


def interrupt_service(options: Sequence[str], moment: float, count: int) -> float:
    """Interrupt a service that gets requests, and return how long its end took.

    Args:
        options: Options of `detector-serve`.
        moment: Seconds from its start to the first signal.
        count: Number of signals.
    """
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = str(free.getsockname()[1])
    program = "import sys; from service.launch import detector_serve as c; sys.exit(c())"
    arguments = [*options, "--device", "cpu", "--port", port]
    process = subprocess.Popen([sys.executable, "-c", program, *arguments], stderr=subprocess.PIPE)
    ended = threading.Event()
    with ThreadPoolExecutor(2) as clients:
        sending = [clients.submit(send_until, ended, port) for _ in range(2)]
        time.sleep(moment)
        workers = children(process.pid)
        seconds = send_signals(process, count)
        ended.set()
    statuses = {status for client in sending for status in client.result()}

    assert statuses <= {200, 503}, statuses
    assert process.returncode in {130, -signal.SIGINT}, process.returncode
    time.sleep(0.5)
    assert not any(map(is_running, workers)), "a process is left"
    return seconds


def send_until(ended: threading.Event, port: str) -> set[int]:
    """Send images to a service, and return the statuses of its answers."""
    statuses = set()
    image = random_png(np.random.default_rng(0))
    while not ended.wait(0.05):
        with suppress(httpx2.TransportError):  # it does not listen yet, or no longer
            url = f"http://127.0.0.1:{port}/detect"
            statuses.add(httpx2.post(url, content=image, timeout=60).status_code)
    return statuses


def prepare(folder: Path) -> None:
    """Make images with a ground truth, and a bundle."""
    truth = paint(folder / "photos", PHOTOS)
    truth.rename(folder / "truth.json")
    with TemporaryDirectory() as weights:
        recipe = RECIPE.model_copy(update={"classes": ("red", "blue", "green")})
        pack(folder / "bundle", recipe, write_tiny_weights(Path(weights)))


def start(command: Command, folder: Path) -> subprocess.Popen[bytes]:
    """Start a command by its entry point."""
    program = f"import sys; from detector.commands.launch import {command.name} as c; sys.exit(c())"
    return subprocess.Popen(
        [sys.executable, "-c", program, *command.arguments(folder)], stderr=subprocess.PIPE
    )


def is_running(pid: int) -> bool:
    """Return whether a process runs. One that has ended may wait for its new parent to notice."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


def send_signals(process: subprocess.Popen[bytes], count: int) -> float:
    """Send SIGINT to a process until it has ended, and return the seconds that took."""
    started = time.monotonic()
    for _ in range(count):
        process.send_signal(signal.SIGINT)
        time.sleep(0.5)
    _, errors = process.communicate(timeout=LIMIT)
    assert b"Traceback" not in errors, errors.decode()
    return time.monotonic() - started


if __name__ == "__main__":
    main()
