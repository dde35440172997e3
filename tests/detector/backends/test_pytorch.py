from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from detector.backends.pytorch import PyTorchBackend
from detector.bundles.bundle import Bundle
from detector.networks import Networks
from detector.regions.ensemble import Regions
from detector.runtime import Runtime
from proposals.baselines import random_boxes
from tests.support.tiny_bundle import load_network


@pytest.mark.parametrize("member", [0, 1])
def test_float32_equals_the_network_and_bfloat16_is_near(tiny_bundle: Bundle, member: int) -> None:
    described = tiny_bundle.manifest.members[member]
    torch.manual_seed(0)
    crops = 50 * torch.randn(6, 64, 64, 3)
    with torch.inference_mode():
        logits = load_network(tiny_bundle, described)(crops.permute(0, 3, 1, 2))
        expected = logits.softmax(dim=1).numpy()
    exact = PyTorchBackend(load_network(tiny_bundle, described), "float32")(crops.numpy())
    np.testing.assert_allclose(exact, expected, atol=1e-5)
    near = PyTorchBackend(load_network(tiny_bundle, described), "bfloat16")(crops.numpy())
    np.testing.assert_allclose(near, expected, atol=0.05)
    np.testing.assert_allclose(near.sum(axis=1), 1, atol=1e-6)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_gpu_agrees_with_the_processor(tiny_bundle: Bundle) -> None:
    """Batches of several sizes, the first of which again: what is recorded is replaced."""
    described = tiny_bundle.manifest.members[0]
    torch.manual_seed(0)
    crops = 50 * torch.randn(6, 64, 64, 3)
    processor = PyTorchBackend(load_network(tiny_bundle, described), "float32")
    from detector.backends.cuda import CudaBackend

    gpu = CudaBackend(load_network(tiny_bundle, described), "cuda:0", "float32")
    for count in (6, 4, 6):
        for part in (crops[:count], crops[-count:], crops[:count].flip(0)):
            np.testing.assert_allclose(gpu(part), processor(part.numpy()), atol=1e-4)


@pytest.mark.parametrize("gpus", [1, 2])
def test_images_share_batches_on_gpus(tiny_bundle: Bundle, gpus: int) -> None:
    """Crops are cut while networks are recorded, and each GPU has recordings of its own."""
    if torch.cuda.device_count() < gpus:
        pytest.skip(f"needs {gpus} GPUs")
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 256, (80, 120, 3), np.uint8) for _ in range(5)]
    regions = [Regions(image, random_boxes(120, 80, 40, rng)) for image in images]

    def classify(device: str) -> NDArray[np.float32]:
        runtime = Runtime.resolve(device=device, precision="float32", batch_size=64)
        with Networks.load(tiny_bundle, runtime) as networks:
            return np.concatenate(networks.ensemble.classify(regions))

    expected = classify("cpu")
    for number in range(gpus):
        np.testing.assert_allclose(classify(f"cuda:{number}"), expected, atol=1e-3)
