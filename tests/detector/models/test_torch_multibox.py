from __future__ import annotations

import numpy as np
import pytest
import torch

from detector.backends.pytorch import PyTorchMultiBox
from detector.bundles.manifest import Architecture, MultiBoxRecipe, Normalisation
from detector.models.torch_multibox import OBJECTS, MultiBoxNetwork

CPU = "cpu"
PRIORS = np.array([[0, 0, 0.5, 0.5], [0.25, 0.25, 1, 1], [0.1, 0.2, 0.3, 0.4]], np.float32)


def recipe(size: int = 64) -> MultiBoxRecipe:
    return MultiBoxRecipe(size=size, priors=3, hidden=16, architecture=Architecture(width=0.25))


@pytest.fixture
def network() -> MultiBoxNetwork:
    torch.manual_seed(0)
    return MultiBoxNetwork(recipe(), PRIORS).eval()


@pytest.mark.parametrize("size", [64, 96, 100, 224])
def test_shapes(size: int) -> None:
    boxes, logits = MultiBoxNetwork(recipe(size), PRIORS).eval()(torch.zeros(2, 3, size, size))
    assert boxes.shape == (2, 3, 4)
    assert logits.shape == (2, 3)


def test_boxes_start_at_their_priors(network: MultiBoxNetwork) -> None:
    images = np.random.default_rng(0).integers(0, 256, (2, 64, 64, 3), dtype=np.uint8)
    boxes, _ = PyTorchMultiBox(network, Normalisation(), "cpu", "float32")(images)
    np.testing.assert_allclose(boxes[0], PRIORS, atol=0.1)


def test_confidences_start_at_the_share_of_priors_that_have_an_object() -> None:
    torch.manual_seed(0)
    many = recipe().model_copy(update={"priors": 30})
    network = MultiBoxNetwork(many, np.tile(PRIORS, (10, 1))).eval()
    with torch.inference_mode():
        _, logits = network(torch.zeros(2, 3, 64, 64))
    np.testing.assert_allclose(logits.sigmoid(), OBJECTS / 30, atol=0.02)


def test_locations_are_float32_in_either_precision(network: MultiBoxNetwork) -> None:
    images = np.random.default_rng(0).integers(0, 256, (1, 64, 64, 3), dtype=np.uint8)
    exact, _ = PyTorchMultiBox(network, Normalisation(), "cpu", "float32")(images)
    half, logits = PyTorchMultiBox(network, Normalisation(), "cpu", "bfloat16")(images)
    assert half.dtype == logits.dtype == np.float32
    np.testing.assert_allclose(half, exact, atol=2e-3)
    network.priors[:] += 1 / 4096  # a step that bfloat16 cannot represent
    moved, _ = PyTorchMultiBox(network, Normalisation(), "cpu", "bfloat16")(images)
    np.testing.assert_allclose(moved - half, 1 / 4096, rtol=1e-2)
