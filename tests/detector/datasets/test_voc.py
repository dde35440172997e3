"""Reading ground truth in PASCAL VOC's tree."""

from __future__ import annotations

from pathlib import Path

import pytest

from detector.datasets import voc
from detector.errors import FormatError

OBJECT = (
    "<object><name>{}</name>{}<bndbox>"
    "<xmin>{}</xmin><ymin>{}</ymin><xmax>{}</xmax><ymax>{}</ymax></bndbox></object>"
)


def make_annotation(*objects: str, filename: str = "a.jpg") -> str:
    """Return the text of an annotation file."""
    size = "<size><width>500</width><height>375</height><depth>3</depth></size>"
    return f"<annotation><filename>{filename}</filename>{size}{''.join(objects)}</annotation>"


def make_tree(root: Path, **annotations: str) -> Path:
    """Make a tree with a list "train" of these annotations, and return its root."""
    (root / "Annotations").mkdir()
    (root / "ImageSets" / "Main").mkdir(parents=True)
    for name, text in annotations.items():
        (root / "Annotations" / f"{name}.xml").write_text(text)
    (root / "ImageSets" / "Main" / "train.txt").write_text("".join(f"{n}\n" for n in annotations))
    return root


def test_boxes_become_0_based_and_exclusive(tmp_path: Path) -> None:
    dog = OBJECT.format("dog", "<difficult>1</difficult>", 48, 240, 195, 371)
    person = OBJECT.format("person", "<difficult>0</difficult>", 1, 1, 500, 375)
    truth = voc.read(
        make_tree(tmp_path, a=make_annotation(dog, person), b=make_annotation()), "train"
    )
    assert truth.classes["dog"] == 12
    assert len(truth.classes) == 20
    first, second = truth.images
    assert (first.file, first.width, first.height) == ("a.jpg", 500, 375)
    assert first.boxes.tolist() == [[47, 239, 195, 371], [0, 0, 500, 375]]
    assert [list(truth.classes)[label] for label in first.labels] == ["dog", "person"]
    assert first.difficult.tolist() == [True, False]
    assert second.boxes.shape == (0, 4)


def test_other_classes_are_taken_from_the_tree(tmp_path: Path) -> None:
    objects = [OBJECT.format(name, "", 1, 2, 3, 4) for name in ("wolf", "fox", "wolf")]
    truth = voc.read(make_tree(tmp_path, a=make_annotation(*objects, filename="a.png")), "train")
    assert truth.classes == {"fox": 1, "wolf": 2}
    assert truth.images[0].labels.tolist() == [1, 0, 1]
    assert truth.images[0].file == "a.png"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            make_annotation(OBJECT.format("dog", "", 5, 5, 4, 9)),
            "object 1: box 5, 5, 4, 9 has no area",
        ),
        (
            make_annotation(OBJECT.format("dog", "", 5, "x", 9, 9)),
            'object 1: <bndbox><ymin> is "x"',
        ),
        (make_annotation("<object><name>dog</name></object>"), "object 1: lacks <bndbox><xmin>"),
        (make_annotation(OBJECT.format("", "", 1, 1, 9, 9)), "object 1: lacks <name>"),
        ("<annotation></annotation>", "lacks <size><width>"),
        ("<annotation>", "not XML"),
    ],
)
def test_errors_name_the_object_and_its_fault(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(FormatError, match=r"a\.xml:") as caught:
        voc.read(make_tree(tmp_path, a=text), "train")
    assert message in str(caught.value)


def test_errors_name_the_line_of_the_object(tmp_path: Path) -> None:
    good = OBJECT.format("dog", "", 5, 5, 9, 9)
    text = make_annotation(f"{good}\n\n", "<object><name>dog</name></object>")
    line = 1 + text[: text.rindex("<object>")].count("\n")
    with pytest.raises(FormatError, match=rf"a\.xml:{line}: object 2: lacks <bndbox><xmin>"):
        voc.read(make_tree(tmp_path, a=text), "train")


@pytest.mark.parametrize("encoding", ["gb2312", "klingon"])
def test_unknown_encodings_are_refused(encoding: str, tmp_path: Path) -> None:
    text = f'<?xml version="1.0" encoding="{encoding}"?>{make_annotation()}'
    with pytest.raises(FormatError, match=r"a\.xml: not XML: .*encoding"):
        voc.read(make_tree(tmp_path, a=text), "train")


def test_errors_name_the_missing_file(tmp_path: Path) -> None:
    root = make_tree(tmp_path, a=make_annotation())
    with pytest.raises(FormatError, match=r"val\.txt: cannot be read"):
        voc.read(root, "val")
    (root / "Annotations" / "a.xml").unlink()
    with pytest.raises(FormatError, match=r"a\.xml: cannot be read"):
        voc.read(root, "train")
    (root / "ImageSets" / "Main" / "train.txt").write_text("\n")
    with pytest.raises(FormatError, match="lists no image"):
        voc.read(root, "train")


@pytest.mark.parametrize("edge", ["1_0", "nan", "1e400", "\u0661", "0x1f", "4<b/>8", "1 2", "1e7"])
def test_an_edge_is_a_number_of_pixels(edge: str, tmp_path: Path) -> None:
    item = OBJECT.format("dog", "", edge, 5, 9, 9)
    with pytest.raises(FormatError, match=r"object 1: <bndbox><xmin> (is|must have text)"):
        voc.read(make_tree(tmp_path, a=make_annotation(item)), "train")


@pytest.mark.parametrize(
    "extra",
    ["<name>cat</name>", "<difficult>0</difficult>", "<bndbox><xmin>1</xmin></bndbox>"],
)
def test_an_element_that_is_there_twice_is_refused(extra: str, tmp_path: Path) -> None:
    item = OBJECT.format("dog", f"<difficult>1</difficult>{extra}", 5, 5, 9, 9)
    with pytest.raises(FormatError, match=r"object 1: has <.*> 2 times, but must have it once"):
        voc.read(make_tree(tmp_path, a=make_annotation(item)), "train")


@pytest.mark.parametrize("xmax", ["9.0000000001", "9.5", "9"])
def test_a_box_does_not_end_before_it_begins(xmax: str, tmp_path: Path) -> None:
    item = OBJECT.format("dog", "", 10, 5, xmax, 9)
    with pytest.raises(FormatError, match=rf"box 10, 5, {xmax}, 9 has no area"):
        voc.read(make_tree(tmp_path, a=make_annotation(item)), "train")


def test_a_class_is_one_line(tmp_path: Path) -> None:
    item = OBJECT.format("dog\ncat", "", 5, 5, 9, 9)
    with pytest.raises(FormatError, match=r'class "dog\\ncat" must be one line'):
        voc.read(make_tree(tmp_path, a=make_annotation(item)), "train")


@pytest.mark.parametrize("width", ["-1", "160.7"])
def test_a_side_is_a_whole_number(width: str, tmp_path: Path) -> None:
    text = make_annotation().replace("500", width)
    with pytest.raises(FormatError, match=rf"<size><width> is {width}, but must be a whole"):
        voc.read(make_tree(tmp_path, a=text), "train")


@pytest.mark.parametrize("name", ["/a", "../a", "b/../../a 1"])
def test_images_are_in_the_tree(name: str, tmp_path: Path) -> None:
    root = make_tree(tmp_path, a=make_annotation())
    (root / "ImageSets" / "Main" / "val.txt").write_text(f"a\n{name}\n")
    with pytest.raises(FormatError, match=r"val\.txt:2: .* must be in the tree"):
        voc.read(root, "val")


CASES = Path(__file__).parents[2] / "cases" / "voc"


@pytest.mark.parametrize(
    ("case", "files"),
    [
        ("swapped_filename", ["a.jpg", "b.jpg"]),
        ("stale_filename", ["a.jpg", "b.jpg"]),
        ("filename_empty", ["a.jpg"]),
        ("spaces_in_list", ["IMG.jpg", "IMG (1).jpg", "IMG (2).jpg"]),
    ],
)
def test_images_are_named_by_the_list(case: str, files: list[str]) -> None:
    assert [image.file for image in voc.read(CASES / case, "val").images] == files


def test_an_image_listed_twice_is_refused() -> None:
    with pytest.raises(FormatError, match=r"val\.txt:3: .* is listed twice, first in 1"):
        voc.read(CASES / "dup_in_list", "val")


@pytest.mark.parametrize(
    ("line", "name"),
    [("a 1", "a"), ("a -1", "a"), ("a  0 ", "a"), ("a 2", "a 2"), ("b 1", "b 1"), ("b", "b")],
)
def test_a_flag_follows_a_name_unless_it_is_part_of_it(
    line: str, name: str, tmp_path: Path
) -> None:
    root = make_tree(tmp_path, **{key: make_annotation() for key in ("a", "a 2", "b", "b 1")})
    (root / "ImageSets" / "Main" / "val.txt").write_text(f"{line}\r\n\r\n")
    (image,) = voc.read(root, "val").images
    assert image.file == f"{name}.jpg"


@pytest.mark.parametrize(
    ("existing", "stated", "file"),
    [
        ("a.jpg", "a.png", "a.jpg"),
        ("a.png", "other.jpg", "a.png"),
        ("a.JPG", "", "a.JPG"),
        (None, "a.png", "a.png"),
        (None, "folder/a.PNG", "a.PNG"),
        (None, "other.png", "a.jpg"),
        (None, "a.txt", "a.jpg"),
    ],
)
def test_other_suffixes_are_found(
    existing: str | None, stated: str, file: str, tmp_path: Path
) -> None:
    root = make_tree(tmp_path, a=make_annotation(filename=stated))
    if existing is not None:
        (root / "JPEGImages").mkdir()
        (root / "JPEGImages" / existing).touch()
    (image,) = voc.read(root, "train").images
    assert image.file == file


@pytest.mark.parametrize("difficult", ["yes", "-1", "2", "1.0"])
def test_a_flag_is_0_or_1(difficult: str, tmp_path: Path) -> None:
    item = OBJECT.format("dog", f"<difficult>{difficult}</difficult>", 5, 5, 9, 9)
    with pytest.raises(FormatError, match=r"<difficult> is .*must be 0 or 1"):
        voc.read(make_tree(tmp_path, a=make_annotation(item)), "train")
