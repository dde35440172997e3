"""A program that prints the arrays of the kit's `.mat` file in NumPy's own format.

It is a program of its own, because SciPy's reader can end the interpreter on a damaged file.
"""

from __future__ import annotations

import resource
import sys
from contextlib import suppress
from io import BytesIO

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

    content = loadmat(file)
    ids = np.asarray(content["gt_img_ids"]).ravel()
    boxes = [np.asarray(cell, np.float64).reshape(4, -1) for cell in content["gt_obj_bboxes"][0]]
    labels = [np.asarray(cell, np.int64).ravel() for cell in content["gt_obj_labels"][0]]
    counts = [item.shape[1] for item in boxes]
    if not len(ids) == len(boxes) == len(labels) or counts != list(map(len, labels)):
        raise ValueError("its arrays have different lengths")

    output = BytesIO()
    np.savez(
        output,
        ids=ids.astype(np.int64),
        counts=np.array(counts, np.int64),
        boxes=np.concatenate([np.zeros((4, 0)), *boxes], axis=1),
        labels=np.concatenate([np.zeros(0, np.int64), *labels]),
    )
    sys.stdout.buffer.write(output.getvalue())


if __name__ == "__main__":
    try:
        main(sys.argv[1])
    except Exception as error:  # SciPy raises many types on damaged files
        sys.exit(f"{type(error).__name__}: {error}")
