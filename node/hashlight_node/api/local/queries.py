"""Signals that a caller names, checked."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hashlight_node.api.errors import Fault, InvalidBodyError
from hashlight_protocol import BadSignalError, parse_signal

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hashlight_protocol import Signal

    from .models.lookup import Query


def parse_queries(queries: Sequence[Query]) -> list[Signal]:
    """Bring signals into canonical form.

    Raises:
        InvalidBodyError: Some are no signals of their types; every one is named.
    """
    signals: list[Signal] = []
    faults: list[Fault] = []
    for position, query in enumerate(queries):
        try:
            signals.append(parse_signal(query.type, query.value))
        except BadSignalError as error:
            faults.append(Fault(f"/queries/{position}", error.reason))
    if faults:
        raise InvalidBodyError(tuple(faults))
    return signals
