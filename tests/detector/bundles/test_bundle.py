from __future__ import annotations

import json
import math
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from detector.bundles.bundle import Bundle, find_bundle
from detector.errors import BundleError, SettingsError
from detector.models.googlenet import convolutions
from tests.support.tiny_bundle import load_network


@pytest.fixture
def copy(tiny_bundle: Bundle, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_bundle.directory, tmp_path / "copy"))


def change(directory: Path, **keys: Any) -> None:
    file = directory / "bundle.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | keys))


def test_networks_have_the_weights_that_were_packed(
    tiny_bundle: Bundle, tiny_weights: list[Path]
) -> None:
    from detector.models.weights import read_weights

    for member, path in zip(tiny_bundle.manifest.members, tiny_weights, strict=True):
        network = load_network(tiny_bundle, member)
        assert not network.training
        for name, tensor in read_weights(path).items():
            stored = network.state_dict()[name].numpy()
            np.testing.assert_allclose(stored, tensor, rtol=1e-3, atol=1e-6)


def test_shipped_bundle_is_found_by_default_and_by_name_and_is_sound() -> None:
    assert find_bundle() == find_bundle("voc20")
    bundle = Bundle.load()
    assert len(bundle.manifest.classes) == 20
    bundle.verify()


def test_unknown_bundle_is_an_error_that_names_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"nothing: no bundle: .*shipped \(voc20\)"):
        Bundle.load("nothing")
    with pytest.raises(BundleError, match="no bundle"):
        Bundle.load(tmp_path)


@pytest.mark.parametrize("where", [0, 1000, -1])
def test_altered_weights_are_refused(copy: Path, where: int) -> None:
    file = copy / "member_2.safetensors"
    data = bytearray(file.read_bytes())
    data[where] ^= 1
    file.write_bytes(data)
    with pytest.raises(BundleError, match=r"member_2.safetensors: sha256 is \w+, but bundle.json"):
        Bundle.load(copy).verify()


def test_missing_weights_are_named(copy: Path) -> None:
    (copy / "member_1.safetensors").unlink()
    with pytest.raises(BundleError, match=r"member_1.safetensors: cannot be read"):
        Bundle.load(copy).verify()


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        pytest.param({"classes": []}, "classes", id="no class"),
        pytest.param({"classes": ["a", "a", "b"]}, "classes: .*names must be distinct", id="twice"),
        pytest.param({"members": []}, "members", id="no member"),
        pytest.param({"colour": 1}, "unknown key colour; known here: name, version", id="unknown"),
        pytest.param({"normalisation": {"mean": [1, 2]}}, "normalisation.mean", id="two means"),
    ],
)
def test_wrong_manifests_are_refused(copy: Path, keys: dict[str, Any], message: str) -> None:
    change(copy, **keys)
    with pytest.raises(BundleError, match=f"bundle.json: {message}"):
        Bundle.load(copy)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"conv2.3x3": [1, 0]}, "members.*must begin before it ends, unlike 1 to 0"),
        ({"conv2.3x3": [0, math.nan]}, "members.*finite number"),
        ({"conv2.3x3": None}, r"member_1.safetensors: lacks the range of conv2.3x3"),
        ({"conv3": [0, 1]}, r"member_1.safetensors: has no convolution conv3"),
    ],
)
def test_wrong_ranges_are_refused(copy: Path, changes: dict[str, Any], message: str) -> None:
    bundle = Bundle.load(copy)
    members = [member.model_dump(mode="json") for member in bundle.manifest.members]
    architecture = bundle.manifest.members[0].architecture
    names = [layer.name for layer in convolutions(architecture)]
    ranges = {name: [0, 1] for name in names} | changes
    members[0]["ranges"] = {name: ends for name, ends in ranges.items() if ends}
    change(copy, members=members)
    with pytest.raises(BundleError, match=message):
        Bundle.load(copy).verify()


def test_weights_outside_of_the_bundle_are_refused(copy: Path) -> None:
    members = json.loads((copy / "bundle.json").read_text())["members"]
    members[0]["file"] = "../../secret.safetensors"
    change(copy, members=members)
    with pytest.raises(BundleError, match="members"):
        Bundle.load(copy)


def test_wrong_settings_are_refused(copy: Path) -> None:
    change(copy, settings={"detections": {"nms": 0.5}})
    with pytest.raises(SettingsError, match=r"bundle.json: settings: unknown key detections.nms"):
        Bundle.load(copy)


def test_another_number_of_classes_does_not_fit(copy: Path) -> None:
    change(copy, classes=["one", "two"])
    with pytest.raises(BundleError, match=r"weight has shape \[4, 256\], not \[3, 256\]"):
        Bundle.load(copy).verify()


def test_json_is_checked(copy: Path) -> None:
    (copy / "bundle.json").write_text("{")
    with pytest.raises(BundleError, match=r"bundle.json: Invalid JSON: EOF .* line 1 column 1$"):
        Bundle.load(copy)


def test_multibox_is_verified_too(multibox_bundle: Bundle, tmp_path: Path) -> None:
    multibox_bundle.verify()
    copy = tmp_path / "copy"
    shutil.copytree(multibox_bundle.directory, copy)
    file = copy / "multibox.safetensors"
    file.write_bytes(file.read_bytes()[:-1] + b"x")
    with pytest.raises(BundleError, match=r"multibox\.safetensors: sha256 is"):
        Bundle.load(copy).verify()
