"""Bundles that were damaged, or made to harm, end in one line."""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from detector.bundles.bundle import Bundle
from detector.bundles.manifest import Architecture, BundledMultiBox
from detector.bundles.model_card import make_recipe, read_member
from detector.bundles.pack import pack
from detector.errors import BundleError, SettingsError
from tests.support.damage import damage_bytes, swap_value
from tests.support.damaged_bundles import KINDS, Outcome, Trials
from tests.support.tiny_bundle import RECIPE

COUNT = 60
"""Damaged bundles of each kind here; `benchmarks/damaged_bundles.py` tries thousands."""


@pytest.fixture
def copy(multibox_bundle: Bundle, tmp_path: Path) -> Path:
    return Path(shutil.copytree(multibox_bundle.directory, tmp_path / "copy"))


@pytest.fixture(scope="module")
def trials(multibox_bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Trials:
    return Trials(multibox_bundle, tmp_path_factory.mktemp("trials"))


def change(directory: Path, **keys: Any) -> None:
    file = directory / "bundle.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | keys))


def replace_weights(directory: Path, data: bytes) -> None:
    """Replace the weights of the first member, with their digest."""
    (directory / "member_1.safetensors").write_bytes(data)
    members = json.loads((directory / "bundle.json").read_text())["members"]
    members[0]["sha256"] = hashlib.sha256(data).hexdigest()
    change(directory, members=members)


def damaged_weights(source: Path, folder: Path, name: str, value: float) -> Path:
    """Write a copy of weights in which one value of a tensor is another."""
    tensors = {key: tensor.copy() for key, tensor in load_file(source).items()}
    tensors[name] = tensors[name].astype(np.float32)
    tensors[name].flat[0] = value
    path = folder / source.name
    save_file(tensors, path)
    return path


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (float("nan"), "has values that are infinite or not numbers"),
        (float("-inf"), "has values that are infinite or not numbers"),
        (1e5, "has values beyond the range of float16, 65504"),
    ],
)
def test_pack_names_the_tensor_that_is_not_finite(
    value: float, message: str, tiny_weights: list[Path], tmp_path: Path
) -> None:
    first = damaged_weights(tiny_weights[0], tmp_path, "conv1.7x7_s2.weight", value)
    with pytest.raises(BundleError, match=rf"{first.name}: conv1\.7x7_s2\.weight {message}"):
        pack(tmp_path / "bundle", RECIPE, [first, tiny_weights[1]])
    assert not list(tmp_path.glob("bundle*"))


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("conv1.7x7_s2.weight", float("nan"), "infinite or not numbers"),
        ("classifier.bias", float("inf"), "infinite or not numbers"),
    ],
)
def test_loading_names_the_tensor_that_is_not_finite(
    name: str, value: float, message: str, copy: Path, tmp_path: Path
) -> None:
    path = damaged_weights(copy / "member_1.safetensors", tmp_path, name, value)
    replace_weights(copy, path.read_bytes())
    with pytest.raises(BundleError, match=rf"member_1\.safetensors: {name} has values .*{message}"):
        Bundle.load(copy).verify()


def test_negative_variances_are_refused(tiny_weights: list[Path], tmp_path: Path) -> None:
    name = "conv1.7x7_s2.norm.running_var"
    second = damaged_weights(tiny_weights[1], tmp_path, name, -1.0)
    with pytest.raises(BundleError, match=rf"{name} has variances below 0"):
        pack(tmp_path / "bundle", RECIPE, [tiny_weights[0], second])


def test_priors_without_area_are_refused(multibox_bundle: Bundle, copy: Path) -> None:
    file = copy / "multibox.safetensors"
    tensors = load_file(file)
    tensors["priors"][0] = tensors["priors"][0][[2, 3, 0, 1]]
    save_file(tensors, file)
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    change(
        copy,
        multibox=json.loads((copy / "bundle.json").read_text())["multibox"] | {"sha256": digest},
    )
    with pytest.raises(BundleError, match="priors has a box without area"):
        Bundle.load(copy).verify()


def member(**keys: Any) -> dict[str, Any]:
    return {"warp": {}, "architecture": {}, "file": "m.safetensors", "sha256": "0" * 64} | keys


def multibox(**keys: Any) -> dict[str, Any]:
    return {"file": "b.safetensors", "sha256": "0" * 64} | keys


MANY_RANGES = {str(number): [0, 1] for number in range(2000)}


@pytest.mark.parametrize(
    "keys",
    [
        pytest.param({"members": [member(warp={"crop_size": 10**6})]}, id="large crops"),
        pytest.param({"members": [member()] * 5000}, id="many members"),
        pytest.param({"members": [member(architecture={"width": 1e300})]}, id="a wide network"),
        pytest.param({"members": [member(ranges=MANY_RANGES)]}, id="many ranges"),
        pytest.param({"classes": [str(n) for n in range(20_000)]}, id="many classes"),
        pytest.param({"classes": ["x" * 1000]}, id="a long class"),
        pytest.param({"classes": ["a\nb"]}, id="a line break in a class"),
        pytest.param({"classes": [".."]}, id="a folder for a class"),
        pytest.param({"classes": ["a\\b"]}, id="a backslash in a class"),
        pytest.param({"classes": [" a"]}, id="a space before a class"),
        pytest.param({"multibox": multibox(priors=10**9)}, id="many priors"),
        pytest.param({"multibox": multibox(hidden=10**9)}, id="a wide layer"),
        pytest.param({"multibox": multibox(size=10**6)}, id="a large view"),
        pytest.param({"multibox": multibox(spread=float("inf"))}, id="an infinite spread"),
        pytest.param({"normalisation": {"std": [0, 1, 1]}}, id="a deviation of 0"),
        pytest.param({"normalisation": {"mean": [float("nan"), 1, 1]}}, id="no number for a mean"),
        pytest.param({"normalisation": {"mean": [1e308, 1, 1]}}, id="a mean beyond float32"),
        pytest.param({"members": [member(ranges={"a": [-1e308, 1e308]})]}, id="wide activations"),
        pytest.param({"members": [member(warp={"context": "1e-99999999"})]}, id="many digits"),
        pytest.param({"members": [member(warp={"context": "x" * 10**6})]}, id="a long fraction"),
        pytest.param({"classes": ["/" * 10**6]}, id="a class of slashes"),
        pytest.param({"a\nb": 1}, id="a line break in a key"),
        pytest.param({"a" * 10**6: 1}, id="a long key"),
        pytest.param({str(n): 1 for n in range(100_000)}, id="many unknown keys"),
        pytest.param({"name": "x" * 10_000}, id="a long name"),
        pytest.param({"settings": {"multibox": {"count": 10**12}}}, id="a setting"),
    ],
)  # fmt: skip
def test_manifests_have_bounds(keys: dict[str, Any], copy: Path) -> None:
    change(copy, **keys)
    with pytest.raises((BundleError, SettingsError), match=r"bundle\.json: ") as caught:
        Bundle.load(copy)
    check_line(caught.value)


def test_networks_that_are_too_large_are_refused_before_anything_is_read(copy: Path) -> None:
    content = json.loads((copy / "bundle.json").read_text())
    change(
        copy,
        multibox=content["multibox"]
        | {"head": "dense", "hidden": 16_384, "priors": 10_000, "size": 1024},
    )
    with pytest.raises(BundleError, match=r"multibox\.safetensors: would have [\d,]+ weights"):
        Bundle.load(copy).verify()


def test_samples_of_the_shared_head_count_as_weights(copy: Path) -> None:
    content = json.loads((copy / "bundle.json").read_text())
    change(copy, multibox=content["multibox"] | {"head": "shared", "priors": 10_000, "size": 1024})
    with pytest.raises(BundleError, match=r"multibox\.safetensors: would have [\d,]+ weights"):
        Bundle.load(copy).verify()


def test_unknown_convolutions_are_named_in_one_line(copy: Path) -> None:
    members = json.loads((copy / "bundle.json").read_text())["members"]
    members[0]["ranges"] = {"\n" * 5000: [0, 1]}
    change(copy, members=members)
    with pytest.raises(BundleError, match="has no convolution") as caught:
        Bundle.load(copy).verify()
    check_line(caught.value)


@pytest.mark.parametrize("name", ["bundle.json", "member_1.safetensors"])
@pytest.mark.parametrize("kind", ["pipe", "device", "folder", "large", "loop"])
def test_files_that_are_none_or_too_large(name: str, kind: str, copy: Path) -> None:
    file = copy / name
    file.unlink()
    match kind:
        case "pipe":
            os.mkfifo(file)
        case "device":
            file.symlink_to("/dev/zero")
        case "folder":
            file.mkdir()
        case "large":
            with open(file, "wb") as large:
                large.truncate(1 << 40)
        case "loop":
            file.symlink_to(name)
    with pytest.raises((BundleError, FileNotFoundError)) as caught:
        Bundle.load(copy).verify()
    check_line(caught.value)


def header(dtype: str, shape: list[int], offsets: list[int]) -> bytes:
    text = json.dumps({"a": {"dtype": dtype, "shape": shape, "data_offsets": offsets}}).encode()
    return struct.pack("<Q", len(text)) + text


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"", id="empty"),
        pytest.param(struct.pack("<Q", 2**63) + b"{}", id="a long header"),
        pytest.param(header("F32", [10**18, 0], [0, 0]), id="shape"),
        pytest.param(header("F32", [4], [0, 10**12]), id="offsets"),
        pytest.param(header("F8_E5M2", [1], [0, 1]) + b"a", id="type"),
        pytest.param(header("F32", [-1], [0, 4]) + b"abcd", id="sign"),
        pytest.param(b"\xff" * 100, id="noise"),
        pytest.param(struct.pack("<Q", 2 << 20) + b" " * (2 << 20), id="a header of megabytes"),
        pytest.param(header("F32", [1] * 1000, [0, 4]) + b"abcd", id="dimensions"),
    ],
)  # fmt: skip
def test_headers_that_lie(data: bytes, copy: Path) -> None:
    replace_weights(copy, data)
    with pytest.raises(BundleError, match=r"member_1\.safetensors") as caught:
        Bundle.load(copy).verify()
    check_line(caught.value)


def test_a_tensor_under_two_names_is_refused(copy: Path) -> None:
    file = copy / "member_1.safetensors"
    tensors = load_file(file)
    tensors["loss3.classifier.weight"] = tensors["classifier.weight"]
    save_file(tensors, file)
    replace_weights(copy, file.read_bytes())
    with pytest.raises(BundleError, match=r"member_1\.safetensors: has a tensor twice"):
        Bundle.load(copy).verify()


def test_pack_names_a_file_of_any_size(tiny_weights: list[Path], tmp_path: Path) -> None:
    large = tmp_path / "large.safetensors"
    with open(large, "wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(BundleError, match=r"large\.safetensors: is too large"):
        pack(tmp_path / "bundle", RECIPE, [large, tiny_weights[1]])


def test_pack_names_values_beyond_float32(tiny_weights: list[Path], tmp_path: Path) -> None:
    tensors = load_file(tiny_weights[0])
    tensors["classifier.bias"] = np.full(4, 1e300)
    path = tmp_path / "double.safetensors"
    save_file(tensors, path)
    with pytest.raises(BundleError, match=r"double\.safetensors: classifier\.bias has values"):
        pack(tmp_path / "bundle", RECIPE, [path, tiny_weights[1]])


@pytest.mark.parametrize(
    ("priors", "message"),
    [
        (np.ones(8), "shape"),
        (np.ones(()), "shape"),
        (np.ones((8, 5)), "shape"),
        (np.tile([-1e30, -1e30, 1e30, 1e30], (8, 1)), "a box far outside of the image"),
    ],
)
def test_pack_names_priors_of_another_form(
    priors: Any, message: str, multibox_bundle: Bundle, tiny_weights: list[Path], tmp_path: Path
) -> None:
    bundled = multibox_bundle.manifest.multibox
    assert bundled is not None
    recipe = RECIPE.model_copy(update={"multibox": bundled})
    tensors = load_file(multibox_bundle.directory / bundled.file)
    tensors["priors"] = np.resize(priors, (bundled.priors, 4)) if "far" in message else priors
    path = tmp_path / "multibox.safetensors"
    save_file(tensors, path)
    with pytest.raises(BundleError, match=rf"multibox\.safetensors: priors has {message}"):
        pack(tmp_path / "bundle", recipe, tiny_weights, path)


@pytest.mark.parametrize(
    "training",
    [{}, {"recipe": []}, {"data": 1}, {"recipe": {}, "data": {"annotations": "a", "photos": "b"}}],
)
def test_facts_of_a_training_that_are_missing(
    training: Any, multibox_bundle: Bundle, tmp_path: Path
) -> None:
    manifest = multibox_bundle.manifest.model_dump(mode="json")
    facts = {key: manifest["members"][0][key] for key in ("warp", "architecture")}
    facts |= {key: manifest[key] for key in ("classes", "normalisation")}
    (tmp_path / "member.json").write_text(json.dumps(facts | {"training": training}))
    with pytest.raises(BundleError, match=r"member\.json: training: a fact is missing") as caught:
        make_recipe({tmp_path: read_member(tmp_path)}, name="a", version="1")
    check_line(caught.value)


def check_line(error: BaseException) -> None:
    assert "\n" not in str(error)
    assert len(str(error)) < 700


def load_or_refuse(directory: Path) -> bool:
    try:
        Bundle.load(directory).verify()
    except (BundleError, SettingsError) as error:
        check_line(error)
        return False
    return True


def test_swapped_values_in_the_manifest(multibox_bundle: Bundle, copy: Path) -> None:
    rng = random.Random(0)
    content = json.loads((multibox_bundle.directory / "bundle.json").read_text())
    for _ in range(COUNT):
        (copy / "bundle.json").write_text(json.dumps(swap_value(rng, content)))
        load_or_refuse(copy)


def test_damaged_bytes(multibox_bundle: Bundle, copy: Path) -> None:
    rng = random.Random(1)
    manifest = (multibox_bundle.directory / "bundle.json").read_bytes()
    for _ in range(COUNT):
        (copy / "bundle.json").write_bytes(damage_bytes(rng, manifest))
        load_or_refuse(copy)


def test_damaged_weights_with_the_right_digest(multibox_bundle: Bundle, copy: Path) -> None:
    rng = random.Random(2)
    weights = (multibox_bundle.directory / "member_1.safetensors").read_bytes()
    start = weights[:20_000]  # most damage shall meet the header
    for _ in range(COUNT // 3):
        replace_weights(copy, damage_bytes(rng, start) + weights[len(start) :])
        load_or_refuse(copy)


@pytest.mark.parametrize("kind", KINDS)
def test_commands_end_in_one_line_or_detect(kind: str, trials: Trials) -> None:
    for seed in range(1, 4):
        trials.attempt(KINDS[kind], seed)


def test_what_becomes_of_altered_weights_and_cards(trials: Trials) -> None:
    assert trials.attempt(KINDS["weights"], 0) is Outcome.REFUSED
    assert trials.attempt(KINDS["model card"], 10) is Outcome.SAME


def test_the_largest_networks_that_make_sense_are_allowed() -> None:
    from detector.bundles.bundle import MOST_VALUES
    from detector.models.googlenet import classifier_shapes
    from detector.models.multibox import multibox_shapes

    def count(shapes: Any) -> int:
        return sum(int(np.prod(shape)) for shape in shapes.values())

    assert count(classifier_shapes(Architecture(width=4), 1001)) < MOST_VALUES
    large = BundledMultiBox(
        file="b.safetensors", sha256="0" * 64, size=448, priors=1600, hidden=4096
    )
    assert count(multibox_shapes(large)) < MOST_VALUES
