"""Reading ILSVRC DET's ground truth."""

from __future__ import annotations

from pathlib import Path

import pytest

from detector.datasets import ilsvrc
from detector.errors import FormatError
from detector.images import load

ANNOTATION = (
    "<annotation><filename>a</filename><size><width>50</width><height>40</height></size>"
    "<object><name>{}</name><bndbox>"
    "<xmin>0</xmin><xmax>49</xmax><ymin>3</ymin><ymax>3</ymax></bndbox></object></annotation>"
)


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
