from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image as PillowImage

from detector.bundles.manifest import Normalisation
from detector.errors import FormatError
from detector.evaluation.classification import (
    centre_crop,
    crops_of,
    evaluate,
    find_labelled,
    read_labels,
    squares,
    table,
)


class Oracle:
    """Guesses class `round(mean of the crop)`, then the following ones."""

    def __call__(self, crops: NDArray[np.float32]) -> NDArray[np.float32]:
        best = crops.mean(axis=(1, 2, 3)).round()
        distance = (np.arange(8)[None, :] - best[:, None]) % 8
        return np.asarray(np.float32(1) / (1 + distance), np.float32)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for label, value in [("c0", 0), ("c0", 1), ("c3", 2), ("c7", 1)]:
        file = tmp_path / "images" / label / f"{value}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        PillowImage.new("RGB", (300, 260), (value, value, value)).save(file)
    (tmp_path / "labels.txt").write_text("".join(f"c{n} class number {n}\n" for n in range(8)))
    return tmp_path


def test_top_1_and_top_5(folder: Path) -> None:
    images = find_labelled(folder / "images", read_labels(folder / "labels.txt"))
    assert [label for _, label in images] == [0, 0, 3, 7]
    result = evaluate([Oracle()], Normalisation(mean=(0, 0, 0)), images).accuracy()
    # Guesses begin at 0, 1, 2, 1: right; 0 is the eighth; 3 is the second; 7 is the seventh.
    assert (result.images, result.top1, result.top5) == (4, 0.25, 0.5)


@pytest.mark.parametrize(("width", "height"), [(224, 224), (500, 375), (375, 500), (40, 900)])
def test_centre_crop(width: int, height: int) -> None:
    columns = np.linspace(0, 255, width)[None, :, None].repeat(height, 0).repeat(3, 2)
    crop = centre_crop(columns.astype(np.uint8))
    assert crop.shape == (224, 224, 3)
    left, right = crop[112, 0, 0], crop[112, -1, 0]
    assert int(left) + int(right) == pytest.approx(255, abs=3)  # in the middle
    shown = 255 * 224 / (256 * width / min(width, height))
    assert int(right) - int(left) == pytest.approx(shown, abs=4)


def test_squares_are_where_the_paper_has_them() -> None:
    """500x375 becomes 341x256; squares begin at 0, 42 and 85; and so on, upright too."""
    columns = np.arange(341 * 2)[None, :, None].repeat(256 * 2, 0).repeat(3, 2) % 251
    for image, upright in ((columns, False), (columns.transpose(1, 0, 2), True)):
        found = squares(image.astype(np.uint8), 256)
        assert [square.shape for square in found] == [(256, 256, 3)] * 3
        whole = cv2.resize(
            image.astype(np.uint8),
            (256, 341) if upright else (341, 256),
            interpolation=cv2.INTER_AREA,
        )
        for square, start in zip(found, (0, 42, 85), strict=True):
            cut = whole[start : start + 256] if upright else whole[:, start : start + 256]
            np.testing.assert_array_equal(square, cut)


def test_crops_of_a_square_image() -> None:
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (256, 256, 3), np.uint8)
    ten = crops_of(image, 10)
    places = [(0, 0), (0, 32), (32, 0), (32, 32), (16, 16)]
    for number, (y, x) in enumerate(places):
        expected = image[y : y + 224, x : x + 224]
        np.testing.assert_array_equal(ten[2 * number], expected)
        np.testing.assert_array_equal(ten[2 * number + 1], expected[:, ::-1])
    np.testing.assert_array_equal(crops_of(image, 1)[0], ten[8])
    many = crops_of(image, 144)
    assert len(many) == 48  # the three squares are one
    assert {crop.shape for crop in many} == {(224, 224, 3)}
    assert len({crop.tobytes() for crop in many}) == 48
    assert len({crop.tobytes() for crop in crops_of(image[:200], 144)}) == 144
    for first, second in zip(ten[:8], many[:8], strict=True):  # corners of the smallest scale
        np.testing.assert_array_equal(first, second)


class Brightness:
    """Two classes, dark and bright, with a probability that depends on one pixel."""

    def __init__(self, share: float) -> None:
        self.share = share

    def __call__(self, crops: NDArray[np.float32]) -> NDArray[np.float32]:
        bright = crops[:, 0, 0, 0] / 255 * self.share
        return np.stack([1 - bright, bright], axis=1).astype(np.float32)


def test_probabilities_of_crops_and_members_are_averaged(tmp_path: Path) -> None:
    """One corner is bright: the first crop alone says so, the mean of the ten does not."""
    image = np.zeros((256, 256, 3), np.uint8)
    image[:10, :10] = 255
    PillowImage.fromarray(image).save(tmp_path / "a.png")
    plain = Normalisation(mean=(0, 0, 0))
    for members, bright in (([1.0], 1 / 10), ([1.0, 0.5], 1 / 10 * 0.75)):
        backends = [Brightness(share) for share in members]
        crops = np.stack(crops_of(image, 10)).astype(np.float32)
        means = [float(backend(crops)[:, 1].mean()) for backend in backends]
        assert np.mean(means) == pytest.approx(bright)
        guesses = evaluate(backends, plain, [(tmp_path / "a.png", 0)], lambda i: crops_of(i, 10))
        assert guesses.top1.tolist() == [True]
    files = [(tmp_path / "a.png", 1)]
    corner = evaluate([Brightness(1.0)], plain, files, lambda i: crops_of(i, 10)[:1])
    assert corner.top1.tolist() == [True]


def test_table_3(folder: Path) -> None:
    images = find_labelled(folder / "images", read_labels(folder / "labels.txt"))
    rows = table([Oracle(), Oracle()], Normalisation(mean=(0, 0, 0)), images, [1, 10])
    assert [(row.models, row.crops, row.cost) for row in rows] == [(2, 1, 2), (2, 10, 20)]
    assert rows[1].accuracy == rows[0].accuracy  # each image has one colour
    assert (rows[1].gain.low, rows[1].gain.high) == (0, 0)
    single = table([Oracle()], Normalisation(mean=(0, 0, 0)), images, [144])
    assert (single[0].paper, rows[0].paper) == (0.0789, None)


def test_labels_with_blanks(tmp_path: Path) -> None:
    names = ["golden retriever", "golden hamster", "n01440764"]
    lines = [*names[:2], "n01440764 tench, a fish"]
    for name in names:
        (tmp_path / "images" / name).mkdir(parents=True)
        (tmp_path / "images" / name / "a.png").touch()
    (tmp_path / "labels.txt").write_text("\n".join(lines))
    found = find_labelled(tmp_path / "images", read_labels(tmp_path / "labels.txt"))
    assert {path.parent.name: label for path, label in found} == {
        name: number for number, name in enumerate(names)
    }


def test_errors_name_what_is_wrong(folder: Path) -> None:
    with pytest.raises(FormatError, match=r"cannot be read"):
        read_labels(folder / "absent.txt")
    (folder / "empty.txt").touch()
    with pytest.raises(FormatError, match=r"empty.txt: has no label"):
        read_labels(folder / "empty.txt")
    with pytest.raises(FormatError, match="c7: is the name of no label"):
        find_labelled(folder / "images", ["c0", "c3"])
    with pytest.raises(FormatError, match="has no image in subfolders"):
        find_labelled(folder / "images" / "c0", ["c0"])


def test_a_folder_that_fits_two_labels_is_refused(folder: Path) -> None:
    labels = ["c0 crane", "c3 great owl", "c7", "c3 great shark"]
    with pytest.raises(FormatError, match=r"c3: fits 2 labels, such as those numbered 2, 4"):
        find_labelled(folder / "images", labels)


@pytest.mark.parametrize(
    ("data", "labels"),
    [
        (b"\xef\xbb\xbfa\r\nb\r\n", ["a", "b"]),
        ("a\nb".encode("utf-16"), ["a", "b"]),
        ("a\x85b\u2028c\nd\n".encode(), ["a\x85b\u2028c", "d"]),
    ],
)
def test_labels_are_lines(data: bytes, labels: list[str], tmp_path: Path) -> None:
    (tmp_path / "labels.txt").write_bytes(data)
    assert read_labels(tmp_path / "labels.txt") == labels


def test_bvlc_weights_classify_imagenet(
    imagenet: Path, bvlc_weights: Path, imagenet_labels: Path
) -> None:
    """60 of the 500 photos; docs/results.md has all: 68.0 and 87.8 %."""
    from detector.backends.pytorch import PyTorchBackend
    from detector.bundles.manifest import Architecture
    from detector.models.torch_googlenet import make_googlenet
    from detector.models.weights import read_weights

    network = make_googlenet(read_weights(bvlc_weights), Architecture(), 224)
    images = find_labelled(imagenet, read_labels(imagenet_labels))[::8][:60]
    backend = PyTorchBackend(network, "float32")
    result = evaluate([backend], Normalisation(), images).accuracy()
    assert result.top1 == pytest.approx(38 / 60, abs=1.1 / 60)  # with red and blue swapped 35
    assert result.top5 == pytest.approx(50 / 60, abs=1.1 / 60)
