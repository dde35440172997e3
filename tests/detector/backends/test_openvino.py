from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch

from detector.backends import openvino
from detector.backends.openvino import OpenVINOBackend, OpenVINOMultiBox
from detector.backends.pytorch import PyTorchMultiBox
from detector.bundles.bundle import Bundle
from detector.runtime import FloatPrecision


@pytest.mark.parametrize("member", [0, 1])
def test_float32_equals_the_network_and_bfloat16_is_near(tiny_bundle: Bundle, member: int) -> None:
    """With local response normalisation and with BatchNorm; batches of any size."""
    described = tiny_bundle.manifest.members[member]
    torch.manual_seed(0)
    tensor = 50 * torch.randn(7, 64, 64, 3)
    with torch.inference_mode():
        logits = tiny_bundle.network(described)(tensor.permute(0, 3, 1, 2))
        expected = logits.softmax(dim=1).numpy()
    crops = tensor.numpy()
    exact = OpenVINOBackend(tiny_bundle.network(described), 64, "float32", described.sha256)
    for count in (7, 1, 4):
        np.testing.assert_allclose(exact(crops[:count]), expected[:count], atol=1e-5)
    for place, crop in enumerate(crops):  # bit for bit, wherever it stands
        assert (exact(crop[None])[0] == exact(crops)[place]).all()
    near = OpenVINOBackend(tiny_bundle.network(described), 64, "bfloat16", described.sha256)(crops)
    np.testing.assert_allclose(near, expected, atol=0.05)
    np.testing.assert_allclose(near.sum(axis=1), 1, atol=1e-5)


def test_threads_share_a_network(tiny_bundle: Bundle) -> None:
    member = tiny_bundle.manifest.members[0]
    network = OpenVINOBackend(tiny_bundle.network(member), 64, "float32", member.sha256)
    torch.manual_seed(0)
    batches = [50 * torch.randn(20, 64, 64, 3).numpy() for _ in range(8)]
    expected = [network(crops) for crops in batches]
    with ThreadPoolExecutor(4) as threads:
        for found, alone in zip(threads.map(network, batches), expected, strict=True):
            assert (found == alone).all()


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "going-deeper-detector" / "openvino"


def refuse(*_: object) -> None:
    raise AssertionError("the network is converted again")


def test_a_kept_network_is_the_same(
    tiny_bundle: Bundle, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    network = tiny_bundle.network(tiny_bundle.manifest.members[0])
    crops = torch.randn(5, 64, 64, 3).numpy()
    new = OpenVINOBackend(network, 64, "bfloat16", "some digest")(crops)
    assert sorted(path.suffix for path in cache.iterdir()) == [".bin", ".sha256", ".xml"]
    with monkeypatch.context() as patch:
        patch.setattr(openvino, "_convert", refuse)
        kept = OpenVINOBackend(network, 64, "bfloat16", "some digest")(crops)
        with pytest.raises(AssertionError, match="converted again"):
            OpenVINOBackend(network, 64, "bfloat16", "another digest")
    assert (new == kept).all()
    (weights,) = cache.glob("*.bin")
    weights.write_bytes(bytes(len(weights.read_bytes())))  # as a disk has it that lost its power
    again = OpenVINOBackend(network, 64, "bfloat16", "some digest")(crops)
    assert (new == again).all()
    for path in cache.iterdir():
        path.write_bytes(b"damaged")
    again = OpenVINOBackend(network, 64, "bfloat16", "some digest")(crops)
    assert (new == again).all()


def test_without_a_place_to_keep_it(
    tiny_bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    network = tiny_bundle.network(tiny_bundle.manifest.members[0])
    made = OpenVINOBackend(network, 64, "float32", "some digest")
    assert made(torch.randn(1, 64, 64, 3).numpy()).shape == (1, 4)


def test_multiboxes_network(multibox_bundle: Bundle) -> None:
    recipe = multibox_bundle.manifest.multibox
    assert recipe is not None
    network = multibox_bundle.multibox_network(recipe)
    pictures = np.random.default_rng(0).integers(0, 256, (7, 64, 64, 3), dtype=np.uint8)
    reference = PyTorchMultiBox(network, recipe.normalisation, "cpu", "float32")
    expected = reference(pictures)
    bounds: dict[FloatPrecision, float] = {"float32": 1e-5, "bfloat16": 0.02}
    for precision, bound in bounds.items():
        found = OpenVINOMultiBox(network, recipe, 5, precision, recipe.sha256)(pictures)
        for ours, theirs in zip(found, expected, strict=True):
            assert ours.dtype == np.float32
            np.testing.assert_allclose(ours, theirs, atol=bound)
    network.priors[:] += 1 / 4096  # a step that bfloat16 has not
    moved, _ = OpenVINOMultiBox(network, recipe, 5, "bfloat16", recipe.sha256)(pictures)
    np.testing.assert_allclose(moved - found[0], 1 / 4096, rtol=1e-2)
