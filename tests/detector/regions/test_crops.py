"""The warp against Caffe's published vectors and a slow, literal version of its steps."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Literal, NamedTuple

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from detector.bundles.manifest import Normalisation, Warp
from detector.regions import gpu_crops
from detector.regions.crops import (
    Pixels,
    Windows,
    cut,
    cut_with_opencv,
    normalise,
    windows,
)
from detector.regions.gpu_crops import cut_with_torch, summed_area_table
from proposals import Image

Mode = Literal["warp", "square"]


class Placed(NamedTuple):
    """A window as the vectors list it; corners are inclusive."""

    context: tuple[int, int, int, int]
    clipped: tuple[int, int, int, int]
    target: tuple[int, int, int, int]  # ox, oy, dw, dh


def c_round(value: Fraction) -> int:
    """C's `round`: halves away from zero."""
    magnitude = math.floor(abs(value) + Fraction(1, 2))
    return magnitude if value >= 0 else -magnitude


def literal_window(
    box: tuple[int, int, int, int],
    width: int,
    height: int,
    size: int,
    padding: Fraction,
    *,
    mode: Mode = "warp",
    mirrored: bool = False,
) -> Placed:
    """The steps of `window_data_layer.cpp` for an inclusive box, in exact numbers."""
    x1, y1, x2, y2 = box
    if padding == 0 and mode == "warp":  # step 1: the box itself
        return Placed(box, box, (0, 0, size, size))
    scale = size / (size - 2 * padding)
    half_width, half_height = Fraction(x2 - x1 + 1, 2), Fraction(y2 - y1 + 1, 2)
    centre_x, centre_y = x1 + half_width, y1 + half_height
    if mode == "square":
        half_width = half_height = max(half_width, half_height)
    left, right = c_round(centre_x - half_width * scale), c_round(centre_x + half_width * scale)
    top, bottom = c_round(centre_y - half_height * scale), c_round(centre_y + half_height * scale)
    context = left, top, right, bottom
    unclipped_width, unclipped_height = right - left + 1, bottom - top + 1
    pad_x1, pad_y1 = max(0, -left), max(0, -top)
    pad_x2, pad_y2 = max(0, right - width + 1), max(0, bottom - height + 1)
    left, top, right, bottom = left + pad_x1, top + pad_y1, right - pad_x2, bottom - pad_y2
    scale_x, scale_y = Fraction(size, unclipped_width), Fraction(size, unclipped_height)
    target_width = c_round((right - left + 1) * scale_x)
    target_height = c_round((bottom - top + 1) * scale_y)
    offset_x = c_round((pad_x2 if mirrored else pad_x1) * scale_x)
    offset_y = c_round(pad_y1 * scale_y)
    target_width = min(target_width, size - offset_x)
    target_height = min(target_height, size - offset_y)
    return Placed(
        context, (left, top, right, bottom), (offset_x, offset_y, target_width, target_height)
    )


def footprint(position: int, source: int, target: int, resampling: str) -> NDArray[np.float64]:
    """Weights `[source]` of the pixels that one of `target` pixels is made of, by definition."""
    weights: NDArray[np.float64] = np.zeros(source)
    if resampling == "area" and source > target:
        begin, end = position * source / target, (position + 1) * source / target
        for pixel in range(source):
            weights[pixel] = max(0.0, min(end, pixel + 1) - max(begin, pixel))
        weights /= weights.sum()
        return weights
    centre = min(max((position + 0.5) * source / target - 0.5, 0), source - 1)
    for pixel in range(source):
        weights[pixel] = max(0.0, 1 - abs(centre - pixel))
    return weights


def literal_crop(
    pixels: Pixels, box: NDArray[np.float32], warp: Warp, mirrored: bool
) -> NDArray[np.float64]:
    height, width = pixels.shape[:2]
    x1, y1, x2, y2 = map(int, box)
    size = warp.crop_size
    placed = literal_window(
        (x1, y1, x2 - 1, y2 - 1), width, height, size, warp.context * size, mirrored=mirrored
    )
    left, top, right, bottom = placed.clipped
    u, v, w, h = placed.target
    patch = pixels[top : bottom + 1, left : right + 1].astype(np.float64)
    columns = np.stack([footprint(i, patch.shape[1], w, warp.resampling) for i in range(w)])
    rows = np.stack([footprint(i, patch.shape[0], h, warp.resampling) for i in range(h)])
    resized = np.einsum("vy,yxc,ux->vuc", rows, patch, columns, optimize=True)
    crop = np.zeros((size, size, 3))
    crop[v : v + h, u : u + w] = resized[:, ::-1] if mirrored else resized
    return crop


# Image 500x375, boxes 0-based inclusive; computed from Caffe's code.
VECTORS = """
224,16 | 100,50,199,149 | 92,42,208,158 | same | 0,0,224,224 | same
224,16 | 0,0,99,99 | -8,-8,108,108 | 0,0,108,108 | 15,15,209,209 | 0,15,209,209
224,16 | 450,300,499,374 | 446,294,504,381 | 446,294,499,374 | 0,0,205,206 | 19,0,205,206
224,16 | 0,0,499,374 | -42,-31,542,406 | 0,0,499,374 | 16,16,191,192 | 16,16,191,192
224,16 | 100,50,219,109 | 90,45,230,115 | same | 0,0,224,224 | same
224,16 | 10,20,29,39 | 8,18,32,42 | same | 0,0,224,224 | same
224,16 | 490,0,499,374 | 489,-31,501,406 | 489,0,499,374 | 0,16,190,192 | 34,16,190,192
224,16 | 0,370,499,374 | -42,370,542,375 | 0,370,499,374 | 16,0,191,187 | 16,0,191,187
224,16 | 498,373,499,374 | 498,373,500,375 | 498,373,499,374 | 0,0,149,149 | 75,0,149,149
227,16 | 100,50,199,149 | 92,42,208,158 | same | 0,0,227,227 | same
227,16 | 0,0,99,99 | -8,-8,108,108 | 0,0,108,108 | 16,16,211,211 | 0,16,211,211
227,16 | 450,300,499,374 | 446,294,504,381 | 446,294,499,374 | 0,0,208,209 | 19,0,208,209
227,16 | 0,0,499,374 | -41,-31,541,406 | 0,0,499,374 | 16,16,195,194 | 16,16,195,194
112,8 | 0,0,99,99 | -8,-8,108,108 | 0,0,108,108 | 8,8,104,104 | 0,8,104,104
112,8 | 450,300,499,374 | 446,294,504,381 | 446,294,499,374 | 0,0,103,103 | 9,0,103,103
224,16 square | 450,300,499,374 | 431,294,519,381 | 431,294,499,374 | 0,0,174,206 | 50,0,174,206
224,16 square | 0,0,499,374 | -42,-104,542,479 | 0,0,499,374 | 16,40,191,144 | 16,40,191,144
224,16 square | 100,50,219,109 | 90,10,230,150 | same | 0,0,224,224 | same
"""


def numbers(text: str) -> tuple[int, ...]:
    return tuple(map(int, text.split(",")))


@pytest.mark.parametrize("vector", VECTORS.strip().splitlines())
def test_vectors(vector: str) -> None:
    shape, *columns = (part.strip() for part in vector.split("|"))
    size, padding = numbers(shape.removesuffix(" square"))
    mode: Mode = "square" if shape.endswith("square") else "warp"
    box, context, clipped, target, target_mirrored = columns
    clipped = context if clipped == "same" else clipped
    target_mirrored = target if target_mirrored == "same" else target_mirrored
    x1, y1, x2, y2 = numbers(box)
    for mirrored, expected in ((False, target), (True, target_mirrored)):
        literal = literal_window(
            (x1, y1, x2, y2), 500, 375, size, Fraction(padding), mode=mode, mirrored=mirrored
        )
        assert literal == (numbers(context), numbers(clipped), numbers(expected))
        if mode == "warp":
            warp = Warp(crop_size=size, context=Fraction(padding, size))
            boxes = np.array([[x1, y1, x2 + 1, y2 + 1]], np.float32)
            assert_window(windows(boxes, 375, 500, warp, np.array([mirrored])), literal)


def assert_window(found: Windows, literal: Placed) -> None:
    left, top, right, bottom = literal.clipped
    assert found.source.tolist() == [[left, top]]
    assert found.source_size.tolist() == [[right - left + 1, bottom - top + 1]]
    assert (*found.target[0], *found.target_size[0]) == literal.target


@st.composite
def cases(draw: st.DrawFn) -> tuple[tuple[int, int], NDArray[np.float32], Warp, bool]:
    width, height = draw(st.integers(1, 700)), draw(st.integers(1, 700))
    x1, y1 = draw(st.integers(0, width - 1)), draw(st.integers(0, height - 1))
    x2, y2 = draw(st.integers(x1 + 1, width)), draw(st.integers(y1 + 1, height))
    context = draw(st.sampled_from([Fraction(0), Fraction(1, 14), Fraction(16, 227)]))
    warp = Warp(
        crop_size=draw(st.sampled_from([64, 96, 128, 224])),
        context=context,
        resampling=draw(st.sampled_from(["bilinear", "area"])),
    )
    return (width, height), np.array([[x1, y1, x2, y2]], np.float32), warp, draw(st.booleans())


@given(cases())
def test_windows_equal_the_literal_ones(
    case: tuple[tuple[int, int], NDArray[np.float32], Warp, bool],
) -> None:
    (width, height), boxes, warp, mirrored = case
    x1, y1, x2, y2 = map(int, boxes[0])
    literal = literal_window(
        (x1, y1, x2 - 1, y2 - 1),
        width,
        height,
        warp.crop_size,
        warp.context * warp.crop_size,
        mirrored=mirrored,
    )
    found = windows(boxes, height, width, warp, np.array([mirrored]))
    assert_window(found, literal)
    assert (found.target_size >= 1).all()


@pytest.fixture(scope="module")
def photo() -> Image:
    return np.random.default_rng(0).integers(0, 256, (150, 210, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def boxes() -> NDArray[np.float32]:
    """Small, large, thin, at every border, and the whole image of 210x150."""
    chosen = [
        [0, 0, 210, 150], [0, 0, 1, 1], [209, 149, 210, 150], [0, 0, 210, 3], [100, 0, 102, 150],
        [5, 5, 200, 140], [60, 40, 90, 70], [150, 100, 210, 150], [0, 80, 64, 144],
    ]  # fmt: skip
    return np.array(chosen, np.float32)


@pytest.mark.parametrize("size", [64, 96])
@pytest.mark.parametrize("resampling", ["bilinear", "area"])
def test_fast_crops_equal_the_literal_ones(
    photo: Image,
    boxes: NDArray[np.float32],
    size: int,
    resampling: Literal["bilinear", "area"],
) -> None:
    warp = Warp(crop_size=size, resampling=resampling)
    pixels = normalise(photo, Normalisation())
    mirrored = np.arange(len(boxes)) % 2 == 1
    for flip in (mirrored, ~mirrored):
        literal = np.stack(
            [literal_crop(pixels, box, warp, bool(m)) for box, m in zip(boxes, flip, strict=True)]
        )
        where = windows(boxes, 150, 210, warp, flip)
        np.testing.assert_allclose(
            cut_with_opencv(pixels, where, warp, flip), literal, atol=2e-4, rtol=0
        )
        on_device = cut_with_torch(
            summed_area_table(torch.from_numpy(pixels).permute(2, 0, 1)), where, warp, flip
        )
        np.testing.assert_allclose(on_device, literal, atol=2e-4, rtol=0)


def test_outside_of_the_photo_is_exactly_zero(photo: Image) -> None:
    crop = cut(normalise(photo, Normalisation()), np.array([[0, 0, 210, 150]], np.float32), Warp())[
        0
    ]
    left, top, width, height = literal_window((0, 0, 209, 149), 210, 150, 224, Fraction(16)).target
    inside = np.zeros((224, 224), np.bool_)
    inside[top : top + height, left : left + width] = True
    assert (crop[~inside] == 0).all()
    assert (crop[inside] != 0).any(axis=1).mean() > 0.99


def test_mirrored_crop_of_a_mirrored_photo_is_the_crop(photo: Image) -> None:
    """Where no padding is rounded: a box with its context inside the photo."""
    warp = Warp(crop_size=64)
    box = np.array([[60, 40, 108, 88]], np.float32)  # its window reaches from 56 to 112
    crop = cut(normalise(photo, Normalisation()), box, warp)
    mirrored_box = np.array([[210 - 113 + 4, 40, 210 - 113 + 52, 88]], np.float32)
    pixels = normalise(np.ascontiguousarray(photo[:, ::-1]), Normalisation())
    again = cut(pixels, mirrored_box, warp, np.array([True]))
    np.testing.assert_allclose(crop, again, atol=1e-4)


@pytest.mark.parametrize(
    "box",
    [
        pytest.param([0, 0, 0, 5], id="no width"),
        pytest.param([5, 5, 4, 8], id="turned round"),
        pytest.param([-1, 0, 5, 5], id="left of the image"),
        pytest.param([0, 0, 211, 5], id="right of the image"),
        pytest.param([0.5, 0, 5, 5], id="part of a pixel"),
    ],
)
def test_boxes_that_cannot_be_cut(box: list[float]) -> None:
    with pytest.raises(ValueError, match="whole pixels and an area inside the 210x150 image"):
        windows(np.array([box], np.float32), 150, 210, Warp())


def test_no_boxes_give_no_crops(photo: Image) -> None:
    none = np.empty((0, 4), np.float32)
    pixels = normalise(photo, Normalisation())
    assert cut(pixels, none, Warp()).shape == (0, 224, 224, 3)
    assert gpu_crops.cut(
        summed_area_table(torch.from_numpy(pixels).permute(2, 0, 1)), none, Warp()
    ).shape == (
        0,
        224,
        224,
        3,
    )


def test_normalisation_orders_and_scales_channels() -> None:
    red = np.array([[[255, 10, 0]]], np.uint8)
    bgr = normalise(red, Normalisation(channels="bgr", mean=(0, 10, 5), std=(1, 1, 50)))
    assert bgr.tolist() == [[[0, 0, 5]]]
    rgb = normalise(red, Normalisation(channels="rgb", mean=(0, 0, 0)))
    assert rgb.tolist() == [[[255, 10, 0]]]
