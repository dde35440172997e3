"""How many processor cores this program may use, and which instructions they have."""

from __future__ import annotations

import math
import os
from pathlib import Path

CGROUP = Path("/sys/fs/cgroup")
CPU_INFO = Path("/proc/cpuinfo")


def available_cores() -> int:
    """Return the number of cores this process may use.

    In a container it is the limit of its CPU time, rounded up, where that is lower.
    """
    affinity = getattr(os, "sched_getaffinity", None)  # missing on macOS
    cores = len(affinity(0)) if affinity else os.cpu_count() or 1
    limit = _cgroup_limit()
    return cores if limit is None else max(1, min(cores, math.ceil(limit)))


def has_int8() -> bool:
    """Return whether the processor multiplies 8-bit integers without saturating their sums."""
    return bool(_flags() & {"avx512_vnni", "avx_vnni", "amx_int8"})


def has_bfloat16() -> bool:
    """Return whether the processor has native bfloat16 arithmetic."""
    return bool(_flags() & {"avx512_bf16", "amx_bf16", "bf16"})


def _cgroup_limit() -> float | None:
    """Return the control group's limit in cores, from cgroup version 2 or else version 1."""
    try:
        quota, period = (CGROUP / "cpu.max").read_text().split()
    except (OSError, ValueError):
        try:
            quota = (CGROUP / "cpu" / "cpu.cfs_quota_us").read_text()
            period = (CGROUP / "cpu" / "cpu.cfs_period_us").read_text()
        except OSError:
            return None

    try:
        return int(quota) / int(period) if int(quota) > 0 else None
    except ValueError:  # "max": there is no limit
        return None


def _flags() -> set[str]:
    try:
        return set(CPU_INFO.read_text(encoding="utf-8").split())
    except OSError:  # missing on macOS
        return set()
