"""Records: what is read, what is refused and where, and that nothing else happens."""

import json
import time
from dataclasses import replace
from itertools import count
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hashlight_protocol.errors import (
    BadRecordError,
    MalformedError,
    ProtocolError,
    TooLargeError,
    UnknownCriticalError,
)
from hashlight_protocol.origins import Ref
from hashlight_protocol.records import (
    MAX_RECORD_BYTES,
    NOT_REVIEWED,
    Indicator,
    Label,
    Opinion,
    OwnRecord,
    Review,
    Sighting,
    SignalClaim,
    UnknownRecord,
    encode_record,
    parse_record,
)
from hashlight_protocol.signals import Signal
from hashlight_protocol.timestamps import MAX_TIMESTAMP

PDQ = "f8f8" * 16
ORIGIN = "shield.example/hsf/v1/log/ncii/1"

INDICATOR: dict[str, Any] = {
    "type": "indicator",
    "signals": [{"type": "pdq", "value": PDQ, "quality": 88}],
    "kind": "image",
    "labels": [{"scheme": "ncii", "value": "adult"}],
    "source": "hotline",
    "review": {"level": "human", "reviewers": 2},
    "created": "2026-11-21T10:00:00Z",
}
OPINION: dict[str, Any] = {
    "type": "opinion",
    "ref": f"{ORIGIN}#7",
    "stance": "dispute",
}
SIGHTING: dict[str, Any] = {
    "type": "sighting",
    "ref": f"{ORIGIN}#7",
    "outcome": "blocked",
    "count": 3,
    "first_at": "2026-11-21T10:00:00Z",
    "last_at": "2026-11-21T11:00:00Z",
}
DELETED: Any = object()


def body_of(members: object) -> bytes:
    return json.dumps(members).encode()


def changed(members: dict[str, Any], path: str, value: object) -> dict[str, Any]:
    copy: Any = json.loads(json.dumps(members))
    *parents, last = [int(step) if step.isdigit() else step for step in path.split("/")]
    place = copy
    for step in parents:
        place = place[step]
    if value is DELETED:
        del place[last]
    else:
        place[last] = value
    return dict(copy)


tokens = st.from_regex(r"[a-z0-9][a-z0-9_/-]{0,63}", fullmatch=True)
label_values = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_:/-]{0,63}", fullmatch=True)
instants = st.integers(0, MAX_TIMESTAMP)
optional_tokens = st.none() | tokens
refs = st.builds(Ref, st.just(ORIGIN), st.integers(0, 2**63 - 1))
claims = st.builds(
    SignalClaim,
    st.builds(Signal, st.just("md5"), st.from_regex("[0-9a-f]{32}", fullmatch=True)),
    st.none() | st.integers(0, 100),
)
indicators = st.builds(
    Indicator,
    signals=st.lists(
        claims, min_size=1, max_size=4, unique_by=lambda claim: claim.signal
    ).map(tuple),
    kind=tokens,
    source=tokens.filter(lambda source: source != "government"),
    created_at=st.integers(0, 10**9),
    labels=st.lists(
        st.builds(
            Label, tokens, label_values, st.none() | label_values, optional_tokens
        ),
        max_size=3,
    ).map(tuple),
    review=st.builds(Review, tokens, st.none() | st.integers(1, 255)),
    synthetic=st.none() | st.booleans(),
    case=st.none() | st.from_regex(r"[A-Za-z0-9_-]{1,64}", fullmatch=True),
    expires_at=st.none() | st.integers(10**9 + 1, MAX_TIMESTAMP),
    replaces=st.none() | st.integers(1, 2**53 - 1),
    share=st.sampled_from(["none", "peers"]),
)
opinions = st.builds(
    Opinion,
    refs,
    tokens,
    optional_tokens,
    optional_tokens,
    st.lists(tokens, max_size=3).map(tuple),
)
sightings = st.builds(
    lambda first, last, **members: Sighting(
        first_at=min(first, last), last_at=max(first, last), **members
    ),
    instants,
    instants,
    ref=refs,
    outcome=tokens,
    count=st.integers(1, 2**53 - 1),
    signal_type=optional_tokens,
)


@given(indicators | opinions | sightings)
def test_what_we_write_is_read_as_what_we_meant(record: OwnRecord) -> None:
    body = encode_record(record)
    assert parse_record(body) == record
    assert body.startswith(b'{"type":"' + record.type.encode() + b'",')
    assert b": " not in body
    assert b"null" not in body.replace(b'"null"', b"")


@given(st.binary(max_size=80))
def test_arbitrary_bytes_only_ever_raise_protocol_errors(body: bytes) -> None:
    with pytest.raises(ProtocolError):
        parse_record(body)


values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats()
    | st.text(max_size=6)
    | st.sampled_from(["pdq", PDQ, "2026-11-21T10:00:00Z", f"{ORIGIN}#7", "type"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["type", "value", "scheme", "level", "quality"]), inner
        )
    ),
    max_leaves=6,
)


@given(
    st.sampled_from([INDICATOR, OPINION, SIGHTING]),
    st.dictionaries(
        st.sampled_from([*INDICATOR, *OPINION, *SIGHTING, "crit", "x", "expires"]),
        values,
        max_size=3,
    ),
)
def test_any_json_in_any_member_only_ever_raises_protocol_errors(
    members: dict[str, Any], changes: dict[str, Any]
) -> None:
    try:
        record = parse_record(body_of(members | changes))
    except ProtocolError:
        return
    assert record.type == (members | changes)["type"]


def test_every_member_of_an_indicator_is_read() -> None:
    members = INDICATOR | {
        "signals": [
            {"type": "pdq", "value": PDQ.upper(), "quality": 50},
            {"type": "netclean", "value": "AbC=="},
        ],
        "labels": [
            {
                "scheme": "ncmec",
                "value": "A1",
                "jurisdiction": "US",
                "assigned_by": "shield.example",
            }
        ],
        "synthetic": False,
        "case": "x_Y-9",
        "expires": "2027-01-01T00:00:00Z",
        "replaces": 41,
        "share": "peers",
        "crit": ["share"],
        "x_unknown": {"deep": [None]},
    }
    assert parse_record(body_of(members)) == Indicator(
        signals=(
            SignalClaim(Signal("pdq", PDQ), 50),
            SignalClaim(Signal("netclean", "AbC=="), None),
        ),
        kind="image",
        source="hotline",
        created_at=1_795_255_200,
        labels=(Label("ncmec", "A1", "US", "shield.example"),),
        review=Review("human", 2),
        synthetic=False,
        case="x_Y-9",
        expires_at=1_798_761_600,
        replaces=41,
        share="peers",
    )


def test_what_an_indicator_leaves_out_has_the_careful_meaning() -> None:
    members = INDICATOR.copy()
    del members["labels"], members["review"]
    record = parse_record(body_of(members))
    assert isinstance(record, Indicator)
    assert (record.labels, record.review, record.share) == ((), NOT_REVIEWED, "none")


def test_opinions_and_sightings_are_read() -> None:
    opinion = OPINION | {"signal": "pdq", "reason": "meme", "tags": ["viral"]}
    assert parse_record(body_of(opinion)) == Opinion(
        Ref(ORIGIN, 7), "dispute", "pdq", "meme", ("viral",)
    )
    sighting = SIGHTING | {"signal": "md5"}
    assert parse_record(body_of(sighting)) == Sighting(
        Ref(ORIGIN, 7), "blocked", 3, 1_795_255_200, 1_795_258_800, "md5"
    )


def test_a_record_of_an_unknown_type_is_kept_whatever_else_it_says() -> None:
    body = body_of({"type": "appeal", "crit": ["type", "x"], "signals": 1})
    assert parse_record(body) == UnknownRecord("appeal")


def test_words_of_growing_vocabularies_are_not_judged() -> None:
    members = INDICATOR | {"kind": "hologram", "review": {"level": "oracle"}}
    record = parse_record(body_of(members))
    assert isinstance(record, Indicator)
    assert record.kind == "hologram"


@pytest.mark.parametrize(
    ("members", "path", "value", "pointer"),
    [
        (INDICATOR, "type", DELETED, "/type"),
        (INDICATOR, "type", 1, "/type"),
        (INDICATOR, "type", "Indicator", "/type"),
        (INDICATOR, "signals", DELETED, "/signals"),
        (INDICATOR, "signals", [], "/signals"),
        (INDICATOR, "signals", {}, "/signals"),
        (INDICATOR, "signals", INDICATOR["signals"] * 2, "/signals"),
        (INDICATOR, "signals", INDICATOR["signals"] * 33, "/signals"),
        (INDICATOR, "signals/0", "pdq", "/signals/0"),
        (INDICATOR, "signals/0/type", DELETED, "/signals/0/type"),
        (INDICATOR, "signals/0/type", None, "/signals/0/type"),
        (INDICATOR, "signals/0/type", "PDQ", "/signals/0"),
        (INDICATOR, "signals/0/type", "email", "/signals/0"),
        (INDICATOR, "signals/0/value", DELETED, "/signals/0/value"),
        (INDICATOR, "signals/0/value", "f8", "/signals/0"),
        (INDICATOR, "signals/0/quality", 49, "/signals/0/quality"),
        (INDICATOR, "signals/0/quality", 101, "/signals/0/quality"),
        (INDICATOR, "signals/0/quality", -1, "/signals/0/quality"),
        (INDICATOR, "signals/0/quality", True, "/signals/0/quality"),
        (INDICATOR, "signals/0/quality", 88.0, "/signals/0/quality"),
        (INDICATOR, "signals/0/quality", None, "/signals/0/quality"),
        (INDICATOR, "kind", DELETED, "/kind"),
        (INDICATOR, "kind", "holiday photo of someone", "/kind"),
        (INDICATOR, "kind", "beach.jpg", "/kind"),
        (INDICATOR, "labels", None, "/labels"),
        (INDICATOR, "labels", INDICATOR["labels"] * 33, "/labels"),
        (INDICATOR, "labels/0", [], "/labels/0"),
        (INDICATOR, "labels/0/scheme", "ncii:x", "/labels/0/scheme"),
        (INDICATOR, "labels/0/value", "two words", "/labels/0/value"),
        (INDICATOR, "labels/0/value", "Beach.jpg", "/labels/0/value"),
        (INDICATOR, "labels/0/jurisdiction", "", "/labels/0/jurisdiction"),
        (INDICATOR, "labels/0/assigned_by", "A", "/labels/0/assigned_by"),
        (INDICATOR, "source", DELETED, "/source"),
        (INDICATOR, "source", "government", "/source"),
        (INDICATOR, "review", "human", "/review"),
        (INDICATOR, "review", None, "/review"),
        (INDICATOR, "review/level", DELETED, "/review/level"),
        (INDICATOR, "review/reviewers", 0, "/review/reviewers"),
        (INDICATOR, "review/reviewers", 256, "/review/reviewers"),
        (INDICATOR, "synthetic", 1, "/synthetic"),
        (INDICATOR, "case", "someone@example.org", "/case"),
        (INDICATOR, "created", DELETED, "/created"),
        (INDICATOR, "created", 1_795_255_200, "/created"),
        (INDICATOR, "created", "2026-11-21T10:00:00+00:00", "/created"),
        (INDICATOR, "expires", "2026-11-21T10:00:00Z", "/expires"),
        (INDICATOR, "expires", None, "/expires"),
        (INDICATOR, "replaces", 0, "/replaces"),
        (INDICATOR, "share", "every one", "/share"),
        (INDICATOR, "crit", [], "/crit"),
        (INDICATOR, "crit", "share", "/crit"),
        (INDICATOR, "crit", ["type"] * 17, "/crit"),
        (INDICATOR, "crit", ["type", "type"], "/crit/1"),
        (INDICATOR, "crit", ["kind", "share"], "/crit/1"),
        (INDICATOR, "crit", [1], "/crit/0"),
        (INDICATOR, "crit", ["a b"], "/crit/0"),
        (OPINION, "ref", DELETED, "/ref"),
        (OPINION, "ref", "shield.example#7", "/ref"),
        (OPINION, "ref", f"{ORIGIN}#07", "/ref"),
        (OPINION, "stance", DELETED, "/stance"),
        (OPINION, "signal", "PDQ", "/signal"),
        (OPINION, "reason", "she said it is not her", "/reason"),
        (OPINION, "tags", ["viral", "two words"], "/tags/1"),
        (OPINION, "tags", [7], "/tags/0"),
        (OPINION, "tags", ["viral"] * 17, "/tags"),
        (SIGHTING, "ref", 7, "/ref"),
        (SIGHTING, "outcome", "", "/outcome"),
        (SIGHTING, "count", 0, "/count"),
        (SIGHTING, "count", 2**53, None),
        (SIGHTING, "first_at", DELETED, "/first_at"),
        (SIGHTING, "last_at", "2026-11-21T09:59:59Z", "/last_at"),
    ],
    ids=count(),
)
def test_a_wrong_member_is_refused_by_its_place(
    members: dict[str, Any], path: str, value: object, pointer: str | None
) -> None:
    parse_record(body_of(members))
    body = body_of(changed(members, path, value))
    if pointer is None:
        with pytest.raises(MalformedError):
            parse_record(body)
        return
    with pytest.raises(BadRecordError) as caught:
        parse_record(body)
    assert caught.value.pointer == pointer


@pytest.mark.parametrize("body", [b"[]", b'"indicator"', b"null", b"1"])
def test_a_record_is_an_object(body: bytes) -> None:
    with pytest.raises(BadRecordError) as caught:
        parse_record(body)
    assert caught.value.pointer == ""


def test_a_record_that_needs_an_unknown_member_is_not_acted_on() -> None:
    members = INDICATOR | {"crit": ["kind", "geofence"], "geofence": "GB"}
    with pytest.raises(UnknownCriticalError) as caught:
        parse_record(body_of(members))
    assert caught.value.member == "geofence"
    del members["crit"]
    assert parse_record(body_of(members)) == parse_record(body_of(INDICATOR))


def test_a_member_of_another_type_of_record_is_unknown() -> None:
    members = OPINION | {"crit": ["kind"], "kind": "image"}
    with pytest.raises(UnknownCriticalError):
        parse_record(body_of(members))


def test_refusals_never_quote_the_value() -> None:
    for value in (PDQ[:-1], PDQ + "0"):
        with pytest.raises(BadRecordError) as caught:
            parse_record(body_of(changed(INDICATOR, "signals/0/value", value)))
        assert "f8f8" not in str(caught.value)


def test_the_limit_is_in_bytes_and_includes_its_last() -> None:
    frame = len(body_of(INDICATOR | {"x": ""}))
    largest = body_of(INDICATOR | {"x": "a" * (MAX_RECORD_BYTES - frame)})
    assert len(largest) == MAX_RECORD_BYTES
    parse_record(largest)
    with pytest.raises(TooLargeError) as caught:
        parse_record(largest + b" ")
    assert caught.value.limit == 16_384


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (b'{"type":"indicator","type":"opinion"}', "repeated"),
        (b'\xef\xbb\xbf{"type":"x"}', "no JSON"),
        (b'{"type":"x","x":1e400}', "double"),
        (b'{"type":"x","x":' + b"9" * 400 + b"}", "too long"),
        (b'{"type":"x","x":"\\ud800"}', "surrogate"),
        (b'{"type":"x","x":' + b"[" * 400 + b"]" * 400 + b"}", "nested"),
    ],
)
def test_json_that_two_readers_could_read_differently_is_refused(
    raw: bytes, reason: str
) -> None:
    with pytest.raises(MalformedError, match=reason):
        parse_record(raw)


GOOD = Indicator(
    signals=(SignalClaim(Signal("pdq", PDQ)),),
    kind="image",
    source="hotline",
    created_at=0,
)


@pytest.mark.parametrize(
    "record",
    [
        replace(GOOD, signals=()),
        replace(GOOD, signals=(SignalClaim(Signal("pdq", PDQ), 49),)),
        replace(GOOD, signals=(SignalClaim(Signal("email", "a@example.org")),)),
        replace(GOOD, kind="two words"),
        replace(GOOD, source="government"),
        replace(GOOD, created_at=-1),
        replace(GOOD, expires_at=0),
        replace(GOOD, case="\ud800"),
        replace(GOOD, replaces=2**53),
        Opinion(Ref("not an origin", 1), "affirm"),
        Sighting(Ref(ORIGIN, 1), "matched", 0, 0, 0),
        replace(
            GOOD,
            signals=tuple(
                SignalClaim(Signal("photodna", f"{n:04}" * 1024)) for n in range(5)
            ),
        ),
    ],
    ids=count(),
)
def test_a_record_of_our_own_that_peers_would_refuse_is_never_written(
    record: OwnRecord,
) -> None:
    with pytest.raises(ProtocolError):
        encode_record(record)


def test_the_largest_record_of_brackets_takes_no_time() -> None:
    started_at = time.perf_counter()
    for filler in (b"[", b'"', b"\\", b'{"a":', b"[],"):
        with pytest.raises(ProtocolError):
            parse_record(b'{"type":' + filler * (16_000 // len(filler)))
    assert time.perf_counter() - started_at < 1
