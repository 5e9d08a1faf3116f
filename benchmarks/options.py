"""What a run is asked to do."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from pathlib import Path

MILLION: Final = 1_000_000
SIZES: Final = (MILLION, 10 * MILLION)
QUICK_SIZES: Final = (50_000,)

_UNITS: Final = {"k": 1000, "m": MILLION}


@dataclass(frozen=True, slots=True)
class Options:
    """What every section is given.

    Attributes:
        sizes: Hashes in an index, ascending.
        everybody: Whether slow peers take part at large sizes, too.
        quick: A few minutes, to see that everything works: figures mean little.
        data: Folder for drawn hashes, kept from run to run.
    """

    sizes: tuple[int, ...]
    everybody: bool
    quick: bool
    data: Path


def parse_size(text: str) -> int:
    """Read `250k`, `1m`, `10m` or plain digits.

    Raises:
        ValueError: It is something else.
    """
    unit = _UNITS.get(text[-1:].lower())
    return int(text) if unit is None else int(text[:-1]) * unit


def show_size(size: int) -> str:
    """Write a size as people say it: `10 M`, `100 k`."""
    if size % MILLION == 0:
        return f"{size // MILLION} M"
    return f"{size // 1000} k" if size % 1000 == 0 else f"{size:,}"
