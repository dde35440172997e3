from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors.numpy import save_file

from detector.bundles.manifest import Architecture
from detector.errors import BundleError
from detector.models.torch_googlenet import GoogLeNet
from detector.models.torch_weights import as_shipped, load_weights, weights_of
from detector.models.weights import half_precision, read_weights, translate_names

NET = Architecture(width=0.25, normalisation="batchnorm")


@pytest.fixture
def network() -> GoogLeNet:
    torch.manual_seed(0)
    return GoogLeNet(3, crop_size=64, architecture=NET).eval()


def test_statistics_beyond_half_precision_survive() -> None:
    net = GoogLeNet(
        2, crop_size=64, architecture=Architecture(normalisation="batchnorm", width=0.25)
    )
    variance = net.state_dict()["conv1.7x7_s2.norm.running_var"]
    variance.fill_(1e6)
    shipped = as_shipped(net)
    assert (shipped.state_dict()["conv1.7x7_s2.norm.running_var"] == 1e6).all()
    assert not shipped.training
    rounded = net.classifier.weight.half().float()
    assert torch.equal(shipped.classifier.weight, rounded)
    assert not torch.equal(net.classifier.weight, rounded)


def test_round_trip_in_half_precision(network: GoogLeNet, tmp_path: Path) -> None:
    file = tmp_path / "w.safetensors"
    save_file(half_precision(weights_of(network)), file)
    other = GoogLeNet(3, crop_size=64, architecture=NET).eval()
    load_weights(other, read_weights(file), file)
    for name, tensor in other.state_dict().items():
        assert tensor.dtype in (torch.float32, torch.int64)
        torch.testing.assert_close(tensor, network.state_dict()[name], rtol=1e-3, atol=1e-6)


def test_bvlc_weights_fit_by_their_own_names(bvlc_weights: Path) -> None:
    load_weights(GoogLeNet(1000), read_weights(bvlc_weights), bvlc_weights)


def test_caffes_name_of_the_last_layer_is_translated(network: GoogLeNet, tmp_path: Path) -> None:
    file = tmp_path / "w.safetensors"
    weights = {
        name.replace("classifier.", "loss3.classifier."): tensor
        for name, tensor in weights_of(network).items()
    }
    save_file(weights, file)
    assert read_weights(file).keys() == network.state_dict().keys()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        pytest.param({"classifier.bias": None}, "lacks classifier.bias", id="missing"),
        pytest.param({"other": np.zeros(1)}, "has other, which", id="unknown"),
        pytest.param(
            {"classifier.bias": np.zeros(4)},
            r"classifier.bias has shape \[4\], not \[3\]",
            id="shape",
        ),
    ],
)
def test_weights_of_another_network(
    network: GoogLeNet, change: dict[str, NDArray[np.float64] | None], message: str
) -> None:
    weights = weights_of(network) | change
    present = {name: tensor for name, tensor in weights.items() if tensor is not None}
    with pytest.raises(BundleError, match=f"some.file: {message}"):
        load_weights(network, present, Path("some.file"))


def test_weights_of_another_network_of_torchvision(network: GoogLeNet) -> None:
    inception_v3 = ["Conv2d_1a_3x3.conv.weight", "fc.weight"]
    weights = translate_names({name: np.zeros(1) for name in inception_v3})
    with pytest.raises(BundleError, match=r"some.file: lacks conv1.7x7_s2.weight"):
        load_weights(network, weights, Path("some.file"))


def test_files_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="absent: cannot be read: No such file"):
        read_weights(tmp_path / "absent")
    broken = tmp_path / "broken.safetensors"
    broken.write_bytes(b"not at all")
    with pytest.raises(BundleError, match=r"broken.safetensors: not a safetensors file"):
        read_weights(broken)
