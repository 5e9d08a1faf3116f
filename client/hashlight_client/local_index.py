"""All live signals of a node, in this process, to tell what is certainly not known."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Final, Self

import numpy as np

from hashlight_node.matching.exact import ExactIndex
from hashlight_node.matching.index import PdqIndex
from hashlight_node.matching.snapshot import SnapshotError, decode
from hashlight_node.model import signal_digest

from .errors import BadAnswerError
from .requests import HASH_BYTES

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from .values import Change, Signal

PDQ: Final = "pdq"

_HITS: Final = 16
"""Hits that are looked at. More than these mean that the node has to be asked."""


class LocalIndex:
    """Says which signals may be known; whatever it denies is not.

    It is used like the node's own memory: what it finds is a candidate, which only the
    node can confirm. One thread at a time changes it, any number ask.

    Attributes:
        after: Id of the last change that is in it.
    """

    def __init__(self, pdq: PdqIndex, exact: ExactIndex, *, after: str) -> None:
        self.after = after
        self._pdq = pdq
        self._exact = exact
        # Of what died only the id is told, because its value may have been erased.
        self._dead: set[int] = set()
        self._writing = threading.Lock()

    @classmethod
    def from_snapshot(cls, raw: bytes) -> Self:
        """Load what `GET /v1/snapshot` gave; a few million signals a second.

        Raises:
            BadAnswerError: It is damaged, or of a version that is not known here.
        """
        try:
            head, rows = decode(raw)
        except SnapshotError as error:
            reason = f"the snapshot cannot be used: {error}"
            raise BadAnswerError(reason) from error
        return cls(
            PdqIndex.from_rows(rows.pdq_ids, rows.pdq_hashes),
            ExactIndex.from_rows(rows.exact_digests, rows.exact_ids),
            after=head.mark.event_id,
        )

    def __len__(self) -> int:
        """Count the signals; what died lately counts until it is forgotten."""
        return len(self._pdq) + len(self._exact)

    @property
    def dead(self) -> int:
        """How many signals died and are still to be forgotten."""
        return len(self._dead)

    def may_match(self, signal: Signal, max_distance: int) -> bool:
        """Tell whether the node may know a signal.

        Args:
            signal: In canonical form.
            max_distance: Where PDQ matches end.
        """
        if signal.type == PDQ:
            digest = bytes.fromhex(signal.value)
            found = self._pdq.search(digest, max_distance, limit=_HITS)
            live = self._is_any_live(it.signal_id for it in found.hits)
            return found.truncated or live
        digest_number = signal_digest(signal.type, signal.value)
        return self._is_any_live(self._exact.find(digest_number))

    def may_match_hashes(self, hashes: bytes, max_distance: int) -> list[bool]:
        """Tell which of several PDQ hashes the node may know.

        Args:
            hashes: 32 bytes each, one after the other.
            max_distance: Where PDQ matches end.
        """
        answers = self._pdq.search_many(hashes, max_distance, limit=_HITS)
        return [
            it.truncated or self._is_any_live(hit.signal_id for hit in it.hits)
            for it in answers
        ]

    def apply(self, changes: Sequence[Change]) -> None:
        """Take changes over, in their order."""
        with self._writing:
            for change in changes:
                if change.signal is None:
                    self._dead.add(change.signal_id)
                else:
                    self._dead.discard(change.signal_id)
                    self._add(change.signal_id, change.signal)
                self.after = change.id

    def forget_dead(self) -> None:
        """Drop what died, so that erased values leave this process, too.

        Takes as long as copying everything once; lookups go on meanwhile.
        """
        with self._writing:
            dead = np.fromiter(self._dead, dtype=np.int64)
            ids, hashes = self._pdq.export()
            gone = np.isin(ids, dead)
            self._pdq.discard(ids[gone].tolist(), hashes[gone].tobytes())
            digests, exact_ids = self._exact.export()
            kept = np.isin(exact_ids, dead, invert=True)
            if not kept.all():
                self._exact = ExactIndex.from_rows(digests[kept], exact_ids[kept])
            self._dead.difference_update(dead.tolist())

    def close(self) -> None:
        """End the threads of the index."""
        self._pdq.close()

    def _add(self, signal_id: int, signal: Signal) -> None:
        if signal.type != PDQ:
            self._exact.add(signal_digest(signal.type, signal.value), signal_id)
        elif len(digest := bytes.fromhex(signal.value)) == HASH_BYTES:
            self._pdq.add(signal_id, digest)

    def _is_any_live(self, signal_ids: Iterable[int]) -> bool:
        dead = self._dead
        return any(it not in dead for it in signal_ids)
