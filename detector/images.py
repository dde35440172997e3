"""One loader for files, bytes, PIL images and arrays: RGB `uint8 [H, W, 3]`, upright."""

from __future__ import annotations

import io
import warnings
from os import PathLike
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
from PIL import Image as PillowImage
from PIL import ImageOps, UnidentifiedImageError

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
from proposals import Image

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF")
SUFFIXES = frozenset(
    {".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".bmp", ".dib", ".tif", ".tiff", ".gif"}
)
"""Of image files, in lower case."""

MAX_PIXELS = 50_000_000
"""The default limit: 150 MB decoded."""


@runtime_checkable
class Readable(Protocol):
    """A file that is not on a disk."""

    def read_bytes(self) -> bytes:
        """The whole file; an `OSError` if it cannot be read."""
        ...


Source = str | Readable | PathLike[str] | bytes | PillowImage.Image | Image

_SIGNATURES = {
    b"\xff\xd8\xff": "JPEG",
    b"\x89PNG\r\n\x1a\n": "PNG",
    b"II*\x00": "TIFF",
    b"MM\x00*": "TIFF",
    b"GIF87a": "GIF",
    b"GIF89a": "GIF",
}
"""Of the formats that are read. BMP's BM and the RIFF of WEBP also begin other files."""

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


def load(source: Source, *, name: str | None = None, max_pixels: int = MAX_PIXELS) -> Image:
    """Read an image as RGB `uint8 [H, W, 3]`, turned upright as its EXIF tag says.

    Grey, palette, 16-bit and CMYK pixels are converted; transparent ones are laid over white; of
    several frames the first is taken. Colour profiles are not applied.

    Args:
        source: a path, an encoded image's bytes, a PIL image, or an RGB `uint8 [H, W, 3]` array.
        name: what errors call the image, where it is not a path.
        max_pixels: the limit on width x height, checked on the header before decoding.

    Raises:
        ImageError: one of its kinds (see `detector.errors`), naming the image.
    """
    if isinstance(source, np.ndarray):
        return _check_array(source, name or "array", max_pixels)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow's, on metadata that is not used here
        if isinstance(source, PillowImage.Image):
            name = name or getattr(source, "filename", "") or "PIL image"
            _check_size(source.size, name, max_pixels)
            return _upright_rgb(source, name)
        if isinstance(source, bytes):
            return _decode(source, name or "bytes", max_pixels)
        if not isinstance(source, str | PathLike | Readable):
            kind = type(source).__name__
            raise TypeError(f"image must be a path, bytes, PIL image or array, not {kind}")
        return _decode(read(source), name or str(source), max_pixels)


def read(path: str | PathLike[str] | Readable) -> bytes:
    """The bytes of an image file.

    Raises:
        UnreadableImage: the file is missing or may not be read.
    """
    try:
        return (Path(path) if isinstance(path, str | PathLike) else path).read_bytes()
    except (OSError, ValueError) as error:  # ValueError: a null character in the path
        reason = (getattr(error, "strerror", None) or str(error)).lower()
        raise UnreadableImage(str(path), f"cannot be read: {reason}") from error


def _decode(data: bytes, name: str, max_pixels: int) -> Image:
    if not data:
        raise EmptyImage(name, "the file is empty")
    try:
        image = PillowImage.open(io.BytesIO(data), formats=FORMATS)
    except PillowImage.DecompressionBombError as error:
        raise OversizedImage(name, f"more pixels than the {max_pixels:,} allowed") from error
    except UnidentifiedImageError as error:
        raise _unidentified(data, name) from error
    except MemoryError:  # not the image's fault
        raise
    except Exception as error:  # decoders raise many types on broken headers
        raise _broken(name, "the image's header is broken", error) from error
    with image:
        _check_size(image.size, name, max_pixels)
        return _upright_rgb(image, name)


def _unidentified(data: bytes, name: str) -> ImageError:
    allowed = "allowed are " + ", ".join(FORMATS)
    if data[4:8] == b"ftyp":
        return UnsupportedImage(name, f"HEIF, AVIF or a film: {allowed}")
    for signature, known in _OTHER_SIGNATURES.items():
        if data.startswith(signature):
            return UnsupportedImage(name, f"{known}: {allowed}")
    for signature, known in _SIGNATURES.items():
        if data.startswith(signature):
            return BrokenImage(name, f"a {known} whose header is broken or cut off")
    return NotAnImage(name, f"not an image: {allowed}")


def _broken(name: str, what: str, error: Exception) -> ImageError:
    reason = str(error).lower()
    if "truncated" in reason or "incomplete" in reason:
        return TruncatedImage(name, "the end of the image is missing")
    return BrokenImage(name, f"{what} ({error})")


def _check_size(size: tuple[int, int], name: str, max_pixels: int) -> None:
    width, height = size
    if width < 1 or height < 1:
        raise BrokenImage(name, f"an image of {width}x{height} pixels")
    if width * height > max_pixels:
        raise OversizedImage(
            name, f"{width}x{height} are more pixels than the {max_pixels:,} allowed"
        )


def _check_array(array: Image, name: str, max_pixels: int) -> Image:
    if array.dtype != np.uint8 or array.ndim != 3 or array.shape[2] != 3 or array.size == 0:
        raise UnsupportedImage(
            name, f"{array.dtype} {list(array.shape)}: arrays must be RGB uint8 [H, W, 3]"
        )
    height, width = array.shape[:2]
    _check_size((width, height), name, max_pixels)
    return np.ascontiguousarray(array)


def _upright_rgb(image: PillowImage.Image, name: str) -> Image:
    try:
        image.load()
    except MemoryError:
        raise
    except Exception as error:  # decoders raise many types on broken data
        raise _broken(name, "the image is broken", error) from error
    return np.asarray(_rgb(_upright(image), name))


def _upright(image: PillowImage.Image) -> PillowImage.Image:
    try:
        return ImageOps.exif_transpose(image)
    except Exception:  # a broken EXIF block says nothing about the pixels
        return image


def _rgb(image: PillowImage.Image, name: str) -> PillowImage.Image:
    if image.mode.startswith("I"):
        return _from_integers(image, name).convert("RGB")
    if image.mode == "F":
        raise UnsupportedImage(name, "floating-point pixels: allowed are 8 and 16 bits")
    try:
        if image.has_transparency_data:
            layer = image.convert("RGBA")
            white = PillowImage.new("RGBA", layer.size, "white")
            return PillowImage.alpha_composite(white, layer).convert("RGB")
        return image.convert("RGB")
    except ValueError as error:
        raise UnsupportedImage(name, f"pixels of kind {image.mode}: {error}") from error


def _from_integers(image: PillowImage.Image, name: str) -> PillowImage.Image:
    """16-bit grey, which Pillow would clip at 255, scaled to 8 bits."""
    grey = np.asarray(image)
    if grey.min() < 0 or grey.max() > 65535:
        raise UnsupportedImage(name, "32-bit pixels: allowed are 8 and 16 bits")
    return PillowImage.fromarray(((grey.astype(np.uint32) * 255 + 32767) // 65535).astype(np.uint8))
