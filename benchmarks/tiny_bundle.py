"""Pack the test suite's bundle of small random networks, for loads where detections do not matter.

python -m benchmarks.tiny_bundle OUT
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from detector.bundles.pack import pack
from tests.support.tiny_bundle import RECIPE, write_tiny_weights


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        bundle = pack(Path(sys.argv[1]), RECIPE, write_tiny_weights(Path(folder)))
    print(bundle.directory)


if __name__ == "__main__":
    main()
