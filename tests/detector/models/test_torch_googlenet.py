"""GoogLeNet against Table 1, against torch's and torchvision's own, and against its options."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
import torchvision
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from torch import Tensor, nn

from detector.bundles.manifest import Architecture
from detector.models.googlenet import classifier_shapes, feature_map_sides
from detector.models.torch_googlenet import (
    Convolution,
    GoogLeNet,
    LocalResponseNorm,
    Trunk,
)
from detector.models.torch_weights import load_weights, weights_of
from detector.models.weights import translate_names

TORCHVISION = Architecture(variant="torchvision", normalisation="batchnorm")


class Row(NamedTuple):
    """A row of Table 1: output map, weights and multiply-adds, and the last two as printed."""

    shape: tuple[int, ...]
    weights: int
    operations: float  # 10^6
    printed_weights: float | None  # 1024, the paper's K
    printed_operations: float | None  # 10^6


TABLE = {
    "conv1": Row((64, 112, 112), 2_712, 34.02, 2.7, 34),
    "conv2": Row((192, 56, 56), 114_688, 359.7, 112, 360),
    "inception_3a": Row((256, 28, 28), 163_328, 128.0, 159, 128),
    "inception_3b": Row((480, 28, 28), 388_096, 304.3, 380, 304),
    "inception_4a": Row((512, 14, 14), 375_552, 73.6, 364, 73),
    "inception_4b": Row((512, 14, 14), 448_512, 87.9, 437, 88),
    "inception_4c": Row((512, 14, 14), 509_440, 99.9, 463, 100),
    "inception_4d": Row((528, 14, 14), 604_672, 118.5, 580, 119),
    "inception_4e": Row((832, 14, 14), 867_328, 170.0, 840, 170),
    "inception_5a": Row((832, 7, 7), 1_042_432, 51.1, 1072, 54),
    "inception_5b": Row((1024, 7, 7), 1_442_816, 70.7, 1388, 71),
    "classifier": Row((1000,), 1_024_000, 1.02, 1000, 1),
}
SLIP = "inception_4c"
"""463K weights do not fit the widths printed beside them, which give 497.5K; its operations do."""


class Measured(NamedTuple):
    shape: tuple[int, ...]
    weights: int
    operations: float


def measure(network: GoogLeNet, size: int = 224) -> dict[str, Measured]:
    """Output shape, weights without biases, and 10^6 multiply-adds of each row of Table 1."""
    rows: dict[str, list[int]] = {name: [0, 0] for name in TABLE}
    shapes: dict[str, tuple[int, ...]] = {}
    hooks = []

    def watch(row: str, layer: nn.Conv2d | nn.Linear) -> None:
        def count(_: nn.Module, __: tuple[Tensor, ...], output: Tensor) -> None:
            positions = output[0, 0].numel() if output.ndim == 4 else 1
            rows[row][0] += layer.weight.numel()
            rows[row][1] += layer.weight.numel() * positions
            shapes[row] = tuple(output.shape[1:])

        hooks.append(layer.register_forward_hook(count))

    for row in TABLE:
        module = network.get_submodule(row)
        for layer in module.modules():
            if isinstance(layer, nn.Conv2d | nn.Linear):
                watch(row, layer)
        if row.startswith("inception"):

            def outline(
                _: nn.Module, __: tuple[Tensor, ...], output: Tensor, row: str = row
            ) -> None:
                shapes[row] = tuple(output.shape[1:])

            hooks.append(module.register_forward_hook(outline))
    with torch.inference_mode():
        network.eval()(torch.zeros(1, 3, size, size))
    for hook in hooks:
        hook.remove()
    return {row: Measured(shapes[row], w, o / 1e6) for row, (w, o) in rows.items()}


def test_table_1(capsys: pytest.CaptureFixture[str]) -> None:
    measured = measure(GoogLeNet(1000, architecture=Architecture(stem="separable")))
    with capsys.disabled():
        print(f"\n{'':<14}{'output':<18}{'weights':>10}{'K':>8}{'paper':>7}{'10^6':>8}{'paper':>7}")
        for name, row in TABLE.items():
            shape, weights, operations = measured[name]
            print(
                f"{name:<14}{'x'.join(map(str, shape)):<18}{weights:>10,}{weights / 1024:>8.1f}"
                f"{row.printed_weights:>7}{operations:>8.1f}{row.printed_operations:>7}"
            )
    for name, row in TABLE.items():
        found = measured[name]
        assert found.shape == row.shape
        assert found.weights == row.weights
        assert found.operations == pytest.approx(row.operations, abs=0.05)
        assert found.operations == pytest.approx(row.printed_operations, rel=0.06)
        if name != SLIP:
            assert found.weights / 1024 == pytest.approx(row.printed_weights, rel=0.06)
    assert sum(row.weights for row in measured.values()) == 6_983_576
    assert sum(row.operations for row in measured.values()) == pytest.approx(1498.7, abs=0.1)


def test_dense_stem_is_that_of_caffe() -> None:
    network = GoogLeNet(1000)
    measured = measure(network)
    assert measured["conv1"].weights == 9_408
    assert measured["conv1"].operations == pytest.approx(118.0, abs=0.05)
    assert sum(row.weights for row in measured.values()) == 6_990_272
    assert sum(p.numel() for p in network.parameters()) == 6_998_552


def test_auxiliary_heads_have_the_papers_size() -> None:
    network = GoogLeNet(1000, auxiliary=True)
    for head, parameters in (("loss1", 3_188_840), ("loss2", 3_190_888)):
        assert sum(p.numel() for p in network.get_submodule(head).parameters()) == parameters


@pytest.mark.parametrize(
    ("size", "grids", "auxiliary_side"),
    [(96, (48, 12, 6, 3), 1), (112, (56, 14, 7, 3), 1), (128, (64, 16, 8, 4), 2),
     (160, (80, 20, 10, 5), 2), (224, (112, 28, 14, 7), 4)],
)  # fmt: skip
def test_grids_of_other_crop_sizes(size: int, grids: tuple[int, ...], auxiliary_side: int) -> None:
    network = GoogLeNet(5, crop_size=size, auxiliary=True)
    measured = measure(network, size)
    rows = ("conv1", "inception_3a", "inception_4a", "inception_5a")
    assert tuple(measured[row].shape[1] for row in rows) == grids
    head = network.get_submodule("loss1")
    assert head.get_submodule("fc").get_parameter("weight").shape[1] == 128 * auxiliary_side**2
    main, first, second = network.eval().forward_with_auxiliary(torch.zeros(2, 3, size, size))
    assert main.shape == first.shape == second.shape == (2, 5)


def test_other_options() -> None:
    for stem in ("dense", "separable"):
        for normalisation in ("lrn", "batchnorm", "none"):
            net = Architecture.model_validate(
                {"stem": stem, "normalisation": normalisation, "width": 0.5}
            )
            network = GoogLeNet(21, crop_size=64, architecture=net).eval()
            assert network(torch.zeros(2, 3, 64, 64)).shape == (2, 21)
            assert network.classifier.in_features == 512
            convolutions = [m for m in network.modules() if isinstance(m, Convolution)]
            has_norm = {isinstance(c.norm, nn.BatchNorm2d) for c in convolutions}
            assert has_norm == {normalisation == "batchnorm"}


@given(
    st.integers(64, 260),
    st.sampled_from([Architecture(), TORCHVISION]),
)
@settings(deadline=None, max_examples=30)
def test_sides_of_maps_of_any_crop_size(size: int, architecture: Architecture) -> None:
    small = architecture.model_copy(update={"width": 0.1})
    network = Trunk(small).eval()
    last, after_4a, after_4d = network.features(torch.zeros(1, 3, size, size))
    fourth, fifth = feature_map_sides(size, small)
    assert after_4a.shape[2:] == after_4d.shape[2:] == (fourth, fourth)
    assert last.shape[2:] == (fifth, fifth)


@pytest.mark.parametrize(
    ("size", "auxiliary", "smallest"),
    [(63, False, "64"), (95, True, "heads at least 96")],
)
def test_too_small_crops_are_refused(size: int, auxiliary: bool, smallest: str) -> None:
    with pytest.raises(ValueError, match=f"{smallest} pixels, not {size}"):
        GoogLeNet(2, crop_size=size, auxiliary=auxiliary)


@pytest.mark.parametrize("channels", [1, 4, 64, 192])
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_local_response_normalisation_equals_torchs(
    channels: int, memory_format: torch.memory_format
) -> None:
    torch.manual_seed(0)
    x = (200 * torch.randn(2, channels, 9, 7)).contiguous(memory_format=memory_format)
    expected = nn.LocalResponseNorm(5, 1e-4, 0.75, 1)(x)
    ours = LocalResponseNorm(channels)
    torch.testing.assert_close(ours(x), expected, rtol=2e-6, atol=1e-6)
    half = ours.bfloat16()(x.bfloat16()).float()
    torch.testing.assert_close(half, expected, rtol=0.03, atol=0.01)


@pytest.mark.parametrize("auxiliary", [False, True])
def test_torchvision_variant_equals_torchvisions(auxiliary: bool) -> None:
    torch.manual_seed(0)
    theirs = torchvision.models.GoogLeNet(
        num_classes=7, aux_logits=auxiliary, transform_input=False, init_weights=False
    )
    for module in theirs.modules():  # statistics as training would leave them
        if isinstance(module, nn.BatchNorm2d):
            assert module.running_mean is not None
            assert module.running_var is not None
            nn.init.uniform_(module.running_mean, -0.1, 0.1)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.uniform_(module.bias, -0.1, 0.1)
    net = Architecture(variant="torchvision", normalisation="batchnorm")
    ours = GoogLeNet(7, architecture=net, auxiliary=auxiliary)
    load_weights(
        ours,
        translate_names({n: t.numpy() for n, t in theirs.state_dict().items()}),
        Path("torchvision"),
    )
    x = torch.randn(2, 3, 224, 224)
    ours.eval()
    with torch.inference_mode():
        torch.testing.assert_close(ours(x), theirs.eval()(x), rtol=1e-5, atol=1e-5)
        if auxiliary:
            expected = []
            hooks = [
                getattr(theirs, name).register_forward_hook(lambda *a: expected.append(a[2]))
                for name in ("aux1", "aux2")
            ]
            theirs.train()
            for module in theirs.modules():
                module.training = not isinstance(module, nn.BatchNorm2d | nn.Dropout)
            theirs(x)
            for hook in hooks:
                hook.remove()
            found = ours.forward_with_auxiliary(x)[1:]
            torch.testing.assert_close(found, tuple(expected), rtol=1e-5, atol=1e-5)


def test_torchvision_variant_has_its_own_stem_and_normalisation() -> None:
    with pytest.raises(ValidationError, match='stem = "dense" and normalisation = "batchnorm"'):
        Architecture(variant="torchvision", normalisation="lrn")


@pytest.mark.parametrize(
    ("variant", "normalisation"),
    [("paper", "lrn"), ("paper", "none"), ("paper", "batchnorm"), ("torchvision", "batchnorm")],
)
def test_training_step_reaches_every_weight(variant: str, normalisation: str) -> None:
    torch.manual_seed(0)
    net = Architecture.model_validate(
        {"variant": variant, "normalisation": normalisation, "width": 0.25}
    )
    network = GoogLeNet(3, crop_size=96, architecture=net, auxiliary=True)
    outputs = network.forward_with_auxiliary(50 * torch.randn(4, 3, 96, 96))
    torch.autograd.backward([logits.square().mean() for logits in outputs])
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in network.parameters())


def test_local_response_normalisation_has_torchs_gradient() -> None:
    torch.manual_seed(0)
    gradients = []
    for norm in (LocalResponseNorm(6), nn.LocalResponseNorm(5, 1e-4, 0.75, 1)):
        x = (
            200 * torch.randn(2, 6, 3, 3, generator=torch.Generator().manual_seed(1))
        ).requires_grad_()
        torch.autograd.backward(norm(x).square().sum())
        gradients.append(x.grad)
    torch.testing.assert_close(*gradients, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("stem", ["dense", "separable"])
@pytest.mark.parametrize("normalisation", ["lrn", "batchnorm", "none"])
def test_shapes_of_the_description_are_the_modules(stem: Any, normalisation: Any) -> None:
    architecture = Architecture(stem=stem, normalisation=normalisation, width=0.25)
    network = GoogLeNet(7, crop_size=64, architecture=architecture)
    shapes = {name: tensor.shape for name, tensor in weights_of(network).items()}
    assert shapes == classifier_shapes(architecture, 7)
    assert list(network.state_dict()) == list(classifier_shapes(architecture, 7))
