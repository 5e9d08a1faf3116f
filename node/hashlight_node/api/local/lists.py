"""Lists: ours and those that we follow."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from hashlight_node.exchange.errors import ListExistsError, UnknownListError
from hashlight_node.model import Role, Scope
from hashlight_node.store import logs
from hashlight_node.store.peers import find_peer
from hashlight_protocol import (
    encode_timestamp,
    encode_vkey,
    open_list_note,
    parse_vkey,
)

from .answers import JsonAnswer
from .bodies import JsonBody
from .instants import optional_instant
from .models.lists import ListDetail, ListPage, NewList
from .operations import NO_BODY, Call, operation

if TYPE_CHECKING:
    from hashlight_node.model import Log
    from hashlight_node.store.database import Connection

    from .parts import LocalParts


@operation(
    "POST",
    "/v1/lists",
    scope=Scope.ADMIN,
    takes=JsonBody(NewList),
    gives=JsonAnswer(ListDetail, status=201),
    raises=(ListExistsError,),
)
async def create_list(call: Call[NewList]) -> ListDetail:
    """Start a list: a new signed log with a key of its own.

    Nobody can fetch it before it is granted.
    """
    parts, meta = call.parts, call.body.meta
    log = await parts.publisher.create_list(call.body.name, meta)
    return await parts.database.read(lambda conn: _show(conn, parts, log))


@operation(
    "GET",
    "/v1/lists",
    scope=Scope.AUDIT,
    takes=NO_BODY,
    gives=JsonAnswer(ListPage, page_of="lists"),
)
async def list_lists(call: Call[None]) -> ListPage:
    """List our lists and those that we follow, as far as they are verified here."""

    def read(conn: Connection) -> ListPage:
        rows, cursor = call.page.cut(logs.list_logs(conn), lambda log: log.origin)
        shown = [_show(conn, call.parts, log) for log in rows]
        return {"lists": shown, "next_cursor": cursor}

    return await call.parts.database.read(read)


@operation(
    "GET",
    "/v1/lists/{listed}",
    scope=Scope.AUDIT,
    takes=NO_BODY,
    gives=JsonAnswer(ListDetail),
    raises=(UnknownListError,),
)
async def get_list(call: Call[None]) -> ListDetail:
    """Show one list with its newest signed checkpoint and the keys that verify it.

    A list of ours goes by its name, one that we follow by `<node>/<list>`.
    """
    node, _, name = call.path["listed"].rpartition("/")

    def read(conn: Connection) -> ListDetail:
        if node in ("", call.parts.node_name):
            log = logs.find_own_log(conn, call.parts.node_name, name)
        else:
            log = logs.find_followed_log(conn, node, name)
        if log is None:
            raise UnknownListError(name)
        return _show(conn, call.parts, log)

    return await call.parts.database.read(read)


def _show(conn: Connection, parts: LocalParts, log: Log) -> ListDetail:
    vkeys = _vkeys(conn, parts, log)
    lag_seconds = 0
    if log.role is Role.FOLLOWED:
        lag_seconds = max(0, parts.clock() - (log.verified_at or log.created_at))
    return {
        "name": log.list_name,
        "node": log.node,
        "origin": log.origin,
        "epoch": log.epoch,
        "role": log.role,
        "state": log.state,
        "size": log.tree_size,
        "root_hash": log.root_hash.hex(),
        "vkey": vkeys[-1] if vkeys else None,
        "vkeys": vkeys,
        "checkpoint": None if log.checkpoint is None else log.checkpoint.decode(),
        "checkpoint_size": log.checkpoint_size,
        "created_at": encode_timestamp(log.created_at),
        "verified_at": optional_instant(log.verified_at),
        "lag_seconds": lag_seconds,
        "meta": dict(log.meta),
        "error": log.error,
    }


def _vkeys(conn: Connection, parts: LocalParts, log: Log) -> list[str]:
    """Give the keys that the list's owner says sign this log, the newest last."""
    identity = parts.identity
    if log.role is Role.FOLLOWED:
        peer = find_peer(conn, log.node)
        if peer is None:
            return []
        identity = parse_vkey(peer.identity_vkey)
    if log.list_note is None:
        return []
    note = open_list_note(log.list_note, identity)
    return [
        encode_vkey(key)
        for told in note.logs
        if told.origin == log.origin
        for key in told.vkeys
    ]


OPERATIONS: Final = (create_list, list_lists, get_list)
