"""Everything that is live, for the company's own analysts and stores."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from itertools import groupby
from operator import attrgetter
from typing import TYPE_CHECKING, Final, cast

import orjson

from hashlight_node.exchange.looking_up.exporting import export_live
from hashlight_node.model import Scope
from hashlight_node.store.exporting import Wanted

from .answers import StreamedAnswer
from .instants import optional_instant
from .models.export import SignalExported
from .operations import NO_BODY, Call, operation

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Sequence

    from hashlight_node.store.exporting import Exported

    from .models.export import RecordExported
    from .models.lookup import LabelShown

NDJSON: Final = "application/x-ndjson"


@operation(
    "GET",
    "/v1/export{?type,list}",
    scope=Scope.AUDIT,
    takes=NO_BODY,
    gives=StreamedAnswer(NDJSON, SignalExported),
)
async def export_signals(call: Call[None]) -> AsyncGenerator[bytes, None]:
    """Export every live signal with the records that assert it.

    One line of JSON for each signal; a signal with hundreds of records may take several
    lines, one right after the other. Lines are true when they are sent. An answer that
    ends early ends without the end that HTTP demands.
    """
    node, _, list_name = call.query.get("list", "").rpartition("/")
    wanted = Wanted(
        signal_type=call.query.get("type"),
        node=node or call.parts.node_name,
        list_name=list_name or None,
    )
    return _lines(call, wanted)


async def _lines(call: Call[None], wanted: Wanted) -> AsyncGenerator[bytes, None]:
    pages = export_live(call.parts.database, clock=call.parts.clock, wanted=wanted)
    async with aclosing(pages):
        async for rows in pages:
            if rows:
                yield await asyncio.to_thread(encode_lines, rows)


def encode_lines(rows: Sequence[Exported]) -> bytes:
    """Write records as lines, a line for each signal."""
    lines: list[bytes] = []
    for signal, some in groupby(rows, attrgetter("signal")):
        line: SignalExported = {
            "signal": {"type": signal.type, "value": signal.value},
            "records": [_show(row) for row in some],
        }
        lines.append(orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE))
    return b"".join(lines)


def _show(row: Exported) -> RecordExported:
    record = row.record
    return {
        # As `encode_ref` writes it, which checks first what our own store knows.
        "ref": f"{record.ref.origin}#{record.ref.leaf_index}",
        "list": record.list_name,
        "origin_node": record.origin_node,
        "tree_size": record.tree_size,
        "labels": cast("list[LabelShown]", list(record.labels)),
        "source": record.source,
        "review": record.review,
        "created": optional_instant(record.created_at),
        "quality": record.quality,
        "expires": optional_instant(row.expires_at),
    }


OPERATIONS: Final = (export_signals,)
