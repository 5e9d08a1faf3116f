"""List notes: which logs a list has, and whose keys sign them."""

import json
from dataclasses import replace
from typing import Any

import pytest

from hashlight_protocol import (
    COSIGNATURE,
    BadKeyError,
    BadSignatureError,
    KnownHead,
    ListNote,
    LogInfo,
    MalformedError,
    StaleVersionError,
    TooLargeError,
    UnknownKeyError,
    VerifierKey,
    open_list_note,
    sign_list_note,
    sign_note,
    verify_successor,
)
from support.example_log import IDENTITY, LIST_ID, LOG, NODE, ORIGIN, signer

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
