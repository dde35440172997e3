"""No command writes what it reads, or replaces what is not a file, by whatever name."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image as PillowImage

from detector.batch.executor import DetectedImage, Finished
from detector.batch.local_executor import LocalExecutor
from detector.bundles.bundle import Bundle
from detector.commands import bundle, run
from detector.commands import eval as evaluation
from detector.results import Detection, Result
from proposals import Proposals

RUN_INPUTS = ("photos/a.png", "photos/b.png", "list.txt", "ids.json", "boxes.jsonl", "run.toml")
EVAL_INPUTS = ("truth.json", "dets.json", "other.json", "photos/a.png", "run.toml")
BUNDLE_FILES = ("bundle/bundle.json", "bundle/MODEL_CARD.md", "bundle/member_1.safetensors")
CLASSES = ("cat", "dog", "person")

RECIPE_TOML = """
name = "tiny"
version = "1"
classes = ["cat", "dog", "person"]
card = "# tiny"
members = [
  {warp = {crop_size = 64}, architecture = {width = 0.25, normalisation = "lrn"}},
  {warp = {crop_size = 64}, architecture = {width = 0.25, normalisation = "batchnorm"}},
]
"""

SPELLINGS = ("plain", "dot", "parent", "absolute", "link", "link to link", "hard link", "bad link")


@pytest.fixture(scope="module")
def scratch(tmp_path_factory: pytest.TempPathFactory, tiny_bundle: Bundle) -> Path:
    """Return a folder with all inputs of `detector-run` and `detector-eval`."""
    folder = tmp_path_factory.mktemp("inputs")
    shutil.copytree(tiny_bundle.directory, folder / "bundle")
    (folder / "photos").mkdir()
    names = ["a.png", "b.png"]
    for name in names:
        PillowImage.fromarray(np.full((24, 32, 3), 90, np.uint8)).save(folder / "photos" / name)
    (folder / "list.txt").write_text("".join(f"{folder}/photos/{name}\n" for name in names))
    (folder / "run.toml").write_text("[detections]\nmax_detections = 5\n")
    truth = {
        "images": [
            {"id": n, "file_name": f, "width": 32, "height": 24} for n, f in enumerate(names)
        ],
        "categories": [{"id": n, "name": name} for n, name in enumerate(CLASSES, start=1)],
        "annotations": [{"id": 1, "image_id": 0, "category_id": 1, "bbox": [0, 0, 9, 9]}],
    }
    (folder / "truth.json").write_text(json.dumps(truth))
    (folder / "ids.json").write_text(json.dumps(truth))
    boxes = {
        "width": 32,
        "height": 24,
        "boxes": [[0, 0, 9, 9]],
        "scores": [1],
        "sources": ["multibox"],
    }
    lines = [
        json.dumps({"file": name, "width": 32, "height": 24, **boxes}) + "\n" for name in names
    ]
    (folder / "boxes.jsonl").write_text("".join(lines))
    found = [{"label": "cat", "score": 0.5, "box": [0, 0, 9, 9]}]
    images = [{"file": f, "width": 32, "height": 24, "detections": found} for f in names]
    detections = {"format": "detections/1", "classes": ["cat"], "images": images}
    for name in ("dets.json", "other.json"):
        (folder / name).write_text(json.dumps(detections))
    return folder


@contextmanager
def inside_a_copy(scratch: Path) -> Iterator[None]:
    """Change to a copy of the folder, with a pipe, a link to it, and other things to write to."""
    before = Path.cwd()
    with TemporaryDirectory() as copy:
        shutil.copytree(scratch, copy, dirs_exist_ok=True)
        os.chdir(copy)
        try:
            Path("list.txt").write_text("photos/a.png\nphotos/b.png\n")
            os.mkfifo("pipe")
            Path("link to pipe").symlink_to("pipe")
            make_null_device(Path("null"))
            Path("link to null").symlink_to("null")
            Path("link to nothing").symlink_to("nothing")
            Path("folder").mkdir()
            Path("kept.txt").write_text("kept")
            Path("link to kept").symlink_to("kept.txt")
            yield
        finally:
            os.chdir(before)


def make_null_device(path: Path) -> None:
    """Make a device like /dev/null, which a mistake may destroy; only root can."""
    if os.geteuid() == 0:
        os.mknod(path, stat.S_IFCHR | 0o666, Path(os.devnull).stat().st_rdev)
    else:
        path.symlink_to(os.devnull)


def spell(path: str, spelling: str) -> str:
    """Return another name of a file, and make the link that it may be."""
    match spelling:
        case "dot":
            return f"./{path}"
        case "parent":
            return f"folder/../{path}"
        case "absolute":
            return os.path.abspath(path)
        case "hard link":
            Path("hard").hardlink_to(path)
            return "hard"
        case "link" | "link to link":
            Path("link").symlink_to(path)
            if spelling == "link":
                return "link"
            Path("folder", "second").symlink_to("../link")
            return "folder/second"
        case "bad link":
            Path("loop").symlink_to("loop")
            return "loop"
    return path


def snapshot() -> dict[str, tuple[int, str]]:
    """Return the kind of everything in this folder, with the target of links and the content of
    files."""
    state = {}
    for parent, folders, files in os.walk("."):
        for name in (*folders, *files):
            path = Path(parent, name)
            kind = stat.S_IFMT(path.lstat().st_mode)
            content = ""
            if kind == stat.S_IFLNK:
                content = str(path.readlink())
            elif kind == stat.S_IFREG:
                content = hashlib.sha256(path.read_bytes()).hexdigest()
            state[os.path.relpath(path)] = (kind, content)
    return state


def fake_results(self: LocalExecutor, tasks: Any) -> Iterator[Finished]:
    """Find a cat in each image, without a network."""
    for task in tasks:
        proposals = Proposals.from_one_source(np.zeros((0, 4), np.float32), "multibox")
        found = (Detection("cat", 0.9, (0.0, 0.0, 9.0, 9.0)),)
        result = Result(str(task.path), 32, 24, found, {"merged": 0}, {}, ("cat",))
        digest = hashlib.sha256(Path(task.path).read_bytes()).hexdigest()
        yield DetectedImage(task, result, proposals, digest, np.zeros((24, 32, 3), np.uint8))


def run_and_compare(command: Any, arguments: list[str], inputs: tuple[str, ...]) -> None:
    """Run a command, and see that inputs, links, pipes and devices are what they were."""
    before = snapshot()
    code = command(arguments)
    after = snapshot()

    assert code in {0, 2}
    files = (stat.S_IFREG, stat.S_IFDIR)
    kept = {name for name, (kind, _) in before.items() if kind not in files} | set(inputs)
    assert {name: after.get(name) for name in kept} == {name: before[name] for name in kept}


OTHER_PLACES = (
    "new.json", "more/new.json", "pipe", "link to pipe", "null", "link to null", "folder", "photos",
    "link to nothing", "link to kept", "kept.txt", "kept.txt/x", "-", "n" * 256, ".", "",
)  # fmt: skip


def draw_outputs(data: st.DataObject, options: list[str], inputs: tuple[str, ...]) -> list[str]:
    """Draw some outputs. One of them may be an input by another name."""
    chosen = data.draw(st.lists(st.sampled_from(options), unique=True, min_size=1))
    paths = [data.draw(st.sampled_from((*inputs, *OTHER_PLACES))) for _ in chosen]
    if paths[0] in inputs:
        paths[0] = spell(paths[0], data.draw(st.sampled_from(SPELLINGS)))
    return [part for pair in zip(chosen, paths, strict=True) for part in pair]


@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_detector_run(scratch: Path, data: st.DataObject) -> None:
    inputs = (*RUN_INPUTS, *BUNDLE_FILES)
    with inside_a_copy(scratch), pytest.MonkeyPatch.context() as patch:
        patch.setattr(LocalExecutor, "__call__", fake_results)
        file_format = data.draw(st.sampled_from(["native", "csv", "coco", "voc", "yolo"]))
        arguments = ["--images", "@list.txt", "--image-list", "ids.json", "--config", "run.toml"]
        arguments += ["--proposals-in", "boxes.jsonl", "--bundle", "bundle", "--device", "cpu"]
        arguments += ["--format", file_format, "--overwrite", "--quiet", "--out", "default"]
        options = ["--out", "--stats", "--proposals-out", "--visualize"]
        outputs = draw_outputs(data, options, inputs)
        run_and_compare(run.command, [*arguments, *outputs], inputs)


@settings(max_examples=100, deadline=None)
@given(data=st.data())
def test_detector_eval(scratch: Path, data: st.DataObject) -> None:
    inputs = EVAL_INPUTS
    with inside_a_copy(scratch):
        arguments = ["--coco", "truth.json", "--rule", "voc2007", "--images", "photos"]
        arguments += ["--config", "run.toml", "--quiet"]
        arguments += ["--detections", "dets.json", "--compare", "other.json"]
        outputs = draw_outputs(data, ["--json", "--report"], inputs)
        run_and_compare(evaluation.command, [*arguments, *outputs], inputs)


@settings(max_examples=50, deadline=None)
@given(data=st.data())
def test_detector_eval_that_detects_first(scratch: Path, data: st.DataObject) -> None:
    inputs = ("truth.json", "photos/a.png", "run.toml", *BUNDLE_FILES)
    with inside_a_copy(scratch), pytest.MonkeyPatch.context() as patch:
        patch.setattr(LocalExecutor, "__call__", fake_results)
        arguments = ["--coco", "truth.json", "--rule", "voc2007", "--images", "photos"]
        arguments += ["--config", "run.toml", "--bundle", "bundle", "--device", "cpu", "--quiet"]
        arguments += ["--overwrite", "--out", "default.json"]
        outputs = draw_outputs(data, ["--json", "--out", "--report"], inputs)
        run_and_compare(evaluation.command, [*arguments, *outputs], inputs)


@settings(max_examples=20, deadline=None)
@given(data=st.data())
def test_detector_bundle(scratch: Path, data: st.DataObject) -> None:
    inputs = ("recipe.toml", "a.safetensors", "b.safetensors", *BUNDLE_FILES)
    with inside_a_copy(scratch):
        for number, name in enumerate(("a.safetensors", "b.safetensors"), start=1):
            shutil.copy(f"bundle/member_{number}.safetensors", name)
        Path("recipe.toml").write_text(RECIPE_TOML)
        arguments = ["pack", "--config", "recipe.toml", "--weights", "a.safetensors"]
        outputs = draw_outputs(data, ["--out"], inputs)
        run_and_compare(bundle.command, [*arguments, "b.safetensors", *outputs], inputs)


def test_a_foreign_page_is_no_report(scratch: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with inside_a_copy(scratch):
        arguments = ["--coco", "truth.json", "--rule", "voc2007", "--detections", "dets.json"]
        arguments += ["--images", "photos", "--quiet", "--report"]
        assert evaluation.command([*arguments, "report"]) == 0
        assert evaluation.command([*arguments, "report"]) == 0, "an earlier report is replaced"

        for name in ("index.html", "classes.csv"):
            Path("site").mkdir(exist_ok=True)
            Path("site", name).write_text("mine")
            assert evaluation.command([*arguments, "site"]) == 2
            assert f"site: {name} there is not part of a report" in capsys.readouterr().err
            assert Path("site", name).read_text() == "mine"
            Path("site", name).unlink()


def test_scores_on_standard_output_are_json_alone(
    scratch: Path, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    with inside_a_copy(scratch):
        arguments = ["--coco", "truth.json", "--rule", "voc2007", "--detections", "dets.json"]
        for name in ("-", "/dev/stdout"):
            assert evaluation.command([*arguments, "--json", name]) == 0
            assert json.loads(capfdbinary.readouterr().out)["images"] == 2
