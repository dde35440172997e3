from __future__ import annotations

import glob
import json
import re
import shlex
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image as PillowImage

from detector.bundles.bundle import Bundle
from detector.bundles.model_card import MEMBER, WEIGHTS
from detector.commands import bundle, eval, run, train  # noqa: A004
from detector.common.config import read_toml
from detector.training.settings import ClassifierTraining, MultiBoxTraining, RegionTraining

ROOT = Path(__file__).parents[3]
COMMANDS = {
    "detector-bundle": bundle.command,
    "detector-eval": eval.command,
    "detector-run": run.command,
    "detector-train": train.command,
}


def readme_commands(heading: str) -> list[list[str]]:
    """The commands of a section of the README, each split into its arguments; of a loop the first
    two rounds.
    """
    section = (ROOT / "README.md").read_text().split(f"\n## {heading}\n")[1].split("\n## ")[0]
    blocks = [block for block in section.split("```")[1::2] if block.startswith("\ndetector-")]
    text = "\n".join(blocks).replace("\\\n", " ")

    def unroll(loop: re.Match[str]) -> str:
        return "".join(loop[2].replace("$n", number) for number in loop[1].split()[:2])

    text = re.sub(r"for n in ([\d ]+); do\n(.*?)done\n", unroll, text, flags=re.DOTALL)
    return [shlex.split(line) for line in text.splitlines() if line.strip()]


def test_the_readmes_way(
    painted: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """From photos with annotations to scores, by the README's own commands."""
    (tmp_path / "photos").symlink_to(painted.with_suffix(""))
    for name in ("train.json", "held_out.json"):
        (tmp_path / name).symlink_to(painted)
    (tmp_path / "training.toml").write_text(
        'warp = { crop_size = 64, resampling = "area" }\n'
        "sampling = { foreground = 4, background = 4 }\n"
        "optimisation = { steps = 4 }\n"
    )
    (tmp_path / "multibox.toml").write_text(
        "size = 64\npriors = 6\nhidden = 16\npictures = { batch_size = 4 }\n"
        "optimisation = { steps = 1 }\n"
    )
    monkeypatch.chdir(tmp_path)
    commands = readme_commands("Train")
    names = ["train", "train", "train", "bundle", "run", "eval"]
    assert [name for name, *_ in commands] == [f"detector-{name}" for name in names]
    for name, *arguments in commands:
        expanded = [file for word in arguments for file in sorted(glob.glob(word)) or [word]]
        assert COMMANDS[name](expanded) == 0, capsys.readouterr().err
    members = Bundle.load("my-bundle").manifest.members
    assert len({member.sha256 for member in members}) == 2
    found = json.loads(Path("dets.json").read_text())
    assert found["classes"] == ["red", "blue"]
    assert all(image["proposals"]["multibox"] for image in found["images"])
    assert json.loads(Path("scores.json").read_text())["images"] == 4
    card = Path("my-bundle/MODEL_CARD.md").read_text()
    assert "| blue |" in card
    assert "## MultiBox" in card


@pytest.fixture
def broken(painted: Path, training: Path, tmp_path: Path) -> Any:
    """A training on annotations changed by a function; gives the exit code."""

    def attempt(change: Any, *options: str) -> int:
        content = json.loads(painted.read_text())
        change(content)
        file = tmp_path / "broken.json"
        file.write_text(json.dumps(content))
        files = ["--data", str(file), "--config", str(training), "--out", str(tmp_path / "out")]
        images = ["--images", str(painted.with_suffix("")), "--cache", str(painted.parent)]
        return train.command(["regions", *files, *images, "--device", "cpu", *options])

    return attempt


def add_class(content: dict[str, Any]) -> None:
    content["categories"].append({"id": 9, "name": "green"})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda c: c["annotations"][3].update(category_id=7),
            "annotations[3]: unknown category_id 7",
        ),
        (lambda c: c.pop("images"), 'not a COCO annotation file: needs a list "images"'),
        (
            lambda c: c["annotations"].clear(),
            "class 'red' has no box: remove the class or annotate it",
        ),
    ],
)
def test_broken_annotations(
    broken: Any, change: Any, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert broken(change) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")
    assert line.endswith(message)
    assert "broken.json: " in line


@pytest.mark.parametrize(
    ("change", "error", "warning"),
    [
        (
            lambda c: c["annotations"][3].update(bbox=[90, 0, 20, 20]),
            "1.png: box 2 of 2 (90, 0, 110, 20) reaches out of the 100x80 photo",
            "1 box is clipped: 1.png: box 2 of 2 (90, 0, 110, 20) reaches out of the 100x80 photo",
        ),
        (
            lambda c: c["annotations"][3].update(bbox=[9, 9, 0, 5]),
            "1.png: box 2 of 2 (9, 9, 9, 14) has no whole pixel of the 100x80 photo",
            "1 box is dropped: 1.png: box 2 of 2 (9, 9, 9, 14) has no whole pixel of the 100x80 "
            "photo",
        ),
        (
            add_class,
            "class 'green' has no box: remove the class or annotate it",
            "class 'green' has no box and is left out",
        ),
    ],
)
def test_what_cannot_be_trained_on_is_named(
    broken: Any,
    change: Any,
    error: str,
    warning: str,
    tiny_weights: list[Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    assert broken(change, "--strict") == 2
    assert capsys.readouterr().err == f"error: {tmp_path / 'broken.json'}: {error}\n"
    options = ["--weights", str(tiny_weights[0]), "--set", "optimisation.steps=1"]
    assert broken(change, *options) == 0
    assert caplog.messages == [f"warning: {tmp_path / 'broken.json'}: {warning}"]
    assert json.loads((tmp_path / "out" / MEMBER).read_text())["classes"] == ["red", "blue"]


def test_a_missing_photo(
    broken: Any,
    tiny_weights: list[Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def rename(content: dict[str, Any]) -> None:
        content["images"][0]["file_name"] = "gone.png"

    weights = ["--weights", str(tiny_weights[0])]
    assert broken(rename, "--strict", *weights) == 2
    assert capsys.readouterr().err.startswith("error: gone.png: cannot be read: no such file")
    assert broken(rename, *weights) == 1
    printed = capsys.readouterr()
    assert "failed: gone.png: cannot be read: no such file" in printed.err
    assert "1 photos were left out" in printed.out
    assert (tmp_path / "out" / WEIGHTS).exists()


def test_weights_of_another_shape(broken: Any, capsys: pytest.CaptureFixture[str]) -> None:
    """The shipped bundle's, where the settings say another width."""
    assert broken(lambda content: None) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "member_1.safetensors: conv1.7x7_s2.weight has shape [64, 3, 7, 7], not [16" in line


def test_wrong_calls(painted: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    alone = tmp_path / "alone.json"
    alone.write_bytes(painted.read_bytes())
    for arguments, message in (
        (["regions"], "--data PATH and --out DIR are needed"),
        (["classifier", "--data", str(painted)], "--data PATH and --out DIR are needed"),
        (["regions", "--print-config", "--set", "warp.size=9"], "unknown key warp.size"),
        (
            ["regions", "--print-config", "--set", "optimisation.steps=0"],
            "--set optimisation.steps=0: optimisation.steps: Input should be greater than 0",
        ),
        (
            ["regions", "--data", str(painted), "--out", "x", "--images", str(tmp_path / "no")],
            "no such folder: --images DIR says where the photos are",
        ),
        (
            ["regions", "--data", str(painted), "--out", "x", "--validation", str(alone)],
            "alone: no such folder: --validation-images DIR says where the photos are",
        ),
    ):
        assert train.command(arguments) == 2
        assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("action", "model"),
    [
        ("regions", RegionTraining),
        ("multibox", MultiBoxTraining),
        ("classifier", ClassifierTraining),
    ],
)
def test_print_config_reads_back(
    action: str, model: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train.command([action, "--print-config", "--set", "optimisation.steps=77"]) == 0
    file = tmp_path / "printed.toml"
    file.write_text(capsys.readouterr().out)
    assert model.model_validate(read_toml(file)).optimisation.steps == 77


@pytest.mark.parametrize("action", ["regions", "multibox", "classifier"])
@pytest.mark.parametrize("setting", ["optimisation.momentum=0.5", "augmentation.mirror=false"])
def test_a_setting_changes_nothing_else(
    action: str, setting: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train.command([action, "--print-config"]) == 0
    before = capsys.readouterr().out.splitlines()
    assert train.command([action, "--print-config", "--set", setting]) == 0
    after = capsys.readouterr().out.splitlines()
    (changed,) = [new for old, new in zip(before, after, strict=True) if old != new]
    assert changed.replace(" ", "") == setting.partition(".")[2]


def test_settings_that_go_together_may_come_in_any_order(
    capsys: pytest.CaptureFixture[str],
) -> None:
    both = ["sampling.foreground_iou=0.4", "sampling.background_iou=0.3"]
    for first, second in (both, both[::-1]):
        assert train.command(["regions", "--print-config", "--set", first, "--set", second]) == 0
    assert train.command(["regions", "--print-config", "--set", both[0]]) == 2
    message = "--set sampling.foreground_iou=0.4: sampling: Value error, background_iou must not be"
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("seed", ["-1", "2147483648", "x"])
def test_seeds(seed: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        train.command(["regions", "--seed", seed])
    assert "must be a whole number from 0 to 2147483647" in capsys.readouterr().err


def test_shipped_recipes_are_valid() -> None:
    files = sorted((ROOT / "configs" / "training").glob("*.toml"))
    assert files
    for file in files:
        model = MultiBoxTraining if "multibox" in file.name else RegionTraining
        model.model_validate(read_toml(file))


def test_multibox_says_what_it_covers(
    painted: Path, tiny_weights: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "multibox.toml"
    config.write_text(
        "size = 64\npriors = 6\nhidden = 16\narchitecture = { width = 0.25 }\n"
        "pictures = { batch_size = 4 }\n"
    )
    files = ["--data", painted, "--validation", painted, "--weights", tiny_weights[0]]
    options = ["--config", config, "--out", tmp_path / "multibox", "--device", "cpu"]
    options += ["--set", "optimisation.steps=3", "--set", "hidden=8"]
    assert train.command(["multibox", *map(str, files), *map(str, options)]) == 0
    assert "boxes in each of 4 held-out photos" in capsys.readouterr().out


def voc_tree(painted: Path, root: Path, names: dict[int, str]) -> Path:
    """The painted photos as a VOC tree: a list of all, and one of those with the first class."""
    content = json.loads(painted.read_text())
    (root / "Annotations").mkdir(parents=True)
    (root / "ImageSets" / "Main").mkdir(parents=True)
    (root / "JPEGImages").symlink_to(painted.with_suffix(""))
    for image in content["images"]:
        objects = ""
        for item in content["annotations"]:
            x, y, w, h = item["bbox"]
            if item["image_id"] == image["id"] and (item["category_id"] == 1 or image["id"] < 3):
                box = (
                    f"<bndbox><xmin>{x + 1}</xmin><ymin>{y + 1}</ymin>"
                    f"<xmax>{x + w}</xmax><ymax>{y + h}</ymax></bndbox>"
                )
                objects += f"<object><name>{names[item['category_id']]}</name>{box}</object>"
        text = (
            f"<annotation><filename>{image['file_name']}</filename><size><width>{image['width']}"
            f"</width><height>{image['height']}</height></size>{objects}</annotation>"
        )
        (root / "Annotations" / f"{image['id']}.xml").write_text(text)
    (root / "ImageSets" / "Main" / "train.txt").write_text("0\n1\n2\n")
    (root / "ImageSets" / "Main" / "val.txt").write_text("3\n")
    return root


@pytest.mark.parametrize(
    ("names", "classes"),
    [
        ({1: "wolf", 2: "fox"}, ["fox", "wolf"]),
        ({1: "person", 2: "car"}, ["car", "person"]),  # two of VOC's twenty
    ],
)
def test_classes_of_a_tree_are_those_to_train_on(
    names: dict[int, str],
    classes: list[str],
    painted: Path,
    training: Path,
    tiny_weights: list[Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    tree = voc_tree(painted, tmp_path / "tree", names)
    files = ["--data", tree, "--config", training, "--weights", tiny_weights[0]]
    arguments = ["regions", "--format", "voc", *map(str, files), "--device", "cpu"]
    arguments += ["--backend", "torch", "--cache", str(painted.parent)]
    arguments += ["--set", "optimisation.steps=1", "--out", str(tmp_path / "out")]
    assert train.command([*arguments, "--validation", "val"]) == 0
    member = json.loads((tmp_path / "out" / "member.json").read_text())
    assert member["classes"] == classes
    assert member["training"]["scores"]["classes"][0]["positives"] == 0  # not in the val list
    file = tree / "Annotations" / "3.xml"
    file.write_text(file.read_text().replace(names[1], "bird"))
    arguments[-1] += "2"
    assert train.command([*arguments, "--validation", "val"]) == 2
    message = f"unknown class 'bird'; there are {', '.join(classes)} in "
    assert message in capsys.readouterr().err


def test_a_trunk_from_scratch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What a training says of its network, the evaluation of the weights says as well."""
    monkeypatch.chdir(tmp_path)
    random = np.random.default_rng(0)
    for name, colour in (("red", (220, 30, 30)), ("green", (30, 200, 40)), ("blue", (30, 30, 220))):
        Path("photos", name).mkdir(parents=True)
        for number in range(2):
            photo = np.array(colour, np.uint8) + random.integers(0, 35, (40, 60, 3), np.uint8)
            PillowImage.fromarray(photo).save(Path("photos", name, f"{number}.png"))
    recipe = ["patches.batch_size=4", "optimisation.steps=2", "optimisation.precision=float32"]
    files = ["--data", "photos", "--validation", "photos", "--out", "trunk", "--device", "cpu"]
    settings = [word for setting in recipe for word in ("--set", setting)]
    assert train.command(["classifier", *files, *settings]) == 0
    said = json.loads(Path("trunk/training.json").read_text())["accuracy"]
    files = ["--weights", "trunk/weights.safetensors", "--labels", "trunk/labels.txt"]
    options = [
        "--crops",
        "1",
        "10",
        "--backend",
        "torch",
        "--json",
        "scores.json",
        "--device",
        "cpu",
    ]
    options += ["--set", "classifier.precision=float32"]
    assert eval.command(["--classification", "photos", *files, *options]) == 0
    content = json.loads(Path("scores.json").read_text())
    assert (content["images"], content["precision"]) == (6, "float32")
    one, ten = content["rows"]
    assert one["accuracy"] == said
    assert (one["crops"], ten["crops"], ten["cost"]) == (1, 10, 10)
    lines = capsys.readouterr().out.splitlines()
    assert lines[-2].split()[:3] == ["1", "10", "10"]
    arguments = ["--classification", "photos/red", *files]
    assert eval.command(arguments) == 2
    assert "has no image in subfolders named as the labels" in capsys.readouterr().err
