from __future__ import annotations

from pathlib import Path

import pytest

from detector.datasets import voc
from detector.errors import FormatError

OBJECT = (
    "<object><name>{}</name>{}<bndbox>"
    "<xmin>{}</xmin><ymin>{}</ymin><xmax>{}</xmax><ymax>{}</ymax></bndbox></object>"
)


def annotation(*objects: str, filename: str = "a.jpg") -> str:
    size = "<size><width>500</width><height>375</height><depth>3</depth></size>"
    return f"<annotation><filename>{filename}</filename>{size}{''.join(objects)}</annotation>"


def tree(root: Path, **annotations: str) -> Path:
    (root / "Annotations").mkdir()
    (root / "ImageSets" / "Main").mkdir(parents=True)
    for name, text in annotations.items():
        (root / "Annotations" / f"{name}.xml").write_text(text)
    (root / "ImageSets" / "Main" / "train.txt").write_text("".join(f"{n}\n" for n in annotations))
    return root


def test_first_pixels_become_0_and_last_ones_exclusive(tmp_path: Path) -> None:
    dog = OBJECT.format("dog", "<difficult>1</difficult>", 48, 240, 195, 371)
    person = OBJECT.format("person", "<difficult>0</difficult>", 1, 1, 500, 375)
    truth = voc.read(tree(tmp_path, a=annotation(dog, person), b=annotation()), "train")
    assert truth.classes["dog"] == 12
    assert len(truth.classes) == 20
    first, second = truth.images
    assert (first.file, first.width, first.height) == ("a.jpg", 500, 375)
    assert first.boxes.tolist() == [[47, 239, 195, 371], [0, 0, 500, 375]]
    assert [list(truth.classes)[label] for label in first.labels] == ["dog", "person"]
    assert first.difficult.tolist() == [True, False]
    assert second.boxes.shape == (0, 4)


def test_other_classes_are_those_of_the_tree(tmp_path: Path) -> None:
    objects = [OBJECT.format(name, "", 1, 2, 3, 4) for name in ("wolf", "fox", "wolf")]
    truth = voc.read(tree(tmp_path, a=annotation(*objects, filename="a.png")), "train")
    assert truth.classes == {"fox": 1, "wolf": 2}
    assert truth.images[0].labels.tolist() == [1, 0, 1]
    assert truth.images[0].file == "a.png"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (annotation(OBJECT.format("dog", "", 5, 5, 4, 9)), "object 1: box 5, 5, 4, 9 has no area"),
        (annotation(OBJECT.format("dog", "", 5, "x", 9, 9)), "object 1: <bndbox><ymin> is 'x'"),
        (annotation("<object><name>dog</name></object>"), "object 1: lacks <bndbox><xmin>"),
        (annotation(OBJECT.format("", "", 1, 1, 9, 9)), "object 1: lacks <name>"),
        ("<annotation></annotation>", "lacks <size><width>"),
        ("<annotation>", "not XML"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(FormatError, match=r"a\.xml:") as caught:
        voc.read(tree(tmp_path, a=text), "train")
    assert message in str(caught.value)


def test_the_line_of_an_object_is_named(tmp_path: Path) -> None:
    good = OBJECT.format("dog", "", 5, 5, 9, 9)
    text = annotation(f"{good}\n\n", "<object><name>dog</name></object>")
    line = 1 + text[: text.rindex("<object>")].count("\n")
    with pytest.raises(FormatError, match=rf"a\.xml:{line}: object 2: lacks <bndbox><xmin>"):
        voc.read(tree(tmp_path, a=text), "train")


@pytest.mark.parametrize("encoding", ["gb2312", "klingon"])
def test_encodings_that_cannot_be_read(encoding: str, tmp_path: Path) -> None:
    text = f'<?xml version="1.0" encoding="{encoding}"?>{annotation()}'
    with pytest.raises(FormatError, match=r"a\.xml: not XML: .*encoding"):
        voc.read(tree(tmp_path, a=text), "train")


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    root = tree(tmp_path, a=annotation())
    with pytest.raises(FormatError, match=r"val\.txt: the list of images cannot be read"):
        voc.read(root, "val")
    (root / "Annotations" / "a.xml").unlink()
    with pytest.raises(FormatError, match=r"a\.xml: cannot be read"):
        voc.read(root, "train")
    (root / "ImageSets" / "Main" / "train.txt").write_text("\n")
    with pytest.raises(FormatError, match="lists no image"):
        voc.read(root, "train")
