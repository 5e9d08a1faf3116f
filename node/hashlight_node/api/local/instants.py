"""Instants in answers: RFC 3339 text, or null for what has not happened."""

from __future__ import annotations

from hashlight_protocol import encode_timestamp


def optional_instant(seconds: int | None) -> str | None:
    """Write Unix seconds, None as None."""
    return None if seconds is None else encode_timestamp(seconds)
