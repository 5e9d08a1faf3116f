"""How the store writes the scope of a grant: as on the wire, and null for all."""

from __future__ import annotations

import orjson

from hashlight_protocol import WHOLE_LIST, GrantScope, encode_scope, parse_scope


def scope_text(scope: GrantScope) -> str | None:
    """Write a scope; equal scopes are equal texts, and `WHOLE_LIST` is null."""
    members = encode_scope(scope)
    if members is None:
        return None
    return orjson.dumps(members, option=orjson.OPT_SORT_KEYS).decode()


def scope_of_text(text: str | None) -> GrantScope:
    """Read a scope that `scope_text` wrote."""
    return WHOLE_LIST if text is None else parse_scope(orjson.loads(text))
