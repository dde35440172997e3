from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
import torch

from detector.backends.openvino import OpenVINOBackend, OpenVINOMultiBox
from detector.backends.pytorch import PyTorchMultiBox
from detector.bundles.bundle import Bundle
from detector.bundles.manifest import Architecture, MultiBoxRecipe
from detector.models.googlenet import classifier_shapes
from detector.models.multibox import multibox_shapes
from detector.models.torch_googlenet import GoogLeNet
from detector.models.torch_multibox import MultiBoxNetwork
from detector.models.torch_weights import weights_of
from detector.models.weights import check_weights
from detector.runtime import FloatPrecision
from tests.support.tiny_bundle import load_network


@pytest.mark.parametrize("member", [0, 1])
def test_float32_equals_the_network_and_bfloat16_is_near(tiny_bundle: Bundle, member: int) -> None:
    """With local response normalisation and with BatchNorm; batches of any size."""
    described = tiny_bundle.manifest.members[member]
    weights = tiny_bundle.classifier_weights(described)
    torch.manual_seed(0)
    tensor = 50 * torch.randn(7, 64, 64, 3)
    with torch.inference_mode():
        logits = load_network(tiny_bundle, described)(tensor.permute(0, 3, 1, 2))
        expected = logits.softmax(dim=1).numpy()
    crops = tensor.numpy()
    exact = OpenVINOBackend(weights, described.architecture, "float32")
    for count in (7, 1, 4):
        np.testing.assert_allclose(exact(crops[:count]), expected[:count], atol=1e-5)
    for place, crop in enumerate(crops):  # bit for bit, wherever it stands
        assert (exact(crop[None])[0] == exact(crops)[place]).all()
    near = OpenVINOBackend(weights, described.architecture, "bfloat16")(crops)
    np.testing.assert_allclose(near, expected, atol=0.05)
    np.testing.assert_allclose(near.sum(axis=1), 1, atol=1e-5)


def test_threads_share_a_network(tiny_bundle: Bundle) -> None:
    member = tiny_bundle.manifest.members[0]
    network = OpenVINOBackend(
        tiny_bundle.classifier_weights(member), member.architecture, "float32"
    )
    torch.manual_seed(0)
    batches = [50 * torch.randn(20, 64, 64, 3).numpy() for _ in range(8)]
    expected = [network(crops) for crops in batches]
    with ThreadPoolExecutor(4) as threads:
        for found, alone in zip(threads.map(network, batches), expected, strict=True):
            assert (found == alone).all()


INTERRUPTED_AFTER_TWO_NETWORKS = """
import signal
import sys

from detector.backends.openvino import OpenVINOBackend
from detector.bundles.bundle import Bundle

bundle = Bundle.load(sys.argv[1])
networks = [
    OpenVINOBackend(bundle.classifier_weights(member), member.architecture, "float32")
    for member in bundle.manifest.members
]
while networks:
    del networks[0]  # the first made goes first

signal.signal(signal.SIGINT, lambda *_: print("handled"))
signal.raise_signal(signal.SIGINT)
"""


def test_a_signal_is_handled_after_networks_have_ended(tiny_bundle: Bundle) -> None:
    """Each of OpenVINO's cores moves the stack on which signals are handled."""
    ended = subprocess.run(
        [sys.executable, "-c", INTERRUPTED_AFTER_TWO_NETWORKS, str(tiny_bundle.directory)],
        capture_output=True,
        text=True,
    )
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "handled\n", "")


@pytest.mark.parametrize("variant", ["separable", "torchvision"])
def test_other_architectures(variant: str) -> None:
    """The depthwise stem, and torchvision's 3x3 kernels and 2x2 pooling."""
    architecture = (
        Architecture(width=0.25, normalisation="none", stem="separable")
        if variant == "separable"
        else Architecture(width=0.25, variant="torchvision", normalisation="batchnorm")
    )
    torch.manual_seed(0)
    network = GoogLeNet(4, crop_size=96, architecture=architecture).eval()
    crops = 50 * torch.randn(3, 96, 96, 3)
    with torch.inference_mode():
        expected = network(crops.permute(0, 3, 1, 2)).softmax(dim=1).numpy()
    weights = weights_of(network)
    check_weights(weights, classifier_shapes(architecture, 4), Path("weights"))
    backend = OpenVINOBackend(weights, architecture, "float32")
    np.testing.assert_allclose(backend(crops.numpy()), expected, atol=1e-5)


def test_openvino_reports_nothing(tiny_bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its telemetry belongs to `convert_model`, which is not used."""
    telemetry = pytest.importorskip("openvino_telemetry")

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("telemetry is used")

    monkeypatch.setattr(telemetry.Telemetry, "__init__", refuse)
    member = tiny_bundle.manifest.members[0]
    weights = tiny_bundle.classifier_weights(member)
    OpenVINOBackend(weights, member.architecture, "float32")(np.zeros((1, 64, 64, 3), np.float32))


@pytest.mark.parametrize("head", ["dense", "shared"])
def test_multiboxes_network(head: Literal["dense", "shared"]) -> None:
    recipe = MultiBoxRecipe(
        size=64, priors=30, hidden=8, head=head, architecture=Architecture(width=0.25)
    )
    corners = np.random.default_rng(0).random((30, 2, 2), np.float32)
    priors = np.concatenate([corners.min(axis=1), corners.max(axis=1)], axis=1)
    torch.manual_seed(0)
    network = MultiBoxNetwork(recipe, priors).eval()
    weights = weights_of(network)
    check_weights(weights, multibox_shapes(recipe), Path("weights"))

    images = np.random.default_rng(0).integers(0, 256, (7, 64, 64, 3), dtype=np.uint8)
    expected = PyTorchMultiBox(network, recipe.normalisation, "cpu", "float32")(images)
    bounds: dict[FloatPrecision, float] = {"float32": 1e-5, "bfloat16": 0.02}
    for precision, bound in bounds.items():
        found = OpenVINOMultiBox(weights, recipe, 5, precision)(images)
        for ours, theirs in zip(found, expected, strict=True):
            assert ours.dtype == np.float32
            np.testing.assert_allclose(ours, theirs, atol=bound)


def test_multiboxes_locations_are_float32(multibox_bundle: Bundle) -> None:
    recipe = multibox_bundle.manifest.multibox
    assert recipe is not None
    weights = multibox_bundle.multibox_weights(recipe)
    images = np.random.default_rng(0).integers(0, 256, (5, 64, 64, 3), dtype=np.uint8)
    before, _ = OpenVINOMultiBox(weights, recipe, 5, "bfloat16")(images)
    weights["priors"] += np.float32(1 / 4096)  # a step that bfloat16 does not have
    after, _ = OpenVINOMultiBox(weights, recipe, 5, "bfloat16")(images)
    np.testing.assert_allclose(after - before, 1 / 4096, rtol=1e-2)
