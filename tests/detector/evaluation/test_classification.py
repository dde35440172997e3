from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image as PillowImage
from torch import Tensor

from detector.crops import Pixels
from detector.errors import FormatError
from detector.evaluation.classification import (
    centre_crop,
    evaluate,
    find_labelled,
    read_labels,
)
from detector.manifest import Normalisation


class Oracle:
    """Guesses class `round(mean of the crop)`, then the following ones."""

    def place(self, pixels: Pixels) -> Pixels | Tensor:
        return pixels

    def __call__(self, crops: Tensor) -> NDArray[np.float32]:
        best = crops.mean(dim=(1, 2, 3)).round().numpy()
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
    result = evaluate(Oracle(), Normalisation(mean=(0, 0, 0)), images)
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


def test_errors_name_what_is_wrong(folder: Path) -> None:
    with pytest.raises(FormatError, match=r"labels cannot be read"):
        read_labels(folder / "absent.txt")
    (folder / "empty.txt").touch()
    with pytest.raises(FormatError, match=r"empty.txt: has no label"):
        read_labels(folder / "empty.txt")
    with pytest.raises(FormatError, match="c7: is the name of no label"):
        find_labelled(folder / "images", ["c0", "c3"])
    with pytest.raises(FormatError, match="has no image in subfolders"):
        find_labelled(folder / "images" / "c0", ["c0"])


def test_bvlc_weights_classify_imagenet(
    imagenet: Path, bvlc_weights: Path, imagenet_labels: Path
) -> None:
    """60 of the 500 photos; docs/results.md has all: 68.0 and 87.8 %."""
    import torch

    from detector.backends.pytorch import PyTorchBackend
    from detector.googlenet import GoogLeNet
    from detector.weights import load_weights, read_weights

    network = GoogLeNet(1000).eval()
    load_weights(network, read_weights(bvlc_weights), bvlc_weights)
    images = find_labelled(imagenet, read_labels(imagenet_labels))[::8][:60]
    backend = PyTorchBackend(network, torch.device("cpu"), "float32")
    result = evaluate(backend, Normalisation(), images)
    assert result.top1 >= 0.6
    assert result.top5 >= 0.8
