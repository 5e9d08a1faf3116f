"""The flood breaker: a signal that suddenly matches far too much is not to be trusted.

One wrong hash in somebody's list, of a blank picture or a common meme, would otherwise
block a platform's uploads by the thousand. Past the limit `block` becomes `review`,
for this one signal and for as long as it goes on.

Counts live in a buffer of fixed size, so memory is bounded however many signals there
are, and several processes can share one. They are estimates, and only ever too small:
processes that count at the same moment may lose a match, and of more than eight signals
that flood in one set only eight are known. Which signals share a set depends on a
secret of this node, so no list can be written that makes them do so; and no flood of
others makes `review` out of a signal that does not flood itself.
"""

import secrets
from typing import Final

from typing_extensions import Buffer

from hashlight_node.model import Clock

_SETS: Final = 8192
_WAYS: Final = 8

# Members of a cell, each a signed word of 64 bits.
_ID, _WINDOW, _NOW, _BEFORE = range(4)
_CELL: Final = 4

# Before the cells stands the secret that a signal's set is chosen by.
_SECRET: Final = 0
_FIRST: Final = 1

_WORD: Final = 2**64 - 1
_SHIFT: Final = 64 - (_SETS.bit_length() - 1)

BUFFER_BYTES: Final = (_FIRST + _SETS * _WAYS * _CELL) * 8
"""Size of the buffer that `FloodCounters` is given: 2 MiB."""


def prepare_counts(buffer: Buffer) -> None:
    """Give a buffer of zeros its secret, before anybody counts in it or shares it."""
    # Odd, so that multiplying by it mixes; of 63 bits, because words are signed.
    memoryview(buffer).cast("B").cast("q")[_SECRET] = secrets.randbits(63) | 1


class FloodCounters:
    """How often signals matched lately.

    The clock is divided into windows. Of the one that runs every match counts; those
    of the one before count as far as it still overlaps the last `window_seconds`.

    Args:
        buffer: `BUFFER_BYTES`, writable, prepared; of an `mmap` to share them.
        window_seconds: Time over which matches are counted.
    """

    def __init__(self, buffer: Buffer, *, window_seconds: int) -> None:
        self._cells = memoryview(buffer).cast("B").cast("q")
        self._secret = self._cells[_SECRET]
        self._window_seconds = window_seconds

    def count(self, signal_id: int, now: int) -> float:
        """Count one match.

        Args:
            signal_id: 1 or more.
            now: Unix seconds.

        Returns:
            Matches of the signal within the window, this one included; an estimate.
        """
        window, passed = divmod(now, self._window_seconds)
        left = 1 - passed / self._window_seconds
        cells, ways = self._cells, self._ways_of(signal_id)
        at = next((it for it in ways if cells[it + _ID] == signal_id), None)
        if at is None:
            at = min(ways, key=lambda it: self._worth(it, window, left))
            if self._worth(at, window, left) >= 1:
                self._wear(at)
                return 1
            # The counts first: another process may read the id at any moment.
            cells[at + _NOW] = cells[at + _BEFORE] = 0
            cells[at + _WINDOW] = window
            cells[at + _ID] = signal_id
        elif cells[at + _WINDOW] != window:
            is_next = cells[at + _WINDOW] == window - 1
            cells[at + _BEFORE] = cells[at + _NOW] if is_next else 0
            cells[at + _NOW] = 0
            cells[at + _WINDOW] = window
        cells[at + _NOW] += 1
        return cells[at + _NOW] + left * cells[at + _BEFORE]

    def _ways_of(self, signal_id: int) -> range:
        chosen = (signal_id * self._secret & _WORD) >> _SHIFT
        first = _FIRST + chosen * _WAYS * _CELL
        return range(first, first + _WAYS * _CELL, _CELL)

    def _wear(self, at: int) -> None:
        """Take one match from the cell that is missed least, for one that has none.

        Whoever goes on matching gets a cell in the end, and a single newcomer does not
        push out a signal that is known to flood (Misra and Gries, 1982).
        """
        member = _NOW if self._cells[at + _NOW] > 0 else _BEFORE
        self._cells[at + member] -= 1

    def _worth(self, at: int, window: int, left: float) -> float:
        cells = self._cells
        age = window - cells[at + _WINDOW]
        if age == 0:
            return cells[at + _NOW] + left * cells[at + _BEFORE]
        return left * cells[at + _NOW] if age == 1 else 0


class FloodBreaker:
    """Says which signals match too much.

    Args:
        counters: Where matches are counted.
        limit: Matches of one signal within the counters' window that are believed.
        clock: Unix seconds.
    """

    def __init__(self, counters: FloodCounters, *, limit: int, clock: Clock) -> None:
        self._counters = counters
        self._limit = limit
        self._clock = clock

    def is_flooded_by(self, signal_id: int) -> bool:
        """Count a match of a signal, and tell whether that is one too many."""
        return self._counters.count(signal_id, self._clock()) > self._limit
