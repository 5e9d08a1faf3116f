"""Which process of a node leads: it has the right to write, and says where it is.

What it says is the name of the very session that has the right, so the server forgets
both at once: nobody is ever named who has it no more. PostgreSQL only; the owner of a
SQLite file has no other processes to be found by.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from sqlalchemy import text
from sqlalchemy.engine import make_url

from hashlight_node.store.postgresql import CLAIM

if TYPE_CHECKING:
    from sqlalchemy import Connection

LONGEST_HOST: Final = 40
"""Characters; the name of a session has 63 in all."""

_PREFIX: Final = "hashlight"

# Whoever may connect to the database can take the lock, and call itself what it likes:
# nothing is passed on to another user's session.
_HOLDER: Final = text(
    "SELECT CASE WHEN usename = current_user THEN application_name ELSE '' END"
    " FROM pg_locks JOIN pg_stat_activity USING (pid)"
    " WHERE locktype = 'advisory' AND granted AND classid = 0 AND objsubid = 1"
    " AND objid = :claim AND database ="
    " (SELECT oid FROM pg_database WHERE datname = current_database())"
)


@dataclass(frozen=True, slots=True)
class Place:
    """Where a process is reached by the others of its node.

    Attributes:
        host: Of its machine.
        local: Port of its local API.
        federation: Port on which it answers peers.
    """

    host: str
    local: int
    federation: int


@dataclass(frozen=True, slots=True)
class Leader:
    """Who has the right to write.

    Attributes:
        place: Where; None if that process serves nobody, as a command for example, or
            is not of this node.
    """

    place: Place | None


def named(url: str, place: Place) -> str:
    """Give the URL with which a process claims the right, saying where it is."""
    name = f"{_PREFIX} {place.host} {place.local} {place.federation}"
    claiming = make_url(url).update_query_dict({"application_name": name})
    return claiming.render_as_string(hide_password=False)


def find_leader(connection: Connection) -> Leader | None:
    """Find who has the right to write; None if nobody has."""
    name = connection.execute(_HOLDER, {"claim": CLAIM}).scalar()
    return None if name is None else Leader(_place(str(name)))


def _place(name: str) -> Place | None:
    match name.split(" "):
        case [prefix, host, local, federation] if prefix == _PREFIX:
            return Place(host, int(local), int(federation))
        case _:
            return None
