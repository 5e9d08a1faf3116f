"""The indexes that are compared, each behind the same few methods.

All of them answer exactly: every stored hash within 31 bits, or, ours beyond its
limit, the nearest of them and the word `truncated`. Each runs in one thread. What a
query has to look like is made outside of what is timed.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, ClassVar, Final, TypeAlias

import numpy as np
from typing_extensions import override

from benchmarks.hashes import BYTES, THRESHOLD
from hashlight_node.matching.index import PdqIndex
from hashlight_node.matching.index.kernel import load_kernel

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from benchmarks.hashes import Hashes

LIMIT: Final = 1000
"""Hits that a node gives for one query at most, by default."""

_NO_LIMIT: Final = 2**31 - 1
_BITS: Final = 8 * BYTES

Ids: TypeAlias = set[int]


class Contender(ABC):
    """One index under test.

    Attributes:
        title: As tables name it.
        needs: The module that it is part of.
    """

    title: ClassVar[str]
    needs: ClassVar[str]

    @abstractmethod
    def start(self) -> None:
        """Import what it needs, which is neither timed nor weighed."""

    @abstractmethod
    def build(self, hashes: Hashes) -> None:
        """Take all hashes; their row numbers are their ids."""

    @abstractmethod
    def prepared(self, queries: Hashes) -> Sequence[object]:
        """Give each query the form that `search` takes."""

    @abstractmethod
    def search(self, query: object) -> object:
        """Answer one query; this is what is timed."""

    @abstractmethod
    def search_batch(self, queries: Hashes) -> object:
        """Answer many queries in one call; this is what is timed."""

    @abstractmethod
    def matches(self, query: object) -> tuple[Ids, bool]:
        """Give the ids that match, and whether there may be more."""

    def add(self, row: int, digest: bytes) -> None:
        """Take one more hash.

        Raises:
            NotImplementedError: There is no way but building anew.
        """
        raise NotImplementedError

    def remove(self, row: int, digest: bytes) -> None:
        """Forget one hash.

        Raises:
            NotImplementedError: There is no way but building anew.
        """
        raise NotImplementedError


class _Ours(Contender):
    needs = "hashlight_node"
    kernel: ClassVar[str]
    limit: ClassVar[int] = LIMIT
    _index: PdqIndex

    @override
    def start(self) -> None:
        self._kernel = load_kernel(self.kernel)

    @override
    def build(self, hashes: Hashes) -> None:
        ids = np.arange(len(hashes), dtype=np.uint32)
        self._index = PdqIndex.from_rows(ids, hashes, kernel=self._kernel)

    @override
    def prepared(self, queries: Hashes) -> Sequence[bytes]:
        return [query.tobytes() for query in queries]

    @override
    def search(self, query: Any) -> object:
        return self._index.search(query, THRESHOLD, limit=self.limit)

    @override
    def search_batch(self, queries: Hashes) -> object:
        return self._index.search_many(queries.tobytes(), THRESHOLD, limit=self.limit)

    @override
    def matches(self, query: Any) -> tuple[Ids, bool]:
        found = self._index.search(query, THRESHOLD, limit=self.limit)
        return {hit.signal_id for hit in found.hits}, found.truncated

    @override
    def add(self, row: int, digest: bytes) -> None:
        self._index.add(row, digest)

    @override
    def remove(self, row: int, digest: bytes) -> None:
        self._index.remove(row, digest)


class OursC(_Ours):
    """Our index with its C kernel."""

    title = "Hashlight, C"
    kernel = "c"


class OursUnlimited(_Ours):
    """The same, told to give every hit as the peers do."""

    title = "Hashlight, C, no limit"
    kernel = "c"
    limit = _NO_LIMIT


class OursNumpy(_Ours):
    """Our index without a compiler."""

    title = "Hashlight, numpy"
    kernel = "numpy"


class _Faiss(Contender):
    needs = "faiss"
    _index: Any  # faiss brings no types

    @override
    def start(self) -> None:
        import faiss  # noqa: PLC0415  only this contestant may have it

        faiss.omp_set_num_threads(1)
        self._index = self._make(faiss)

    @override
    def build(self, hashes: Hashes) -> None:
        self._index.add(np.ascontiguousarray(hashes))

    @abstractmethod
    def _make(self, faiss: Any) -> Any:  # noqa: ANN401
        """Make an empty index."""

    @override
    def prepared(self, queries: Hashes) -> Sequence[object]:
        return [np.ascontiguousarray(query[np.newaxis]) for query in queries]

    @override
    def search(self, query: object) -> object:
        # faiss gives what is nearer than the radius, not what is as near.
        return self._index.range_search(query, THRESHOLD + 1)

    @override
    def search_batch(self, queries: Hashes) -> object:
        return self.search(np.ascontiguousarray(queries))

    @override
    def matches(self, query: object) -> tuple[Ids, bool]:
        _, _, rows = self._index.range_search(query, THRESHOLD + 1)
        return set(rows.tolist()), False

    @override
    def add(self, row: int, digest: bytes) -> None:
        self._index.add(np.frombuffer(digest, dtype=np.uint8)[np.newaxis])


class FaissFlat(_Faiss):
    """Every hash compared with every query."""

    title = "faiss Flat"

    @override
    def _make(self, faiss: Any) -> Any:
        return faiss.IndexBinaryFlat(_BITS)


class FaissWide(_Faiss):
    """Tables over 11 bands of 23 bits, tried with up to 2 bits flipped.

    Exact up to 32 bits: of 11 bands, one holds at most 2 of them. The fastest exact
    setting of faiss that we found.
    """

    title = "faiss MultiHash 11x23"

    @override
    def _make(self, faiss: Any) -> Any:
        index = faiss.IndexBinaryMultiHash(_BITS, 11, 23)
        index.nflip = 2
        return index


class FaissNarrow(_Faiss):
    """Tables over 16 bands of 16 bits, with up to 1 bit flipped: threatexchange's."""

    title = "faiss MultiHash 16x16"

    @override
    def _make(self, faiss: Any) -> Any:
        index = faiss.IndexBinaryMultiHash(_BITS, 16, 16)
        index.nflip = 1
        return index


class Reference(Contender):
    """What the field matches PDQ with: threatexchange's PDQIndex, through its API."""

    title = "threatexchange PDQIndex"
    needs = "threatexchange"
    _index: Any

    @override
    def start(self) -> None:
        import faiss  # noqa: PLC0415  only this contestant may have it
        from threatexchange.signal_type.pdq.pdq_index import PDQIndex  # noqa: PLC0415

        faiss.omp_set_num_threads(1)
        self._index = PDQIndex()

    @override
    def build(self, hashes: Hashes) -> None:
        self._index.add_all(
            (digest.tobytes().hex(), row) for row, digest in enumerate(hashes)
        )

    @override
    def prepared(self, queries: Hashes) -> Sequence[object]:
        return [query.tobytes().hex() for query in queries]

    @override
    def search(self, query: object) -> object:
        return self._index.query(query)

    @override
    def search_batch(self, queries: Hashes) -> object:
        # It takes one query at a time.
        return [self._index.query(query) for query in self.prepared(queries)]

    @override
    def matches(self, query: object) -> tuple[Ids, bool]:
        return {match.metadata for match in self._index.query(query)}, False

    @override
    def add(self, row: int, digest: bytes) -> None:
        self._index.add(digest.hex(), row)


CONTENDERS: Final[Mapping[str, type[Contender]]] = {
    "ours-c": OursC,
    "ours-unlimited": OursUnlimited,
    "ours-numpy": OursNumpy,
    "faiss-wide": FaissWide,
    "faiss-narrow": FaissNarrow,
    "faiss-flat": FaissFlat,
    "reference": Reference,
}
"""By the name that results and command lines use."""


def is_installed(name: str) -> bool:
    """Say whether a contender can take part here."""
    return find_spec(CONTENDERS[name].needs) is not None
