"""List notes: which logs a list has, and whose keys sign them."""

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hashlight_protocol import (
    COSIGNATURE,
    BadKeyError,
    BadSignatureError,
    Checkpoint,
    ContradictionError,
    KnownHead,
    ListNote,
    LogInfo,
    LogState,
    MalformedError,
    Meta,
    ProtocolError,
    StaleVersionError,
    TooLargeError,
    UnknownKeyError,
    VerifierKey,
    open_descriptor,
    open_list_note,
    parse_entry,
    parse_vkey,
    sign_list_note,
    sign_note,
    verify_meta,
    verify_successor,
)
from support.example_log import IDENTITY, LIST_ID, LOG, NODE, ORIGIN, signer
from support.vectors import Case, cases

FINAL = KnownHead(7, bytes(range(32)))
SECOND = signer(f"{LIST_ID}/2")
NOTE = ListNote(
    id=LIST_ID,
    node=NODE,
    list_name="images",
    version=5,
    meta={"title": "Images", "labels": ["ncmec:A1"], "share": "none"},
    logs=(
        LogInfo(ORIGIN, (LOG.key,), "abandoned", FINAL),
        LogInfo(SECOND.name, (SECOND.key, signer(SECOND.name, number=2).key), "active"),
    ),
)
RAW = sign_list_note(NOTE, IDENTITY)
ABANDONED, ACTIVE = json.loads(RAW.split(b"\n")[1])["logs"]


def with_members(**changes: object) -> bytes:
    members: dict[str, Any] = json.loads(RAW.split(b"\n")[1])
    text = json.dumps(members | changes).encode()
    return sign_note(b"hsf-list/v1\n" + text + b"\n", [IDENTITY])


def test_a_list_note_comes_back_as_it_was() -> None:
    assert RAW.startswith(b'hsf-list/v1\n{"id":"%s","version":5,' % LIST_ID.encode())
    assert open_list_note(RAW, IDENTITY.key) == NOTE


def test_any_changed_byte_is_refused() -> None:
    for position in range(len(RAW)):
        altered = bytearray(RAW)
        altered[position] ^= 1
        with pytest.raises((MalformedError, BadSignatureError, UnknownKeyError)):
            open_list_note(bytes(altered), IDENTITY.key)


@pytest.mark.parametrize("state", ["active", "frozen"])
def test_one_log_is_enough(state: str) -> None:
    raw = with_members(logs=[ACTIVE | {"state": state}])
    assert open_list_note(raw, IDENTITY.key).logs[0].state == state


def test_members_of_later_versions_are_skipped() -> None:
    raw = with_members(later=1, logs=[ABANDONED | {"later": 1}, ACTIVE])
    assert open_list_note(raw, IDENTITY.key) == NOTE


@pytest.mark.parametrize(
    "changes",
    [
        {"id": f"{NODE}/hsf/v1/log/other"},
        {"id": ORIGIN},
        {"id": 1},
        {"version": "5"},
        {"meta": []},
        {"meta": None},
        {"logs": []},
        {"logs": {}},
        {"logs": [ACTIVE] * 2},
        {"logs": [ACTIVE, ABANDONED]},
        {"logs": [ACTIVE | {"origin": ORIGIN, "vkeys": ABANDONED["vkeys"]}, ACTIVE]},
        {"logs": [ABANDONED | {"final": None}, ACTIVE]},
        {"logs": [ABANDONED | {"final": {"size": 7}}, ACTIVE]},
        {"logs": [ABANDONED | {"final": {"size": -7, "root": "AA=="}}, ACTIVE]},
        {"logs": [ACTIVE | {"state": "growing"}]},
        {"logs": [ACTIVE | {"final": ABANDONED["final"]}]},
        {"logs": [ACTIVE | {"final": None}]},
        {"logs": [ACTIVE | {"vkeys": []}]},
        {"logs": [ACTIVE | {"vkeys": ACTIVE["vkeys"] * 2}]},
        {"logs": [ACTIVE | {"vkeys": ACTIVE["vkeys"] * 20}]},
        {"logs": [ACTIVE | {"vkeys": "x"}]},
        {"logs": [{}]},
    ],
)
def test_members_of_wrong_shape_are_refused(changes: dict[str, object]) -> None:
    with pytest.raises(MalformedError):
        open_list_note(with_members(**changes), IDENTITY.key)


@pytest.mark.parametrize(
    ("node", "name"), [("other.example", "images"), (NODE, "videos")]
)
def test_substitution_a_log_of_another_list_is_refused(node: str, name: str) -> None:
    other = signer(f"{node}/hsf/v1/log/{name}/3")
    log = LogInfo(other.name, (other.key,), "active")
    frozen = replace(NOTE.logs[1], state="frozen")
    for logs in ((log,), (frozen, log)):
        with pytest.raises(MalformedError):
            sign_list_note(replace(NOTE, logs=logs), IDENTITY)


@pytest.mark.parametrize(
    "key",
    [
        IDENTITY.key,
        VerifierKey(ORIGIN, COSIGNATURE, LOG.key.public_key),
    ],
)
def test_substitution_the_key_of_a_log_is_named_and_typed_like_one(
    key: VerifierKey,
) -> None:
    logs = (LogInfo(ORIGIN, (key,), "active"),)
    with pytest.raises(BadKeyError, match="log"):
        sign_list_note(replace(NOTE, logs=logs), IDENTITY)


def test_a_vkey_that_is_none_is_refused() -> None:
    with pytest.raises(BadKeyError):
        open_list_note(with_members(logs=[ACTIVE | {"vkeys": ["x"]}]), IDENTITY.key)


@pytest.mark.parametrize("text", [b"hsf-list/v2\n{}\n", b"hsf-node/v1\n{}\n", b"{}\n"])
def test_a_list_note_has_its_header(text: bytes) -> None:
    with pytest.raises(MalformedError, match="list note"):
        open_list_note(sign_note(text, [IDENTITY]), IDENTITY.key)


def test_a_list_note_that_would_be_read_otherwise_is_not_signed() -> None:
    with pytest.raises(MalformedError, match="something else"):
        sign_list_note(replace(NOTE, list_name="videos"), IDENTITY)


def test_a_list_note_has_at_most_256_kibibytes() -> None:
    with pytest.raises(TooLargeError, match="262144"):
        sign_list_note(replace(NOTE, meta={"title": "x" * 262_144}), IDENTITY)


def test_a_higher_version_may_follow_and_no_other() -> None:
    verify_successor(NOTE, replace(NOTE, version=6, meta={}))
    with pytest.raises(StaleVersionError, match="list note"):
        verify_successor(NOTE, replace(NOTE, version=4))
    with pytest.raises(MalformedError):
        verify_successor(NOTE, replace(NOTE, id=f"{NODE}/hsf/v1/log/other"))


def epoch(number: int, state: LogState, final: KnownHead | None = None) -> LogInfo:
    origin = f"{LIST_ID}/{number}"
    return LogInfo(origin, (signer(origin).key,), state, final)


def follow(old: tuple[LogInfo, ...], new: tuple[LogInfo, ...]) -> None:
    """Check a note with these logs against the version after it."""
    verify_successor(
        replace(NOTE, version=5, logs=old), replace(NOTE, version=6, logs=new)
    )


ACTIVE_1, FROZEN_1 = epoch(1, "active"), epoch(1, "frozen")
ENDED_1, ABANDONED_1 = epoch(1, "frozen", FINAL), epoch(1, "abandoned", FINAL)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (ACTIVE_1, FROZEN_1),
        (ACTIVE_1, ENDED_1),
        (ACTIVE_1, ABANDONED_1),
        (FROZEN_1, ENDED_1),
        (FROZEN_1, ABANDONED_1),
        (ENDED_1, ABANDONED_1),
    ],
)
def test_a_log_moves_on_and_never_back(old: LogInfo, new: LogInfo) -> None:
    follow((old,), (old,))
    follow((old,), (new,))
    follow((old,), (new, epoch(4, "active")))
    with pytest.raises(ContradictionError, match=r"earlier state|end of a log"):
        follow((new,), (old,))


@pytest.mark.parametrize(
    "final", [KnownHead(8, FINAL.root_hash), KnownHead(7, bytes(32))]
)
def test_the_end_of_a_log_does_not_move(final: KnownHead) -> None:
    for state in ("frozen", "abandoned"):
        moved = epoch(1, state, final)
        with pytest.raises(ContradictionError, match="end of a log"):
            follow((ENDED_1,), (moved,))
    with pytest.raises(ContradictionError, match="end of a log"):
        follow((ENDED_1,), (FROZEN_1,))


def test_no_log_disappears() -> None:
    for logs in ((epoch(2, "active"),), (epoch(2, "frozen"), epoch(3, "active"))):
        with pytest.raises(ContradictionError, match="gone"):
            follow((ABANDONED_1,), logs)


def test_a_new_log_comes_behind_all_others() -> None:
    old = (ABANDONED_1, epoch(3, "active"))
    follow(old, (*old[:1], epoch(3, "frozen"), epoch(4, "frozen"), epoch(9, "active")))
    with pytest.raises(ContradictionError, match="before another"):
        follow(old, (ABANDONED_1, epoch(2, "frozen"), epoch(3, "active")))
    with pytest.raises(ContradictionError, match="before another"):
        follow((epoch(3, "active"),), (FROZEN_1, epoch(3, "active")))


def test_keys_may_overlap_and_need_not() -> None:
    second = signer(ORIGIN, number=2).key
    both = replace(ACTIVE_1, vkeys=(*ACTIVE_1.vkeys, second))
    alone = replace(ACTIVE_1, vkeys=(second,))
    for new in (both, alone):
        follow((ACTIVE_1,), (new,))
        follow((both,), (new,))


@given(data=st.data())
def test_what_follows_step_by_step_follows_at_once(data: st.DataObject) -> None:
    versions: list[tuple[LogInfo, ...]] = [(ACTIVE_1,)]
    for _ in range(data.draw(st.integers(1, 5))):
        last = versions[-1][-1]
        number = int(last.origin.rpartition("/")[2])
        steps: list[tuple[LogInfo, ...]] = [(last,)]
        if last.state == "active":
            steps += [(epoch(number, "frozen"),), (epoch(number, "frozen", FINAL),)]
        if last.state != "abandoned":
            end = last.final or data.draw(st.sampled_from([FINAL, KnownHead(3, b"")]))
            steps += [(epoch(number, "abandoned", end),)]
        if last.state != "active":
            steps += [(last, epoch(number + data.draw(st.integers(1, 3)), "active"))]
        versions.append((*versions[-1][:-1], *data.draw(st.sampled_from(steps))))
    for position, old in enumerate(versions):
        for new in versions[position:]:
            follow(old, new)
            if new != old:
                with pytest.raises(ContradictionError):
                    follow(new, old)


def meta(number: int, prev: tuple[int, int, bytes] | None = None) -> Meta:
    if prev is None:
        return Meta(f"{LIST_ID}/{number}")
    return Meta(f"{LIST_ID}/{number}", Checkpoint(f"{LIST_ID}/{prev[0]}", *prev[1:]))


def test_the_first_log_continues_none() -> None:
    verify_meta(meta(1), replace(NOTE, logs=(ACTIVE_1,)))
    verify_meta(meta(1), NOTE)
    verify_meta(meta(3), replace(NOTE, logs=(epoch(3, "active"),)))
    with pytest.raises(ContradictionError, match="first"):
        verify_meta(
            meta(3, (1, 7, FINAL.root_hash)), replace(NOTE, logs=(epoch(3, "active"),))
        )


def test_a_log_begins_where_the_one_before_it_ended() -> None:
    logs = (ABANDONED_1, epoch(3, "frozen"), epoch(4, "active"))
    note = replace(NOTE, logs=logs)
    verify_meta(meta(3, (1, 7, FINAL.root_hash)), note)
    verify_meta(meta(4, (3, 99, bytes(32))), note)
    for refused in (
        meta(3),
        meta(3, (1, 8, FINAL.root_hash)),
        meta(3, (1, 7, bytes(32))),
        meta(3, (2, 7, FINAL.root_hash)),
        meta(4, (1, 7, FINAL.root_hash)),
    ):
        with pytest.raises(ContradictionError, match="META entry"):
            verify_meta(refused, note)


def test_a_log_that_the_list_note_does_not_have_is_refused() -> None:
    for number in (2, 5):
        with pytest.raises(MalformedError, match="not in the list note"):
            verify_meta(meta(number), replace(NOTE, logs=(ACTIVE_1,)))


@pytest.mark.parametrize("case", cases("successions.json"))
def test_the_vectors_hold(case: Case) -> None:
    identity = parse_vkey(case["identity"])

    def verify() -> None:
        if case["kind"] == "meta":
            entry = parse_entry(bytes.fromhex(case["entry"]), leaf_index=0)
            assert isinstance(entry, Meta)
            verify_meta(entry, open_list_note(case["note"].encode(), identity))
        elif case["kind"] == "descriptor":
            old, new = case["old"].encode(), case["new"].encode()
            verify_successor(
                open_descriptor(old, identity), open_descriptor(new, identity)
            )
        else:
            old, new = case["old"].encode(), case["new"].encode()
            verify_successor(
                open_list_note(old, identity), open_list_note(new, identity)
            )

    if case["valid"]:
        verify()
        return
    with pytest.raises(ProtocolError) as caught:
        verify()
    assert caught.value.code == case["error"]
