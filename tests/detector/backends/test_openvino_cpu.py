from __future__ import annotations

import numpy as np
import pytest
import torch

from detector.backends.openvino_cpu import OpenVINOBackend
from detector.bundle import Bundle


@pytest.mark.parametrize("member", [0, 1])
def test_float32_equals_the_network_and_bfloat16_is_near(tiny_bundle: Bundle, member: int) -> None:
    """With local response normalisation and with BatchNorm; batches of any size."""
    described = tiny_bundle.manifest.members[member]
    torch.manual_seed(0)
    crops = 50 * torch.randn(7, 64, 64, 3)
    with torch.inference_mode():
        logits = tiny_bundle.network(described)(crops.permute(0, 3, 1, 2))
        expected = logits.softmax(dim=1).numpy()
    exact = OpenVINOBackend(tiny_bundle.network(described), 64, "float32")
    for count in (7, 1, 4):
        np.testing.assert_allclose(exact(crops[:count]), expected[:count], atol=1e-5)
    for place, crop in enumerate(crops):  # bit for bit, wherever it stands
        assert (exact(crop[None])[0] == exact(crops)[place]).all()
    near = OpenVINOBackend(tiny_bundle.network(described), 64, "bfloat16")(crops)
    np.testing.assert_allclose(near, expected, atol=0.05)
    np.testing.assert_allclose(near.sum(axis=1), 1, atol=1e-5)
