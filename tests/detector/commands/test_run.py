from __future__ import annotations

import errno
import json
import os
import signal
import struct
import subprocess
import sys
import time
import tomllib
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as PillowImage

from detector import __version__
from detector.batch.journal import Journal
from detector.bundles.bundle import Bundle
from detector.bundles.pack import pack
from detector.commands.run import command
from tests.support.tiny_bundle import RECIPE

ROOT = Path(__file__).parents[3]


@pytest.fixture
def tiny(tiny_bundle: Bundle) -> list[str]:
    return ["--bundle", str(tiny_bundle.directory), "--device", "cpu"]


def test_folder_to_file(
    tiny: list[str], photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, stats = tmp_path / "o" / "dets.json", tmp_path / "stats.json"
    arguments = ["--images", str(photos), "--out", str(out), "--stats", str(stats), *tiny]
    assert command(arguments) == 0
    assert len(json.loads(out.read_bytes())["images"]) == 3
    printed = capsys.readouterr()
    assert printed.out == ""
    assert "3 images (0 done before, 0 failed)" in printed.err
    measured = json.loads(stats.read_text())
    assert measured["computed"] == 3
    assert set(measured["seconds"]) == {"classify", "decode", "proposals"}
    assert measured["peak_memory_bytes"] > 1e8


def test_folder_of_odd_files(tiny: list[str], tmp_path: Path) -> None:
    """Good ones are detected, bad ones listed with their reason, and the exit code says so."""
    folder = tmp_path / "odd"
    folder.mkdir()
    blocks = np.random.default_rng(0).integers(0, 256, (3, 4, 3), dtype=np.uint8)
    photo = PillowImage.fromarray(blocks.repeat(20, axis=0).repeat(20, axis=1))
    photo.convert("CMYK").save(folder / "cmyk.jpg")
    deep = np.asarray(photo.convert("L")).astype(np.uint16) * 257
    PillowImage.fromarray(deep).save(folder / "deep.png")
    photo.convert("RGBA").save(folder / "clear.png")
    exif = PillowImage.Exif()
    exif[0x0112] = 6
    photo.save(folder / "turned.jpg", exif=exif)
    PillowImage.new("RGB", (1, 1)).save(folder / "one.png")
    PillowImage.new("RGB", (20000, 30)).save(folder / "strip.png")
    photo.save(folder / "Ünïcode name.webp")
    photo.save(folder / "cut.jpg")
    whole = (folder / "cut.jpg").read_bytes()
    (folder / "cut.jpg").write_bytes(whole[: len(whole) * 4 // 5])
    (folder / "text.jpg").write_text("I am no image")
    (folder / "empty.gif").touch()
    header = struct.pack(">IIBBBBB", 30_000, 30_000, 8, 2, 0, 0, 0)
    bomb = zlib.compress(bytes(90_001 * 1000), 9)
    chunks = [(b"IHDR", header), (b"IDAT", bomb), (b"IEND", b"")]
    (folder / "bomb.png").write_bytes(
        b"\x89PNG\r\n\x1a\n"
        + b"".join(
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
            for kind, data in chunks
        )
    )
    out = tmp_path / "dets.json"
    assert command(["--images", str(folder), "--out", str(out), "--quiet", *tiny]) == 1
    content = json.loads(out.read_bytes())
    sizes = {image["file"]: (image["width"], image["height"]) for image in content["images"]}
    assert sizes == {
        "cmyk.jpg": (80, 60), "deep.png": (80, 60), "clear.png": (80, 60), "one.png": (1, 1),
        "turned.jpg": (60, 80), "strip.png": (20000, 30), "Ünïcode name.webp": (80, 60),
    }  # fmt: skip
    failed = {item["file"]: item["error"] for item in content["failed"]}
    assert failed == {
        "bomb.png": "oversized-image", "cut.jpg": "truncated-image", "empty.gif": "empty-image",
        "text.jpg": "not-an-image",
    }  # fmt: skip


@pytest.mark.parametrize("form", ["native", "coco", "voc", "ilsvrc", "yolo", "csv"])
def test_formats(tiny: list[str], photos: Path, tmp_path: Path, form: str) -> None:
    (photos / "b c é.png").unlink()  # VOC allows no spaces
    out = tmp_path / "out"
    assert command(["--images", str(photos), "--out", str(out), "--format", form, *tiny]) == 0
    files = [path for path in out.rglob("*") if path.is_file()] if out.is_dir() else [out]
    expected = {"voc": {f"comp4_det_test_{name}.txt" for name in ("cat", "dog", "person")},
                "yolo": {"classes.txt", "a.txt", "d.txt"}}  # fmt: skip
    assert {path.name for path in files} == expected.get(form, {"out"})
    native = tmp_path / "native.json"
    assert command(["--images", str(photos), "--out", str(native), *tiny]) == 0
    found = [len(image["detections"]) for image in json.loads(native.read_text())["images"]]
    texts = [path.read_text() for path in files if path.name != "classes.txt"]
    lines = sum(len(text.splitlines()) for text in texts)
    counts = {"native": texts[0].count('"score"'), "coco": texts[0].count('"score"')}
    assert counts.get(form, lines - (form == "csv")) == sum(found) > 0


def test_options_reach_the_settings(tiny: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--preset", "paper", "--score-threshold", "0.25", "--max-detections", "3"]
    arguments += ["--classes", "cat, dog", "--set", "proposals.superpixels=rcnn"]
    assert command([*arguments, "--print-config", *tiny]) == 0
    printed = tomllib.loads(capsys.readouterr().out)
    assert printed["proposals"]["superpixels"] == "rcnn"
    assert printed["detections"] == {
        "score_threshold": 0.25, "nms_iou": 0.3, "max_detections": 3,
        "max_detections_per_class": 100, "classes": ["cat", "dog"],
    }  # fmt: skip


@pytest.fixture
def odd_classes(tiny_weights: list[Path], tmp_path: Path) -> list[str]:
    """Options for a bundle whose classes have commas and quotes."""
    recipe = RECIPE.model_copy(update={"classes": ("a, b", 'x "y"', "dog")})
    bundle = pack(tmp_path / "odd classes", recipe, tiny_weights)
    return ["--bundle", str(bundle.directory), "--device", "cpu"]


@pytest.mark.parametrize(
    ("text", "classes"),
    [
        ("a, b", ["a, b"]),
        ('"a, b"', ["a, b"]),
        ('dog,"a, b"', ["dog", "a, b"]),
        ('"a, b" , dog', ["a, b", "dog"]),
        ('x "y", dog', ['x "y"', "dog"]),
        ('x "y"', ['x "y"']),
    ],
)
def test_classes_with_commas_can_be_chosen(
    odd_classes: list[str], text: str, classes: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert command(["--classes", text, "--print-config", *odd_classes]) == 0
    printed = tomllib.loads(capsys.readouterr().out)
    assert printed["detections"]["classes"] == classes


def test_detections_of_classes_that_a_format_lacks_are_counted(
    odd_classes: list[str],
    photos: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    arguments = ["--images", str(photos), *odd_classes]
    native = tmp_path / "native.json"
    assert command([*arguments, "--out", str(native)]) == 0
    images = json.loads(native.read_bytes())["images"]
    labels = [found["label"] for image in images for found in image["detections"]]
    assert "left out" not in capsys.readouterr().err

    out, stats = tmp_path / "out.txt", tmp_path / "stats.json"
    options = ["--format", "ilsvrc", "--out", str(out), "--stats", str(stats)]
    assert command([*arguments, *options]) == 0
    dogs = labels.count("dog")
    others = len(labels) - dogs
    assert dogs > 0
    assert others > 0
    assert len(out.read_text().splitlines()) == dogs
    measured = json.loads(stats.read_bytes())
    assert (measured["detections"], measured["left_out"]) == (dogs, others)
    assert f"{dogs} detections in {out} ({others} more left out)" in capsys.readouterr().err
    (message,) = caplog.messages
    assert "ILSVRC DET has no class for 2 of the bundle's 3 classes" in message


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        pytest.param([], "--images PATH… and --out FILE are needed", id="nothing"),
        pytest.param(["--images", "absent", "--out", "o"], "absent: nothing there", id="absent"),
        pytest.param(["--bundle", "absent"], "absent: no bundle: give a directory", id="bundle"),
        pytest.param(["--classes", "cat,"], "--classes 'cat,': has an empty name", id="class"),
        pytest.param(["--classes", ""], "--classes '': has an empty name", id="no class"),
        pytest.param(["--classes", "a\nb"], r"--classes 'a\nb': must be names", id="lines"),
        pytest.param(["--preset", "best"], "unknown preset 'best': allowed are", id="preset"),
        pytest.param(["--set", "x=1"], "--set x=1: unknown key x; known here: ", id="set"),
        pytest.param(
            ["--score-threshold", "2"], "option: detections.score_threshold: ", id="threshold"
        ),
        pytest.param(
            ["--images", ".", "--out", "."], "no image in .: suffixes are .bmp", id="no image"
        ),
    ],
)
def test_wrong_calls_are_one_line_and_exit_code_2(
    arguments: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert command(arguments) == 2
    printed = capsys.readouterr().err
    assert printed.startswith(f"error: {message}")
    assert printed.count("\n") == 1
    command([*arguments, "--debug"])
    assert "Traceback" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--workers", "0"], "argument --workers: '0' must be a whole number from 1 to 1024"),
        (["--unknown"], "unrecognized arguments: --unknown"),
        (["--format", "xml"], "argument --format: invalid choice: 'xml' (choose from "),
    ],
)
def test_wrong_options_are_one_line(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        command(arguments)
    printed = capsys.readouterr().err
    assert printed.startswith(f"error: {message}")
    assert printed.endswith("; --help lists what is allowed\n")
    assert printed.count("\n") == 1


def test_errors_of_the_system_are_one_line(
    tiny: list[str],
    photos: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Journal, "append", full)
    arguments = ["--images", str(photos), "--out", str(tmp_path / "dets.json"), "--quiet", *tiny]
    assert command(arguments) == 2
    assert capsys.readouterr().err == "error: No space left on device\n"


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        command(["--version"])
    assert capsys.readouterr().out == f"detector-run {__version__}\n"


def test_interruption_keeps_what_is_done(tiny: list[str], photos: Path, tmp_path: Path) -> None:
    for number in range(30):
        (photos / f"{number}.png").write_bytes((photos / "a.png").read_bytes())
    out = tmp_path / "dets.json"
    arguments = ["--images", str(photos), "--out", str(out), *tiny]
    signal.signal(
        signal.SIGINT, signal.default_int_handler
    )  # what a shell starts behind it ignores
    process = subprocess.Popen(
        [sys.executable, "-m", "detector.commands.run", *arguments],
        cwd=ROOT,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    with process:
        journal = Path(f"{out}.journal")
        while process.poll() is None and (
            not journal.exists() or journal.read_bytes().count(b"\n") < 4
        ):
            time.sleep(0.01)
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to all processes
        _, printed = process.communicate(timeout=60)
    assert process.returncode == 130
    assert printed.decode().endswith("interrupted: the same command goes on from here\n")
    assert b"Traceback" not in printed
    assert not out.exists()
    done = journal.read_bytes().count(b"\n") - 1
    assert 3 <= done < 33
    assert command([*arguments, "--stats", str(tmp_path / "stats.json")]) == 0
    assert json.loads((tmp_path / "stats.json").read_text())["resumed"] == done
