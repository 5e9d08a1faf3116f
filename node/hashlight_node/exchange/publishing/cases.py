"""Taking back everything that was published for one case.

A person who asks for help, and later asks that it ends, knows a case and no references.
Whatever else asserts the same signals stays: another person in the same picture, or
another company that was told of it. So an answer says what goes on matching, and why.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Final

from hashlight_node.exchange.errors import ExchangeError, UnknownCaseError
from hashlight_node.model import RecordState, Role
from hashlight_node.store import logs, records, signals
from hashlight_node.store.errors import ScrubError
from hashlight_protocol import Indicator, ProtocolError, parse_record

if TYPE_CHECKING:
    from hashlight_node.model import Clock
    from hashlight_node.store.database import Connection, Database
    from hashlight_protocol import Reason, Ref, Signal

    from .publish import Publisher, WithdrawalKind

_PAGE: Final = 2_000
"""Records looked at in one transaction, so that others get their turn."""


@dataclass(frozen=True, slots=True)
class StillAsserted:
    """A signal of the case that goes on matching, because others assert it too.

    Attributes:
        type: Its type.
        refs: The live records that do, of any node: at most a hundred.
    """

    type: str
    refs: tuple[Ref, ...]


@dataclass(frozen=True, slots=True)
class CaseWithdrawn:
    """What became of a case.

    Attributes:
        withdrawn: Every record of the case, and the entry that ended it.
        still_asserted: What goes on matching without the case.
    """

    withdrawn: tuple[tuple[Ref, Ref], ...]
    still_asserted: tuple[StillAsserted, ...]


@dataclass(frozen=True, slots=True)
class _Found:
    ref: Ref
    signals: tuple[Signal, ...]


class Cases:
    """Ends cases.

    Args:
        database: The store.
        publisher: Withdraws records.
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

    async def withdraw(
        self, case: str, kind: WithdrawalKind, reason: Reason
    ) -> CaseWithdrawn:
        """Take back every record of ours that names a case, in all lists.

        A record that cannot be taken back now, because its list takes no entries or a
        file is busy, keeps no other record in use. Doing it again is harmless, and
        finishes what was cut off.

        Args:
            case: The reference that was published in the records' `case`.
            kind: `erase` also destroys bodies and salts, here and on every peer. An
                erased record names no case any more, so it is not found again.
            reason: Why; peers see it.

        Raises:
            UnknownCaseError: No record of ours names it.
            ListInactiveError: A list takes no more entries; the others are done.
            RolledBackError: A list is older than what was signed; the others are done.
            UnconfirmedError: It is not known whether one is; the others are done.
            ScrubError: All is taken back, but erased bytes are not all removed yet.
        """
        found = await self._find(case)
        if not found:
            raise UnknownCaseError
        withdrawn: list[tuple[Ref, Ref]] = []
        failed: list[Exception] = []
        for one in found:
            try:
                by = await self._publisher.withdraw(one.ref, kind, reason)
            except (ExchangeError, ScrubError) as error:
                failed.append(error)
            else:
                withdrawn.append((one.ref, by))
        if failed:
            # One that a list gave, if there is: it says more than a busy file.
            raise next(
                (it for it in failed if isinstance(it, ExchangeError)), failed[0]
            )
        asserted = {signal for one in found for signal in one.signals}
        now = self._clock()
        left = await self._database.read(
            lambda conn: _still_asserted(conn, asserted, now)
        )
        return CaseWithdrawn(tuple(withdrawn), left)

    async def _find(self, case: str) -> list[_Found]:
        own = await self._database.read(lambda conn: logs.list_logs(conn, Role.OWN))
        found: list[_Found] = []
        for list_name in sorted({log.list_name for log in own}):
            after = 0
            while True:
                page = await self._database.read(
                    partial(self._read_page, list_name, after, case)
                )
                found.extend(page.found)
                if page.last is None:
                    break
                after = page.last
        return found

    def _read_page(
        self, list_name: str, after: int, case: str, conn: Connection
    ) -> _Page:
        rows = records.page_records(conn, list_name, after, _PAGE, node=self._node_name)
        word = case.encode()
        found = []
        for record in rows:
            # Most records are of other cases, and to parse them all takes seconds.
            if record.state is RecordState.ERASED or word not in record.body:
                continue
            named = _signals_of_case(record.body, case)
            if named is not None:
                found.append(_Found(record.ref, named))
        return _Page(tuple(found), rows[-1].record_id if rows else None)


@dataclass(frozen=True, slots=True)
class _Page:
    found: tuple[_Found, ...]
    last: int | None


def _signals_of_case(body: bytes, case: str) -> tuple[Signal, ...] | None:
    try:
        record = parse_record(body)
    except ProtocolError:
        return None
    if not isinstance(record, Indicator) or record.case != case:
        return None
    return tuple(claim.signal for claim in record.signals)


def _still_asserted(
    conn: Connection, asserted: set[Signal], now: int
) -> tuple[StillAsserted, ...]:
    live = signals.find_live(conn, sorted(asserted, key=lambda it: (it.type, it.value)))
    found = signals.evidence_of(conn, [*live.values()], now=now).by_signal
    return tuple(
        StillAsserted(signal.type, tuple(it.ref for it in found[signal_id]))
        for signal, signal_id in live.items()
        if signal_id in found
    )
