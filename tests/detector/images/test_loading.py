from __future__ import annotations

import io
import os
import struct
import sys
import warnings
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image as PillowImage

from detector.errors import (
    BrokenImage,
    EmptyImage,
    ImageError,
    NotAnImage,
    OversizedImage,
    TruncatedImage,
    UnreadableImage,
    UnsupportedImage,
)
from detector.images import FORMATS, SUFFIXES, load, loading, read
from detector.images.limits import ImageLimits
from proposals import Image
from tests.support.bombs import grey_tiff, tiff

ORIENTATION = 0x0112
LOSSLESS: dict[str, dict[str, Any]] = {
    "PNG": {},
    "WEBP": {"lossless": True},
    "BMP": {},
    "TIFF": {},
    "GIF": {},
}


def blocks() -> Image:
    """Six blocks of different colours, 16 pixels each, as JPEG has them: `uint8 [32, 48, 3]`."""
    colours = [[[255, 0, 0], [0, 255, 0], [0, 0, 255]], [[9, 9, 9], [250, 240, 10], [90, 90, 200]]]
    return np.array(colours, np.uint8).repeat(16, axis=0).repeat(16, axis=1)


def noise(height: int = 9, width: int = 7) -> Image:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)


def encode(image: PillowImage.Image | Image, kind: str, **options: Any) -> bytes:
    if isinstance(image, np.ndarray):
        image = PillowImage.fromarray(image)
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def exif(orientation: int) -> PillowImage.Exif:
    block = PillowImage.Exif()
    block[ORIENTATION] = orientation
    return block


def png_header(width: int, height: int) -> bytes:
    """The 33 bytes with which a grey PNG of that size begins, and the frame of its pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        checksum = zlib.crc32(kind + data)
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", checksum)

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", b"")


def is_rgb(image: Image) -> bool:
    return image.dtype == np.uint8 and image.ndim == 3 and image.shape[2] == 3


@pytest.mark.parametrize("kind", LOSSLESS)
def test_lossless_formats_keep_every_pixel(kind: str) -> None:
    np.testing.assert_array_equal(load(encode(blocks(), kind, **LOSSLESS[kind])), blocks())


@pytest.mark.parametrize("options", [{}, {"progressive": True}], ids=["baseline", "progressive"])
def test_jpeg_keeps_colours(options: dict[str, bool]) -> None:
    loaded = load(encode(blocks(), "JPEG", quality=95, subsampling=0, **options))
    assert np.abs(loaded.astype(int) - blocks()).max() <= 4


@pytest.mark.parametrize("kind", FORMATS)
def test_every_format_and_its_suffixes_are_known(kind: str, tmp_path: Path) -> None:
    PillowImage.init()
    suffixes = {suffix for suffix, name in PillowImage.EXTENSION.items() if name == kind}
    assert suffixes & SUFFIXES
    for suffix in suffixes & SUFFIXES:
        path = tmp_path / f"photo{suffix}"
        path.write_bytes(encode(blocks(), kind))
        assert is_rgb(load(path))


def upright(stored: Image, orientation: int) -> Image:
    """EXIF's table in numpy: which side of the stored pixels is the top, and which the left."""
    turned: dict[int, Image] = {
        1: stored,
        2: stored[:, ::-1],
        3: stored[::-1, ::-1],
        4: stored[::-1],
        5: stored.transpose(1, 0, 2),
        6: np.rot90(stored, -1),
        7: stored[::-1, ::-1].transpose(1, 0, 2),
        8: np.rot90(stored, 1),
    }
    return turned[orientation]


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["PNG", "WEBP", "TIFF"])
def test_images_are_turned_upright(kind: str, orientation: int) -> None:
    data = encode(noise(), kind, exif=exif(orientation), **LOSSLESS[kind])
    np.testing.assert_array_equal(load(data), upright(noise(), orientation))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_jpegs_are_turned_as_opencv_turns_them(orientation: int) -> None:
    data = encode(blocks(), "JPEG", quality=95, exif=exif(orientation))
    decoded = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    assert decoded is not None
    expected = decoded[:, :, ::-1].astype(int)
    loaded = load(data)
    assert loaded.shape == expected.shape
    assert np.abs(loaded - expected).mean() < 2


@pytest.mark.parametrize(
    "block",
    [
        pytest.param(b"Exif\x00\x00", id="empty"),
        pytest.param(b"Exif\x00\x00II*\x00", id="ends after its byte order"),
        pytest.param(b"Exif\x00\x00II*\x00\x08\x00\x00\x00\xff\xff\x12\x01", id="ends in a tag"),
        pytest.param(b"Exif\x00\x00II*\x00\xff\xff\xff\x7f", id="points outside itself"),
        pytest.param(b"Exif\x00\x00" + bytes(range(256)), id="rubbish"),
        pytest.param(exif(9).tobytes(), id="orientation 9"),
        pytest.param(exif(0).tobytes(), id="orientation 0"),
    ],
)
def test_broken_exif_is_ignored(block: bytes) -> None:
    expected = load(encode(blocks(), "JPEG"))
    data = encode(blocks(), "JPEG", exif=block)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        np.testing.assert_array_equal(load(data), expected)
    assert [str(warning.message) for warning in caught] == []


def test_grey_is_repeated() -> None:
    grey = noise()[:, :, 0]
    for kind in LOSSLESS:
        loaded = load(encode(grey, kind, **LOSSLESS[kind]))
        np.testing.assert_array_equal(loaded, grey[:, :, None].repeat(3, axis=2), err_msg=kind)


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_16_bit_grey_is_scaled_to_8_bits(kind: str) -> None:
    values = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    loaded = load(encode(PillowImage.fromarray(values), kind))
    expected = np.floor(values / 65535 * 255 + 0.5)
    np.testing.assert_array_equal(loaded, expected[:, :, None].repeat(3, axis=2))
    assert (loaded.min(), loaded.max()) == (0, 255)


@pytest.mark.parametrize("suffix", [".png", ".tiff"])
def test_16_bit_colours_are_scaled_to_8_bits(suffix: str) -> None:
    pixels = np.random.default_rng(0).integers(0, 65536, (9, 7, 3), np.uint16)
    done, data = cv2.imencode(suffix, pixels)
    assert done
    difference = load(data.tobytes()) - pixels[:, :, ::-1] / 257
    assert np.abs(difference).max() <= 1


def palette_image() -> PillowImage.Image:
    """Indices 0, 1, 2 of red, green, blue."""
    image = PillowImage.new("P", (3, 1))
    image.putpalette([255, 0, 0, 0, 255, 0, 0, 0, 255])
    image.putdata([0, 1, 2])
    return image


@pytest.mark.parametrize(
    ("kind", "options", "expected"),
    [
        pytest.param("PNG", {}, [[255, 0, 0], [0, 255, 0], [0, 0, 255]], id="opaque png"),
        pytest.param("GIF", {}, [[255, 0, 0], [0, 255, 0], [0, 0, 255]], id="opaque gif"),
        pytest.param("BMP", {}, [[255, 0, 0], [0, 255, 0], [0, 0, 255]], id="opaque bmp"),
        pytest.param(
            "PNG",
            {"transparency": 1},
            [[255, 0, 0], [255, 255, 255], [0, 0, 255]],
            id="a transparent colour in png",
        ),
        pytest.param(
            "GIF",
            {"transparency": 1},
            [[255, 0, 0], [255, 255, 255], [0, 0, 255]],
            id="a transparent colour in gif",
        ),
        pytest.param(
            "PNG",
            {"transparency": bytes([255, 0, 51])},
            [[255, 0, 0], [255, 255, 255], [204, 204, 255]],
            id="half-transparent colours",
        ),
    ],
)
def test_palettes(kind: str, options: dict[str, Any], expected: list[list[int]]) -> None:
    assert load(encode(palette_image(), kind, **options)).tolist() == [expected]


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_transparent_pixels_are_laid_over_white(mode: str, kind: str) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (9, 7, len(mode)), np.uint8)
    pixels[0, 0, -1], pixels[0, 1, -1] = 0, 255
    options = LOSSLESS[kind] | ({"exact": True} if kind == "WEBP" else {})
    colours, opacity = pixels[:, :, :-1].astype(float), pixels[:, :, -1:] / 255
    expected = np.broadcast_to(colours * opacity + 255 * (1 - opacity), (9, 7, 3))
    loaded = load(encode(PillowImage.frombytes(mode, (7, 9), pixels.tobytes()), kind, **options))
    assert np.abs(loaded - expected).max() <= 1
    assert loaded[0, 0].tolist() == [255, 255, 255]
    np.testing.assert_array_equal(loaded[0, 1], expected[0, 1])


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF", "GIF"])
def test_one_bit_is_black_and_white(kind: str) -> None:
    bits = noise()[:, :, 0] > 127
    loaded = load(encode(PillowImage.fromarray(bits), kind))
    np.testing.assert_array_equal(loaded, np.where(bits, 255, 0)[:, :, None].repeat(3, axis=2))


@pytest.mark.parametrize("kind", ["JPEG", "TIFF"])
def test_cmyk(kind: str) -> None:
    inks = np.zeros((16, 64, 4), np.uint8)
    inks[:, 16:32], inks[:, 32:48], inks[:, 48:] = (0, 0, 0, 255), (255, 0, 0, 0), (0, 90, 200, 40)
    paper = (255 - inks[:, :, :3].astype(float)) * (255 - inks[:, :, 3:]) / 255
    options: dict[str, Any] = {"quality": 100, "subsampling": 0} if kind == "JPEG" else {}
    loaded = load(encode(PillowImage.frombytes("CMYK", (64, 16), inks.tobytes()), kind, **options))
    assert np.abs(loaded - paper).max() <= 4


@pytest.mark.parametrize("kind", ["GIF", "TIFF", "WEBP"])
def test_the_first_of_several_frames_is_taken(kind: str) -> None:
    later = PillowImage.fromarray(blocks()[::-1, ::-1])
    data = encode(blocks(), kind, save_all=True, append_images=[later], **LOSSLESS[kind])
    np.testing.assert_array_equal(load(data), blocks())


@pytest.mark.parametrize(
    ("data", "error"),
    [
        pytest.param(b"", EmptyImage, id="empty"),
        pytest.param(b"\x00", NotAnImage, id="one byte"),
        pytest.param(b"Dear Sir or Madam,\n", NotAnImage, id="text"),
        pytest.param(b"BMW builds cars.\n", NotAnImage, id="text that begins like a BMP"),
        pytest.param(b"RIFF\x24\x00\x00\x00WAVEfmt ", NotAnImage, id="sound"),
        pytest.param(b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n", UnsupportedImage, id="pdf"),
        pytest.param(b"\x00\x00\x00\x18ftypheic\x00\x00", UnsupportedImage, id="heic"),
        pytest.param(b"\x00\x00\x00\x1cftypavif\x00\x00", UnsupportedImage, id="avif"),
        pytest.param(b"8BPS\x00\x01", UnsupportedImage, id="photoshop"),
        pytest.param(encode(noise(), "ICO"), UnsupportedImage, id="ico"),
        pytest.param(encode(noise(), "JPEG2000"), UnsupportedImage, id="jpeg 2000"),
        pytest.param(b'<svg xmlns="http://www.w3.org/2000/svg"/>', UnsupportedImage, id="svg"),
        pytest.param(encode(blocks(), "JPEG")[:10], ImageError, id="a jpeg's first bytes"),
        pytest.param(encode(blocks(), "JPEG")[:100], TruncatedImage, id="jpeg cut in its header"),
        pytest.param(encode(blocks(), "JPEG")[:-9], TruncatedImage, id="jpeg cut at its end"),
        pytest.param(encode(blocks(), "PNG")[:20], TruncatedImage, id="png cut in its header"),
        pytest.param(encode(noise(), "PNG")[:-30], TruncatedImage, id="png cut at its end"),
        pytest.param(encode(noise(), "BMP")[:-30], TruncatedImage, id="bmp cut at its end"),
        pytest.param(encode(noise(), "TIFF")[:-9], TruncatedImage, id="tiff cut at its end"),
        pytest.param(encode(noise(), "GIF")[:-30], TruncatedImage, id="gif cut at its end"),
        pytest.param(encode(noise(), "WEBP")[:-30], BrokenImage, id="webp cut at its end"),
        pytest.param(encode(noise(), "GIF")[:60], BrokenImage, id="gif cut in its palette"),
        pytest.param(encode(noise(), "TIFF")[:100], BrokenImage, id="tiff cut in its tags"),
        pytest.param(
            encode(noise(), "PNG").replace(b"IDATx", b"IDATy"), BrokenImage, id="altered png"
        ),
        pytest.param(
            encode(PillowImage.new("F", (3, 2)), "TIFF"),
            UnsupportedImage,
            id="floating-point tiff",
        ),
        pytest.param(
            encode(PillowImage.new("I", (3, 2), 65536), "TIFF"),
            UnsupportedImage,
            id="32-bit tiff",
        ),
        pytest.param(
            encode(PillowImage.new("I", (3, 2), -1), "TIFF"),
            UnsupportedImage,
            id="signed tiff",
        ),
    ],
)
def test_what_is_not_an_image(data: bytes, error: type[ImageError], tmp_path: Path) -> None:
    path = tmp_path / "photo.jpg"
    path.write_bytes(data)
    for source, name in ((data, "bytes"), (path, str(path))):
        with pytest.raises(error) as caught:
            load(source)
        assert caught.value.file == name
        assert "\n" not in caught.value.message
    with pytest.raises(error) as caught:
        load(path, name="a/photo.jpg")
    assert caught.value.file == "a/photo.jpg"


@pytest.mark.parametrize("kind", [kind for kind in FORMATS if kind != "BMP"])
def test_the_beginning_of_an_image_is_not_called_something_else(kind: str) -> None:
    data = encode(noise(), kind)
    for length in range(16, len(data) // 2):
        with pytest.raises((TruncatedImage, BrokenImage)):
            load(data[:length])


@pytest.mark.parametrize(
    "size",
    [
        pytest.param((30_000, 30_000), id="over what Pillow opens"),
        pytest.param((10_000, 10_000), id="over what Pillow warns of"),
        pytest.param((50_000_001, 1), id="one pixel more than the default allows"),
    ],
)
def test_oversized_images_are_not_decoded(size: tuple[int, int]) -> None:
    data = png_header(*size)  # decoding it would find that there are no pixels
    assert len(data) < 50
    with pytest.raises(OversizedImage, match="50,000,000"):
        load(data, name="bomb.png")


def test_the_largest_size_allowed_is_not_oversized() -> None:
    with pytest.raises(TruncatedImage):
        load(png_header(50_000, 1_000))


def test_the_longest_side_allowed_is_not_oversized() -> None:
    with pytest.raises(TruncatedImage):
        load(png_header(65_535, 1))
    for size in ((65_536, 1), (1, 50_000_000)):
        with pytest.raises(OversizedImage, match="is longer than the 65,535 pixels allowed"):
            load(png_header(*size))


@pytest.mark.parametrize(
    "source",
    [
        pytest.param(encode(noise(9, 7), "PNG"), id="bytes"),
        pytest.param(noise(9, 7), id="array"),
        pytest.param(PillowImage.fromarray(noise(9, 7)), id="pil"),
    ],
)
def test_the_pixel_limit_is_inclusive(source: bytes | Image | PillowImage.Image) -> None:
    np.testing.assert_array_equal(load(source, limits=ImageLimits(max_pixels=63)), noise(9, 7))
    with pytest.raises(OversizedImage, match=r"7x9 .* 62 "):
        load(source, limits=ImageLimits(max_pixels=62))


def test_an_image_without_pixels_is_broken() -> None:
    with pytest.raises(BrokenImage, match="0x5"):
        load(PillowImage.new("RGB", (0, 5)))
    with pytest.raises(ImageError):
        load(png_header(0, 5))


@pytest.mark.parametrize(
    "make",
    [
        pytest.param(lambda folder: folder / "missing.jpg", id="missing"),
        pytest.param(lambda folder: folder, id="a folder"),
        pytest.param(lambda folder: folder / "a.jpg" / "b.jpg", id="below a file"),
        pytest.param(lambda folder: folder / ("a" * 300), id="too long a name"),
        pytest.param(lambda folder: str(folder) + "\0", id="a null character"),
    ],
)
def test_unreadable_files(make: Callable[[Path], str | Path], tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(encode(noise(), "JPEG"))
    path = make(tmp_path)
    for function in (load, read):
        with pytest.raises(UnreadableImage, match="cannot be read: ") as caught:
            function(path)
        assert caught.value.file == str(path)


@pytest.mark.parametrize(
    "name",
    [
        pytest.param("a photo.png", id="space"),
        pytest.param("фото-写真.png", id="not ASCII"),
        pytest.param(
            os.fsdecode(b"caf\xe9.png"),
            id="not UTF-8",
            marks=pytest.mark.skipif(sys.platform == "darwin", reason="names are UTF-8 there"),
        ),
    ],
)
def test_names_of_files(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_bytes(encode(noise(), "PNG"))
    np.testing.assert_array_equal(load(path), noise())
    np.testing.assert_array_equal(load(str(path)), noise())
    path.write_bytes(b"")
    with pytest.raises(EmptyImage) as caught:
        load(path)
    assert caught.value.file == str(path)


@pytest.mark.parametrize(
    "array",
    [
        pytest.param(np.zeros((0, 5, 3), np.uint8), id="empty"),
        pytest.param(np.zeros((5, 5), np.uint8), id="grey"),
        pytest.param(np.zeros((5, 5, 1), np.uint8), id="one channel"),
        pytest.param(np.zeros((5, 5, 4), np.uint8), id="RGBA"),
        pytest.param(np.zeros((3, 5, 5), np.uint8), id="channels first"),
        pytest.param(np.zeros((1, 5, 5, 3), np.uint8), id="batch"),
        pytest.param(np.zeros((5, 5, 3), np.float32), id="float"),
        pytest.param(np.zeros((5, 5, 3), np.int8), id="signed"),
        pytest.param(np.zeros((5, 5, 3), np.uint16), id="16 bits"),
    ],
)
def test_arrays_of_another_kind(array: Any) -> None:
    with pytest.raises(UnsupportedImage, match=r"array: .*uint8 \[H, W, 3\]"):
        load(array)


def test_arrays_are_taken_as_they_are_and_made_contiguous() -> None:
    loaded = load(noise()[:, ::-1])
    np.testing.assert_array_equal(loaded, noise()[:, ::-1])
    assert loaded.flags.c_contiguous


def test_pil_images_are_turned_and_left_as_they_are() -> None:
    image = PillowImage.fromarray(noise())
    image.getexif()[ORIENTATION] = 6
    np.testing.assert_array_equal(load(image), np.rot90(noise(), -1))
    np.testing.assert_array_equal(np.asarray(image), noise())
    assert image.getexif()[ORIENTATION] == 6


def test_pil_images_from_files_are_named_by_them(tmp_path: Path) -> None:
    path = tmp_path / "photo.png"
    path.write_bytes(encode(noise(), "PNG")[:-30])
    with PillowImage.open(path) as image, pytest.raises(TruncatedImage) as caught:
        load(image)
    assert caught.value.file == str(path)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr", "HSV"])
def test_pil_images_of_any_mode(mode: str) -> None:
    white = PillowImage.new("RGB", (3, 2), "white").convert(mode)
    assert (load(white) >= 254).all()


@pytest.mark.parametrize("mode", ["La", "F"])
def test_pil_images_of_odd_modes_are_refused(mode: str) -> None:
    with pytest.raises(UnsupportedImage) as caught:
        load(PillowImage.new(mode, (3, 2)))
    assert caught.value.file == "PIL image"


def small_files() -> dict[str, bytes]:
    """Small valid files that go through different decoders."""
    palette = PillowImage.fromarray(noise()).quantize(8)
    grey16 = PillowImage.fromarray(noise()[:, :, 0].astype(np.uint16) * 257)
    files = {kind: encode(noise(), kind) for kind in FORMATS}
    for kind in ("JPEG", "PNG", "WEBP", "TIFF"):
        files[f"{kind} turned"] = encode(noise(), kind, exif=exif(6))
    files["progressive JPEG"] = encode(noise(), "JPEG", progressive=True)
    files["CMYK JPEG"] = encode(PillowImage.fromarray(noise()).convert("CMYK"), "JPEG")
    files["palette PNG"] = encode(palette, "PNG", transparency=bytes([0, 3, 200, 255]))
    files["16-bit PNG"] = encode(grey16, "PNG")
    files["animated GIF"] = encode(palette, "GIF", save_all=True, append_images=[palette.copy()])
    files["palette BMP"] = encode(palette, "BMP")
    for compression in ("tiff_lzw", "tiff_deflate", "jpeg", "packbits"):
        files[compression] = encode(noise(), "TIFF", compression=compression)
    return files


SMALL_FILES = small_files()
SMALL = ImageLimits(max_pixels=10_000)


def loads_or_says_why_not(data: bytes) -> None:
    try:
        outcome: Image | ImageError = load(data, name="a.jpg", limits=SMALL)
    except ImageError as error:
        outcome = error
    if isinstance(outcome, ImageError):
        assert outcome.file == "a.jpg"
        assert outcome.message
        assert "\n" not in outcome.message
    else:
        assert is_rgb(outcome)
        assert 0 < outcome.size <= 30_000


@pytest.mark.parametrize("kind", SMALL_FILES)
def test_small_files_are_valid(kind: str) -> None:
    assert load(SMALL_FILES[kind]).shape in {(9, 7, 3), (7, 9, 3)}


@given(st.binary(max_size=300))
@example(b"")
def test_random_bytes_are_refused(data: bytes) -> None:
    with pytest.raises(ImageError):
        load(data, limits=SMALL)


@given(
    st.sampled_from([data[:12] for data in SMALL_FILES.values()]),
    st.binary(max_size=200),
)
def test_random_bytes_after_a_signature(signature: bytes, data: bytes) -> None:
    loads_or_says_why_not(signature + data)


@given(st.sampled_from(sorted(SMALL_FILES)), st.floats(0, 1, exclude_max=True))
def test_truncated_files(kind: str, share: float) -> None:
    data = SMALL_FILES[kind]
    loads_or_says_why_not(data[: int(share * len(data))])


def with_right_checksums(png: bytearray) -> bytearray:
    """A PNG whose checksums agree with its altered chunks, so that they are read at all."""
    place = 8
    while place + 12 <= len(png):
        end = place + 8 + int.from_bytes(png[place : place + 4], "big")
        if end + 4 > len(png):
            break
        png[end : end + 4] = struct.pack(">I", zlib.crc32(png[place + 4 : end]))
        place = end + 4
    return png


CHANGES = st.lists(
    st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 4), st.binary(max_size=4)),
    min_size=1,
    max_size=4,
)
"""Where in the file, how many bytes are taken out, and what comes in their place."""


@given(st.sampled_from(sorted(SMALL_FILES)), CHANGES)
@settings(max_examples=400)
def test_altered_files(kind: str, changes: list[tuple[float, int, bytes]]) -> None:
    data = bytearray(SMALL_FILES[kind])
    for share, taken, put in changes:
        place = int(share * len(data))
        data[place : place + taken] = put
    loads_or_says_why_not(bytes(with_right_checksums(data) if "PNG" in kind else data))


CASES = Path(__file__).parents[2] / "cases"


@pytest.mark.parametrize(
    "name", ["plain", "xres_ascii", "software_rational", "xmp_short", "double_prefix"]
)
def test_odd_tags_beside_an_orientation_do_not_matter(name: str) -> None:
    with PillowImage.open(CASES / "exif" / "plain.jpg") as stored:
        assert stored.size == (160, 100)
        upright = np.asarray(stored.transpose(PillowImage.Transpose.ROTATE_270))
    np.testing.assert_array_equal(load(CASES / "exif" / f"{name}.jpg"), upright)


def test_a_png_with_a_damaged_text_is_whole() -> None:
    assert load(CASES / "images" / "png_text_badcrc.png").any()


def test_32_bit_integers_are_refused() -> None:
    with pytest.raises(UnsupportedImage, match="32-bit integers, which say nothing of their range"):
        load(CASES / "images" / "tif_i_8bitrange.tif")


def test_32_bit_integers_of_other_programs_are_refused() -> None:
    with pytest.raises(UnsupportedImage, match="32-bit integers"):
        load(PillowImage.new("I", (3, 2), 200))


def test_12_bit_grey_is_scaled_to_8_bits() -> None:
    values = [0, 2048, 4095, 16]
    packed = sum(value << 12 * place for place, value in enumerate(reversed(values)))
    tags = grey_tiff(4, 1, t258=(3, [12]), t273=(4, [8]), t278=(4, [1]), t279=(4, [6]))
    loaded = load(tiff(tags, packed.to_bytes(6)))
    assert loaded[0, :, 0].tolist() == [0, 128, 255, 1]


def test_an_alpha_channel_of_a_bmp_that_is_0_everywhere_is_not_used() -> None:
    pixels = load(CASES / "images" / "bmp32_v4_alpha0.bmp")
    with PillowImage.open(CASES / "images" / "bmp32_v4_alpha0.bmp") as stored:
        np.testing.assert_array_equal(pixels, np.asarray(stored)[:, :, :3])


def test_an_alpha_channel_of_a_bmp_that_is_used_is_laid_over_white() -> None:
    data = bytearray((CASES / "images" / "bmp32_v4_alpha0.bmp").read_bytes())
    data[-1] = 255  # of the pixel at the top right
    pixels = load(bytes(data))
    assert (pixels[0, -1] < 255).any()
    pixels[0, -1] = 255
    assert pixels.min() == 255


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "P", "CMYK", "I;16"])
def test_bands_do_not_show(mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    grey = np.arange(63, dtype=np.uint16).reshape(9, 7) * 1000
    image = PillowImage.fromarray(noise())
    if mode == "RGBA":
        image.putalpha(PillowImage.fromarray(noise()[:, :, 0]))
    image = PillowImage.fromarray(grey) if mode == "I;16" else image.convert(mode)
    whole = load(image)
    monkeypatch.setattr(loading, "BAND", 10)
    np.testing.assert_array_equal(load(image), whole)
