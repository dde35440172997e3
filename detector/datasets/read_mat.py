"""A program that prints the arrays of the kit's `.mat` file in NumPy's own format.

It is a program of its own, because SciPy's reader can end the interpreter on a damaged file.
"""

from __future__ import annotations

import resource
import struct
import sys
import zlib
from contextlib import suppress
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

HEADER_BYTES = 128
TAG_BYTES = 8
COMPRESSED = 15
"""Layout of MATLAB's files from version 5 on: a header, then variables, each with a tag of its type
and length."""

MAXIMUM_BYTES = 4 << 30
"""Memory that the reader may use."""


def main(file: str) -> None:
    """Print the arrays of a file.

    They are "ids" `[N]` of the images, "counts" `[N]` of their objects, and of all objects "boxes"
    `float64 [4, M]` (xmin, ymin, xmax, ymax) and "labels" `[M]` from 1.
    """
    with suppress(ValueError, OSError):  # systems that do not limit it
        resource.setrlimit(resource.RLIMIT_AS, (MAXIMUM_BYTES, MAXIMUM_BYTES))

    import numpy as np
    from scipy.io import loadmat

    check_sums(Path(file).read_bytes())
    content = loadmat(file)
    ids = whole_numbers(content["gt_img_ids"])
    boxes = [edges(cell) for cell in content["gt_obj_bboxes"][0]]
    labels = [whole_numbers(cell) for cell in content["gt_obj_labels"][0]]
    counts = [item.shape[1] for item in boxes]
    if not len(ids) == len(boxes) == len(labels) or counts != list(map(len, labels)):
        raise ValueError("its arrays have different lengths")

    output = BytesIO()
    np.savez(
        output,
        ids=ids,
        counts=np.array(counts, np.int64),
        boxes=np.concatenate([np.zeros((4, 0)), *boxes], axis=1),
        labels=np.concatenate([np.zeros(0, np.int64), *labels]),
    )
    sys.stdout.buffer.write(output.getvalue())


def check_sums(data: bytes) -> None:
    """Check the sums of a file's compressed variables, which SciPy does not.

    Raises:
        ValueError: A variable is damaged or cut off.
    """
    order = {b"IM": "<", b"MI": ">"}.get(data[HEADER_BYTES - 2 : HEADER_BYTES])
    if order is None:
        raise ValueError("it is not a file of MATLAB 5 or later")

    start = HEADER_BYTES
    while start < len(data):
        tag = data[start : start + TAG_BYTES]
        kind, length = struct.unpack(f"{order}II", tag.ljust(TAG_BYTES, b"\0"))
        content = data[start + TAG_BYTES : start + TAG_BYTES + length]
        if len(tag) < TAG_BYTES or len(content) < length:
            raise ValueError("the file is cut off")
        if kind == COMPRESSED:
            zlib.decompress(content)
        start += TAG_BYTES + length


def whole_numbers(stored: Any) -> NDArray[np.int64]:
    """Return the numbers of an array, which must be whole.

    Raises:
        TypeError: It has no numbers.
        ValueError: A number is not whole.
    """
    import numpy as np

    numbers = np.asarray(stored).astype(np.float64, casting="same_kind").ravel()
    if not (np.isfinite(numbers) & (numbers == np.round(numbers))).all():
        raise ValueError("a number of an image or a class is not whole")
    return numbers.astype(np.int64)


def edges(stored: Any) -> NDArray[np.float64]:
    """Return the boxes of an image as `[4, N]`; without objects, they are stored in any shape.

    Raises:
        TypeError: The array has no numbers.
        ValueError: It has not four rows.
    """
    import numpy as np

    boxes = np.asarray(stored).astype(np.float64, casting="same_kind")
    if boxes.size and boxes.shape[0] != 4:
        raise ValueError(f"boxes are an array {boxes.shape}, which must have four rows")
    return boxes.reshape(4, -1)


if __name__ == "__main__":
    try:
        main(sys.argv[1])
    except Exception as error:  # SciPy raises many types on damaged files
        sys.exit(f"{type(error).__name__}: {error}")
