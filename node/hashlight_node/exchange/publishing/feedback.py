"""Feedback: what we say about records of others, and what is said about ours.

Opinions are published one by one. Sightings are not: a popular picture is matched a
million times, and nobody wants a million records. They are added up as they come, and
published once in a while, one record for each record, signal type and outcome.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Final

from hashlight_node.exchange.errors import (
    ListExistsError,
    UnknownListError,
    UnknownRecordError,
)
from hashlight_node.matching.opinions import REVIEWED, fold
from hashlight_node.store import logs, records, sightings
from hashlight_protocol import Indicator, ProtocolError, encode_record, parse_record

from .idempotency import earlier_answer, remember_answer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hashlight_node.model import (
        Clock,
        OpinionFold,
        StoredOpinion,
        StoredRecord,
    )
    from hashlight_node.store.database import Connection, Database
    from hashlight_node.store.sightings import SightingTotal
    from hashlight_protocol import Opinion, Ref, Sighting

    from .idempotency import IdempotencyKey
    from .publish import Publisher

OPINIONS: Final = "feedback"
"""Our list of opinions."""

SIGHTINGS: Final = "sightings"
"""Our list of sightings; one of their own, because old ones lose their worth."""

_BATCH: Final = 5_000
"""Sightings published in one transaction."""

_DONE: Final = b"counted"


@dataclass(frozen=True, slots=True)
class RecordFeedback:
    """What all nodes whose feedback reaches us say about one record of ours.

    Attributes:
        record: The record.
        fold: All opinions in one word.
        opinions: The newest of each node, and for each signal type that it named.
        sightings: By node and outcome, over all reports.
    """

    record: StoredRecord
    fold: OpinionFold
    opinions: tuple[StoredOpinion, ...]
    sightings: tuple[SightingTotal, ...]


class Feedback:
    """Publishes our feedback, and gathers that of others.

    Args:
        database: The store.
        publisher: Writes our lists.
        clock: Unix seconds.
        node_name: This node.
    """

    def __init__(
        self,
        *,
        database: Database,
        publisher: Publisher,
        clock: Clock,
        node_name: str,
    ) -> None:
        self._database = database
        self._publisher = publisher
        self._clock = clock
        self._node_name = node_name

    async def publish_opinion(
        self, opinion: Opinion, *, idempotency: IdempotencyKey | None = None
    ) -> Ref:
        """Say what we think of a record, in our list of opinions.

        Returns:
            Reference of the opinion.

        Raises:
            UnknownRecordError: This node holds no such record.
            ProtocolError: It cannot be written as a record.
            ListInactiveError: Our list takes no more entries.
            IdempotencyConflictError: The key came with another request.
        """
        bodies = [encode_record(opinion)]
        await self._database.read(partial(_check_known, ref=opinion.ref))
        await self._start_list(OPINIONS)
        (ref,) = await self._publisher.publish(
            OPINIONS, bodies, idempotency=idempotency
        )
        return ref

    async def count_sightings(
        self,
        seen: Sequence[Sighting],
        *,
        idempotency: IdempotencyKey | None = None,
    ) -> None:
        """Add sightings to those that will be published next.

        They are on disk when this returns: all of them, or on an error none.

        Raises:
            UnknownRecordError: This node holds no such record. A reference to nothing
                would be published for ever and help nobody.
            ProtocolError: One of them cannot be written as a record.
            IdempotencyConflictError: The key came with another request.
        """
        for sighting in seen:
            encode_record(sighting)

        def write(conn: Connection) -> None:
            if earlier_answer(conn, idempotency) is not None:
                return
            for sighting in seen:
                _check_known(conn, sighting.ref)
                sightings.add_pending(conn, sighting)
            remember_answer(conn, idempotency, _DONE, now=self._clock())

        await self._database.write(write)

    async def publish_sightings(self) -> int:
        """Publish the sightings that wait.

        Returns:
            How many records were published.

        Raises:
            ListInactiveError: Our list takes no more entries; they go on waiting.
        """
        published = 0
        while True:
            waiting = await self._database.read(
                partial(sightings.list_pending, limit=_BATCH)
            )
            if not waiting:
                return published
            await self._start_list(SIGHTINGS)
            # Taken away in the transaction that publishes them: neither a crash nor a
            # sighting that comes meanwhile makes one count twice or not at all.
            await self._publisher.publish(
                SIGHTINGS,
                list(map(encode_record, waiting)),
                also=partial(sightings.take_pending, sightings=waiting),
            )
            published += len(waiting)

    async def about_list(
        self, list_name: str, after_record_id: int, limit: int
    ) -> list[RecordFeedback]:
        """Gather what is said about the records of one of our lists.

        Args:
            list_name: The list.
            after_record_id: Last record of the page before, 0 for the first page.
            limit: Most records to look at.

        Returns:
            One for each of the next records, in their order, also where nothing is
            said.

        Raises:
            UnknownListError: This node has no such list.
        """

        def read(conn: Connection) -> list[RecordFeedback]:
            if logs.find_own_log(conn, self._node_name, list_name) is None:
                raise UnknownListError(list_name)
            page = records.page_records(
                conn, list_name, after_record_id, limit, node=self._node_name
            )
            return self._gather(conn, page)

        return await self._database.read(read)

    async def about_record(self, ref: Ref) -> RecordFeedback:
        """Gather what is said about one record, of whatever node.

        Raises:
            UnknownRecordError: This node holds no such record.
        """

        def read(conn: Connection) -> RecordFeedback:
            record = records.read_record(conn, ref)
            if record is None:
                raise UnknownRecordError(ref)
            (gathered,) = self._gather(conn, [record])
            return gathered

        return await self._database.read(read)

    def _gather(
        self, conn: Connection, page: Sequence[StoredRecord]
    ) -> list[RecordFeedback]:
        refs = [record.ref for record in page]
        said: dict[Ref, list[StoredOpinion]] = {ref: [] for ref in refs}
        for opinion in _newest(records.opinions_about(conn, refs)):
            said[opinion.about].append(opinion)
        met: dict[Ref, list[SightingTotal]] = {ref: [] for ref in refs}
        for total in sightings.totals_about(conn, refs):
            met[total.about].append(total)
        return [
            RecordFeedback(
                record,
                fold(
                    said[record.ref],
                    node_name=self._node_name,
                    reviewed=_is_reviewed(record),
                ),
                tuple(said[record.ref]),
                tuple(met[record.ref]),
            )
            for record in page
        ]

    async def _start_list(self, list_name: str) -> None:
        """Start our list with the first word in it."""
        found = await self._database.read(
            lambda conn: logs.find_own_log(conn, self._node_name, list_name)
        )
        if found is None:
            with suppress(ListExistsError):  # Somebody else was first, a moment ago.
                await self._publisher.create_list(list_name, {})


def _newest(opinions: Sequence[StoredOpinion]) -> list[StoredOpinion]:
    """Keep of each node, record and signal type the last opinion."""
    kept = {(it.node, it.about, it.signal_type): it for it in opinions}
    return list(kept.values())


def _check_known(conn: Connection, ref: Ref) -> None:
    if records.read_record(conn, ref) is None:
        raise UnknownRecordError(ref)


def _is_reviewed(record: StoredRecord) -> bool:
    try:
        parsed = parse_record(record.body)
    except ProtocolError:  # Nothing is left of it, or it never was one.
        return False
    return isinstance(parsed, Indicator) and parsed.review.level == REVIEWED
