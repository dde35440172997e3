"""Files of each format whose metadata is damaged have the pixels that they have without it."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from PIL import Image as PillowImage

from detector.errors import BrokenImage, ImageError
from detector.images import load
from proposals import Image
from tests.support.bombs import (
    canvas,
    chunk,
    encode,
    first_frame,
    grey_tiff,
    scans_of,
    segment,
    tiff,
    webp,
    webp_chunk,
    with_segments,
)
from tests.support.exif import exif_block

PIXELS = np.random.default_rng(0).integers(0, 256, (9, 7, 3), np.uint8)
PICTURE = PillowImage.fromarray(PIXELS)
TURNED = np.rot90(PIXELS, -1)

LENGTHS = st.one_of(st.integers(0, 40), st.sampled_from([0, 1, 255, 300, 65_535, 2**31, 2**32 - 1]))
"""Right and wrong lengths of something that has about 20 bytes."""

CONTENTS = st.binary(max_size=40)


# PNG

PNG = encode(PICTURE, "PNG")
PNG_START, PNG_PIXELS = PNG[:33], PNG[33:]
PNG_END = PNG[-12:]
EXIF_CHUNK = chunk(b"eXIf", exif_block(6))
ANCILLARY = st.sampled_from(
    b"tEXt zTXt iTXt eXIf tIME pHYs iCCP gAMA cHRM sRGB bKGD hIST sBIT acTL fcTL fdAT abCd".split()
)


@given(ANCILLARY, CONTENTS, st.booleans())
def test_png_chunks_of_odd_content(kind: bytes, content: bytes, before: bool) -> None:
    odd = chunk(kind, content)
    pieces = (odd, PNG_PIXELS[:-12]) if before else (PNG_PIXELS[:-12], odd)
    np.testing.assert_array_equal(load(b"".join((PNG_START, *pieces, PNG_END))), PIXELS)


@given(ANCILLARY, CONTENTS, LENGTHS, st.binary(min_size=4, max_size=4), st.booleans())
def test_png_chunks_of_wrong_lengths_and_checksums(
    kind: bytes, content: bytes, length: int, checksum: bytes, before: bool
) -> None:
    odd = struct.pack(">I", length) + kind + content + checksum
    pieces = (odd, PNG_PIXELS[:-12]) if before else (PNG_PIXELS[:-12], odd)
    np.testing.assert_array_equal(load(b"".join((PNG_START, *pieces, PNG_END))), PIXELS)


@given(CONTENTS, st.binary(min_size=4, max_size=4))
def test_png_orientation_after_a_damaged_chunk(content: bytes, checksum: bytes) -> None:
    odd = struct.pack(">I", len(content)) + b"tEXt" + content + checksum
    np.testing.assert_array_equal(load(PNG_START + odd + EXIF_CHUNK + PNG_PIXELS), TURNED)
    np.testing.assert_array_equal(load(PNG_START + EXIF_CHUNK + odd + PNG_PIXELS), TURNED)


@pytest.mark.parametrize("kind", [b"tEXt", b"zTXt"])
def test_png_orientation_in_imagemagicks_profile(kind: bytes) -> None:
    block = b"Exif\0\0" + exif_block(6)
    text = b"\nexif\n%8d\n" % len(block) + block.hex().encode() + b"\n"
    packed = b"\0" + zlib.compress(text) if kind == b"zTXt" else text
    profile = chunk(kind, b"Raw profile type exif\0" + packed)
    np.testing.assert_array_equal(load(PNG_START + profile + PNG_PIXELS), TURNED)


@given(st.integers(0, len(PNG) - 1), st.integers(1, 255))
def test_a_damaged_byte_of_a_png_never_changes_its_pixels(place: int, change: int) -> None:
    damaged = bytearray(PNG)
    damaged[place] ^= change
    try:
        loaded = load(bytes(damaged))
    except ImageError:
        return
    np.testing.assert_array_equal(loaded, PIXELS)


@given(st.integers(0, 24), st.integers(1, 255))
def test_a_damaged_header_of_a_png_is_an_error(place: int, change: int) -> None:
    damaged = bytearray(PNG)
    damaged[8 + place] ^= change
    with pytest.raises(ImageError):
        load(bytes(damaged))


def test_a_damaged_palette_is_an_error() -> None:
    png = encode(PICTURE.quantize(8), "PNG")
    place = png.index(b"PLTE")
    for damaged in (png.replace(b"PLTE", b"pLTE"), png[: place + 5] + b"\x5a" + png[place + 6 :]):
        with pytest.raises(BrokenImage):
            load(damaged)


# JPEG

JPEG = encode(PICTURE, "JPEG", quality=95)
PREVIEW = encode(PICTURE.resize((3, 3)), "JPEG")
METADATA = st.sampled_from([*range(0xE0, 0xF0), 0xFE])


@pytest.fixture(scope="module")
def jpeg_pixels() -> Image:
    return load(JPEG)


@given(marker=METADATA, content=st.one_of(CONTENTS, st.just(b"Exif\0\0" + PREVIEW)))
def test_jpeg_segments_of_odd_content(marker: int, content: bytes, jpeg_pixels: Image) -> None:
    np.testing.assert_array_equal(load(with_segments(JPEG, segment(marker, content))), jpeg_pixels)


@given(
    marker=METADATA,
    content=st.one_of(st.binary(max_size=40).filter(lambda b: b"\xff" not in b), st.just(PREVIEW)),
    length=LENGTHS,
    orientation=st.booleans(),
)
def test_jpeg_segments_of_wrong_lengths(
    marker: int, content: bytes, length: int, orientation: bool, jpeg_pixels: Image
) -> None:
    length = length % 2**16
    odd = struct.pack(">BBH", 0xFF, marker, length) + content
    exif = segment(0xE1, b"Exif\0\0" + exif_block(6)) if orientation else b""
    expected = np.rot90(jpeg_pixels, -1) if orientation else jpeg_pixels
    for data, place in (
        (with_segments(JPEG, exif + odd), 2 + len(exif)),
        (with_segments(JPEG, odd + exif), 2),
    ):
        end = place + 2 + length
        is_plausible = end != place + len(odd) and data[end : end + 1] == b"\xff"
        assume(not is_plausible or length <= 2)
        np.testing.assert_array_equal(load(data), expected)


def test_segments_between_the_scans_of_a_jpeg() -> None:
    jpeg = encode(PICTURE, "JPEG", progressive=True)
    scans = scans_of(jpeg)
    start = jpeg[: jpeg.index(b"\xff\xda")]
    comment = segment(0xFE, b"\xff\xda" * 200)
    data = start + comment.join(scans) + jpeg[-2:]
    np.testing.assert_array_equal(load(data), load(jpeg))


def test_an_image_after_a_jpeg_does_not_count_as_its_scans() -> None:
    np.testing.assert_array_equal(load(JPEG * 200), load(JPEG))


# WebP

WEBP = encode(PICTURE, "WEBP", lossless=True)[12:]
WEBP_KINDS = st.sampled_from([b"ICCP", b"EXIF", b"XMP ", b"abcd"])


@given(WEBP_KINDS, CONTENTS, st.integers(0, 255), st.booleans())
def test_webp_chunks_of_odd_content(kind: bytes, content: bytes, flags: int, before: bool) -> None:
    odd = webp_chunk(kind, content)
    header = canvas(7, 9, flags & ~2)  # no animation
    pieces = (odd, WEBP) if before else (WEBP, odd)
    np.testing.assert_array_equal(load(webp(header, *pieces)), PIXELS)


@given(WEBP_KINDS, CONTENTS, LENGTHS, st.booleans())
def test_webp_chunks_of_wrong_lengths(
    kind: bytes, content: bytes, length: int, before: bool
) -> None:
    assume(not any(name in content for name in (b"VP8", b"ANIM", b"ANMF", b"ALPH", b"EXIF")))
    odd = kind + struct.pack("<I", length) + content
    pieces = (odd, WEBP) if before else (WEBP, odd)
    try:
        loaded = load(webp(canvas(7, 9, 0x2C), *pieces))
    except BrokenImage:  # the length leads to what looks like a chunk
        assert before
    else:
        np.testing.assert_array_equal(loaded, PIXELS)


@given(LENGTHS)
def test_the_length_of_a_webp_file_does_not_matter(length: int) -> None:
    data = webp(canvas(7, 9, 0), WEBP, webp_chunk(b"EXIF", exif_block(6)))
    np.testing.assert_array_equal(load(data[:4] + struct.pack("<I", length) + data[8:]), TURNED)


# GIF

GIF = encode(PICTURE.quantize(8), "GIF")
FRAME = first_frame(GIF)


@given(st.integers(0, 255), st.lists(st.binary(min_size=1, max_size=255), max_size=3))
def test_gif_extensions_of_odd_content(label: int, blocks: list[bytes]) -> None:
    if label == 0xF9 and blocks and len(blocks[0]) == 4:
        return  # a sound one, which may make a colour transparent
    content = b"".join(bytes([len(block)]) + block for block in blocks)
    odd = bytes([0x21, label]) + content + b"\0"
    np.testing.assert_array_equal(load(GIF[:FRAME] + odd + GIF[FRAME:]), load(GIF))


@given(st.binary(max_size=40).filter(lambda content: b"," not in content and b"!" not in content))
def test_gif_extensions_of_wrong_lengths(content: bytes) -> None:
    odd = b"!\xfe\xff" + content + b"\xfe"
    np.testing.assert_array_equal(load(GIF[:FRAME] + odd + GIF[FRAME:]), load(GIF))


# TIFF


def tiff_with(entry: bytes, following: int = 0) -> bytes:
    """A grey image of 2 x 2 pixels with one more entry in its directory."""
    data = tiff(grey_tiff(2, 2, t273=(4, [8]), t278=(4, [2]), t279=(4, [4])), bytes(range(4)))
    place = 12
    (count,) = struct.unpack_from("<H", data, place)
    entries = data[place + 2 : place + 2 + 12 * count]
    return (
        data[:place] + struct.pack("<H", count + 1) + entries + entry + struct.pack("<L", following)
    )


@given(
    st.sampled_from([270, 282, 283, 296, 305, 306, 330, 700, 33723, 34665, 34675, 34853, 50341]),
    st.integers(0, 20),
    LENGTHS,
    st.binary(min_size=4, max_size=4),
    LENGTHS,
)
def test_odd_tags_of_a_tiff(tag: int, kind: int, count: int, value: bytes, following: int) -> None:
    data = tiff_with(struct.pack("<HHL", tag, kind, count) + value, following)
    assert load(data)[:, :, 0].tolist() == [[0, 1], [2, 3]]


@pytest.mark.parametrize("value", [1, 6])
def test_the_orientation_of_a_tiff_with_odd_tags(value: int) -> None:
    resolution = struct.pack("<HHLL", 282, 2, 4, 0x3237)
    data = tiff_with(resolution + struct.pack("<HHLL", 0x0112, 3, 1, value))
    # The entry that came with the other is only read if the count says so.
    (place,) = struct.unpack_from("<L", data, 4)
    count = struct.unpack_from("<H", data, place)[0] + 1
    data = data[:place] + struct.pack("<H", count) + data[place + 2 :]
    expected = [[2, 0], [3, 1]] if value == 6 else [[0, 1], [2, 3]]
    assert load(data)[:, :, 0].tolist() == expected


@pytest.mark.parametrize("make", [lambda data: data[:-3], lambda data: data[:20]])
def test_a_tiff_that_is_cut_off_is_an_error(make: Callable[[bytes], bytes]) -> None:
    with pytest.raises(ImageError):
        load(make(tiff_with(b""))[:-4])
