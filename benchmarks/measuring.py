"""Clocks and scales: CPU time, memory, percentiles, and what machine this is.

CPU time and not wall time wherever work is measured, so that a neighbour on the same
machine does not count; what that leaves in is that neighbours fill caches and memory
channels, so figures of one run compare and figures of two runs need not.
"""

from __future__ import annotations

import ctypes
import gc
import math
import os
import platform
from contextlib import suppress
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

_PACKAGES = (
    "numpy",
    "faiss-cpu",
    "threatexchange",
    "aiohttp",
    "uvloop",
    "flask",
    "gunicorn",
)
_KIB = 1024


def percentile(values: Sequence[float], percent: float) -> float:
    """Give the smallest value that so many per cent of all do not exceed."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(len(ordered) * percent / 100) - 1)]


def resident_bytes() -> int:
    """Tell how much memory this process has that no file backs; Linux only.

    Everything that is freed is given back first, so that two calls differ by what
    was kept between them.
    """
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    for line in Path("/proc/self/status").read_text("ascii").splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) * _KIB
    message = "this kernel does not tell what a process holds"
    raise OSError(message)


def available_bytes() -> int:
    """Tell how much memory new processes can have without pushing others out."""
    for line in Path("/proc/meminfo").read_text("ascii").splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * _KIB
    message = "this kernel does not tell what memory is available"
    raise OSError(message)


def cpu_seconds(processes: Iterable[int]) -> float:
    """Add up the CPU time that processes and all their children have used so far.

    Children that have ended count for the parent that waited for them.
    """
    ticks = 0
    for process in _with_children(processes):
        # The name, in brackets, may hold spaces; 14 to 17 are the four times.
        text = Path(f"/proc/{process}/stat").read_text("ascii")
        ticks += sum(map(int, text.rpartition(")")[2].split()[11:15]))
    return ticks / os.sysconf("SC_CLK_TCK")


def _with_children(processes: Iterable[int]) -> list[int]:
    found = list(processes)
    for process in found:  # grows while it is walked
        found.extend(children_of(process))
    return found


def children_of(process: int) -> list[int]:
    """Give the processes that a process has started and that still run."""
    children: list[int] = []
    for task in Path(f"/proc/{process}/task").iterdir():
        with suppress(FileNotFoundError, ProcessLookupError):  # A thread has ended.
            children.extend(map(int, (task / "children").read_text("ascii").split()))
    return children


def machine() -> dict[str, object]:
    """Describe what this run is made on, for whoever reads its figures."""
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "cache": _third_level_cache(),
        "memory_gb": round(pages / 1e9),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "versions": dict(_versions()),
    }


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text("utf-8").splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _third_level_cache() -> str:
    """Tell how much fits beside the cores: it decides what a table in memory costs."""
    file = Path("/sys/devices/system/cpu/cpu0/cache/index3/size")
    if not file.exists():
        return "unknown size"
    return f"{int(file.read_text('ascii').strip().removesuffix('K')) // _KIB} MB"


def _versions() -> Iterable[tuple[str, str]]:
    for package in _PACKAGES:
        try:
            yield package, metadata.version(package)
        except metadata.PackageNotFoundError:
            yield package, "not installed"
