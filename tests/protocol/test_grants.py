"""Grants: a scope shows what it names, less if it is narrowed, and nothing if empty."""

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hashlight_protocol import (
    MAX_GRANTS_BYTES,
    WHOLE_LIST,
    Body,
    BodyStatus,
    Grants,
    GrantScope,
    Indicator,
    JsonValue,
    Label,
    ListGrant,
    MalformedError,
    Opinion,
    OwnRecord,
    ProtocolError,
    RecordFacts,
    Ref,
    Sighting,
    Signal,
    SignalClaim,
    TooLargeError,
    UnknownRecord,
    encode_grants,
    encode_record,
    encode_scope,
    facts_of,
    parse_grants,
    parse_record,
    parse_scope,
    withhold,
    withhold_unshared,
)
from support.example_log import LIST_ID, NODE, ORIGIN
from support.vectors import Case, cases

HASH = "0" * 32
INDICATOR = Indicator(
    signals=(
        SignalClaim(Signal("md5", HASH)),
        SignalClaim(Signal("domain", "bad.example")),
    ),
    kind="image",
    source="hotline",
    created_at=0,
    labels=(Label("ncmec", "A1"), Label("iwf", "A", "GB")),
)
OPINION = Opinion(Ref(ORIGIN, 7), "dispute", "md5")
SIGHTING = Sighting(Ref("other.example/hsf/v1/log/x/1", 7), "matched", 3, 0, 9)
NOTHING = GrantScope(labels=frozenset(), signals=None, about=None)


def scope_of(
    labels: str | None = None, signals: str | None = None, about: str | None = None
) -> GrantScope:
    return GrantScope(
        None if labels is None else frozenset(labels.split()),
        None if signals is None else frozenset(signals.split()),
        about,
    )


def shows(scope: GrantScope, record: OwnRecord | UnknownRecord | None) -> bool:
    return scope.allows(facts_of(record))


def test_the_facts_of_a_record() -> None:
    assert facts_of(INDICATOR) == RecordFacts(
        frozenset({"ncmec:A1", "iwf:A"}), frozenset({"md5", "domain"})
    )
    assert facts_of(OPINION) == RecordFacts(frozenset(), frozenset({"md5"}), NODE)
    assert facts_of(SIGHTING) == RecordFacts(about="other.example")
    assert facts_of(UnknownRecord("later")) == facts_of(None) == RecordFacts()


@pytest.mark.parametrize(
    "labels",
    ["ncmec:A1", "ncmec:A*", "ncmec:*", "ncmec:A1*", "iwf:A", "x:y iwf:*"],
)
def test_a_label_that_matches_shows_a_record(labels: str) -> None:
    assert shows(scope_of(labels), INDICATOR)
    assert not shows(scope_of(labels), replace(INDICATOR, labels=()))
    assert not shows(scope_of(labels), OPINION)


@pytest.mark.parametrize("labels", ["", "ncmec:A", "ncmec:A2", "ncmec:a1", "ncme:*"])
def test_another_label_does_not(labels: str) -> None:
    assert not shows(scope_of(labels), INDICATOR)


def test_a_record_is_shown_if_all_of_its_signals_are_of_the_types() -> None:
    assert shows(scope_of(signals="md5 domain pdq"), INDICATOR)
    assert shows(scope_of(signals="md5"), OPINION)
    for signals in ("", "md5", "domain", "pdq"):
        assert not shows(scope_of(signals=signals), INDICATOR)
    # Of which type it is, it does not say.
    assert not shows(scope_of(signals="md5"), SIGHTING)


def test_a_node_sees_what_is_about_its_own_records() -> None:
    assert shows(scope_of(about=NODE), OPINION)
    assert shows(scope_of(about="other.example"), SIGHTING)
    assert not shows(scope_of(about=NODE), SIGHTING)
    assert not shows(scope_of(about="other.example"), OPINION)
    assert not shows(scope_of(about=NODE), INDICATOR)


def test_criteria_must_all_be_met() -> None:
    assert shows(scope_of("ncmec:*", "md5 domain"), INDICATOR)
    assert not shows(scope_of("ncmec:*", "md5"), INDICATOR)
    assert not shows(scope_of("gifct:*", "md5 domain"), INDICATOR)
    assert not shows(scope_of("ncmec:*", "md5 domain", NODE), INDICATOR)


def test_only_the_whole_list_shows_what_cannot_be_read() -> None:
    for unreadable in (None, UnknownRecord("later")):
        assert shows(WHOLE_LIST, unreadable)
        for scope in (
            scope_of("ncmec:*"),
            scope_of(signals="md5"),
            scope_of(about=NODE),
        ):
            assert not shows(scope, unreadable)


WORDS = st.sampled_from(["a:b", "a:bc", "a:b*", "a:*", "c:d", "c:*"])
TYPES = st.sampled_from(["pdq", "md5", "url"])
NODES = st.sampled_from(["a.example", "b.example"])
SCOPES = st.builds(
    GrantScope,
    labels=st.none() | st.frozensets(WORDS),
    signals=st.none() | st.frozensets(TYPES),
    about=st.none() | NODES,
)
FACTS = st.builds(
    RecordFacts,
    labels=st.frozensets(st.sampled_from(["a:b", "a:bc", "c:d", "ab:c"])),
    signal_types=st.frozensets(TYPES),
    about=st.none() | NODES,
)


@st.composite
def narrowed(draw: st.DrawFn, scope: GrantScope) -> GrantScope:
    """Give a scope with a criterion added, or with words taken out of one."""
    keep_label = draw(st.frozensets(WORDS)).__contains__
    keep_type = draw(st.frozensets(TYPES)).__contains__
    labels, signals, about = scope.labels, scope.signals, scope.about
    if labels is None:
        labels = draw(st.none() | st.frozensets(WORDS))
    else:
        labels = frozenset(filter(keep_label, labels))
    if signals is None:
        signals = draw(st.none() | st.frozensets(TYPES))
    else:
        signals = frozenset(filter(keep_type, signals))
    return GrantScope(labels, signals, about or draw(st.none() | NODES))


@given(data=st.data(), scope=SCOPES, facts=FACTS)
def test_narrowing_never_shows_more(
    data: st.DataObject, scope: GrantScope, facts: RecordFacts
) -> None:
    narrower = data.draw(narrowed(scope))
    assert narrower.allows(facts) <= scope.allows(facts) <= WHOLE_LIST.allows(facts)


@given(scope=SCOPES, facts=FACTS)
def test_an_empty_criterion_shows_nothing(
    scope: GrantScope, facts: RecordFacts
) -> None:
    assert not replace(scope, labels=frozenset()).allows(facts)
    assert not replace(scope, signals=frozenset()).allows(facts)


BODIES = (
    Body(BodyStatus.NONE),
    Body(BodyStatus.PRESENT, bytes(16), encode_record(INDICATOR)),
    Body(BodyStatus.PRESENT, bytes(16), encode_record(OPINION)),
    Body(BodyStatus.PRESENT, bytes(16), b'{"type":"later"}'),
    Body(BodyStatus.PRESENT, bytes(16), b"no record"),
    Body(BodyStatus.WITHHELD),
    Body(BodyStatus.ERASED),
)


def test_withholding_leaves_everything_but_bodies_as_it_is() -> None:
    withheld = Body(BodyStatus.WITHHELD)
    none, indicator, opinion, later, bad, _, erased = BODIES
    assert withhold(BODIES, WHOLE_LIST) == BODIES
    assert withhold(BODIES, scope_of("iwf:*")) == (
        *(none, indicator, withheld, withheld, withheld, withheld, erased),
    )
    assert withhold(BODIES, scope_of(about=NODE)) == (
        *(none, withheld, opinion, withheld, withheld, withheld, erased),
    )
    assert withhold(BODIES, NOTHING) == (
        *(none, withheld, withheld, withheld, withheld, withheld, erased),
    )
    assert {later.status, bad.status} == {BodyStatus.PRESENT}


def test_only_what_says_that_it_is_shared_may_be_relayed() -> None:
    shared = Body(
        BodyStatus.PRESENT, bytes(16), encode_record(replace(INDICATOR, share="peers"))
    )
    others = [
        Body(
            BodyStatus.PRESENT, bytes(16), encode_record(replace(INDICATOR, share=word))
        )
        for word in ("none", "everybody")
    ]
    kept = withhold_unshared([*BODIES, *others, shared])
    assert [body.status for body in kept if body.body] == [BodyStatus.PRESENT]
    assert kept[-1] == shared
    assert [body.status for body in kept[: len(BODIES)]] == [
        BodyStatus.WITHHELD if body.status == BodyStatus.PRESENT else body.status
        for body in BODIES
    ]


@given(scope=SCOPES, data=st.data())
def test_narrowing_never_serves_more_bodies(
    scope: GrantScope, data: st.DataObject
) -> None:
    wide = withhold(BODIES, scope)
    narrow = withhold(BODIES, data.draw(narrowed(scope)))
    assert all(
        less in {more, Body(BodyStatus.WITHHELD)}
        for less, more in zip(narrow, wide, strict=True)
    )


@given(scope=SCOPES)
def test_a_scope_comes_back_as_it_was(scope: GrantScope) -> None:
    members = encode_scope(scope)
    if scope == WHOLE_LIST:
        assert members is None
        return
    assert parse_scope(json.loads(json.dumps(members))) == scope


@pytest.mark.parametrize(
    "value",
    [
        None,
        [],
        "all",
        {},
        {"later": 1},
        {"labels": ["a:b"], "later": 1},
        {"labels": None},
        {"labels": "a:b"},
        {"labels": [1]},
        {"labels": ["a"]},
        {"labels": ["*"]},
        {"labels": ["a*:b"]},
        {"labels": ["a:b*c"]},
        {"labels": ["a:**"]},
        {"labels": ["A:b"]},
        {"labels": ["a:b c"]},
        {"labels": ["a:" + "b" * 65]},
        {"labels": ["a:b", "a:b"]},
        {"labels": [f"a:{number}" for number in range(65)]},
        {"signals": None},
        {"signals": ["PDQ"]},
        {"signals": ["*"]},
        {"signals": [""]},
        {"signals": ["pdq", "pdq"]},
        {"about": None},
        {"about": ""},
        {"about": "Other.example"},
        {"about": ["other.example"]},
    ],
)
def test_what_is_no_scope_is_refused(value: JsonValue) -> None:
    with pytest.raises(MalformedError):
        parse_scope(value)


def test_no_scope_is_made_of_what_could_not_be_read() -> None:
    with pytest.raises(MalformedError):
        scope_of("all")
    with pytest.raises(MalformedError):
        scope_of(about="ALL")
    many = frozenset(f"type-{number}" for number in range(65))
    with pytest.raises(TooLargeError, match="64"):
        GrantScope(None, many, None)


GRANTS = Grants(
    4,
    (
        ListGrant(LIST_ID, 0, WHOLE_LIST),
        ListGrant(f"{NODE}/hsf/v1/log/feedback", 9, scope_of(about="other.example")),
        ListGrant(f"{NODE}/hsf/v1/log/ncii", 9, scope_of("ncmec:A* x:y", "pdq")),
    ),
)
RAW = encode_grants(GRANTS)


def test_grants_come_back_as_they_were() -> None:
    assert parse_grants(RAW, node=NODE) == GRANTS
    assert (
        b'{"version":4,"grants":[{"list":"images","id":"%s","granted":'
        b'"1970-01-01T00:00:00Z"},{"list":"feedback","id":"%s/hsf/v1/log/feedback",'
        b'"granted":"1970-01-01T00:00:09Z","scope":{"about":"other.example"}},'
        b'{"list":"ncii","id":"%s/hsf/v1/log/ncii","granted":"1970-01-01T00:00:09Z",'
        b'"scope":{"labels":["ncmec:A*","x:y"],"signals":["pdq"]}}]}'
    ) % (LIST_ID.encode(), NODE.encode(), NODE.encode()) == RAW
    none = Grants(0, ())
    assert parse_grants(encode_grants(none), node=NODE) == none


def with_grant(**changes: object) -> bytes:
    members: dict[str, Any] = json.loads(RAW)
    members["grants"][1] |= changes
    return json.dumps(members).encode()


def test_members_of_later_versions_are_skipped() -> None:
    members = json.loads(with_grant(later=1)) | {"later": 1}
    assert parse_grants(json.dumps(members).encode(), node=NODE) == GRANTS


@pytest.mark.parametrize(
    "changes",
    [
        {"list": "images"},
        {"list": 1},
        {"list": "Feedback"},
        {"id": LIST_ID},
        {"list": "images", "id": LIST_ID},
        {"id": "other.example/hsf/v1/log/feedback"},
        {"granted": 0},
        {"granted": "yesterday"},
        {"scope": None},
        {"scope": {}},
        {"scope": {"later": 1}},
    ],
)
def test_a_grant_of_wrong_shape_is_refused(changes: dict[str, object]) -> None:
    with pytest.raises(MalformedError):
        parse_grants(with_grant(**changes), node=NODE)


def test_substitution_a_node_grants_no_list_of_another() -> None:
    with pytest.raises(MalformedError, match="this node"):
        parse_grants(RAW, node="other.example")
    two_nodes = ListGrant("other.example/hsf/v1/log/x", 0, WHOLE_LIST)
    with pytest.raises(MalformedError, match="this node"):
        encode_grants(Grants(1, (*GRANTS.grants, two_nodes)))


@pytest.mark.parametrize(
    "grants",
    [
        Grants(-1, ()),
        Grants(1, GRANTS.grants * 2),
        Grants(1, (ListGrant("x", 0, WHOLE_LIST),)),
        Grants(1, (ListGrant(LIST_ID, -1, WHOLE_LIST),)),
    ],
)
def test_no_grants_are_written_that_could_not_be_read(grants: Grants) -> None:
    with pytest.raises(MalformedError):
        encode_grants(grants)


def test_grants_that_would_be_read_otherwise_are_not_written() -> None:
    listed: Any = list(GRANTS.grants)
    with pytest.raises(MalformedError, match="something else"):
        encode_grants(Grants(4, listed))


def test_grants_are_bounded() -> None:
    with pytest.raises(TooLargeError, match=str(MAX_GRANTS_BYTES)):
        parse_grants(bytes(MAX_GRANTS_BYTES + 1), node=NODE)
    one = json.loads(RAW)["grants"][0]
    many = json.dumps({"version": 1, "grants": [one] * 1_025}).encode()
    with pytest.raises(MalformedError, match="1024"):
        parse_grants(many, node=NODE)


@pytest.mark.parametrize("case", cases("grants.json"))
def test_the_vectors_hold(case: Case) -> None:
    if not case["valid"]:
        with pytest.raises(ProtocolError) as caught:
            parse_grants(case["grants"].encode(), node=case["node"])
        assert caught.value.code == case["error"]
        return
    grants = parse_grants(case["grants"].encode(), node=case["node"])
    records = [parse_record(record.encode()) for record in case["records"]]
    shown = {
        grant.list_id: [shows(grant.scope, record) for record in records]
        for grant in grants.grants
    }
    assert shown == case["shows"]
    relayed = [one.list_id for one in grants.grants if one.may_relay]
    assert relayed == case.get("relays", [])


def test_permission_to_relay_is_written_and_read() -> None:
    grants = Grants(4, tuple(replace(one, may_relay=True) for one in GRANTS.grants))
    raw = encode_grants(grants)
    assert parse_grants(raw, node=NODE) == grants
    assert b'"relay":true' in raw
    assert b"relay" not in RAW
