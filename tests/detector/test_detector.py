from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image as PillowImage

from detector import Detector, ImageError
from detector.bundles.bundle import Bundle
from detector.errors import NotAnImage, SettingsError, UnreadableImage
from detector.images import load
from detector.regions.cascade import Cascade
from detector.regions.crops import cut, normalise
from detector.regions.ensemble import Ensemble
from detector.settings import Settings
from proposals import SelectiveSearch
from proposals.merge import merge


def test_the_ways_to_hand_in_an_image_agree(tiny_detector: Detector, photos: Path) -> None:
    path = photos / "a.png"
    expected = tiny_detector.detect(path)
    with PillowImage.open(path) as opened:
        array = np.asarray(opened)
        for source in (str(path), path.read_bytes(), opened, array):
            assert tiny_detector.detect(source).detections == expected.detections
    assert (expected.width, expected.height) == (120, 24)
    assert set(expected.seconds) == {"decode", "proposals", "classify"}


def test_boxes_are_proposals_and_scores_the_members_mean(
    tiny_detector: Detector, tiny_bundle: Bundle, photos: Path
) -> None:
    """The whole way again by hand, in float32 and one crop at a time."""
    with PillowImage.open(photos / "a.png") as opened:
        image = np.asarray(opened)
    boxes = SelectiveSearch()(image).boxes
    every = Settings.read(assignments=["classifier.cascade=0"])
    result = tiny_detector.under(every).detect(image)
    assert result.proposals == {"selective_search": len(boxes), "merged": len(boxes)}
    pixels = normalise(image, tiny_bundle.manifest.normalisation)
    index = {tuple(box): number for number, box in enumerate(boxes.tolist())}
    assert len(result.detections) > 3
    for label, score, box in result.detections:
        number = index[box]
        probabilities = []
        for member in tiny_bundle.manifest.members:
            crop = cut(pixels, boxes[number : number + 1], member.warp).permute(0, 3, 1, 2)
            with torch.inference_mode():
                logits = tiny_bundle.network(member)(crop)
            probabilities.append(logits.softmax(dim=1)[0].numpy())
        mean = np.mean(probabilities, axis=0)
        column = 1 + tiny_bundle.manifest.classes.index(label)
        tolerance = 2e-5 if tiny_detector.precision == "float32" else 0.05
        assert float(mean[column]) == pytest.approx(score, abs=tolerance)


def test_multibox_adds_its_proposals(multibox_bundle: Bundle, photos: Path) -> None:
    with Detector(multibox_bundle, device="cpu") as detector:
        prepared = detector.preparation.source(photos / "a.png")
        localised = detector.localise(prepared)
        assert detector.localise(localised) is localised, "they are added once"
        merged = localised.proposals
        assert prepared.image is not None
        assert prepared.proposals is not None
        assert merged is not None
        assert detector.multibox is not None
        expected = merge(prepared.proposals, detector.multibox(prepared.image))
        assert merged.boxes.tolist() == expected.boxes.tolist()
        result = detector.detect(photos / "a.png")
        assert result.proposals == merged.counts()
        assert result.proposals["multibox"] > 5
        assert next(detector.run([photos / "a.png"])).detections == result.detections


def test_a_multibox_of_fewer_boxes_and_of_none(multibox_bundle: Bundle, photos: Path) -> None:
    for count in (2, 0):
        settings = Settings.read(assignments=[f"multibox.count={count}"])
        with Detector(multibox_bundle, settings, device="cpu") as detector:
            found = detector.detect(photos / "a.png").proposals.get("multibox", 0)
            assert min(count, 1) <= found <= count
            assert (detector.multibox is None) == (count == 0)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_crops_probabilities_do_not_depend_on_its_neighbours(
    tiny_bundle: Bundle, photos: Path, precision: str
) -> None:
    assignments = [f"classifier.precision={precision}", "classifier.cascade=0"]
    settings = Settings.read(assignments=assignments)
    rng = np.random.default_rng(0)
    with PillowImage.open(photos / "a.png") as opened:
        image = np.asarray(opened)
    boxes = SelectiveSearch()(image).boxes
    with Detector(tiny_bundle, settings, device="cpu") as detector:
        together = detector.ensemble(image, boxes)
        for _ in range(3):
            some = rng.permutation(len(boxes))[: len(boxes) // 2]
            assert (detector.ensemble(image, boxes[some]) == together[some]).all()


@pytest.mark.parametrize("together", [1, 3])
def test_run_keeps_the_order_and_reports_bad_files(
    tiny_detector: Detector, photos: Path, together: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tiny_detector, "images_together", together)
    bad = photos / "bad.jpg"
    bad.write_text("not an image")
    paths = [photos / "a.png", bad, photos / "b c é.png", photos / "absent.png"]
    results = list(tiny_detector.run(paths, workers=2))
    assert results[0].detections == tiny_detector.detect(paths[0]).detections
    assert results[2].detections == tiny_detector.detect(paths[2]).detections
    assert isinstance(results[1].error, NotAnImage)
    assert isinstance(results[3].error, UnreadableImage)
    assert str(results[3].error).startswith(str(paths[3]))
    for result in (results[0], results[2]):
        assert set(result.seconds) == {"decode", "proposals", "classify"}


def test_images_without_proposals_have_no_detections(tiny_detector: Detector) -> None:
    result = tiny_detector.detect(np.zeros((30, 20000, 3), np.uint8))
    assert result.detections == ()
    assert result.proposals == {"merged": 0}


def test_detect_raises_on_a_bad_image(tiny_detector: Detector) -> None:
    with pytest.raises(ImageError, match="bytes: the file is empty"):
        tiny_detector.detect(b"")


def test_exif_rotation_puts_boxes_on_the_upright_image(
    tiny_detector: Detector, photos: Path
) -> None:
    with PillowImage.open(photos / "a.png") as opened:
        upright = opened.convert("RGB")
    exif = PillowImage.Exif()
    exif[0x0112] = 6  # stored turned by 90 degrees against the clock
    buffer = io.BytesIO()
    upright.transpose(PillowImage.Transpose.ROTATE_90).save(buffer, "PNG", exif=exif)
    turned = tiny_detector.detect(buffer.getvalue())
    assert turned.detections == tiny_detector.detect(upright).detections
    assert (turned.width, turned.height) == upright.size


@pytest.mark.parametrize(
    ("device", "message"),
    [
        ("tpu", "device 'tpu': allowed are auto, cpu, cuda and cuda:N"),
        ("cpu:1", "allowed are"),
        ("cuda:99", "this machine has [0-9]+ GPUs"),
    ],
)
def test_unknown_devices(tiny_bundle: Bundle, device: str, message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        Detector(tiny_bundle, device=device)


def test_unknown_class(tiny_bundle: Bundle) -> None:
    settings = Settings.read(assignments=['detections.classes=["cow"]'])
    with pytest.raises(SettingsError, match="class 'cow': this bundle has cat, dog, person"):
        Detector(tiny_bundle, settings)


@pytest.mark.parametrize("workers", [None, 1])
def test_multibox_alone(multibox_bundle: Bundle, photos: Path, workers: int | None) -> None:
    with Detector(multibox_bundle, Settings.read(preset="fast"), device="cpu") as detector:
        if workers:
            (result,) = detector.run([photos / "a.png"], workers=workers)
        else:
            result = detector.detect(photos / "a.png")
    assert set(result.proposals) == {"multibox", "merged"}
    assert result.proposals["merged"] == result.proposals["multibox"] > 5


def test_multibox_alone_where_there_is_none(tiny_bundle: Bundle, photos: Path) -> None:
    with Detector(tiny_bundle, Settings.read(preset="fast"), device="cpu") as detector:
        assert set(detector.detect(photos / "a.png").proposals) == {"selective_search", "merged"}


def test_members_can_be_fewer(tiny_bundle: Bundle, photos: Path) -> None:
    one = Settings.read(assignments=["classifier.members=1", "classifier.cascade=0.5"])
    image = load(photos / "a.png")
    boxes = SelectiveSearch()(image).boxes
    with (
        Detector(tiny_bundle, one, device="cpu") as first,
        Detector(tiny_bundle, device="cpu") as both,
    ):
        alone = Ensemble(
            both.ensemble.members[:1], tiny_bundle.manifest.normalisation, classes=4, batch_size=32
        )
        expected = alone(image, boxes)
        for detector in (first, both.under(one)):
            assert detector.ensemble.cascade == Cascade(0.5, nms_iou=0.3)
            np.testing.assert_array_equal(detector.ensemble(image, boxes), expected)
        assert (both.ensemble(image, boxes) != expected).any()


def test_networks_that_were_not_loaded_are_an_error(multibox_bundle: Bundle) -> None:
    few = Settings.read(assignments=["classifier.members=1", "multibox.count=0"])
    with Detector(multibox_bundle, few, device="cpu") as detector:
        with pytest.raises(SettingsError, match="members all: this detector was loaded with 1"):
            detector.under(Settings.read(assignments=["multibox.count=0"]))
        with pytest.raises(SettingsError, match="was loaded without MultiBox"):
            detector.under(Settings.read(assignments=["classifier.members=1"]))


def test_shipped_detector_finds_the_cat() -> None:
    import skimage.data

    with Detector.load(preset="fast") as detector:
        best = detector.detect(Path(skimage.data.__path__[0]) / "chelsea.png").detections[0]
    assert best.label == "cat"
    assert best.score > 0.8
