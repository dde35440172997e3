from __future__ import annotations

import re
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from detector.bundles.manifest import Warp
from detector.errors import SettingsError
from detector.settings import PRESETS, Settings, configs


def test_the_default_preset_is_the_defaults() -> None:
    assert Settings.read() == Settings()


@pytest.mark.parametrize(
    ("preset", "members", "score_threshold", "an_image", "a_class"),
    [
        ("default", "all", 0.05, 100, "all"),
        ("fast", 1, 0.05, 100, "all"),
        ("paper", "all", 0.001, "all", 100),
    ],
)
def test_presets(
    preset: str, members: object, score_threshold: float, an_image: object, a_class: object
) -> None:
    settings = Settings.read(preset=preset)
    assert settings.classifier.members == members
    assert settings.detections.score_threshold == score_threshold
    assert settings.detections.max_detections == an_image
    assert settings.detections.max_detections_per_class == a_class


def test_every_preset_has_a_file() -> None:
    assert {path.stem for path in configs().glob("*.toml")} == set(PRESETS)


def test_later_layers_win(tmp_path: Path) -> None:
    config = tmp_path / "my.toml"
    config.write_text("[detections]\nscore_threshold = 0.2\nnms_iou = 0.4\n")
    settings = Settings.read(
        base={"detections": {"max_detections": 7, "nms_iou": 0.9}},
        preset="paper",
        config=config,
        assignments=["detections.nms_iou=0.5", "proposals.superpixels=rcnn"],
    )
    assert settings.detections.max_detections == "all"
    assert settings.detections.score_threshold == 0.2
    assert settings.detections.nms_iou == 0.5
    assert settings.proposals.superpixels == "rcnn"


def test_scoring_takes_the_papers_detections() -> None:
    settings = Settings.read(preset="fast", scoring=True)
    assert settings.detections == Settings.read(preset="paper").detections
    assert settings.classifier.members == 1
    assigned = Settings.read(scoring=True, assignments=["detections.score_threshold=0.3"])
    assert assigned.detections.score_threshold == 0.3


@pytest.mark.parametrize("preset", PRESETS)
def test_printed_settings_read_back(preset: str, tmp_path: Path) -> None:
    settings = Settings.read(preset=preset, assignments=['detections.classes=["a \\"b\\"", "é"]'])
    printed = tmp_path / "printed.toml"
    printed.write_text(settings.to_toml(), encoding="utf-8")
    assert Settings.read(config=printed) == settings


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        ("nonsense", "--set nonsense: must be table.key=value"),
        ("a=1", "--set a=1: unknown key a; known here: images, proposals"),
        (".a=1", "--set .a=1: must be table.key=value"),
        ("a.=1", "--set a.=1: must be table.key=value"),
        ("detection.nms_iou=1", "unknown key detection; known here: images, proposals"),
        ("detections.nms=1", "unknown key detections.nms; known here: score_threshold"),
        (
            "detections.nms_iou=2",
            "detections.nms_iou: .* less than or equal to 1; not 2",
        ),
        ("detections.nms_iou=high", "detections.nms_iou: .*; not 'high'"),
        (
            "classifier.members=0",
            "classifier.members: .* equal to 1; or: .*'all'; not 0",
        ),
        ("detections.classes=person", "detections.classes: Input should be a valid tuple; or: "),
        ("images.max_pixels=1000000000", "images.max_pixels"),
        ("proposals.superpixels=tripled", "'rcnn' or 'doubled'; not 'tripled'"),
    ],
)
def test_wrong_settings_say_where_and_what_is_allowed(assignment: str, message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        Settings.read(assignments=[assignment])


def test_wrong_files(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"absent.toml: cannot be read: No such file"):
        Settings.read(config=tmp_path / "absent.toml")
    broken = tmp_path / "broken.toml"
    broken.write_text("[detections]\nscore_threshold 1\n")
    with pytest.raises(SettingsError, match=r"broken.toml: not TOML: .*line 2"):
        Settings.read(config=broken)
    with pytest.raises(SettingsError, match="unknown preset 'best': allowed are default, fast"):
        Settings.read(preset="best")


@pytest.mark.parametrize(
    ("written", "exact"), [("1/10", (1, 10)), (0.1, (1, 10)), ("0.0625", (1, 16)), (0, (0, 1))]
)
def test_fractions_are_what_they_are_written_as(written: object, exact: tuple[int, int]) -> None:
    assert Warp.model_validate({"context": written}).context == Fraction(*exact)


@pytest.mark.parametrize(
    ("written", "message"),
    [
        ("1/0", "must not divide by 0"),
        (0.07142857142857142, "must be a fraction of small numbers, such as 1/14"),
        ("a tenth", "must be a fraction of small numbers"),
        (float("nan"), "must be a fraction of small numbers"),
    ],
)
def test_fractions_that_are_none(written: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Warp.model_validate({"context": written})


@given(st.integers(0, 3000), st.integers(1, 3000))
def test_fractions_stay_exact(numerator: int, extra: int) -> None:
    context = Fraction(numerator, 2 * numerator + extra)  # below a half
    warp = Warp(context=context)
    assert Warp.model_validate_json(warp.model_dump_json()).context == context


def test_the_default_preset_shows_every_setting_with_its_default() -> None:
    text = (configs() / "default.toml").read_text(encoding="utf-8")
    shown = [
        line.removeprefix("# ") for line in text.splitlines() if re.match(r"# [\[\w]+.*[\]=]", line)
    ]
    lines = [line for line in Settings().to_toml().splitlines() if line]
    assert [line for line in shown if line in lines] == lines
