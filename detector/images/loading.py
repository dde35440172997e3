"""Loading images: files, bytes, PIL images and arrays become RGB `uint8 [H, W, 3]`, upright."""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable
from math import ceil
from os import PathLike

import numpy as np
from PIL import Image as PillowImage
from PIL import UnidentifiedImageError

from detector.errors import (
    BrokenImage,
    EmptyImage,
    ImageError,
    NotAnImage,
    OversizedImage,
    TruncatedImage,
    UnsupportedImage,
)
from detector.images import exif, gif, jpeg, png, tiff, webp
from detector.images.encoded import WIDE_INTEGERS, EncodedImage, check_size
from detector.images.limits import DEFAULT_LIMITS, ImageLimits
from detector.images.reading import Readable, read
from proposals import Image

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF")
"""Supported formats, by Pillow's names."""

SUFFIXES = frozenset(
    {".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".bmp", ".dib", ".tif", ".tiff", ".gif"}
)
"""Suffixes of image files, in lower case."""

Source = str | Readable | PathLike[str] | bytes | PillowImage.Image | Image
"""Anything that `load` accepts."""

_Reader = Callable[[bytes, str, ImageLimits], EncodedImage]

_READERS: dict[bytes, tuple[str, _Reader]] = {
    jpeg.SIGNATURE: ("JPEG", jpeg.strip_metadata),
    png.SIGNATURE: ("PNG", png.strip_metadata),
    **dict.fromkeys(tiff.SIGNATURES, ("TIFF", tiff.strip_metadata)),
    **dict.fromkeys(gif.SIGNATURES, ("GIF", gif.strip_metadata)),
}
"""Names and readers of the supported formats by the first bytes of a file. WEBP is not here,
because other files begin with "RIFF" too; nor BMP ("BM"), whose files have no metadata."""

_OTHER_SIGNATURES = {
    b"%PDF": "PDF",
    b"8BPS": "Photoshop",
    b"\x00\x00\x01\x00": "ICO",
    b"\x00\x00\x00\x0cjP  ": "JPEG 2000",
    b"\xff\x0a": "JPEG XL",
    b"\x00\x00\x00\x0cJXL ": "JPEG XL",
    b"<svg": "SVG",
    b"v/1\x01": "OpenEXR",
}
"""First bytes of known formats that are not supported."""

BAND = 2**20
"""Number of pixels that are converted at a time."""

_TURNS = {
    2: PillowImage.Transpose.FLIP_LEFT_RIGHT,
    3: PillowImage.Transpose.ROTATE_180,
    4: PillowImage.Transpose.FLIP_TOP_BOTTOM,
    5: PillowImage.Transpose.TRANSPOSE,
    6: PillowImage.Transpose.ROTATE_270,
    7: PillowImage.Transpose.TRANSVERSE,
    8: PillowImage.Transpose.ROTATE_90,
}
"""What makes an image of an EXIF orientation upright."""


def load(source: Source, *, name: str | None = None, limits: ImageLimits = DEFAULT_LIMITS) -> Image:
    """Load an image as RGB `uint8 [H, W, 3]`, rotated according to its EXIF tag.

    Grey, palette, 16-bit and CMYK pixels are converted. Transparent pixels are blended with white.
    The first of several frames is taken. Colour profiles are not applied. Damaged metadata is
    ignored.

    Args:
        source: A path, the bytes of an encoded image, a PIL image, or an RGB `uint8 [H, W, 3]`
            array.
        name: Name of the image in error messages. The default is its path.
        limits: Limits of the file, which are checked on its headers before decoding.

    Raises:
        ImageError: The image cannot be used; each reason is a subclass (see `detector.errors`).
    """
    if isinstance(source, np.ndarray):
        return _check_array(source, name or "array", limits)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow warns of broken metadata, which is not used here
        if isinstance(source, PillowImage.Image):
            name = name or getattr(source, "filename", "") or "PIL image"
            return _from_pillow(source, name, limits)
        if isinstance(source, bytes):
            return _decode(source, name or "bytes", limits)
        if not isinstance(source, str | PathLike | Readable):
            kind = type(source).__name__
            raise TypeError(f"image must be a path, bytes, PIL image or array, not {kind}")
        data = read(source, max_bytes=limits.max_bytes)
        return _decode(data, name or str(source), limits)


def _decode(data: bytes, name: str, limits: ImageLimits) -> Image:
    if not data:
        raise EmptyImage(name, "the file is empty")
    reader = find_reader(data)
    encoded = reader(data, name, limits) if reader else EncodedImage(data)

    # This reads the header alone.
    try:
        image = PillowImage.open(io.BytesIO(encoded.data), formats=FORMATS)
    except PillowImage.DecompressionBombError as error:
        raise OversizedImage(name, f"more pixels than the {limits.max_pixels:,} allowed") from error
    except UnidentifiedImageError as error:
        raise _unidentified(data, name) from error
    except MemoryError:  # not the image's fault
        raise
    except Exception as error:  # decoders raise many types on broken headers
        raise _broken(name, "the image's header is broken", error) from error

    with image:
        check_size(*image.size, name, limits)
        _load_pixels(image, name)
        return _rgb(_turn(image, encoded.orientation), name, encoded.grey_bits)


def _from_pillow(image: PillowImage.Image, name: str, limits: ImageLimits) -> Image:
    check_size(*image.size, name, limits)
    _load_pixels(image, name)
    if image.mode == "I":
        raise UnsupportedImage(name, WIDE_INTEGERS)

    try:
        orientation = image.getexif().get(exif.ORIENTATION)
    except Exception:  # the pixels are good even if the EXIF block is broken
        orientation = None
    return _rgb(_turn(image, orientation), name)


def find_reader(data: bytes) -> _Reader | None:
    """Return the reader of a file's metadata, if its format has one."""
    for signature, (_, reader) in _READERS.items():
        if data.startswith(signature):
            return reader
    return webp.strip_metadata if webp.is_webp(data) else None


def _unidentified(data: bytes, name: str) -> ImageError:
    """Return the error for bytes that Pillow does not recognise, which depends on their format."""
    allowed = "allowed are " + ", ".join(FORMATS)
    if data[4:8] == b"ftyp":
        return UnsupportedImage(name, f"HEIF, AVIF or a film: {allowed}")
    for signature, format_name in _OTHER_SIGNATURES.items():
        if data.startswith(signature):
            return UnsupportedImage(name, f"{format_name}: {allowed}")
    for signature, (format_name, _) in _READERS.items():
        if data.startswith(signature):
            return BrokenImage(name, f"a {format_name} whose header is broken or cut off")
    return NotAnImage(name, f"not an image: {allowed}")


def _broken(name: str, problem: str, error: Exception) -> ImageError:
    """Return the error for an image that Pillow cannot decode."""
    reason = str(error).lower()
    if "truncated" in reason or "incomplete" in reason:
        return TruncatedImage(name, "the end of the image is missing")
    return BrokenImage(name, f"{problem} ({error})")


def _check_array(array: Image, name: str, limits: ImageLimits) -> Image:
    """Return an array in C order after checking its type, shape and size."""
    if array.dtype != np.uint8 or array.ndim != 3 or array.shape[2] != 3 or array.size == 0:
        raise UnsupportedImage(
            name, f"{array.dtype} {list(array.shape)}: arrays must be RGB uint8 [H, W, 3]"
        )

    height, width = array.shape[:2]
    check_size(width, height, name, limits)
    return np.ascontiguousarray(array)


def _load_pixels(image: PillowImage.Image, name: str) -> None:
    """Decode an opened image."""
    try:
        image.load()
    except MemoryError:  # not the image's fault
        raise
    except Exception as error:  # decoders raise many types on broken data
        raise _broken(name, "the image is broken", error) from error


def _turn(image: PillowImage.Image, orientation: object) -> PillowImage.Image:
    """Return an image of some EXIF orientation upright."""
    turn = _TURNS.get(orientation) if isinstance(orientation, int) else None
    return image if turn is None else image.transpose(turn)


def _rgb(image: PillowImage.Image, name: str, grey_bits: int = 16) -> Image:
    """Convert pixels of any mode to RGB `uint8 [H, W, 3]`.

    Args:
        image: The image.
        name: Name of the image in errors.
        grey_bits: Bits of a grey value, if there are more than 8.
    """
    if image.mode == "F":
        raise UnsupportedImage(name, "floating-point pixels: allowed are 8 and 16 bits")
    width, height = image.size
    is_transparent = image.has_transparency_data and not _has_unused_alpha(image)
    pixels = np.empty((height, width, 3), np.uint8)

    # By bands of rows, because the images on the way take several times the memory of the result.
    rows = ceil(BAND / width)
    for top in range(0, height, rows):
        band = image.crop((0, top, width, min(top + rows, height)))
        try:
            if image.mode.startswith("I"):
                band = _scale_grey(band, name, grey_bits)
            elif is_transparent:
                band = _lay_on_white(band)
            pixels[top : top + rows] = np.asarray(band.convert("RGB"))
        except ValueError as error:
            raise UnsupportedImage(name, f"pixels of kind {image.mode}: {error}") from error
    return pixels


def _has_unused_alpha(image: PillowImage.Image) -> bool:
    """Return whether this is a BMP whose pixels are all transparent.

    Many programs leave the fourth byte of a pixel at 0, although the header calls it alpha.
    """
    is_bmp = getattr(image, "format", None) == "BMP"
    return is_bmp and image.mode == "RGBA" and image.getextrema()[-1] == (0, 0)


def _lay_on_white(image: PillowImage.Image) -> PillowImage.Image:
    """Blend transparent pixels with white."""
    foreground = image.convert("RGBA")
    background = PillowImage.new("RGBA", foreground.size, "white")
    return PillowImage.alpha_composite(background, foreground)


def _scale_grey(image: PillowImage.Image, name: str, bits: int) -> PillowImage.Image:
    """Scale grey values of up to 16 bits to 8 bits; Pillow would clip them at 255."""
    grey = np.asarray(image)
    if grey.min() < 0:
        raise UnsupportedImage(name, "negative pixels: allowed are 8 and 16 bits without a sign")
    white = 2**bits - 1
    scaled = (grey.astype(np.uint32) * 255 + white // 2) // white  # rounded to the nearest
    return PillowImage.fromarray(scaled.astype(np.uint8))
