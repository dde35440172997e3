from __future__ import annotations

import io
import random
import struct
from typing import Any, Literal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image as PillowImage

from detector.images import load
from detector.images.exif import orientation
from tests.support.exif import damaged_block, exif_block, expected_orientation

SEEDS = st.integers(0, 2**32)


@pytest.mark.parametrize("order", ["II", "MM"])
@pytest.mark.parametrize("kind", [1, 3, 4])
@pytest.mark.parametrize("value", range(1, 9))
def test_every_orientation_in_every_type(order: Literal["II", "MM"], kind: int, value: int) -> None:
    assert orientation(exif_block(value, order=order, kind=kind)) == value
    assert orientation(b"Exif\0\0" + exif_block(value, order=order, kind=kind)) == value


@pytest.mark.parametrize("value", [0, 9, 65535])
def test_what_is_no_orientation_is_upright(value: int) -> None:
    assert orientation(exif_block(value)) == 1


@pytest.mark.parametrize(
    ("kind", "count"),
    [
        pytest.param(2, 1, id="text"),
        pytest.param(5, 1, id="fraction"),
        pytest.param(12, 1, id="floating point"),
        pytest.param(3, 0, id="no value"),
        pytest.param(3, 2, id="two values"),
        pytest.param(3, 2**32 - 1, id="billions of values"),
    ],
)
def test_a_tag_of_another_kind_is_upright(kind: int, count: int) -> None:
    assert orientation(exif_block(6, kind=kind, count=count)) == 1


def test_a_later_sound_tag_counts() -> None:
    damaged = struct.pack("<HHLL", 0x0112, 2, 1, 6)
    assert orientation(exif_block(6, others=[damaged])) == 6


@pytest.mark.parametrize("repeated", [0, 1, 2, 3])
def test_repeated_prefixes(repeated: int) -> None:
    assert orientation(b"Exif\0\0" * repeated + exif_block(6)) == 6


@given(SEEDS)
def test_damaged_blocks_turn_an_image_only_by_a_sound_tag(seed: int) -> None:
    block = damaged_block(random.Random(seed))
    assert orientation(block) == expected_orientation(block)


@given(st.binary(max_size=300))
def test_random_bytes_have_some_orientation(block: bytes) -> None:
    assert 1 <= orientation(block) <= 8


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "MPO"])
@given(seed=SEEDS)
def test_damaged_blocks_in_files(kind: str, seed: int) -> None:
    rng = random.Random(seed)
    block = damaged_block(rng)
    stored = PillowImage.new("RGB", (16, 8), (200, 100, 50))
    file = io.BytesIO()
    options: dict[str, Any] = {"exif": b"Exif\0\0" + block}
    if kind == "MPO":
        options |= {"save_all": True, "append_images": [stored]}
    stored.save(file, kind, **options)
    turned = expected_orientation(block) >= 5
    assert load(file.getvalue()).shape == ((16, 8, 3) if turned else (8, 16, 3))


XMP = b'<rdf:RDF><rdf:Description tiff:Orientation="%d"/></rdf:RDF>'


@pytest.mark.parametrize("kind", ["JPEG", "WEBP", "TIFF"])
@pytest.mark.parametrize("value", [1, 3, 8])
def test_the_orientation_in_xmp_does_not_count(kind: str, value: int) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (9, 7, 3), np.uint8)
    exif = PillowImage.Exif()
    exif[0x0112] = 6
    for block, shape in ((exif, (7, 9, 3)), (PillowImage.Exif(), (9, 7, 3))):
        file = io.BytesIO()
        options: dict[str, Any] = {"exif": block}
        options |= {"tiffinfo": {700: XMP % value}} if kind == "TIFF" else {"xmp": XMP % value}
        if kind == "TIFF" and 0x0112 in block:
            options["tiffinfo"][0x0112] = 6
        PillowImage.fromarray(pixels).save(file, kind, **options)
        assert load(file.getvalue()).shape == shape
