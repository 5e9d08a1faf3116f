"""What peers have signed for, and what they did wrong.

Cosignatures go both ways: `witnessed` holds those that we gave over peers' logs,
deliveries and acknowledgements those that peers gave over ours.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypedDict, Unpack

from sqlalchemy import and_, func, literal, or_, select

from hashlight_node.model import Acknowledgement, Delivery, Evidence
from hashlight_node.store import tables
from hashlight_node.store.errors import HeadMovedError
from hashlight_node.store.statements import has_changed, upsert
from hashlight_protocol import KnownHead, origin_hash

if TYPE_CHECKING:
    from collections.abc import Collection

    from sqlalchemy import Connection, Select

_witnessed = tables.witnessed
_deliveries = tables.deliveries
_acknowledgements = tables.acknowledgements
_evidence = tables.evidence
_logs = tables.logs
_peers = tables.peers


class NewHead(TypedDict):
    """A checkpoint of a peer's log that we cosign.

    Attributes:
        origin: The log.
        peer_id: Whose log it is.
        tree_size: Size of its tree.
        root_hash: Root of its tree.
        note: The checkpoint with our witness cosignature.
        now: When we cosigned it.
    """

    origin: str
    peer_id: int
    tree_size: int
    root_hash: bytes
    note: bytes
    now: int


class NewEvidence(TypedDict):
    """What a peer did wrong.

    Attributes:
        peer_id: The peer.
        list_name: The list in question.
        code: Code of the ProtocolError.
        what: Its sentence.
        found_at: Now.
        payload: The bytes that show it.
    """

    peer_id: int
    list_name: str
    code: str
    what: str
    found_at: int
    payload: bytes


def known_head(connection: Connection, origin: str) -> KnownHead | None:
    """Look up the largest checkpoint of a log that we have cosigned as a witness."""
    query = select(_witnessed.c.tree_size, _witnessed.c.root_hash).where(
        _witnessed.c.origin == origin
    )
    row = connection.execute(query).one_or_none()
    return None if row is None else KnownHead(row.tree_size, row.root_hash)


def save_witnessed(connection: Connection, **head: Unpack[NewHead]) -> None:
    """Note the largest checkpoint of a log that we cosign.

    Decide about it in the same write transaction.

    Raises:
        HeadMovedError: A larger checkpoint, or another one of this size, is known.
    """
    statement = upsert(connection, _witnessed).values(
        origin=head["origin"],
        origin_hash=origin_hash(head["origin"]),
        peer_id=head["peer_id"],
        tree_size=head["tree_size"],
        root_hash=head["root_hash"],
        checkpoint=head["note"],
        seen_at=head["now"],
    )
    new = statement.excluded
    # A compare-and-swap: a witness that forgets the larger of two checkpoints would
    # cosign a fork.
    statement = statement.on_conflict_do_update(
        index_elements=[_witnessed.c.origin],
        set_={
            "peer_id": new.peer_id,
            "tree_size": new.tree_size,
            "root_hash": new.root_hash,
            "checkpoint": new.checkpoint,
            "seen_at": new.seen_at,
        },
        where=or_(
            _witnessed.c.tree_size < new.tree_size,
            and_(
                _witnessed.c.tree_size == new.tree_size,
                _witnessed.c.root_hash == new.root_hash,
            ),
        ),
    )
    if not has_changed(connection, statement):
        raise HeadMovedError(head["origin"])


def read_witnessed(connection: Connection, origin: str) -> bytes | None:
    """Read the largest checkpoint of a log with our witness cosignature."""
    query = select(_witnessed.c.checkpoint).where(_witnessed.c.origin == origin)
    return connection.execute(query).scalar()


def count_witnessed(connection: Connection, peer_id: int) -> int:
    """Count the logs of a peer of which we have cosigned a checkpoint."""
    query = select(func.count()).where(_witnessed.c.peer_id == peer_id)
    return connection.execute(query).scalar_one()


def save_delivery(
    connection: Connection,
    log_id: int,
    peer_id: int,
    tree_size: int,
    cosigned_at: int,
    note: bytes,
) -> None:
    """Keep a peer's witness cosignature over our log; every one is kept."""
    statement = upsert(connection, _deliveries).values(
        log_id=log_id,
        peer_id=peer_id,
        tree_size=tree_size,
        cosigned_at=cosigned_at,
        note=note,
    )
    connection.execute(statement.on_conflict_do_nothing())


def list_deliveries(connection: Connection, log_id: int | None) -> list[Delivery]:
    """List which peer has seen which size last, of one log of ours or all."""
    # From pair to pair through the key: there are few of them and many deliveries.
    of_pair = (
        _deliveries.c.log_id == _logs.c.log_id,
        _deliveries.c.peer_id == _peers.c.peer_id,
    )
    size = (
        select(func.max(_deliveries.c.tree_size))
        .where(*of_pair)
        .correlate(_logs, _peers)
        .scalar_subquery()
    )
    query = (
        select(
            _logs.c.log_id,
            _peers.c.peer_id,
            _logs.c.origin,
            _peers.c.name,
            size.label("tree_size"),
        )
        .select_from(_logs.join(_peers, literal(1) == 1))
        .order_by(_logs.c.origin, _peers.c.name)
    )
    if log_id is not None:
        query = query.where(_logs.c.log_id == log_id)
    found: list[Delivery] = []
    for row in connection.execute(query):
        if row.tree_size is not None:
            # Pushes overlap, so an older answer may come later.
            last = select(func.max(_deliveries.c.cosigned_at)).where(
                _deliveries.c.log_id == row.log_id,
                _deliveries.c.peer_id == row.peer_id,
                _deliveries.c.tree_size == row.tree_size,
            )
            cosigned_at = connection.execute(last).scalar_one()
            found.append(Delivery(row.origin, row.name, row.tree_size, cosigned_at))
    return found


def delivered_size(connection: Connection, log_id: int, peer_id: int) -> int:
    """Tell up to which size a peer has seen our log, 0 if it has not."""
    query = select(func.max(_deliveries.c.tree_size)).where(
        _deliveries.c.log_id == log_id, _deliveries.c.peer_id == peer_id
    )
    size: int | None = connection.execute(query).scalar()
    return size or 0


def save_acknowledgement(
    connection: Connection,
    log_id: int,
    peer_id: int,
    tree_size: int,
    acknowledged_at: int,
    note: bytes,
) -> None:
    """Keep a peer's mirror cosignature over our log; of each size, the first."""
    statement = upsert(connection, _acknowledgements).values(
        log_id=log_id,
        peer_id=peer_id,
        tree_size=tree_size,
        acknowledged_at=acknowledged_at,
        note=note,
    )
    connection.execute(statement.on_conflict_do_nothing())


def list_acknowledgements(connection: Connection, log_id: int) -> list[Acknowledgement]:
    """List all acknowledgements of one log of ours, by peer and size."""
    query = (
        select_acknowledgements()
        .where(_acknowledgements.c.log_id == log_id)
        .order_by(_peers.c.name, _acknowledgements.c.tree_size)
    )
    return [Acknowledgement(*row) for row in connection.execute(query)]


def newest_acknowledgement(
    connection: Connection, log_id: int, peer_id: int
) -> Acknowledgement | None:
    """Look up the largest size that a peer has stored and applied of our log."""
    query = (
        select_acknowledgements()
        .where(
            _acknowledgements.c.log_id == log_id,
            _acknowledgements.c.peer_id == peer_id,
        )
        .order_by(_acknowledgements.c.tree_size.desc())
        .limit(1)
    )
    row = connection.execute(query).one_or_none()
    return None if row is None else Acknowledgement(*row)


def save_evidence(connection: Connection, **evidence: Unpack[NewEvidence]) -> int:
    """Keep the bytes that show what a peer did wrong.

    `payload` outlives every ERASE, so it must hold nothing but what is refused: of a
    bundle, the one body that does not match its commitment and not its neighbours.

    Returns:
        Id of the evidence.
    """
    row = connection.execute(
        _evidence.insert().values(evidence).returning(_evidence.c.evidence_id)
    )
    evidence_id: int = row.scalar_one()
    return evidence_id


def has_evidence(
    connection: Connection, peer_id: int, list_name: str, code: str
) -> bool:
    """Tell whether there is evidence that a peer broke this rule with this list."""
    query = select(_evidence.c.evidence_id).where(
        _evidence.c.peer_id == peer_id,
        _evidence.c.list_name == list_name,
        _evidence.c.code == code,
    )
    return connection.execute(query).first() is not None


def count_evidence(
    connection: Connection, peer_id: int, *, except_lists: Collection[str]
) -> int:
    """Count the evidence against a peer, without that about some lists."""
    query = select(func.count()).where(
        _evidence.c.peer_id == peer_id, _evidence.c.list_name.not_in(except_lists)
    )
    return connection.execute(query).scalar_one()


def evidence_counts(connection: Connection) -> dict[int, int]:
    """Count the evidence against every peer that there is some against, by its id."""
    query = select(_evidence.c.peer_id, func.count()).group_by(_evidence.c.peer_id)
    return {row[0]: row[1] for row in connection.execute(query)}


def list_evidence(connection: Connection) -> list[Evidence]:
    """List all evidence, oldest first."""
    query = _select_evidence().order_by(_evidence.c.evidence_id)
    return [Evidence(*row) for row in connection.execute(query)]


def read_evidence(connection: Connection, evidence_id: int) -> Evidence | None:
    """Look up one piece of evidence."""
    query = _select_evidence().where(_evidence.c.evidence_id == evidence_id)
    row = connection.execute(query).one_or_none()
    return None if row is None else Evidence(*row)


def find_by_origin_hash(connection: Connection, digest: str) -> str | None:
    """Find the origin of a log, stored or only witnessed, by its name in a URL.

    Args:
        connection: In a transaction.
        digest: SHA-256 of the origin, 64 hexadecimal digits.
    """
    for table in (_logs, _witnessed):
        query = select(table.c.origin).where(table.c.origin_hash == digest)
        origin: str | None = connection.execute(query).scalar()
        if origin is not None:
            return origin
    return None


def select_acknowledgements() -> Select[Any]:
    """Select what makes an `Acknowledgement`, of all logs and peers."""
    return (
        select(
            _logs.c.origin,
            _peers.c.name,
            _acknowledgements.c.tree_size,
            _acknowledgements.c.acknowledged_at,
            _acknowledgements.c.note,
        )
        .join(_logs, _logs.c.log_id == _acknowledgements.c.log_id)
        .join(_peers, _peers.c.peer_id == _acknowledgements.c.peer_id)
    )


def _select_evidence() -> Select[Any]:
    return select(
        _evidence.c.evidence_id,
        _peers.c.name,
        _evidence.c.list_name,
        _evidence.c.code,
        _evidence.c.what,
        _evidence.c.found_at,
        _evidence.c.payload,
    ).join(_peers, _peers.c.peer_id == _evidence.c.peer_id)
