"""Image files: read without waiting, checked on their headers, decoded upright.

A reader of each format (`jpeg.py`, `png.py`, `webp.py`, `gif.py`, `tiff.py`) walks through the
parts of a file before Pillow sees it. It counts them, and drops all that says nothing of the
pixels. So metadata can neither hide an image nor make its decoding long.
"""

from detector.images.loading import FORMATS, SUFFIXES, Source, load
from detector.images.reading import Readable, read

__all__ = ["FORMATS", "SUFFIXES", "Readable", "Source", "load", "read"]
