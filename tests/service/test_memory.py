from __future__ import annotations

import platform
import subprocess
import sys

import pytest

PROGRAM = """
import numpy as np
from service.memory import return_freed_images

def held():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096

if {give_back}:
    return_freed_images()
before = held()
np.ones(3 * 2**20)[0]  # 24 MiB: from now on, glibc itself keeps what is smaller
arrays = [np.ones(2**21) for _ in range(20)]  # 16 MiB each
del arrays[:-1]  # the last one stands behind the holes
print((held() - before) // 2**20)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="of glibc")
def test_free_memory_goes_back() -> None:
    def mebibytes(give_back: bool) -> int:
        program = [sys.executable, "-c", PROGRAM.format(give_back=give_back)]
        return int(subprocess.run(program, capture_output=True, check=True).stdout)

    assert mebibytes(give_back=False) > 200
    assert mebibytes(give_back=True) < 40
