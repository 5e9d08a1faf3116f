"""Policies: which witnesses must have cosigned a checkpoint before it is used.

The file is an operator's own; it says whom the operator trusts to have looked. Names in
it mean nothing outside of it.

Source: C2SP tlog-policy; SPEC.md#quorum.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from hashlight_protocol._text import parse_decimal
from hashlight_protocol.checkpoint import (
    Checkpoint,
    open_checkpoint,
    parse_checkpoint,
)
from hashlight_protocol.errors import (
    BadKeyError,
    MalformedError,
    QuorumNotMetError,
    TooLargeError,
    UnknownKeyError,
)
from hashlight_protocol.keys import COSIGNATURE, ED25519, VerifierKey, parse_vkey
from hashlight_protocol.notes import open_note, parse_note

MAX_POLICY_BYTES = 64 * 1024
"""Largest policy; C2SP advises to take 32 of everything. Source: SPEC.md#limits."""

_WHAT = "policy"
_NONE = b"none"
# Tab, newline and what is no control character; bytes above ASCII are opaque.
_OTHER_OCTETS = re.compile(rb"[^\t\n\x20-\x7e\x80-\xff]")


@dataclass(frozen=True, slots=True)
class WitnessGroup:
    """A name for "so many of these".

    Attributes:
        name: Name of the group within its policy.
        threshold: Members that are needed, 1 to all of them.
        members: Names of witnesses and of groups before this one.

    Source: C2SP tlog-policy; SPEC.md#quorum.
    """

    name: bytes
    threshold: int
    members: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Policy:
    """Whose cosignatures a reader asks for.

    Attributes:
        logs: Keys of the logs that are accepted; none if the reader knows them from
            elsewhere.
        witnesses: Keys of type `COSIGNATURE` by the names that the policy gives them.
        groups: Each after those that it names.
        quorum: The witness or group that must have cosigned; None asks for nobody.

    Source: C2SP tlog-policy; SPEC.md#quorum.
    """

    logs: tuple[VerifierKey, ...]
    witnesses: Mapping[bytes, VerifierKey]
    groups: tuple[WitnessGroup, ...]
    quorum: bytes | None


def parse_policy(raw: bytes) -> Policy:
    """Read a policy.

    Raises:
        MalformedError: The bytes are not a policy, or it says something twice.
        TooLargeError: It is too long.
        BadKeyError: A key proves nothing, or is not one of a log or a witness.

    Source: C2SP tlog-policy; SPEC.md#quorum.
    """
    if len(raw) > MAX_POLICY_BYTES:
        raise TooLargeError(_WHAT, MAX_POLICY_BYTES)
    if _OTHER_OCTETS.search(raw):
        raise MalformedError(_WHAT, "it has a control character")
    lines = raw.split(b"\n")
    if lines.pop():
        raise MalformedError(_WHAT, "its last line does not end")
    draft = _Draft()
    for line in lines:
        words = line.split()
        if words and not words[0].startswith(b"#"):
            draft.read(words)
    if not draft.quorums:
        raise MalformedError(_WHAT, "it has no quorum")
    return Policy(
        tuple(draft.logs),
        MappingProxyType(draft.witnesses),
        tuple(draft.groups),
        draft.quorums[0],
    )


@dataclass(slots=True)
class _Draft:
    """What the lines read so far have defined."""

    logs: list[VerifierKey] = field(default_factory=list[VerifierKey])
    witnesses: dict[bytes, VerifierKey] = field(
        default_factory=dict[bytes, VerifierKey]
    )
    groups: list[WitnessGroup] = field(default_factory=list[WitnessGroup])
    quorums: list[bytes | None] = field(default_factory=list[bytes | None])
    # Every name so far, and those that are members of a group.
    names: set[bytes] = field(default_factory=set[bytes])
    members: set[bytes] = field(default_factory=set[bytes])

    def read(self, words: list[bytes]) -> None:
        match words:
            # What may follow a key is a URL, which is not needed to verify.
            case [b"log", vkey] | [b"log", vkey, _]:
                self._add_log(_parse_key(vkey, ED25519))
            case [b"witness", name, vkey] | [b"witness", name, vkey, _]:
                self._add_witness(name, _parse_key(vkey, COSIGNATURE))
            case [b"group", name, threshold, *members]:
                self._add_group(name, threshold, members)
            case [b"quorum", name]:
                self._set_quorum(name)
            case _:
                raise MalformedError(_WHAT, "a line defines nothing")

    def _add_log(self, key: VerifierKey) -> None:
        _refuse_duplicate(key, self.logs)
        self.logs.append(key)

    def _add_witness(self, name: bytes, key: VerifierKey) -> None:
        self._define(name)
        _refuse_duplicate(key, self.witnesses.values())
        self.witnesses[name] = key

    def _add_group(self, name: bytes, threshold: bytes, members: list[bytes]) -> None:
        for member in members:
            if member not in self.names:
                raise MalformedError(_WHAT, "a group has a member that is not defined")
            if member in self.members:
                raise MalformedError(_WHAT, "a name is a member twice")
            self.members.add(member)
        needed = _parse_threshold(threshold, len(members))
        self._define(name)
        self.groups.append(WitnessGroup(name, needed, tuple(members)))

    def _set_quorum(self, name: bytes) -> None:
        if self.quorums:
            raise MalformedError(_WHAT, "it has two quorums")
        if name != _NONE and name not in self.names:
            raise MalformedError(_WHAT, "the quorum is not defined")
        self.quorums.append(None if name == _NONE else name)

    def _define(self, name: bytes) -> None:
        if name == _NONE or name in self.names:
            raise MalformedError(_WHAT, "a name is defined twice, or reserved")
        self.names.add(name)


def _parse_key(vkey: bytes, key_type: int) -> VerifierKey:
    try:
        key = parse_vkey(vkey.decode())
    except UnicodeDecodeError:
        raise MalformedError(_WHAT, "the name of a key is not UTF-8") from None
    if key.key_type != key_type:
        raise BadKeyError(f"the policy needs a key of type {key_type:#04x} there")
    return key


def _refuse_duplicate(key: VerifierKey, others: Iterable[VerifierKey]) -> None:
    # One key under two names would count twice.
    if any(key.public_key == other.public_key for other in others):
        raise MalformedError(_WHAT, "a key is listed twice")


def _parse_threshold(text: bytes, member_count: int) -> int:
    match text:
        case b"any":
            threshold = 1
        case b"all":
            threshold = member_count
        case _:
            threshold = parse_decimal(text, _WHAT)
    if not 1 <= threshold <= member_count:
        raise MalformedError(_WHAT, "a group needs none, or more than its members")
    return threshold


def verify_quorum(note: bytes, policy: Policy) -> None:
    """Check that a checkpoint is cosigned as a policy asks for.

    How long ago does not matter; `verify_cosignature` tells.

    Args:
        note: The checkpoint's note with its cosignatures. If the policy names no logs,
            the log's own signature is not looked at.
        policy: Whose cosignatures are needed.

    Raises:
        MalformedError: The note is not a checkpoint.
        TooLargeError: The note exceeds a limit.
        BadSignatureError: A signature by a log or witness of the policy does not hold.
        UnknownKeyError: The policy names logs, and the checkpoint is by none of them.
        QuorumNotMetError: Not enough of the witnesses cosigned.

    Source: C2SP tlog-policy; SPEC.md#quorum.
    """
    checkpoint = parse_checkpoint(parse_note(note).text)
    if policy.logs:
        open_checkpoint(note, policy.logs, origin=checkpoint.origin)
    cosigners = _cosigners_of(note, policy)
    met = {name for name, key in policy.witnesses.items() if key in cosigners}
    # A group names only what comes before it, so one pass is enough.
    for group in policy.groups:
        if sum(member in met for member in group.members) >= group.threshold:
            met.add(group.name)
    if policy.quorum is not None and policy.quorum not in met:
        raise _not_met(checkpoint, cosigners, policy)


def _cosigners_of(note: bytes, policy: Policy) -> frozenset[VerifierKey]:
    try:
        opened = open_note(note, policy.witnesses.values())
    except UnknownKeyError:
        return frozenset()
    return frozenset(key for key, _ in opened.verified)


def _not_met(
    checkpoint: Checkpoint, cosigners: frozenset[VerifierKey], policy: Policy
) -> QuorumNotMetError:
    return QuorumNotMetError(
        checkpoint.origin,
        checkpoint.tree_size,
        len(cosigners),
        len(policy.witnesses),
    )
