"""Cells of a platform's own files, as signals to look up; needs no Arrow."""

from __future__ import annotations

from typing import NamedTuple

from hashlight_protocol import SIGNAL_TYPES, BadSignalError, parse_signal

from .values import Signal


class ScanColumn(NamedTuple):
    """A column to look up.

    Attributes:
        name: Its name in the file.
        type: Type of the signals in it.
    """

    name: str
    type: str


def signal_of(type_name: str, cell: object) -> Signal:
    """Read a cell: text, or bytes of a hash.

    Raises:
        BadSignalError: It is no value of the type.
    """
    known = SIGNAL_TYPES.get(type_name)
    if isinstance(cell, bytes) and known is not None and known.bits is not None:
        cell = cell.hex()
    if not isinstance(cell, str):
        raise BadSignalError(type_name, "the value is not text")
    signal = parse_signal(type_name, cell.strip())
    return Signal(signal.type, signal.value)
