"""Reading ILSVRC DET's ground truth."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from detector.datasets import ilsvrc
from detector.errors import FormatError
from detector.images import load
from tests.support.damaged_annotations import BLACKLIST, make_ilsvrc

ANNOTATION = (
    "<annotation><filename>a</filename><size><width>50</width><height>40</height></size>"
    "<object><name>{}</name><bndbox>"
    "<xmin>0</xmin><xmax>49</xmax><ymin>3</ymin><ymax>3</ymax></bndbox></object></annotation>"
)


OFFICIAL_LIST = "devkit/data/det_lists/val.txt"


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Return a tree with one image in `val` and one in `train`."""
    for path in ("val/a", "train/part/b"):
        file = tmp_path / "Annotations" / "DET" / f"{path}.xml"
        file.parent.mkdir(parents=True)
        file.write_text(ANNOTATION.format("n02691156"))
    lists = tmp_path / "ImageSets" / "DET"
    lists.mkdir(parents=True)
    (lists / "val.txt").write_text("a 1\n")
    (lists / "train.txt").write_text("part/b 1\n")  # as in the official lists
    return tmp_path


def test_boxes_are_0_based_and_ids_official(tree: Path) -> None:
    truth = ilsvrc.read(tree, "val")
    assert len(truth.classes) == 200
    assert truth.classes["airplane"] == 2
    (image,) = truth.images
    assert image.file == "val/a.JPEG"
    assert image.boxes.tolist() == [[0, 3, 50, 4]]
    assert list(truth.classes)[image.labels[0]] == "airplane"
    assert [image.file for image in ilsvrc.read(tree, "train").images] == ["train/part/b.JPEG"]


def test_faults_of_the_training_set_are_skipped(tree: Path) -> None:
    """The official set has images without annotations, and boxes that end before they begin."""
    (tree / "ImageSets" / "DET" / "train.txt").write_text("train/part/b 1\ntrain/part/c 0\n")
    file = tree / "Annotations" / "DET" / "train" / "part" / "b.xml"
    object_ = (
        "<object><name>n02084071</name><bndbox><xmin>1</xmin><xmax>0</xmax><ymin>2</ymin>"
        "<ymax>9</ymax></bndbox></object>"
    )

    # A box that ends before it begins is skipped in the training set only.
    text = file.read_text().replace("</annotation>", f"{object_}</annotation>")
    file.write_text(text)
    (image,) = ilsvrc.read(tree, "train").images
    assert (image.file, len(image.boxes)) == ("train/part/b.JPEG", 1)
    (tree / "Annotations" / "DET" / "val" / "a.xml").write_text(text)
    with pytest.raises(FormatError, match="object 2: box 1, 2, 0, 9 has no area"):
        ilsvrc.read(tree, "val")

    # Other faults are errors in the training set as well.
    unknown = object_.replace("n02084071", "n0").replace("<xmin>1", "<xmin>0")
    file.write_text(text.replace("</annotation>", f"\n{unknown}</annotation>"))
    with pytest.raises(FormatError, match=r"b\.xml:2: object 3: unknown class 'n0'"):
        ilsvrc.read(tree, "train")


@pytest.fixture
def sound(tmp_path: Path) -> Path:
    """Return a tree of three images with a kit in it."""
    make_ilsvrc(tmp_path)
    return tmp_path


def test_lists_that_disagree_are_refused(sound: Path) -> None:
    """Otherwise the blacklist would not hold for the image."""
    file = sound / OFFICIAL_LIST
    file.write_text(file.read_text().replace("00000006", "00000007"))
    with pytest.raises(FormatError, match=r'"ILSVRC2012_val_00000006" is not in the kit'):
        ilsvrc.read_validation("val", root=sound, devkit=None)


def test_no_image_of_the_validation_set_is_skipped(sound: Path) -> None:
    """Otherwise the blacklist would hold for other images than those it names."""
    for file in (sound / "ImageSets" / "DET" / "val.txt", sound / OFFICIAL_LIST):
        file.write_text(f"part/x 9\n{file.read_text()}")
    with pytest.raises(FormatError, match=r"train/part/x\.xml: cannot be read"):
        ilsvrc.read_validation("val", root=sound, devkit=None)


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        ("det_lists/val.txt", "", "lists no image"),
        ("det_lists/val.txt", "a 1\na 2\n", r':2: "a" is listed twice'),
        ("det_lists/val.txt", "a 1\nb 1\n", r':2: "b" has the number of "a": 1'),
        ("det_lists/val.txt", f"a {'9' * 5000}\n", ":1: must be a name and a number"),
        ("det_lists/val.txt", "a \u0661\n", ":1: must be a name and a number"),
        ("det_lists/val.txt", "../a 1\n", r':1: "../a" must be in the tree'),
        ("det_lists/val.txt", "/a 1\n", r':1: "/a" must be in the tree'),
        ("det_lists/val.txt", "a 1 2\n", ":1: must be a name and a number"),
        (BLACKLIST, "", "lists nothing"),
        (BLACKLIST, "1 n02691156\n4 n02691156\n", ":2: there is no image 4"),
        (BLACKLIST, "1 n0\n", ":1: must be a number and a synset"),
    ],
)
def test_lists_of_the_kit_are_checked(file: str, text: str, message: str, sound: Path) -> None:
    (sound / "devkit" / "data" / file).write_text(text, encoding="utf-8")
    with pytest.raises(FormatError, match=message) as caught:
        ilsvrc.read_validation("val", root=sound, devkit=None)
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize("text", ["a b 1\n", "a 1b 2\n", "a 1 2\n", "../a\n", "\n"])
def test_lists_of_names_are_checked(text: str, tree: Path) -> None:
    (tree / "ImageSets" / "DET" / "train.txt").write_text(text)
    with pytest.raises(FormatError, match=r"train\.txt:"):
        ilsvrc.read(tree, "train")


def kit_arrays() -> dict[str, Any]:
    """Return the arrays of a kit of one image with two objects."""
    boxes = np.empty((1, 1), object)
    boxes[0, 0] = np.array([[4, 1], [5, 2], [195, 3], [371, 4]], np.uint16)
    labels = np.empty((1, 1), object)
    labels[0, 0] = np.array([[2, 58]], np.uint8)
    return {"gt_obj_bboxes": boxes, "gt_obj_labels": labels, "gt_img_ids": np.array([[1]])}


def save_kit(folder: Path, content: dict[str, Any], **options: Any) -> Path:
    from scipy.io import savemat

    file = folder / "ground_truth.mat"
    savemat(file, content, **options)
    return file


@pytest.mark.parametrize(
    ("key", "array", "message"),
    [
        ("gt_obj_labels", np.array([[2.5, 58]]), "is not whole"),
        ("gt_obj_labels", np.array([[float("nan"), 58]]), "is not whole"),
        ("gt_obj_labels", np.array([[0, 58]]), "a box or a label is no such thing"),
        ("gt_obj_labels", np.array([[2]]), "different lengths"),
        ("gt_obj_bboxes", np.array([[4, 5, 195, 371], [1, 2, 3, 4]]), "must have four rows"),
        ("gt_obj_bboxes", np.ones((4, 2), complex) * 1j, "TypeError"),
        ("gt_obj_bboxes", np.full((4, 2), np.nan), "a box or a label is no such thing"),
    ],
)
def test_arrays_of_the_kit_are_checked(
    key: str, array: NDArray[Any], message: str, tmp_path: Path
) -> None:
    content = kit_arrays()
    content[key][0, 0] = array
    file = save_kit(tmp_path, content)
    with pytest.raises(FormatError, match=rf"\.mat: not the kit's ground truth: .*{message}"):
        ilsvrc._read_kit_annotations(file)


def test_damage_that_a_checksum_shows_is_noticed(tmp_path: Path) -> None:
    file = save_kit(tmp_path, kit_arrays(), do_compression=True)
    boxes, labels = ilsvrc._read_kit_annotations(file)[1]
    assert boxes.tolist() == [[4, 5, 196, 372], [1, 2, 4, 5]]
    assert labels.tolist() == [1, 57]

    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)
    with pytest.raises(FormatError, match="incorrect data check"):
        ilsvrc._read_kit_annotations(file)


def test_unknown_classes_are_refused(tree: Path) -> None:
    (tree / "Annotations" / "DET" / "val" / "a.xml").write_text(ANNOTATION.format("n0"))
    with pytest.raises(FormatError, match=r"a\.xml:\d+: object 1: unknown class 'n0'"):
        ilsvrc.read(tree, "val")


def test_the_official_tree(ilsvrc_mini: Path, ilsvrc_devkit: Path) -> None:
    truth = ilsvrc.read(ilsvrc_mini, "val")
    assert len(truth.images) == 100
    validation = ilsvrc.read_validation("val", root=ilsvrc_mini, devkit=ilsvrc_devkit)
    assert [image.image_id for image in validation.truth.images] == list(range(1, 101))
    assert sum(len(image.boxes) > 0 for image in truth.images) == 98
    assert sum(len(image.boxes) for image in truth.images) == 316
    assert len({label for image in truth.images for label in image.labels.tolist()}) == 67
    for image in truth.images[:5]:
        pixels = load(ilsvrc_mini / ilsvrc.IMAGE_FOLDER / image.file)
        assert pixels.shape[:2] == (image.height, image.width)
