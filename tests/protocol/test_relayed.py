from __future__ import annotations

import json
from base64 import b64decode

import pytest

from hashlight_protocol import (
    BadKeyError,
    Ed25519Signer,
    MalformedError,
    ProtocolError,
    RelayedNode,
    TooLargeError,
    UnknownKeyError,
    VerifierKey,
    encode_relayed,
    encode_vkey,
    open_relayed,
    parse_relayed,
    parse_vkey,
)
from hashlight_protocol.relayed import MAX_RELAYED_NODES
from support.example_log import IDENTITY, LOG, ORIGIN, signer
from support.vectors import Case, cases

OTHER = signer("other.example")


def named(number: int) -> Ed25519Signer:
    return signer(f"n{number}.example")


def test_what_is_written_is_read_as_it_was() -> None:
    nodes = (
        RelayedNode(IDENTITY.key, b"descriptor", b"checkpoint"),
        RelayedNode(OTHER.key, b"descriptor"),
        RelayedNode(named(1).key),
    )
    assert parse_relayed(encode_relayed(nodes)) == nodes
    assert parse_relayed(encode_relayed(())) == ()
    assert nodes[1].node == "other.example"


def test_a_node_stands_there_once() -> None:
    with pytest.raises(MalformedError):
        encode_relayed([RelayedNode(IDENTITY.key), RelayedNode(IDENTITY.key)])


def test_only_nodes_are_third_parties() -> None:
    for vkey in (encode_vkey(LOG.key), encode_vkey(LOG.key).replace("+", "-")):
        row = {"identity": vkey, "descriptor": None, "checkpoint": None}
        with pytest.raises((BadKeyError, MalformedError)):
            parse_relayed(json.dumps({"nodes": [row]}).encode())


def test_there_is_an_end_to_them() -> None:
    key = IDENTITY.key
    with pytest.raises(TooLargeError):
        encode_relayed([RelayedNode(key)] * (MAX_RELAYED_NODES + 1))
    rows = json.dumps({"nodes": [{}] * (MAX_RELAYED_NODES + 1)}).encode()
    with pytest.raises(MalformedError):
        parse_relayed(rows)
    with pytest.raises(TooLargeError):
        encode_relayed([RelayedNode(key, bytes(4 * 1024 * 1024))])


def test_who_acknowledged_nothing_proves_nothing() -> None:
    with pytest.raises((MalformedError, UnknownKeyError)):
        open_relayed(RelayedNode(IDENTITY.key), [LOG.key], origin=ORIGIN)


def open_all(raw: bytes, keys: list[VerifierKey], origin: str) -> None:
    for node in parse_relayed(raw):
        open_relayed(node, keys, origin=origin)


@pytest.mark.parametrize("case", cases("relayed.json"))
def test_the_vectors_hold(case: Case) -> None:
    raw = case["answer"].encode()
    keys = [parse_vkey(case["vkey"])]
    if not case["valid"]:
        with pytest.raises(ProtocolError) as caught:
            open_all(raw, keys, case["origin"])
        assert caught.value.code == case["error"]
        return
    found = {}
    for node in parse_relayed(raw):
        said = None
        if node.checkpoint:
            signed, at = open_relayed(node, keys, origin=case["origin"])
            assert signed.head.root_hash == b64decode(case["root"])
            said = {"size": signed.head.tree_size, "at": at}
        found[node.node] = said
    assert found == case["nodes"]
