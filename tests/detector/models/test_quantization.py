from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from detector.backends import make_classifier
from detector.bundles.bundle import Bundle
from detector.common.cpu import has_int8
from detector.errors import SettingsError
from detector.models.googlenet import ConvolutionLayer
from detector.models.torch_googlenet import Convolution
from detector.models.torch_weights import weights_of
from detector.runtime import Runtime
from detector.training.activation_ranges import measure_activation_ranges
from tests.support.quantized import QuantizedConvolution, quantize
from tests.support.tiny_bundle import load_network


def crops_like_photos(count: int, seed: int = 0) -> torch.Tensor:
    """Smooth random colours, `[count, 64, 64, 3]`."""
    torch.manual_seed(seed)
    coarse = 60 * torch.randn(count, 3, 5, 5)
    return functional.interpolate(coarse, size=64, mode="bilinear").permute(0, 2, 3, 1)


@given(
    seed=st.integers(0, 10_000),
    stride=st.sampled_from([1, 2]),
    batchnorm=st.booleans(),
    low=st.floats(-3, 0),
    high=st.floats(0.1, 3),
)
@settings(deadline=None, max_examples=40)
def test_arithmetic_is_that_of_integers(
    seed: int, stride: int, batchnorm: bool, low: float, high: float
) -> None:
    torch.manual_seed(seed)
    convolution = Convolution(ConvolutionLayer("", 3, 4, 3, stride), batchnorm=batchnorm).eval()
    factor, shift = torch.ones(4), convolution.bias
    if isinstance(norm := convolution.norm, torch.nn.BatchNorm2d):
        torch.nn.init.uniform_(norm.weight)
        norm.running_mean = torch.randn(4)
        norm.running_var = torch.rand(4) + 0.1
        factor = norm.weight / (norm.running_var + 1e-3).sqrt()
        shift = torch.nn.Parameter(norm.bias - norm.running_mean * factor)
    assert shift is not None
    x = 2 * torch.randn(2, 3, 5, 5)

    weight = convolution.weight.detach() * factor.detach()[:, None, None, None]
    step = (high - low) / 255
    zero = round(-low / step)
    scales = weight.abs().amax(dim=(1, 2, 3)) / 127
    integers = (weight / scales[:, None, None, None]).round().long()
    entering = ((x / step).round() + zero).clamp(0, 255).long() - zero
    sums = functional.conv2d(entering.double(), integers.double(), stride=stride, padding=1)
    expected = sums * step * scales[:, None, None] + shift.detach()[:, None, None]

    found = QuantizedConvolution(convolution, low, high)(x).detach()
    # A value between two steps may go to either: at most one step of each product.
    np.testing.assert_allclose(found, expected.clamp(min=0), atol=1e-4 + 2 * step)
    assert np.isclose(found, expected.clamp(min=0), atol=1e-4).mean() > 0.95


def test_ranges_are_the_extremes_of_all_batches(tiny_bundle: Bundle) -> None:
    network = load_network(tiny_bundle, tiny_bundle.manifest.members[0])
    batches = [crops_like_photos(3, seed) for seed in (0, 1)]
    together = measure_activation_ranges(network, batches)
    assert together["conv1.7x7_s2"] == (
        min(float(b.min()) for b in batches),
        max(float(b.max()) for b in batches),
    )
    apart = [measure_activation_ranges(network, [batch]) for batch in batches]
    for name, (low, high) in together.items():
        assert low == min(one[name][0] for one in apart)
        assert high == max(one[name][1] for one in apart)
    assert together["inception_5b.pool_proj"][0] >= 0
    assert sum(name.endswith("3x3") for name in together) == 10
    assert len(together) == 57


@pytest.mark.skipif(not has_int8(), reason="needs a processor with VNNI or AMX")
@pytest.mark.parametrize("member", [0, 1])
def test_network_of_integers_is_near(tiny_bundle: Bundle, member: int) -> None:
    """With local response normalisation and with BatchNorm; OpenVINO's as well."""
    network = load_network(tiny_bundle, tiny_bundle.manifest.members[member])
    network.classifier.weight.data /= (2, 40)[member]  # so that no class is certain
    ranges = measure_activation_ranges(network, [crops_like_photos(32, seed=1)])
    crops = crops_like_photos(11)
    rounded = quantize(network, ranges)
    with torch.inference_mode():
        expected, near = (
            one(crops.permute(0, 3, 1, 2)).softmax(dim=1).numpy() for one in (network, rounded)
        )
    np.testing.assert_allclose(near, expected, atol=0.1)
    assert np.abs(near - expected).max() > 1e-5
    runtime = Runtime.resolve(device="cpu", backend="openvino", precision="int8", quantized=True)
    backend = make_classifier(
        weights_of(network), network.architecture, 64, runtime, activation_ranges=ranges
    )
    found = backend(crops.numpy())
    np.testing.assert_allclose(found, expected, atol=0.1)
    np.testing.assert_allclose(found, near, atol=0.05)
    for index, crop in enumerate(crops.numpy()):  # bit for bit, at every position in a batch
        assert (backend(crop[None])[0] == found[index]).all()


def test_what_is_missing_is_named(tiny_bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("detector.runtime.has_int8", lambda: True)  # on any processor
    network = load_network(tiny_bundle, tiny_bundle.manifest.members[0])
    ranges = measure_activation_ranges(network, [crops_like_photos(1)])
    del ranges["inception_4c.5x5"]
    with pytest.raises(ValueError, match=r"no range for inception_4c\.5x5"):
        quantize(network, ranges)
    with pytest.raises(SettingsError, match="int8: the bundle has no ranges for it"):
        Runtime.resolve(device="cpu", backend="openvino", precision="int8")
    with pytest.raises(SettingsError, match="int8: the backend openvino alone has it"):
        Runtime.resolve(device="cpu", backend="torch", precision="int8", quantized=True)
