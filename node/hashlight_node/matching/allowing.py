"""The operator's allow list: what is harmless whatever a list says of it.

An entry never hides anything. It turns the handling of a match into `ignore`, and the
match shows that. Entries are this operator's alone: they are neither published nor
taken from anybody.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from hashlight_node.matching.pdq import DIGEST_BYTES
from hashlight_node.model import AllowedSignal
from hashlight_protocol import Signal

_PDQ: Final = "pdq"


@dataclass(frozen=True, slots=True)
class _Entries:
    """One state of the list.

    Attributes:
        signals: Every entry's signal.
        lanes: n x 4, the PDQ hashes of entries that reach further than themselves.
        reach: How far each of them does, in bits.
    """

    signals: frozenset[Signal]
    lanes: NDArray[np.uint64]
    reach: NDArray[np.uint16]


class AllowList:
    """All allowed signals, in memory.

    One thread replaces them, any thread may ask. Asking compares with every PDQ entry,
    which takes 5 ns each: an allow list is written by people and stays short.
    """

    def __init__(self, allowed: Iterable[AllowedSignal] = ()) -> None:
        self._entries = _entries(allowed)

    def __len__(self) -> int:
        return len(self._entries.signals)

    def replace(self, allowed: Iterable[AllowedSignal]) -> None:
        """Take over the list as it is now; whoever asks from here on sees it."""
        self._entries = _entries(allowed)

    def names(self, signal: Signal) -> bool:
        """Tell whether this very signal is allowed."""
        return signal in self._entries.signals

    def covers(self, query: Signal) -> bool:
        """Tell whether a query is an allowed signal, or near enough to one."""
        entries = self._entries
        if query in entries.signals:
            return True
        if query.type != _PDQ or not len(entries.reach):
            return False
        lanes = np.frombuffer(bytes.fromhex(query.value), dtype=np.uint64)
        distances = np.bitwise_count(entries.lanes ^ lanes).sum(axis=1, dtype=np.uint16)
        return bool((distances <= entries.reach).any())


def _entries(allowed: Iterable[AllowedSignal]) -> _Entries:
    every = list(allowed)
    near = [it for it in every if it.signal.type == _PDQ and it.max_distance]
    digests = bytes.fromhex("".join(it.signal.value for it in near))
    return _Entries(
        signals=frozenset(it.signal for it in every),
        lanes=np.frombuffer(digests, dtype=np.uint64).reshape(-1, DIGEST_BYTES // 8),
        reach=np.array([it.max_distance for it in near], dtype=np.uint16),
    )
