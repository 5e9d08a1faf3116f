"""The clock by which we tell how old something is."""

from __future__ import annotations

import time


def now() -> float:
    """Give seconds since some moment, those counted in which the machine slept."""
    return time.clock_gettime(_CLOCK)


# Not every system has the one that goes on while the machine sleeps.
_CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
