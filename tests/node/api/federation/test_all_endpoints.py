"""Every endpoint of the protocol: without a right to it, what is there is as not there.

The table of endpoints in SPEC.md is read, so that one which is added there and not
tried here fails.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

import pytest

from hashlight_protocol import (
    ED25519,
    AddCheckpoint,
    AddEntries,
    Checkpoint,
    Ed25519Signer,
    ForkEvidence,
    encode_add_checkpoint,
    encode_add_entries,
    encode_fork_evidence,
    encode_vkey,
    list_id,
    log_origin,
    origin_hash,
    sign_checkpoint,
)
from support.made_records import shared
from support.uploads import BYTES

from .test_mirror import owner, owner_node, owner_settings

if TYPE_CHECKING:
    from collections.abc import Callable

    from support.federation import Answer, World
    from support.nodes import Sender

__all__ = ["owner", "owner_node", "owner_settings"]

SPEC: Final = Path(__file__).parents[4] / "SPEC.md"
TEXT: Final = "text/plain; charset=utf-8"

OURS, THEIRS = "shield.example", "owner.example"

_OPEN: Final = {"/.well-known/hsf", "/hsf/v1/grants"}
"""For everybody, and about the caller alone."""

_OWN_NOTES: Final = "/hsf/v1/mirror/add-note"
"""Takes what callers say about themselves."""


class Call(NamedTuple):
    """A request about one log that may be there or not."""

    path: str
    body: bytes = b""
    content_type: str = BYTES


def signed(origin: str, size: int, root: bytes) -> bytes:
    """Sign a checkpoint as somebody who has only heard of a log."""
    signer = Ed25519Signer(origin, ED25519, b"\x07" * 32)
    return sign_checkpoint(Checkpoint(origin, size, root), (signer,))


def evidence(origin: str) -> bytes:
    first, second = (signed(origin, 2, bytes([one]) * 32) for one in (1, 2))
    made = ForkEvidence(first, second, b"\x02" * 32)
    return encode_fork_evidence(made)


def mirror(path: str) -> Callable[[str, str], Call]:
    return lambda node, name: Call(
        f"/hsf/v1/mirror/{origin_hash(log_origin(node, name, 1))}/{path}"
    )


def mirror_of_list(path: str) -> Callable[[str, str], Call]:
    return lambda node, name: Call(
        f"/hsf/v1/mirror/{origin_hash(list_id(node, name))}/{path}"
    )


def log(path: str) -> Callable[[str, str], Call]:
    return lambda _, name: Call(f"/hsf/v1/log/{name}/1/{path}")


def add_checkpoint(node: str, name: str) -> Call:
    note = signed(log_origin(node, name, 1), 2, b"\x01" * 32)
    body = encode_add_checkpoint(AddCheckpoint(0, (), note))
    return Call("/hsf/v1/witness/add-checkpoint", body, TEXT)


def compare(node: str, name: str) -> Call:
    note = signed(log_origin(node, name, 1), 2, b"\x01" * 32)
    return Call("/hsf/v1/witness/compare", note, TEXT)


def add_entries(node: str, name: str) -> Call:
    body = encode_add_entries(AddEntries(log_origin(node, name, 1), 0, 0))
    return Call("/hsf/v1/mirror/add-entries", body)


def add_bodies(node: str, name: str) -> Call:
    hashed = origin_hash(log_origin(node, name, 1))
    return Call(f"/hsf/v1/mirror/{hashed}/add-bodies/000.p/1", b"\x00")


CALLS: Final[dict[str, tuple[str, Callable[[str, str], Call]]]] = {
    "/hsf/v1/lists/<list name>": (
        "GET",
        lambda _, name: Call(f"/hsf/v1/lists/{name}"),
    ),
    "{log}/checkpoint": ("GET", log("checkpoint")),
    "{log}/tile/…": ("GET", log("tile/0/000.p/2")),
    "{log}/tile/entries/…": ("GET", log("tile/entries/000.p/2")),
    "{log}/bodies/…": ("GET", log("bodies/000.p/2")),
    "{log}/receipt/<leaf index>": ("GET", log("receipt/1")),
    "/hsf/v1/evidence": (
        "POST",
        lambda node, name: Call(
            "/hsf/v1/evidence",
            evidence(log_origin(node, name, 1)),
            "application/json",
        ),
    ),
    "/hsf/v1/mirror/add-entries": ("POST", add_entries),
    "/hsf/v1/mirror/<h>/add-bodies/…": ("POST", add_bodies),
    "/hsf/v1/witness/add-checkpoint": ("POST", add_checkpoint),
    "/hsf/v1/witness/<h>/checkpoint": (
        "GET",
        lambda node, name: Call(
            f"/hsf/v1/witness/{origin_hash(log_origin(node, name, 1))}/checkpoint"
        ),
    ),
    "/hsf/v1/witness/compare": ("POST", compare),
    "/hsf/v1/mirror/<h>/checkpoint": ("GET", mirror("checkpoint")),
    "/hsf/v1/mirror/<h>/tile/…": ("GET", mirror("tile/0/000.p/3")),
    "/hsf/v1/mirror/<h>/tile/entries/…": ("GET", mirror("tile/entries/000.p/3")),
    "/hsf/v1/mirror/<h>/bodies/…": ("GET", mirror("bodies/000.p/3")),
    "/hsf/v1/mirror/<h>/receipt/<leaf index>": ("GET", mirror("receipt/2")),
    "/hsf/v1/mirror/<l>/list-note": ("GET", mirror_of_list("list-note")),
    "/hsf/v1/mirror/<l>/owner": ("GET", mirror_of_list("owner")),
    "/hsf/v1/mirror/<h>/acknowledgements": ("GET", mirror("acknowledgements")),
}


async def send(
    world: World, method: str, call: Call, sender: Sender, **more: str
) -> Answer:
    fields = (
        sender.headers(method, call.path, call.body, content_type=call.content_type)
        if call.body
        else sender.headers(method, call.path)
    )
    named = {name.replace("_", "-"): value for name, value in more.items()}
    return await world.send(method, call.path, {**fields, **named}, call.body or None)


async def publish(world: World) -> None:
    """Let the node have a list like the other node's, which it grants to nobody."""
    publisher = world.running.use_cases.publisher
    await publisher.create_list("own", {})
    await publisher.publish("own", [shared(1)])


def test_every_endpoint_of_the_specification_is_tried() -> None:
    text = SPEC.read_text().partition("\n## Endpoints\n")[2].partition("\n### ")[0]
    rows = re.findall(r"^\| (GET|POST) ([^|]+)\|", text, re.MULTILINE)
    named = {
        (method, path)
        for method, cell in rows
        for path in re.findall(r"`([^`]+)`", cell)
        if path not in {*_OPEN, _OWN_NOTES}
    }
    assert named == {(method, path) for path, (method, _) in CALLS.items()}


@pytest.mark.parametrize("waits", [False, True])
async def test_without_a_right_what_is_there_is_as_not_there(
    world: World, owner: Sender, *, waits: bool
) -> None:
    await publish(world)
    vkey = encode_vkey(owner.keyring.identity.key)
    assert vkey.startswith("owner.example+")
    more = {"Prefer": "wait=30", "If_None_Match": '"0"'} if waits else {}
    for path, (method, call) in CALLS.items():
        answers = {
            (node, name): await send(
                world, method, call(node, name), world.peer, **more
            )
            for node in (OURS, THEIRS, "nobody.example")
            for name in ("own", "not")
        }
        absent = answers["nobody.example", "not"]
        assert (path, absent.status) == (path, 404)
        for which, answer in answers.items():
            assert (path, which, answer.said) == (path, which, absent.said)


async def test_a_stranger_gets_one_answer_for_all_of_them(
    world: World, owner: Sender
) -> None:
    await publish(world)
    assert owner.name == THEIRS
    for wanted in ("GET", "POST"):
        said = []
        for method, call in CALLS.values():
            for name in ("own", "not"):
                if method == wanted:
                    made = call(OURS, name)
                    said.append(await send(world, method, made, world.stranger))
                    said.append(
                        await world.send(method, made.path, None, made.body or None)
                    )
        by_stranger, unsigned = said[::2], said[1::2]
        assert {answer.problem for answer in by_stranger} == {"unknown-peer"}
        assert {answer.problem for answer in unsigned} == {"auth-missing"}
        for answers in (by_stranger, unsigned):
            assert all(answer.said == answers[0].said for answer in answers)


async def test_an_upload_without_content_is_refused(
    world: World, owner: Sender
) -> None:
    for name in ("own", "not"):
        for call in (add_entries(THEIRS, name), add_bodies(THEIRS, name)):
            answer = await world.send(
                "POST", call.path, owner.headers("POST", call.path)
            )
            assert (answer.status, answer.problem) == (403, "auth-invalid")
