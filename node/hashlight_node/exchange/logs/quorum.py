"""Which witnesses must have seen a checkpoint before it is used here.

Source: C2SP tlog-policy; SPEC.md#quorum.
"""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Final

from hashlight_node.peers.errors import blaming
from hashlight_protocol import (
    MAX_SIGNATURES,
    Policy,
    QuorumNotMetError,
    UnknownKeyError,
    append_signatures,
    encode_signature,
    open_note,
    verify_quorum,
)

from .cosigning import bare_note

if TYPE_CHECKING:
    from hashlight_protocol import SignedCheckpoint, VerifierKey

NO_QUORUM: Final = Policy(logs=(), witnesses={}, groups=(), quorum=None)
"""Asks for nobody."""

_MOST_KEPT: Final = 1024
"""Checkpoints whose cosignatures are remembered; they are asked for again anyway."""


class Quorum:
    """The operator's policy, and cosignatures that peers showed us.

    For one event loop; not thread-safe.

    Args:
        policy: Whose cosignatures are needed.
    """

    def __init__(self, policy: Policy = NO_QUORUM) -> None:
        self._policy = policy
        # By what was cosigned, signature lines that hold, one for each witness.
        self._learned: dict[bytes, dict[VerifierKey, bytes]] = {}

    def learn(self, note: bytes) -> None:
        """Remember cosignatures on a checkpoint that its log signed.

        Those that are not by witnesses of the policy are left out.

        Args:
            note: A checkpoint that was opened with the keys of its log.

        Raises:
            BadSignatureError: One that claims to be by such a witness does not hold.
        """
        try:
            opened = open_note(note, self._policy.witnesses.values())
        except UnknownKeyError:
            return
        text = opened.note.text
        lines = self._learned.pop(text, {})
        lines.update({key: encode_signature(one) for key, one in opened.verified})
        self._learned[text] = lines
        if len(self._learned) > _MOST_KEPT:
            del self._learned[next(iter(self._learned))]

    def require(self, signed: SignedCheckpoint, sender: str) -> None:
        """Check that enough witnesses saw a checkpoint; nothing is used before.

        Args:
            signed: The checkpoint with the cosignatures that came with it; what was
                learned elsewhere counts as well.
            sender: Name of the peer that it came from.

        Raises:
            QuorumNotMetError: Not enough of them did, as far as we know, or the policy
                does not name this log. That is nobody's fault.
            PeerMisbehavedError: A cosignature by a witness of the policy does not hold.
        """
        if self._policy == NO_QUORUM:
            return
        origin, size = signed.checkpoint.origin, signed.head.tree_size
        with blaming(sender, f"cosignatures of {origin}", signed.note_bytes):
            self.learn(signed.note_bytes)
        note = bare_note(signed)
        room = MAX_SIGNATURES - len(signed.opened.verified)
        known = self._learned.get(signed.opened.note.text, {})
        for line in islice(known.values(), room):
            note = append_signatures(note, line)
        try:
            verify_quorum(note, self._policy)
        except UnknownKeyError:
            witnesses = len(self._policy.witnesses)
            raise QuorumNotMetError(origin, size, 0, witnesses) from None
