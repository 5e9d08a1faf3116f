"""`TYPE:VALUE` as people type it."""

from __future__ import annotations

from hashlight_node.cli.session import UsageError


def split_signal(text: str) -> tuple[str, str]:
    """Split `TYPE:VALUE`; the value may hold colons, as URLs and HMACs do.

    Raises:
        UsageError: There is no type, or no value.
    """
    signal_type, _, value = text.partition(":")
    if not signal_type or not value:
        message = "a signal is written TYPE:VALUE, for example pdq:<64 hex digits>"
        raise UsageError(message)
    return signal_type, value
