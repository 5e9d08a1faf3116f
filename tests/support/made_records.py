"""Records for tests, each with a signal of its own."""

from __future__ import annotations

import hashlib
from dataclasses import replace

from hashlight_protocol import (
    Indicator,
    Label,
    Opinion,
    Ref,
    Review,
    SignalClaim,
    encode_record,
    parse_record,
    parse_signal,
)

from .clock import START


def md5_of(number: int) -> str:
    """Give the MD5 that record `number` asserts."""
    return hashlib.md5(b"%d" % number, usedforsecurity=False).hexdigest()


def pdq_of(number: int) -> str:
    """Give the PDQ hash that record `number` asserts."""
    return hashlib.sha256(b"%d" % number).hexdigest()


def indicator(
    number: int, *, kind: str = "image", replaces: int | None = None
) -> bytes:
    """Make the body of a record that asserts one MD5 and one PDQ hash."""
    return encode_record(
        Indicator(
            signals=(
                SignalClaim(parse_signal("md5", md5_of(number))),
                SignalClaim(parse_signal("pdq", pdq_of(number)), quality=100),
            ),
            kind=kind,
            source="hotline",
            created_at=START,
            labels=(Label("ncii", "adult"),),
            review=Review("human"),
            replaces=replaces,
        )
    )


def indicators(count: int, *, first: int = 0) -> list[bytes]:
    return [indicator(number) for number in range(first, first + count)]


def opinion(about: Ref, stance: str = "dispute") -> bytes:
    return encode_record(Opinion(ref=about, stance=stance))


def shared(number: int) -> bytes:
    """Make the body of a record that says itself that it may be passed on."""
    record = parse_record(indicator(number))
    assert isinstance(record, Indicator)
    return encode_record(replace(record, share="peers"))
