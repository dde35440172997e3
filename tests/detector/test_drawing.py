from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image as PillowImage

from detector.drawing import colour, draw, is_drawing_of, save
from detector.results import Detection
from proposals import Image

CLASSES = ("cat", "dog", "person")


def grey(width: int = 200, height: int = 150) -> Image:
    return np.full((height, width, 3), 128, np.uint8)


def count(drawing: PillowImage.Image, label: str) -> int:
    """The number of pixels in a class's colour."""
    return int((np.asarray(drawing) == colour(label, CLASSES)).all(axis=2).sum())


def ink(drawing: PillowImage.Image) -> int:
    """The number of dark pixels, which only text has."""
    return int((np.asarray(drawing).max(axis=2) < 80).sum())


@pytest.mark.parametrize(
    "detections",
    [
        pytest.param([], id="none"),
        pytest.param([Detection("cat", 0.799999, (20, 50, 90, 100))], id="a weak one"),
    ],
)
def test_nothing_is_drawn_for(detections: list[Detection]) -> None:
    image = np.random.default_rng(0).integers(0, 256, (30, 40, 3), np.uint8)
    np.testing.assert_array_equal(np.asarray(draw(image, detections, CLASSES)), image)


def test_the_photo_itself_stays_as_it_is() -> None:
    image = grey()
    drawing = draw(image, [Detection("cat", 0.8, (20, 50, 90, 100))], CLASSES)
    assert (image == 128).all()
    assert drawing.size == (200, 150)
    assert count(drawing, "cat") > 0


def test_the_frame_lies_within_the_box() -> None:
    x1, y1, x2, y2 = 20, 50, 120, 140
    drawing = draw(grey(), [Detection("cat", 0.9, (x1, y1, x2, y2))], CLASSES)
    pixels = np.asarray(drawing)
    framed = (pixels == colour("cat", CLASSES)).all(axis=2)
    below = framed[y1:]  # the label stands above the box
    rows, columns = np.nonzero(below)
    assert (columns.min(), columns.max() + 1, rows.max() + 1 + y1) == (x1, x2, y2)
    assert framed[y1 : y1 + 2, x1:x2].all()
    assert framed[y2 - 2 : y2, x1:x2].all()
    assert framed[y1:y2, x1 : x1 + 2].all()
    assert framed[y1:y2, x2 - 2 : x2].all()
    assert (pixels[y1 + 2 : y2 - 2, x1 + 2 : x2 - 2] == 128).all()
    assert (pixels[:y1, x2:] == 128).all()


def test_the_label_is_black_on_the_class_s_colour() -> None:
    drawing = draw(grey(), [Detection("cat", 0.9, (20, 50, 120, 140))], CLASSES)
    label = drawing.crop((20, 0, 120, 50))  # over the box
    assert count(label, "cat") > 200
    assert ink(label) == ink(drawing) > 50


def test_the_label_shows_the_score() -> None:
    one, same, other = (
        draw(grey(), [Detection("cat", score, (20, 50, 120, 140))], CLASSES)
        for score in (0.871, 0.869, 0.971)
    )
    assert one.tobytes() == same.tobytes() != other.tobytes()


def test_the_best_frame_is_on_top() -> None:
    box = (20.0, 50.0, 120.0, 140.0)
    best, worse = Detection("cat", 0.9, box), Detection("dog", 0.8, box)
    pixels = np.asarray(draw(grey(), [best, worse], CLASSES))
    assert (pixels[139, 20:120] == colour("cat", CLASSES)).all()


def test_labels_do_not_hide_each_other() -> None:
    box = (20.0, 50.0, 180.0, 140.0)
    alone = {
        label: count(draw(grey(), [Detection(label, 0.9, box)], CLASSES), label)
        for label in CLASSES
    }
    together = draw(grey(), [Detection(label, 0.9, box) for label in CLASSES], CLASSES)
    frame = 4 * (160 + 90)  # at most; it is drawn once, in the colour of the best
    for label in CLASSES:
        assert count(together, label) >= alone[label] - frame > 0


@pytest.mark.parametrize(
    "box",
    [
        pytest.param((0, 0, 200, 150), id="the whole photo"),
        pytest.param((0, 0, 30, 20), id="upper left corner"),
        pytest.param((170, 0, 200, 20), id="upper right corner"),
        pytest.param((0, 130, 30, 150), id="lower left corner"),
        pytest.param((170, 130, 200, 150), id="lower right corner"),
    ],
)
def test_labels_stay_inside_the_photo(box: tuple[float, float, float, float]) -> None:
    inside = draw(grey(), [Detection("cat", 0.9, (60, 70, 140, 120))], CLASSES)
    assert ink(draw(grey(), [Detection("cat", 0.9, box)], CLASSES)) == ink(inside)


@st.composite
def scenes(draw_from: st.DrawFn) -> tuple[Image, list[Detection]]:
    width, height = draw_from(st.integers(1, 80)), draw_from(st.integers(1, 80))
    found = []
    for _ in range(draw_from(st.integers(0, 5))):
        x1, y1 = draw_from(st.integers(0, width - 1)), draw_from(st.integers(0, height - 1))
        x2, y2 = draw_from(st.integers(x1 + 1, width)), draw_from(st.integers(y1 + 1, height))
        score = draw_from(st.floats(0.8, 1))
        found.append(Detection(draw_from(st.sampled_from(CLASSES)), score, (x1, y1, x2, y2)))
    return grey(width, height), found


@given(scenes())
@example((grey(1, 1), [Detection("cat", 1.0, (0, 0, 1, 1))]))
@settings(max_examples=50)
def test_any_boxes_can_be_drawn(scene: tuple[Image, list[Detection]]) -> None:
    image, detections = scene
    drawing = draw(image, detections, CLASSES)
    assert drawing.size == (image.shape[1], image.shape[0])
    assert drawing.mode == "RGB"
    assert not detections or (np.asarray(drawing) != 128).any()


def luminance(rgb: tuple[int, int, int]) -> float:
    """Relative luminance as WCAG 2 defines it."""
    shares = [value / 255 for value in rgb]
    linear = [s / 12.92 if s <= 0.04045 else ((s + 0.055) / 1.055) ** 2.4 for s in shares]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("number", [1, 20, 80, 200])
def test_black_text_is_legible_on_every_colour(number: int) -> None:
    classes = [f"class {index}" for index in range(number)]
    colours = [colour(label, classes) for label in classes]
    contrasts = [(luminance(rgb) + 0.05) / 0.05 for rgb in colours]
    assert min(contrasts) >= 4.5  # WCAG's level AA


def test_classes_have_colours_of_their_own_far_from_their_neighbours() -> None:
    classes = [f"class {index}" for index in range(200)]
    colours = [colour(label, classes) for label in classes]
    assert len(set(colours)) == 200
    for one, other in pairwise(colours):
        assert np.abs(np.subtract(one, other)).max() >= 128


@pytest.mark.parametrize("name", ["a.jpg", "a/b c é.png.jpg"])
def test_drawings_are_saved_as_jpeg(name: str, tmp_path: Path) -> None:
    drawing = draw(grey(), [Detection("cat", 0.9, (20, 50, 120, 140))], CLASSES)
    save(drawing, tmp_path / name, content=b"a cat")
    with PillowImage.open(tmp_path / name) as saved:
        assert (saved.format, saved.size) == ("JPEG", drawing.size)
        difference = np.asarray(saved).astype(int) - np.asarray(drawing)
    assert np.abs(difference).mean() < 5
    assert [path.name for path in (tmp_path / name).parent.iterdir()] == [Path(name).name]
    assert is_drawing_of(tmp_path / name, b"a cat")
    assert not is_drawing_of(tmp_path / name, b"a dog")
    assert not is_drawing_of(tmp_path / "absent", b"a cat")
