from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image as PillowImage
from safetensors.numpy import load_file, save_file

from detector import Detector, ImageError, Result
from detector.bundles.bundle import Bundle
from detector.bundles.manifest import MultiBoxRecipe
from detector.bundles.pack import pack
from detector.errors import BundleError, NotAnImage, SettingsError, UnreadableImage
from detector.regions.cascade import Cascade
from detector.regions.crops import cut, normalise
from detector.regions.ensemble import Regions
from detector.runtime import Runtime
from detector.settings import Settings
from proposals import SelectiveSearch
from proposals.merge import merge
from tests.support.tiny_bundle import RECIPE, load_network

PHOTOS = Path(__file__).parents[2] / "examples" / "photos"


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
    result = Detector(tiny_detector.networks, every).detect(image)
    assert result.proposals == {"selective_search": len(boxes), "merged": len(boxes)}
    pixels = normalise(image, tiny_bundle.manifest.normalisation)
    index = {tuple(box): number for number, box in enumerate(boxes.tolist())}
    assert len(result.detections) > 3
    for label, score, box in result.detections:
        number = index[box]
        probabilities = []
        for member in tiny_bundle.manifest.members:
            crops = cut(pixels, boxes[number : number + 1], member.warp)
            crop = torch.from_numpy(crops).permute(0, 3, 1, 2)
            with torch.inference_mode():
                logits = load_network(tiny_bundle, member)(crop)
            probabilities.append(logits.softmax(dim=1)[0].numpy())
        mean = np.mean(probabilities, axis=0)
        column = 1 + tiny_bundle.manifest.classes.index(label)
        tolerance = 2e-5 if tiny_detector.networks.runtime.precision == "float32" else 0.05
        assert float(mean[column]) == pytest.approx(score, abs=tolerance)


def test_multibox_adds_its_proposals(multibox_bundle: Bundle, photos: Path) -> None:
    with Detector.load(multibox_bundle, device="cpu") as detector:
        preprocessed = detector.preprocessor.preprocess(photos / "a.png")
        merged = detector.propose(preprocessed).proposals
        multibox = detector.networks.multibox
        assert multibox is not None
        expected = merge(preprocessed.proposals, multibox(preprocessed.pixels, 200))
        assert merged.boxes.tolist() == expected.boxes.tolist()
        result = detector.detect(photos / "a.png")
        assert result.proposals == merged.counts()
        assert result.proposals["multibox"] > 5
        assert next(detector.run([photos / "a.png"])).detections == result.detections


def test_a_multibox_of_fewer_boxes_and_of_none(multibox_bundle: Bundle, photos: Path) -> None:
    for count in (2, 0):
        settings = Settings.read(assignments=[f"multibox.count={count}"])
        with Detector.load(multibox_bundle, settings=settings, device="cpu") as detector:
            found = detector.detect(photos / "a.png").proposals.get("multibox", 0)
            assert min(count, 1) <= found <= count
            assert (detector.networks.multibox is None) == (count == 0)


@pytest.mark.parametrize(
    ("network", "message"),
    [
        ("classifier", "the classifiers' probabilities are not finite"),
        ("multibox", "MultiBox's boxes or confidences are not finite"),
    ],
)
def test_weights_that_overflow_are_an_error(
    tiny_weights: list[Path],
    tiny_multibox: tuple[MultiBoxRecipe, Path],
    photos: Path,
    tmp_path: Path,
    network: str,
    message: str,
) -> None:
    recipe, multibox_weights = tiny_multibox
    source = multibox_weights if network == "multibox" else tiny_weights[0]
    weights = load_file(source)
    for name in weights.keys() - {"priors"}:
        weights[name][:] = np.finfo(np.float16).max
    altered = tmp_path / "altered.safetensors"
    save_file(weights, altered)
    bundle = pack(
        tmp_path / "bundle",
        RECIPE.model_copy(update={"multibox": recipe}),
        tiny_weights if network == "multibox" else [altered, tiny_weights[1]],
        altered if network == "multibox" else multibox_weights,
    )
    with (
        Detector.load(bundle, device="cpu") as detector,
        pytest.raises(BundleError, match=f"^tiny: {message}: some weights are too large$"),
    ):
        detector.detect(photos / "a.png")


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
    with Detector.load(tiny_bundle, settings=settings, device="cpu") as detector:
        ensemble = detector.networks.ensemble
        (together,) = ensemble.classify([Regions(image, boxes)])
        for _ in range(3):
            some = rng.permutation(len(boxes))[: len(boxes) // 2]
            (alone,) = ensemble.classify([Regions(image, boxes[some])])
            assert (alone == together[some]).all()


@pytest.mark.parametrize("together", [1, 3])
def test_run_keeps_the_order_and_reports_bad_files(
    tiny_detector: Detector, photos: Path, together: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Runtime, "images_per_batch", together)
    bad = photos / "bad.jpg"
    bad.write_text("not an image")
    paths = [photos / "a.png", bad, photos / "b c é.png", photos / "absent.png"]
    results = list(tiny_detector.run(paths, workers=2))
    assert results[0].detections == tiny_detector.detect(paths[0]).detections
    assert results[2].detections == tiny_detector.detect(paths[2]).detections
    assert isinstance(results[1].error, NotAnImage)
    assert isinstance(results[3].error, UnreadableImage)
    assert results[1].path == str(bad)
    assert results[1].detections == ()
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


def test_unknown_class(tiny_bundle: Bundle) -> None:
    settings = Settings.read(assignments=['detections.classes=["cow"]'])
    with pytest.raises(SettingsError, match="class 'cow': this bundle has cat, dog, person"):
        Detector.load(tiny_bundle, settings=settings)


@pytest.mark.parametrize("workers", [None, 1])
def test_multibox_alone(multibox_bundle: Bundle, photos: Path, workers: int | None) -> None:
    with Detector.load(
        multibox_bundle, settings=Settings.read(preset="fast"), device="cpu"
    ) as detector:
        if workers:
            (result,) = detector.run([photos / "a.png"], workers=workers)
        else:
            result = detector.detect(photos / "a.png")
    assert isinstance(result, Result)
    assert set(result.proposals) == {"multibox", "merged"}
    assert result.proposals["merged"] == result.proposals["multibox"] > 5


def test_multibox_alone_where_there_is_none(tiny_bundle: Bundle, photos: Path) -> None:
    with Detector.load(
        tiny_bundle, settings=Settings.read(preset="fast"), device="cpu"
    ) as detector:
        assert set(detector.detect(photos / "a.png").proposals) == {"selective_search", "merged"}


def test_members_can_be_fewer(tiny_bundle: Bundle, photos: Path) -> None:
    one = Settings.read(assignments=["classifier.members=1", "classifier.cascade=0.5"])
    with (
        Detector.load(tiny_bundle, settings=one, device="cpu") as first,
        Detector.load(tiny_bundle, device="cpu") as both,
    ):
        image = first.propose(first.preprocessor.preprocess(photos / "a.png"))
        regions = Regions(image.pixels, image.proposals.boxes)
        ensemble = both.networks.ensemble
        (expected,) = ensemble.classify([regions], members=1, cascade=Cascade(0.5, nms_iou=0.3))
        for detector in (first, Detector(both.networks, one)):
            (classified,) = detector.classify([image])
            np.testing.assert_array_equal(classified.probabilities, expected)
        (all_members,) = both.classify([image])
        assert (all_members.probabilities != expected).any()


def test_networks_that_were_not_loaded_are_an_error(multibox_bundle: Bundle) -> None:
    few = Settings.read(assignments=["classifier.members=1", "multibox.count=0"])
    with Detector.load(multibox_bundle, settings=few, device="cpu") as detector:
        networks = detector.networks
        with pytest.raises(SettingsError, match="members all: this detector was loaded with 1"):
            Detector(networks, Settings.read(assignments=["multibox.count=0"]))
        with pytest.raises(SettingsError, match="was loaded without MultiBox"):
            Detector(networks, Settings.read(assignments=["classifier.members=1"]))
        precision = "float32" if networks.runtime.precision != "float32" else "bfloat16"
        other = few.replace(classifier={"precision": precision})
        with pytest.raises(SettingsError, match=f"precision {precision}: .* was loaded in"):
            Detector(networks, other)


def test_options_of_one_call(tiny_detector: Detector, photos: Path) -> None:
    path = photos / "a.png"
    everything = tiny_detector.detect(path)
    score = everything.detections[len(everything.detections) // 2].score
    strong = tiny_detector.detect(path, threshold=score)
    assert strong.detections == tuple(d for d in everything.detections if d.score >= score)
    dogs = tiny_detector.detect(path, classes=["dog"])
    assert set(dogs.labels) == {"dog"}
    best = tiny_detector.detect(path, settings={"detections": {"max_detections": 1}})
    assert best.detections == everything.detections[:1]
    assert tiny_detector.detect(path).detections == everything.detections


def test_options_of_loading(tiny_bundle: Bundle, photos: Path, tmp_path: Path) -> None:
    config = tmp_path / "settings.toml"
    config.write_text("[detections]\nmax_detections = 3\n")
    tables = {"classifier": {"members": 1}}
    folder = str(tiny_bundle.directory)
    with Detector.load(
        folder, device="cpu", config=str(config), settings=tables, threshold=0.01
    ) as detector:
        assert detector.settings.detections.max_detections == 3
        assert detector.settings.detections.score_threshold == 0.01
        assert len(detector.networks.ensemble.members) == 1
        assert len(detector.detect(photos / "a.png").detections) == 3


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"threshold": "0.5"}, "threshold must be a number, not str"),
        ({"threshold": True}, "threshold must be a number, not bool"),
        ({"classes": "dog"}, "classes must be a list of names, not a single str"),
        ({"settings": "detections.max_detections=3"}, "settings must be tables such as"),
    ],
)
def test_wrong_types_are_type_errors(
    tiny_detector: Detector, photos: Path, options: Any, message: str
) -> None:
    with pytest.raises(TypeError, match=message):
        tiny_detector.detect(photos / "a.png", **options)


def test_wrong_types_of_paths(tiny_bundle: Bundle, tiny_detector: Detector) -> None:
    with pytest.raises(TypeError, match="bundle must be a path, not int"):
        Detector.load(3)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="config must be a path, not dict"):
        Detector.load(tiny_bundle, config={})  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="paths must be a list of paths, not a single str"):
        next(tiny_detector.run("photo.jpg"))
    with pytest.raises(TypeError, match="image must be a path, bytes, PIL image or array, not int"):
        tiny_detector.detect(3)  # type: ignore[arg-type]
    with pytest.raises(SettingsError, match="class 'cow': this bundle has cat, dog, person"):
        tiny_detector.detect(b"", classes=["cow"])
    with pytest.raises(SettingsError, match=r"detections\.score_threshold"):
        tiny_detector.detect(b"", threshold=2)


def test_shipped_detector_finds_the_cat() -> None:
    with Detector.load(preset="fast") as detector:
        best = detector.detect(PHOTOS / "chelsea.jpg").detections[0]
    assert best.label == "cat"
    assert best.score > 0.8
