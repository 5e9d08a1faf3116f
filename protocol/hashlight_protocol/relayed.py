"""Acknowledgements that come to the owner of a log through a relay.

Who got the log from a relay is a stranger to its owner. So each answer carries all that
is needed to check it: the stranger's identity key, the descriptor that this key signed,
and a checkpoint of the owner's with a cosignature by the mirror key that the descriptor
names. The relay can leave something out and can forge nothing.

Source: SPEC.md#relayed-acknowledgements.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from hashlight_protocol._objects import JsonObject, encode_json
from hashlight_protocol._text import encode_base64, parse_base64
from hashlight_protocol.checkpoint import SignedCheckpoint, open_checkpoint
from hashlight_protocol.cosignatures import verify_cosignature
from hashlight_protocol.descriptor import open_descriptor
from hashlight_protocol.errors import BadKeyError, MalformedError, TooLargeError
from hashlight_protocol.keys import ED25519, VerifierKey, encode_vkey, parse_vkey
from hashlight_protocol.origins import is_node_name

MAX_RELAYED_BYTES: Final = 4 * 1024 * 1024
"""Largest answer about third parties. Source: SPEC.md#limits."""

MAX_RELAYED_NODES: Final = 1_024
"""Most third parties in such an answer. Source: SPEC.md#limits."""

_WHAT = "relayed acknowledgements"


@dataclass(frozen=True, slots=True)
class RelayedNode:
    """A third party, and what it has signed; nothing of it is verified.

    Attributes:
        identity: Its identity key, named like the node.
        descriptor: Its signed descriptor; empty if the relay has none.
        checkpoint: The newest checkpoint that it cosigned as a mirror; empty if it has
            not acknowledged anything yet.

    Source: SPEC.md#relayed-acknowledgements.
    """

    identity: VerifierKey
    descriptor: bytes = b""
    checkpoint: bytes = b""

    @property
    def node(self) -> str:
        """Its node name."""
        return self.identity.name


def encode_relayed(nodes: Iterable[RelayedNode]) -> bytes:
    """Write what a relay answers to the owner of a log.

    Raises:
        BadKeyError: A key is no identity key of a node.
        MalformedError: A node occurs twice.
        TooLargeError: A limit is exceeded.

    Source: SPEC.md#relayed-acknowledgements.
    """
    rows = [
        {
            "identity": encode_vkey(one.identity),
            "descriptor": encode_base64(one.descriptor) or None,
            "checkpoint": encode_base64(one.checkpoint) or None,
        }
        for one in nodes
    ]
    if len(rows) > MAX_RELAYED_NODES:
        raise TooLargeError("third parties", MAX_RELAYED_NODES)
    raw = encode_json({"nodes": rows})
    # Whatever can be read comes back as it was; the rest is refused here.
    parse_relayed(raw)
    return raw


def parse_relayed(raw: bytes) -> tuple[RelayedNode, ...]:
    """Read what a relay answers to the owner of a log; nothing is verified.

    Raises:
        BadKeyError: A key is no identity key of a node.
        MalformedError: The bytes are no such answer, or a node occurs twice.
        TooLargeError: A limit is exceeded.

    Source: SPEC.md#relayed-acknowledgements.
    """
    document = JsonObject.parse(raw, _WHAT, max_bytes=MAX_RELAYED_BYTES)
    rows = document.children("nodes", most=MAX_RELAYED_NODES)
    nodes = tuple(
        RelayedNode(_identity(row), _note(row, "descriptor"), _note(row, "checkpoint"))
        for row in rows
    )
    if len({one.node for one in nodes}) != len(nodes):
        raise MalformedError(_WHAT, "a node occurs twice")
    return nodes


def open_relayed(
    node: RelayedNode, keys: Sequence[VerifierKey], *, origin: str
) -> tuple[SignedCheckpoint, int]:
    """Verify what a third party has acknowledged.

    Whether the checkpoint is one of the log's own tree is for the caller, who has that.

    Args:
        node: A third party that has acknowledged something.
        keys: Keys of the log.
        origin: The log.

    Returns:
        The checkpoint, and when the third party cosigned it, Unix seconds.

    Raises:
        MalformedError: Descriptor or checkpoint cannot be read, or are not of this node
            and this log.
        TooLargeError: They exceed a limit.
        UnknownKeyError: One of the three signatures is missing.
        BadSignatureError: One of them does not hold.

    Source: SPEC.md#relayed-acknowledgements.
    """
    descriptor = open_descriptor(node.descriptor, node.identity)
    signed = open_checkpoint(node.checkpoint, keys, origin=origin)
    return signed, verify_cosignature(node.checkpoint, descriptor.mirror)


def _identity(row: JsonObject) -> VerifierKey:
    identity = parse_vkey(row.string("identity"))
    if identity.key_type != ED25519 or not is_node_name(identity.name):
        reason = "it is not the identity key of a node"
        raise BadKeyError(reason)
    return identity


def _note(row: JsonObject, name: str) -> bytes:
    if row.members.get(name) is None:
        return b""
    return parse_base64(row.string(name), _WHAT)
