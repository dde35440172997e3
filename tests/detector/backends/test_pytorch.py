from __future__ import annotations

import numpy as np
import pytest
import torch

from detector import Detector
from detector.backends import pytorch
from detector.backends.pytorch import (
    PyTorchBackend,
    arithmetic,
    choose_precision,
)
from detector.bundles.bundle import Bundle
from detector.errors import SettingsError
from detector.settings import Settings
from proposals.baselines import random_boxes


@pytest.mark.parametrize("member", [0, 1])
def test_float32_equals_the_network_and_bfloat16_is_near(tiny_bundle: Bundle, member: int) -> None:
    described = tiny_bundle.manifest.members[member]
    torch.manual_seed(0)
    crops = 50 * torch.randn(6, 64, 64, 3)
    with torch.inference_mode():
        logits = tiny_bundle.network(described)(crops.permute(0, 3, 1, 2))
        expected = logits.softmax(dim=1).numpy()
    cpu = torch.device("cpu")
    exact = PyTorchBackend(tiny_bundle.network(described), cpu, "float32")(crops)
    np.testing.assert_allclose(exact, expected, atol=1e-5)
    near = PyTorchBackend(tiny_bundle.network(described), cpu, "bfloat16")(crops)
    np.testing.assert_allclose(near, expected, atol=0.05)
    np.testing.assert_allclose(near.sum(axis=1), 1, atol=1e-6)


def test_precision_that_is_asked_for_is_taken() -> None:
    cpu = torch.device("cpu")
    assert choose_precision("float32", cpu) == "float32"
    assert choose_precision("bfloat16", cpu) == "bfloat16"


@pytest.mark.parametrize(
    ("flags", "integers", "precision"),
    [
        ({"avx512_vnni", "avx512_bf16"}, True, "int8"),
        ({"avx512_vnni", "avx512_bf16"}, False, "bfloat16"),
        ({"avx512_bf16"}, True, "bfloat16"),
        ({"avx2"}, True, "float32"),
    ],
)
def test_the_fastest_native_precision_is_taken(
    flags: set[str], integers: bool, precision: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pytorch, "_processor_flags", lambda: flags)
    cpu = torch.device("cpu")
    assert choose_precision("auto", cpu, integers=integers) == precision
    if "avx512_vnni" in flags:
        assert choose_precision("int8", cpu) == "int8"
        assert arithmetic("int8", cpu) == "int8 bfloat16"
    else:
        with pytest.raises(SettingsError, match="this processor has no VNNI or AMX"):
            choose_precision("int8", cpu)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_gpu_agrees_with_the_processor(tiny_bundle: Bundle) -> None:
    """Batches of several sizes, the first of which again: what is recorded is replaced."""
    described = tiny_bundle.manifest.members[0]
    torch.manual_seed(0)
    crops = 50 * torch.randn(6, 64, 64, 3)
    processor, gpu = (
        PyTorchBackend(tiny_bundle.network(described), torch.device(name), "float32")
        for name in ("cpu", "cuda")
    )
    for count in (6, 4, 6):
        for part in (crops[:count], crops[-count:], crops[:count].flip(0)):
            np.testing.assert_allclose(gpu(part), processor(part), atol=1e-4)


@pytest.mark.parametrize("gpus", [1, 2])
def test_images_share_batches_on_gpus(tiny_bundle: Bundle, gpus: int) -> None:
    """Crops are cut while networks are recorded, and each GPU has recordings of its own."""
    if torch.cuda.device_count() < gpus:
        pytest.skip(f"needs {gpus} GPUs")
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 256, (80, 120, 3), np.uint8) for _ in range(5)]
    parts = [(image, random_boxes(120, 80, 40, rng)) for image in images]
    exact = Settings.read(assignments=["classifier.precision=float32", "classifier.batch_size=64"])
    expected, *found = (
        np.concatenate(Detector(tiny_bundle, exact, device=name).ensemble.together(parts))
        for name in ("cpu", *(f"cuda:{number}" for number in range(gpus)))
    )
    for one in found:
        np.testing.assert_allclose(one, expected, atol=1e-3)
