"""Image files that would take long or much memory, if nothing limited them.

Each is a function of a random generator, which varies sizes and numbers.
"""

from __future__ import annotations

import io
import itertools
import os
import random
import struct
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike
from PIL import Image as PillowImage

Maker = Callable[[random.Random], bytes]

BOMBS: dict[str, tuple[str, Maker]] = {}
"""Suffix and maker of each kind."""

SPARSE = 20 * 2**30
"""Bytes of a file that has a beginning alone, the rest being a hole."""


def make_bomb(kind: str, seed: int, folder: Path) -> Path:
    """Write a file and return its path.

    Args:
        kind: A key of `BOMBS`.
        seed: Seed of what varies.
        folder: Where the file is written.
    """
    suffix, maker = BOMBS[kind]
    path = folder / f"bomb{suffix}"
    path.write_bytes(maker(random.Random(f"{kind} {seed}")))
    if kind.startswith("sparse"):
        os.truncate(path, SPARSE)
    return path


def bomb(kind: str, suffix: str) -> Callable[[Maker], Maker]:
    """Add a maker to `BOMBS`."""

    def add(maker: Maker) -> Maker:
        BOMBS[kind] = (suffix, maker)
        return maker

    return add


def encode(image: PillowImage.Image, kind: str, **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def flat(width: int, height: int, mode: str = "RGB") -> PillowImage.Image:
    return PillowImage.new(
        mode, (width, height), 99 if len(mode) == 1 else (99, 120, 30, 70)[: len(mode)]
    )


def noise(rng: random.Random, width: int, height: int, channels: int = 3) -> PillowImage.Image:
    """A small random image, repeated."""
    small = np.random.default_rng(rng.randrange(2**32)).integers(
        0, 256, (256, 256, channels), np.uint8
    )
    times = (-(-height // 256), -(-width // 256), 1)
    pixels = np.tile(small, times)[:height, :width]
    return PillowImage.fromarray(pixels[:, :, 0] if channels == 1 else pixels)


def largest(rng: random.Random) -> tuple[int, int]:
    """A size of nearly as many pixels as are allowed."""
    width = rng.randint(1000, 16_000)
    return width, 49_900_000 // width


# JPEG


def segment(marker: int, content: bytes) -> bytes:
    return struct.pack(">BBH", 0xFF, marker, len(content) + 2) + content


def with_segments(jpeg: bytes, segments: bytes) -> bytes:
    return jpeg[:2] + segments + jpeg[2:]


def scans_of(jpeg: bytes) -> list[bytes]:
    """The scans of a progressive JPEG, with their headers."""
    places = [jpeg.index(b"\xff\xda")]
    while (place := jpeg.find(b"\xff\xda", places[-1] + 2)) > 0:
        places.append(place)
    return [jpeg[a:b] for a, b in itertools.pairwise([*places, len(jpeg) - 2])]


@bomb("jpeg of many scans", ".jpg")
def _(rng: random.Random) -> bytes:
    jpeg = encode(flat(*largest(rng)), "JPEG", progressive=True)
    scan = min(scans_of(jpeg), key=len)
    return jpeg[:-2] + scan * rng.randint(1_000, 20_000) + jpeg[-2:]


@bomb("jpeg of as many scans as allowed", ".jpg")
def _(rng: random.Random) -> bytes:
    jpeg = encode(flat(*largest(rng)), "JPEG", progressive=True)
    scans = scans_of(jpeg)
    return jpeg[:-2] + rng.choice(scans) * (100 - len(scans)) + jpeg[-2:]


@bomb("jpeg of many exif segments", ".jpg")
def _(rng: random.Random) -> bytes:
    exif = segment(0xE1, b"Exif\0\0" + bytes(rng.choice((0, 8, 200))))
    return with_segments(encode(flat(64, 64), "JPEG"), exif * (20_000_000 // len(exif)))


@bomb("jpeg of large exif segments", ".jpg")
def _(rng: random.Random) -> bytes:
    entries = struct.pack("<HHLL", 0x0111, 4, 2**31, 8) * 5_400
    exif = segment(0xE1, b"Exif\0\0II*\0\x08\0\0\0" + struct.pack("<H", 65535) + entries)
    return with_segments(encode(flat(64, 64), "JPEG"), exif * rng.randint(300, 600))


@bomb("jpeg of repeated exif prefixes", ".jpg")
def _(rng: random.Random) -> bytes:
    exif = segment(0xE1, b"Exif\0\0" * 10_900)
    return with_segments(encode(flat(64, 64), "JPEG"), exif * rng.randint(300, 600))


@bomb("jpeg of empty segments", ".jpg")
def _(rng: random.Random) -> bytes:
    marker = rng.choice((0xE2, 0xE5, 0xED, 0xFE, 0xDD, 0x02))
    return with_segments(encode(flat(64, 64), "JPEG"), segment(marker, b"") * 5_000_000)


@bomb("jpeg of wrong lengths", ".jpg")
def _(rng: random.Random) -> bytes:
    damaged = b"\xff\xe1" + struct.pack(">H", rng.randint(3, 65535)) + b"\xff\xc4\x00\x09"
    return with_segments(encode(flat(64, 64), "JPEG"), damaged * 2_000_000)


@bomb("jpeg of marker bytes", ".jpg")
def _(rng: random.Random) -> bytes:
    junk = rng.choice((b"\xff", b"\xff\0", b"\0", b"\xff\xd8", b"\xff\xd9", b"\xff\xd0"))
    return with_segments(encode(flat(64, 64), "JPEG"), junk * (30_000_000 // len(junk)))


@bomb("jpeg of profiles", ".jpg")
def _(rng: random.Random) -> bytes:
    profile = segment(0xE2, b"ICC_PROFILE\0\1\xff" + bytes(rng.randint(100, 60_000)))
    return with_segments(encode(flat(64, 64), "JPEG"), profile * (50_000_000 // len(profile)))


@bomb("jpeg of many images", ".jpg")
def _(rng: random.Random) -> bytes:
    count = rng.randint(10_000, 60_000)
    entries = struct.pack("<HHLL", 0xB001, 4, 1, count)
    entries += struct.pack("<HHLL", 0xB002, 7, 16 * count, 8)
    index = segment(0xE2, b"MPF\0II*\0\x08\0\0\0\x02\0" + entries + bytes(20))
    jpeg = with_segments(encode(flat(640, 480), "JPEG", progressive=True), index)
    return jpeg * (20_000_000 // len(jpeg))


@bomb("jpeg of too many pixels", ".jpg")
def _(rng: random.Random) -> bytes:
    jpeg = bytearray(encode(flat(64, 64), "JPEG"))
    frame = jpeg.index(b"\xff\xc0")
    jpeg[frame + 5 : frame + 9] = struct.pack(">HH", 65_500, rng.randint(764, 65_500))
    return bytes(jpeg)


@bomb("jpeg of the largest size", ".jpg")
def _(rng: random.Random) -> bytes:
    image = noise(rng, *largest(rng))
    return encode(image, "JPEG", progressive=rng.random() < 0.5, quality=rng.randint(20, 95))


@bomb("jpeg of the largest size in four inks", ".jpg")
def _(rng: random.Random) -> bytes:
    return encode(noise(rng, *largest(rng)).convert("CMYK"), "JPEG", progressive=True, quality=30)


@bomb("jpeg of the longest side", ".jpg")
def _(rng: random.Random) -> bytes:
    size = (65_500, rng.randint(1, 760))
    return encode(flat(*(size if rng.random() < 0.5 else size[::-1])), "JPEG")


# PNG


def chunk(kind: bytes, content: bytes) -> bytes:
    return (
        struct.pack(">I", len(content))
        + kind
        + content
        + struct.pack(">I", zlib.crc32(kind + content))
    )


def png_chunks(
    width: int,
    height: int,
    pixels: bytes,
    *,
    bits: int = 8,
    colours: int = 0,
    interlaced: bool = False,
) -> list[bytes]:
    header = struct.pack(">IIBBBBB", width, height, bits, colours, 0, 0, int(interlaced))
    return [chunk(b"IHDR", header), chunk(b"IDAT", pixels), chunk(b"IEND", b"")]


def png(chunks: Sequence[bytes]) -> bytes:
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def with_chunks(content: bytes, *, after: bool = False) -> bytes:
    """A small PNG with more chunks before or after its pixels."""
    header, pixels, end = png_chunks(64, 64, zlib.compress(bytes(64 * 65)))
    return png([header, pixels, content, end] if after else [header, content, pixels, end])


def zeros(count: int) -> bytes:
    """That many zeros, compressed."""
    packer = zlib.compressobj(9)
    million = bytes(1_000_000)
    parts = [packer.compress(million) for _ in range(count // 1_000_000)]
    return b"".join([*parts, packer.compress(bytes(count % 1_000_000)), packer.flush()])


@bomb("png of one row", ".png")
def _(rng: random.Random) -> bytes:
    width = rng.randint(1_000_000, 50_000_000)
    size, pixels = ((width, 1), width + 1) if rng.random() < 0.5 else ((1, width), 2 * width)
    return png(png_chunks(*size, zeros(pixels)))


@bomb("png of the longest side", ".png")
def _(rng: random.Random) -> bytes:
    width, height = 65_535, rng.randint(1, 762)
    if rng.random() < 0.5:
        width, height = height, width
    return png(png_chunks(width, height, zeros((3 * width + 1) * height), colours=2))


@bomb("png of the largest size", ".png")
def _(rng: random.Random) -> bytes:
    width, height = largest(rng)
    bits, colours, channels = rng.choice(((8, 2, 3), (16, 6, 4), (8, 6, 4), (16, 0, 1)))
    row = 1 + width * bits // 8 * channels
    return png(png_chunks(width, height, zeros(row * height), bits=bits, colours=colours))


@bomb("png of the largest size, interlaced", ".png")
def _(rng: random.Random) -> bytes:
    width, height = largest(rng)
    pixels = zeros(8 * width * height + 8 * height)
    return png(png_chunks(width, height, pixels, bits=16, colours=6, interlaced=True))


@bomb("png of too many pixels", ".png")
def _(rng: random.Random) -> bytes:
    return png(png_chunks(rng.randint(50_001, 65_535), rng.randint(1_000, 2**31 - 1), zeros(10**6)))


@bomb("png of pixels that never end", ".png")
def _(rng: random.Random) -> bytes:
    return png(png_chunks(64, 64, zeros(rng.randint(1, 4) * 10**9)))


@bomb("png of packed texts", ".png")
def _(rng: random.Random) -> bytes:
    packed = zeros(100_000_000)
    kinds = {
        b"zTXt": b"a\0\0" + packed,
        b"iTXt": b"a\0\1\0\0\0" + packed,
        b"iCCP": b"a\0\0" + packed,
        b"tEXt": b"a\0" + packed,
    }
    kind = rng.choice(list(kinds))
    profile = chunk(b"zTXt", b"Raw profile type exif\0\0" + packed)
    return with_chunks((chunk(kind, kinds[kind]) + profile) * 150, after=rng.random() < 0.5)


@bomb("png of many chunks", ".png")
def _(rng: random.Random) -> bytes:
    kind = rng.choice((b"tEXt", b"eXIf", b"IDAT", b"abCd", b"tRNS"))
    return with_chunks(chunk(kind, b"") * 2_000_000, after=rng.random() < 0.5)


@bomb("png of wrong lengths", ".png")
def _(rng: random.Random) -> bytes:
    damaged = struct.pack(">I", rng.randint(0, 20_000_000)) + rng.choice(
        (b"tEXt", b"tRNS", b"eXIf")
    )
    return with_chunks((damaged + b"tRNS") * 1_500_000)


@bomb("png of many frames", ".png")
def _(rng: random.Random) -> bytes:
    frames = [chunk(b"acTL", struct.pack(">II", 2**31 - 1, 0))]
    for number in range(rng.randint(40_000, 150_000)):
        control = struct.pack(">IIIIIHHBB", 2 * number, 64, 64, 0, 0, 1, 10, 0, 0)
        frames += [chunk(b"fcTL", control), chunk(b"fdAT", struct.pack(">I", 2 * number + 1))]
    return with_chunks(b"".join(frames), after=rng.random() < 0.5)


# TIFF


Tag = tuple[int, ArrayLike]
"""The type of a tag (3: 16 bits, 4: 32 bits) and its values."""


def tiff(tags: dict[int, Tag], pixels: bytes, *, following: int = 0) -> bytes:
    """A TIFF of these tags, whose pixels begin at 8."""
    data = bytearray(b"II*\0\0\0\0\0" + pixels)
    entries = []
    for tag, (kind, values) in sorted(tags.items()):
        packed = np.asarray(values).astype("<u2" if kind == 3 else "<u4").tobytes()
        if len(packed) > 4:
            place = struct.pack("<L", len(data))
            data += packed
        else:
            place = packed.ljust(4, b"\0")
        entries.append(struct.pack("<HHL", tag, kind, np.size(values)) + place)
    data[4:8] = struct.pack("<L", len(data))
    return (
        bytes(data)
        + struct.pack("<H", len(entries))
        + b"".join(entries)
        + struct.pack("<L", following)
    )


def grey_tiff(width: int, height: int, **more: Tag) -> dict[int, Tag]:
    """Tags of a grey image; more by their numbers, as in `t273`."""
    tags: dict[int, Tag] = {
        256: (4, [width]),
        257: (4, [height]),
        258: (3, [8]),
        259: (3, [1]),
        262: (3, [1]),
        277: (3, [1]),
    }
    return tags | {int(tag[1:]): value for tag, value in more.items()}


@bomb("tiff of many strips", ".tif")
def _(rng: random.Random) -> bytes:
    count = rng.randint(200_000, 10_000_000)
    places = np.full(count, 8)
    return tiff(
        grey_tiff(1, count, t273=(4, places), t278=(4, [1]), t279=(4, np.ones(count))), b"\1"
    )


@bomb("tiff of as many strips as allowed", ".tif")
def _(rng: random.Random) -> bytes:
    width, height, count = rng.randint(1, 700), 65_535, 65_535
    tags = grey_tiff(width, height, t273=(4, [8] * count), t278=(4, [1]), t279=(4, [width] * count))
    return tiff(tags, bytes(width))


@bomb("tiff of many tiles", ".tif")
def _(rng: random.Random) -> bytes:
    side = rng.choice((1, 16))
    tags = grey_tiff(7_000, 7_000, t322=(4, [side]), t323=(4, [side]), t324=(4, [8]), t325=(4, [1]))
    return tiff(tags, bytes(10_000))


@bomb("tiff of as many tiles as allowed", ".tif")
def _(rng: random.Random) -> bytes:
    side, tiles = 7_056, (7_056 // 32) ** 2
    tags = grey_tiff(side, side, t322=(4, [32]), t323=(4, [32]), t324=(4, [8] * tiles))
    tags |= {325: (4, [1_024] * tiles), 259: (3, [rng.choice((1, 32773))])}
    return tiff(tags, bytes(2_000))


@bomb("tiff of a large tile", ".tif")
def _(rng: random.Random) -> bytes:
    side = rng.randint(16, 4_000) * 16
    tags = grey_tiff(64, 64, t322=(4, [side]), t323=(4, [side]), t324=(4, [8]), t325=(4, [9_999]))
    return tiff(tags | {259: (3, [8])}, zlib.compress(bytes(10**6)))


@bomb("tiff of packed pixels", ".tif")
def _(rng: random.Random) -> bytes:
    width, height = largest(rng)
    pixels = zeros(10**9)
    tags = grey_tiff(width, height, t273=(4, [8]), t278=(4, [height]), t279=(4, [len(pixels)]))
    return tiff(tags | {259: (3, [8])}, pixels)


@bomb("tiff of the largest size", ".tif")
def _(rng: random.Random) -> bytes:
    kind = rng.choice(("tiff_lzw", "tiff_adobe_deflate", "packbits", "lzma", "zstd", "jpeg", "raw"))
    image = flat(*largest(rng), "RGB" if kind == "jpeg" else "RGBA")
    return encode(image, "TIFF", compression=kind)


@bomb("tiff of the largest size in 16 bits", ".tif")
def _(rng: random.Random) -> bytes:
    width, height = largest(rng)
    pixels = zeros(8 * width * height)
    tags = grey_tiff(width, height, t273=(4, [8]), t278=(4, [height]), t279=(4, [len(pixels)]))
    return tiff(
        tags | {258: (3, [16] * 4), 259: (3, [8]), 262: (3, [2]), 277: (3, [4]), 338: (3, [2])},
        pixels,
    )


@bomb("tiff in a loop", ".tif")
def _(rng: random.Random) -> bytes:
    tags = grey_tiff(
        64, 64, t273=(4, [8]), t278=(4, [64]), t279=(4, [4_096]), t330=(4, [8 + 4_096])
    )
    tags |= {34665: (4, [8 + 4_096]), 34853: (4, [8 + 4_096])}
    return tiff(tags, bytes(4_096), following=rng.choice((8 + 4_096, 8, 2**32 - 2)))


@bomb("tiff of many images", ".tif")
def _(rng: random.Random) -> bytes:
    one = tiff(grey_tiff(64, 64, t273=(4, [8]), t278=(4, [64]), t279=(4, [4_096])), bytes(4_096))
    directory = one[8 + 4_096 :]
    count = rng.randint(50_000, 200_000)
    places = (len(one) + (number + 1) * len(directory) for number in range(count))
    return (
        one[:-4]
        + struct.pack("<L", len(one))
        + b"".join(directory[:-4] + struct.pack("<L", place) for place in places)
    )


@bomb("tiff of long tags", ".tif")
def _(rng: random.Random) -> bytes:
    tag = rng.choice((258, 270, 320, 338, 347, 700, 34675, 339))
    count = rng.randint(10_000_000, 60_000_000)
    tags = grey_tiff(64, 64, t273=(4, [8]), t278=(4, [64]), t279=(4, [4_096]))
    return tiff(tags | {tag: (3, np.full(count, 8))}, bytes(4_096))


@bomb("tiff of many tags", ".tif")
def _(rng: random.Random) -> bytes:
    tags = grey_tiff(64, 64, t273=(4, [8]), t278=(4, [64]), t279=(4, [4_096]))
    tags |= {tag: (4, [1, 8]) for tag in range(1_000, 60_000) if tag != 34665}
    return tiff(tags, bytes(4_096))


@bomb("bigtiff of many tags", ".tif")
def _(rng: random.Random) -> bytes:
    header = b"II+\0\x08\0\0\0" + struct.pack("<Q", 16)
    count = rng.choice((500_000, 2**40, 2**64 - 1))
    return header + struct.pack("<Q", count) + struct.pack("<HHQQ", 270, 2, 8, 0) * 500_000


@bomb("tiff of jpegs of many scans", ".tif")
def _(rng: random.Random) -> bytes:
    jpeg = encode(flat(2_000, 2_000, "L"), "JPEG", progressive=True)
    jpeg = jpeg[:-2] + min(scans_of(jpeg), key=len) * rng.randint(500, 20_000) + jpeg[-2:]
    tags = grey_tiff(2_000, 2_000, t273=(4, [8]), t278=(4, [2_000]), t279=(4, [len(jpeg)]))
    return tiff(tags | {259: (3, [7])}, jpeg)


# WebP


def webp_chunk(kind: bytes, content: bytes) -> bytes:
    return kind + struct.pack("<I", len(content)) + content + bytes(len(content) % 2)


def webp(*chunks: bytes) -> bytes:
    body = b"WEBP" + b"".join(chunks)
    return b"RIFF" + struct.pack("<I", len(body)) + body


def canvas(width: int, height: int, flags: int) -> bytes:
    size = (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    return webp_chunk(b"VP8X", bytes([flags, 0, 0, 0]) + size)


@bomb("webp of too many pixels", ".webp")
def _(rng: random.Random) -> bytes:
    pixels = encode(flat(64, 64), "WEBP")[12:]
    return webp(canvas(rng.randint(9_000, 16_383), rng.randint(9_000, 16_383), 0), pixels)


@bomb("webp of the largest size", ".webp")
def _(rng: random.Random) -> bytes:
    width, height = rng.randint(4_000, 16_000), 3_100
    return encode(flat(width, height, rng.choice(("RGB", "RGBA"))), "WEBP", lossless=True, method=0)


@bomb("webp of the largest size, lossy", ".webp")
def _(rng: random.Random) -> bytes:
    return encode(flat(rng.randint(4_000, 16_000), 3_100), "WEBP", method=0, quality=10)


@bomb("webp of many frames", ".webp")
def _(rng: random.Random) -> bytes:
    image = encode(flat(16, 16), "WEBP", lossless=True)[12:]
    frame = webp_chunk(b"ANMF", bytes(6) + b"\x0f\0\0\x0f\0\0\x64\0\0\0" + image)
    animation = webp_chunk(b"ANIM", bytes(6))
    return webp(canvas(7_000, 7_000, 2), animation, frame * rng.randint(50_000, 200_000))


@bomb("webp of many chunks", ".webp")
def _(rng: random.Random) -> bytes:
    kind = rng.choice((b"ICCP", b"EXIF", b"XMP ", b"abcd", b"ALPH"))
    pixels = encode(flat(64, 64), "WEBP")[12:]
    chunks = webp_chunk(kind, b"") * 2_000_000
    return webp(
        canvas(64, 64, 0x2C), *((chunks, pixels) if rng.random() < 0.5 else (pixels, chunks))
    )


# GIF


@bomb("gif of too many pixels", ".gif")
def _(rng: random.Random) -> bytes:
    gif = bytearray(encode(flat(64, 64, "L"), "GIF"))
    gif[6:10] = struct.pack("<HH", 65_535, rng.randint(763, 65_535))
    return bytes(gif)


@bomb("gif of the largest size", ".gif")
def _(rng: random.Random) -> bytes:
    return encode(flat(*largest(rng), "L"), "GIF")


@bomb("gif of a small frame on a large screen", ".gif")
def _(rng: random.Random) -> bytes:
    gif = bytearray(encode(flat(64, 64, "L"), "GIF", transparency=3))
    gif[6:10] = struct.pack("<HH", *largest(rng))
    return bytes(gif)


def first_frame(gif: bytes) -> int:
    """Where the first frame of a GIF without extensions begins."""
    return 13 + (3 << (gif[10] % 8 + 1) if gif[10] & 0x80 else 0)


@bomb("gif of comments", ".gif")
def _(rng: random.Random) -> bytes:
    gif = encode(flat(64, 64, "L"), "GIF")
    place = first_frame(gif)
    kinds = (
        b"!\xfe\x01a\0" * 4_000_000,
        b"!\xfe" + b"\x01a" * 10_000_000 + b"\0",
        b"," * 20_000_000,
    )
    return gif[:place] + rng.choice(kinds) + gif[place:]


@bomb("gif of many frames", ".gif")
def _(rng: random.Random) -> bytes:
    gif = encode(flat(64, 64, "L"), "GIF")
    return gif[:-1] + gif[first_frame(gif) : -1] * rng.randint(50_000, 300_000) + b";"


# BMP


def bmp(
    width: int, height: int, bits: int, compression: int, pixels: bytes, colours: int = 0
) -> bytes:
    palette = b"".join(bytes((n % 256, n * 7 % 256, n * 3 % 256, 0)) for n in range(colours))
    info = struct.pack(
        "<LllHHLLllLL", 40, width, height, 1, bits, compression, len(pixels), 0, 0, colours, 0
    )
    place = 14 + len(info) + len(palette)
    return b"BM" + struct.pack("<LLL", place + len(pixels), 0, place) + info + palette + pixels


@bomb("bmp of runs", ".bmp")
def _(rng: random.Random) -> bytes:
    width, height = largest(rng)
    code = rng.choice((b"\xff\x12", b"\0\0", b"\0\2\0\0", b"\0\2\xff\xff", b"\1\2\0\0"))
    compression, bits = rng.choice(((1, 8), (2, 4)))
    return bmp(width, height, bits, compression, code * 4_000_000, colours=16)


@bomb("bmp of single pixels", ".bmp")
def _(rng: random.Random) -> bytes:
    width, height = largest(rng)
    return bmp(width, height, 8, 1, b"\1\2" * rng.randint(5_000_000, 10_000_000), colours=256)


@bomb("bmp of too many pixels", ".bmp")
def _(rng: random.Random) -> bytes:
    return bmp(
        rng.randint(10_000, 2**31 - 1),
        rng.choice((-1, 1)) * rng.randint(10_000, 2**31 - 1),
        24,
        0,
        bytes(10**6),
    )


@bomb("bmp of the largest size", ".bmp")
def _(rng: random.Random) -> bytes:
    width, height = largest(rng)
    bits = rng.choice((1, 8, 24, 32))
    return bmp(
        width,
        height,
        bits,
        0,
        bytes((width * bits + 31) // 32 * 4 * height),
        colours=2 if bits < 24 else 0,
    )


@bomb("bmp of a long palette", ".bmp")
def _(rng: random.Random) -> bytes:
    return bmp(64, 64, 8, 0, bytes(4_096), colours=rng.randint(10_000, 500_000))


# Files


@bomb("sparse jpeg", ".jpg")
def _(rng: random.Random) -> bytes:
    return encode(flat(64, 64), "JPEG")[: rng.choice((2, 10, 300, 99_999))]


@bomb("sparse png", ".png")
def _(rng: random.Random) -> bytes:
    return png(png_chunks(64, 64, zeros(64 * 65)))[: rng.choice((8, 33, 99_999))]


@bomb("sparse bmp", ".bmp")
def _(rng: random.Random) -> bytes:
    return bmp(7_000, 7_000, 24, 0, b"")
